//! How the listener encrypts, or that it does not.

use std::path::PathBuf;

use crate::control::config::{Api, Http2, Listen};
use crate::listen::transport::Protocol;
use crate::tls::server::{CertificateFiles, ClientCertificates, ServerOptions};

/// More certificates than this are a mistake: one is read for each, at start and at each reload.
const CERTIFICATES_MAX: usize = 1000;

/// What `[listen.tls]` says cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum TlsSettingsError {
    #[error(
        "listen.address: {0} is not this host's alone: expected [listen.tls], or plaintext = true where plain text is meant"
    )]
    Plaintext(std::net::SocketAddr),
    #[error("listen.plaintext: expected false where there is [listen.tls]")]
    Both,
    #[error("listen.tls.certificate: expected 1 to {CERTIFICATES_MAX}, found {0}")]
    Certificates(usize),
    #[error(
        "listen.tls.client_ca: expected where client_certificates is not \"off\", and only there"
    )]
    Authority,
    #[error("listen.tls.client_crls: expected only where client_certificates is not \"off\"")]
    Lists,
    #[error("api {0:?}: client_certificate: expected listen.tls.client_certificates for it")]
    Api(String),
}

/// The listener's side; none where it speaks in plain text.
pub(super) fn server(
    listen: &Listen,
    apis: &[Api],
) -> Result<Option<ServerOptions>, TlsSettingsError> {
    let asks = listen.tls.as_ref().map_or(ClientCertificates::Off, |tls| tls.client_certificates);
    if asks == ClientCertificates::Off
        && let Some(api) = apis.iter().find(|api| api.client_certificate)
    {
        return Err(TlsSettingsError::Api(api.name.clone()));
    }
    let Some(tls) = &listen.tls else {
        let is_own = listen.address.ip().to_canonical().is_loopback();
        let is_meant = is_own || listen.plaintext;
        return if is_meant { Ok(None) } else { Err(TlsSettingsError::Plaintext(listen.address)) };
    };
    if listen.plaintext {
        return Err(TlsSettingsError::Both);
    }
    let found = tls.certificate.len();
    if !(1..=CERTIFICATES_MAX).contains(&found) {
        return Err(TlsSettingsError::Certificates(found));
    }
    if tls.client_ca.is_some() != (asks != ClientCertificates::Off) {
        return Err(TlsSettingsError::Authority);
    }
    if asks == ClientCertificates::Off && !tls.client_crls.is_empty() {
        return Err(TlsSettingsError::Lists);
    }
    let certificates = tls.certificate.iter().map(|files| CertificateFiles {
        chain: files.chain.clone(),
        key: files.key.clone(),
        ocsp: files.ocsp.clone(),
    });
    Ok(Some(ServerOptions {
        certificates: certificates.collect(),
        preset: tls.preset,
        unknown_name: tls.unknown_sni,
        client_certificates: asks,
        client_ca: tls.client_ca.clone(),
        client_crls: tls.client_crls.clone(),
        resumption: tls.resumption,
        alpn: Protocol::offered(listen.http2 != Http2::Off),
    }))
}

/// The files that a running daemon watches for it.
pub(in crate::control) fn files(server: Option<&ServerOptions>) -> Vec<PathBuf> {
    server.map_or_else(Vec::new, |options| options.files().map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use crate::control::settings::tests::{SOUND, problems};

    const LISTEN: &str = "[listen]\naddress = \"127.0.0.1:0\"\n";

    #[test]
    fn plain_text_is_spoken_only_where_it_is_said() {
        let at = |address: &str, more: &str| {
            problems(
                &SOUND.replace(LISTEN, &format!("[listen]\naddress = \"{address}\"\n{more}\n")),
            )
        };
        for (address, more) in [
            ("127.0.0.1:0", ""),
            ("127.1.2.3:0", ""),
            ("[::1]:0", ""),
            ("[::ffff:127.0.0.1]:0", ""),
            ("127.0.0.1:0", "plaintext = true"),
            ("0.0.0.0:0", "plaintext = true"),
            ("[::]:0", "tls.certificate = [{ chain = \"a\", key = \"b\" }]"),
            ("127.0.0.1:0", "tls.certificate = [{ chain = \"a\", key = \"b\" }]"),
        ] {
            assert_eq!(at(address, more), Vec::<String>::new(), "{address} {more}");
        }
        for (address, more, part) in [
            ("0.0.0.0:0", "", "plaintext = true"),
            ("[::]:0", "", "plaintext = true"),
            ("192.0.2.1:0", "", "192.0.2.1:0"),
            ("192.0.2.1:0", "plaintext = false", "plaintext = true"),
            (
                "0.0.0.0:0",
                "plaintext = true\ntls.certificate = [{ chain = \"a\", key = \"b\" }]",
                "expected false",
            ),
        ] {
            let found = at(address, more);
            assert!(found.iter().any(|problem| problem.contains(part)), "{address}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        let tls = |keys: &str, api: &str| {
            let text = SOUND.replace(LISTEN, &format!("{LISTEN}[listen.tls]\n{keys}\n"));
            problems(&format!("{text}{api}\n"))
        };
        let one = "certificate = [{ chain = \"a\", key = \"b\", ocsp = \"c\" }]\n";
        for (keys, api) in [
            (String::new(), ""),
            ("preset = \"fapi2\"\nunknown_sni = \"refuse\"\nresumption = false".into(), ""),
            (
                "client_certificates = \"optional\"\nclient_ca = \"ca\"".into(),
                "client_certificate = true",
            ),
            (
                "client_certificates = \"required\"\nclient_ca = \"ca\"\nclient_crls = [\"crl\"]"
                    .into(),
                "",
            ),
        ] {
            assert_eq!(tls(&format!("{one}{keys}"), api), Vec::<String>::new(), "{keys}");
        }
        for (keys, api, part) in [
            ("certificate = []".to_owned(), "", "found 0"),
            (format!("{one}client_certificates = \"required\""), "", "client_ca"),
            (format!("{one}client_ca = \"ca\""), "", "client_ca"),
            (format!("{one}client_crls = [\"crl\"]"), "", "client_crls"),
            (one.into(), "client_certificate = true", "client_certificate"),
        ] {
            let found = tls(&keys, api);
            assert!(found.iter().any(|problem| problem.contains(part)), "{keys}: {found:?}");
        }
    }
}
