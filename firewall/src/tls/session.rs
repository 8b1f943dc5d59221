//! What is known of one encrypted connection, from its handshake on.

use std::cell::Cell;
use std::rc::Rc;

use rustls::ServerConnection;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::ja4::Ja4;
use super::server::Server;

/// How long a verification holds, in seconds, where nothing that it asks has changed: then a revocation
/// list may have ended, or an authority.
const VERIFIED_SECONDS: u64 = 60;

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
    /// The client's certificate and its issuers', as they were shown.
    shown: Vec<CertificateDer<'static>>,
    verdict: Cell<Option<Verdict>>,
}

/// Whether a server accepts what was shown, and how long that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    policy: [u8; 32],
    is_accepted: bool,
    /// In seconds since 1970.
    until: u64,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whose it is (RFC 4514), cut at a limit.
    pub subject: Rc<str>,
    /// The certificate's SHA-256.
    pub fingerprint: [u8; 32],
    /// The last second of it, since 1970.
    not_after: i64,
}

impl ClientCertificate {
    fn of(der: &[u8]) -> Self {
        let certificate = Certificate::parse(der);
        let subject = certificate.map(|certificate| certificate.subject_text());
        Self {
            subject: subject.unwrap_or_default().into(),
            fingerprint: Sha256::digest(der).into(),
            not_after: certificate.map_or(0, |certificate| certificate.not_after),
        }
    }
}

impl Session {
    /// What a finished handshake with this server settled.
    pub fn of(connection: &ServerConnection, ja4: Option<Ja4>, server: &Server) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let suite = connection.negotiated_cipher_suite();
        let shown: Vec<_> = connection.peer_certificates().unwrap_or_default().to_vec();
        let session = Self {
            version,
            suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default(),
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            is_resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            ja4,
            client: shown.first().map(|der| ClientCertificate::of(der)),
            shown,
            verdict: Cell::new(None),
        };
        // An earlier session's certificate was verified in its own time, which may be long ago.
        if !session.is_resumed {
            session.judge(server, true, UnixTime::now().as_secs());
        }
        session
    }

    /// Whether the server, as it is now, accepts what the client has shown when its connection, or the
    /// session that goes on in it, began: authorities and revocation lists change, and certificates end.
    pub fn is_accepted(&self, server: &Server) -> bool {
        self.is_accepted_at(server, UnixTime::now())
    }

    pub(super) fn is_accepted_at(&self, server: &Server, now: UnixTime) -> bool {
        if !server.asks_clients() {
            return true;
        }
        let held = self
            .verdict
            .get()
            .filter(|verdict| now.as_secs() < verdict.until && verdict.policy == server.policy());
        if let Some(verdict) = held {
            return verdict.is_accepted;
        }
        let is_accepted = server.verify_client(&self.shown, now).is_ok();
        self.judge(server, is_accepted, now.as_secs());
        is_accepted
    }

    /// Remembers what was found.
    fn judge(&self, server: &Server, is_accepted: bool, now: u64) {
        let held = now.saturating_add(VERIFIED_SECONDS);
        let ended = self.client.as_ref().map(|client| client.not_after.saturating_add(1));
        let ended = ended.map_or(held, |ended| u64::try_from(ended).unwrap_or(0));
        // What is refused stays so until something changes.
        let until = if is_accepted { held.min(ended) } else { held };
        self.verdict.set(Some(Verdict { policy: server.policy(), is_accepted, until }));
    }
}
