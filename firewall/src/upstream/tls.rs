//! TLS to the endpoints: whose certificates are believed, by which name, and what is shown in return.
//!
//! There is no way to switch verification off: an endpoint with a certificate of its own making is
//! believed by naming that certificate as `ca`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use sha2::{Digest as _, Sha256};

use super::Protocol;
use super::endpoint::{Endpoint, Target};
use crate::tls::authorities::{Authorities, AuthoritiesError};
use crate::tls::pem::{self, PemError};
use crate::tls::provider;

/// The files that encryption is made of, and the name that is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The authorities that are believed; the system's if absent.
    pub ca: Option<PathBuf>,
    /// Shown to endpoints that ask for one: the certificate with its chain, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Expected in every endpoint's certificate, in place of its own name or address.
    pub server_name: Option<Box<str>>,
    /// What is asked for in the handshake, and nothing else (ALPN).
    pub protocol: Protocol,
}

/// Connections to endpoints cannot be encrypted as configured.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    #[error("tls")]
    Pem(#[from] PemError),
    #[error("tls.ca")]
    Authorities(#[from] AuthoritiesError),
    #[error("tls.server_name: {name:?}")]
    Name { name: Box<str>, source: InvalidDnsNameError },
    #[error("tls: certificate and key")]
    Identity(#[source] rustls::Error),
    #[error("tls: versions")]
    Provider(#[source] rustls::Error),
}

/// How connections to one upstream's endpoints are encrypted. Equal where it was made of the same.
#[derive(Clone)]
pub struct UpstreamTls {
    pub(super) client: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// Of what stood in the files.
    digest: [u8; 32],
    files: Vec<PathBuf>,
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.name == other.name
    }
}

impl Eq for UpstreamTls {}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl UpstreamTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them, or with the name.
    pub fn load(settings: &TlsSettings) -> Result<Self, UpstreamTlsError> {
        let Authorities { roots, certificates, path } = Authorities::load(settings.ca.as_deref())?;
        let mut digest = Sha256::new();
        note(&mut digest, &certificates);
        let client = ClientConfig::builder_with_provider(provider());
        let client = client.with_safe_default_protocol_versions();
        let client = client.map_err(UpstreamTlsError::Provider)?.with_root_certificates(roots);
        let mut files = vec![path];
        let mut client = match &settings.identity {
            None => client.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = pem::certificates(certificate)?;
                note(&mut digest, &chain);
                let private = pem::private_key(key)?;
                digest.update(private.secret_der());
                files.extend([certificate.clone(), key.clone()]);
                client.with_client_auth_cert(chain, private).map_err(UpstreamTlsError::Identity)?
            }
        };
        client.alpn_protocols = vec![settings.protocol.alpn().to_vec()];
        digest.update(settings.protocol.alpn());
        let name = settings.server_name.as_deref().map(|name| {
            let invalid = |source| UpstreamTlsError::Name { name: name.into(), source };
            ServerName::try_from(name.to_owned()).map_err(invalid)
        });
        let (client, name) = (Arc::new(client), name.transpose()?);
        Ok(Self { client, name, digest: digest.finalize().into(), files })
    }

    /// Those that it was made of.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The name that an endpoint's certificate must have; none where it has neither name nor address.
    pub(super) fn name_of(&self, endpoint: &Endpoint) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| match (&endpoint.name, &endpoint.target) {
            (Some(name), _) => ServerName::try_from(name.to_string()).ok(),
            (None, Target::Tcp(address)) => Some(address.ip().into()),
            (None, Target::Unix(_)) => None,
        })
    }
}

fn note(digest: &mut Sha256, certificates: &[CertificateDer<'_>]) {
    for certificate in certificates {
        digest.update(certificate);
    }
}

#[cfg(test)]
mod tests;
