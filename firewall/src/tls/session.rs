//! What is known of one encrypted connection, from its handshake on.

use std::rc::Rc;

use rustls::ServerConnection;
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::ja4::Ja4;

/// What a handshake settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `TLSv1.3` or `TLSv1.2`, as OpenSSL and nginx name them.
    pub version: &'static str,
    /// The suite's name in IANA's registry.
    pub suite: &'static str,
    /// The name that the client asked for (RFC 6066 section 3), in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether an earlier session went on, in which certificates were shown.
    pub is_resumed: bool,
    /// The client's fingerprint; none where its first message could not be read.
    pub ja4: Option<Ja4>,
    /// What the client has shown, and was verified.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whose it is (RFC 4514), cut at a limit.
    pub subject: Rc<str>,
    /// The certificate's SHA-256.
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    fn of(der: &[u8]) -> Self {
        let subject = Certificate::parse(der).map(|certificate| certificate.subject_text());
        Self {
            subject: subject.unwrap_or_default().into(),
            fingerprint: Sha256::digest(der).into(),
        }
    }
}

impl Session {
    /// What a finished handshake settled.
    pub fn of(connection: &ServerConnection, ja4: Option<Ja4>) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let suite = connection.negotiated_cipher_suite();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            version,
            suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default(),
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            is_resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            ja4,
            client: shown.map(|der| ClientCertificate::of(der)),
        }
    }
}
