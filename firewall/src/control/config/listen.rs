//! `[listen]`: where clients connect, and how they are met.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::Http2;
use crate::tls::server::{ClientCertificates, Preset, UnknownName};

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub address: SocketAddr,
    #[serde(default)]
    pub workers: Option<usize>,
    #[serde(default = "backlog")]
    pub backlog: u16,
    #[serde(default)]
    pub http2: Http2,
    #[serde(default)]
    pub proxy_protocol: Vec<IpNet>,
    /// Others than this host may connect without TLS.
    #[serde(default)]
    pub plaintext: bool,
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// `[listen.tls]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: Vec<TlsCertificate>,
    #[serde(default)]
    pub preset: Preset,
    #[serde(default)]
    pub unknown_sni: UnknownName,
    #[serde(default = "yes")]
    pub resumption: bool,
    #[serde(default)]
    pub client_certificates: ClientCertificates,
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    #[serde(default)]
    pub client_crls: Vec<PathBuf>,
}

/// One `[[listen.tls.certificate]]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsCertificate {
    pub chain: PathBuf,
    pub key: PathBuf,
    #[serde(default)]
    pub ocsp: Option<PathBuf>,
}

impl Listen {
    /// There, and everything else at its default.
    pub(super) fn at(address: SocketAddr) -> Self {
        let (backlog, proxy_protocol) = (backlog(), Vec::new());
        let (http2, plaintext, tls) = (Http2::default(), false, None);
        Self { address, workers: None, backlog, http2, proxy_protocol, plaintext, tls }
    }

    /// Puts every path of a file that is read in its place.
    pub(in crate::control) fn locate(&mut self, place: impl Fn(&Path) -> PathBuf) {
        let Some(tls) = &mut self.tls else { return };
        let of_each = tls.certificate.iter_mut().flat_map(|files| {
            [Some(&mut files.chain), Some(&mut files.key), files.ocsp.as_mut()]
                .into_iter()
                .flatten()
        });
        for path in of_each.chain(&mut tls.client_ca).chain(&mut tls.client_crls) {
            *path = place(path);
        }
    }
}

const fn backlog() -> u16 {
    1024
}

const fn yes() -> bool {
    true
}
