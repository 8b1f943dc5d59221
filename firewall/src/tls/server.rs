//! The side that clients meet: which certificate answers to which name, which versions and suites are
//! spoken, whose certificates clients must show, and which earlier sessions may go on.

mod certificates;
mod sessions;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{
    ClientHello, NoClientAuth, ProducesTickets, ServerSessionMemoryCache, VerifierBuilderError,
    WebPkiClientVerifier, danger::ClientCertVerifier,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};

use super::certificate::next_update;
use super::ocsp::Unfit;
use super::pem::{self, PemError};
use super::provider;

use certificates::Certificates;
pub use certificates::Expiry;
use sessions::{Remembered, Tickets};

/// How many sessions of TLS 1.2 are remembered for clients that take no ticket; the oldest are forgotten.
const SESSIONS_MAX: usize = 10_240;

/// Octets that a connection may keep for a client that does not take them; its patience counts from when
/// no more are taken of it.
pub const BUFFERED_OCTETS_MAX: usize = 32 * 1024;

/// What versions and suites are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// TLS 1.2 and 1.3 with forward secrecy and AEAD alone (RFC 9325 section 4.2).
    #[default]
    Standard,
    /// What FAPI 2.0 (Security Profile section 5.2.1) and RFC 9325 recommend: of TLS 1.2 ECDHE with AES-GCM
    /// alone, and the extended master secret.
    Fapi2,
    /// TLS 1.3 alone.
    Modern,
}

/// What becomes of a client that asks for no name, or for one that no certificate is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownName {
    /// It is shown the first certificate.
    #[default]
    Default,
    /// Its handshake is refused.
    Refuse,
}

/// Whether clients show certificates. One that is shown is verified in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    Optional,
    Required,
}

/// One certificate's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then the one of its issuer, and so on.
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Its status, as OCSP's DER.
    pub ocsp: Option<PathBuf>,
}

/// What a server is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// At least one.
    pub certificates: Vec<CertificateFiles>,
    pub preset: Preset,
    pub unknown_name: UnknownName,
    pub client_certificates: ClientCertificates,
    /// Whose certificates clients show; given where they are asked.
    pub client_ca: Option<PathBuf>,
    /// Which of them are revoked; where any list is given, one of each authority is needed.
    pub client_crls: Vec<PathBuf>,
    /// Whether sessions may go on in later connections.
    pub resumption: bool,
    /// Protocols, the best first (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
}

impl ServerOptions {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let of_each = self.certificates.iter().flat_map(|files| {
            [Some(&files.chain), Some(&files.key), files.ocsp.as_ref()].into_iter().flatten()
        });
        let of_clients = self.client_ca.iter().chain(&self.client_crls);
        of_each.chain(of_clients).map(PathBuf::as_path)
    }
}

/// The files do not make a server.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{}: certificate {number} of it cannot be read", path.display())]
    Certificate { path: PathBuf, number: usize },
    #[error(
        "{}: certificate {number} is not the issuer of the one before it: each must follow the one that it has issued",
        path.display()
    )]
    Order { path: PathBuf, number: usize },
    #[error("{}: not the key of the certificate in {}", key.display(), chain.display())]
    OtherKey { key: PathBuf, chain: PathBuf },
    #[error("{}: a key that cannot be used", path.display())]
    Key { path: PathBuf, source: rustls::Error },
    #[error("{}", path.display())]
    Ocsp { path: PathBuf, source: Unfit },
    #[error("{}: an authority that cannot be used", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("the verification of clients' certificates")]
    Clients { source: VerifierBuilderError },
    #[error("TLS cannot be set up")]
    Library { source: rustls::Error },
}

/// A server's present side: one for all workers, replaced whole by a reload.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    unknown_name: UnknownName,
    client_certificates: ClientCertificates,
    clients: Arc<dyn ClientCertVerifier>,
    resumption: Resumption,
    /// When revocation lists end.
    lists: Vec<Expiry>,
}

/// What lets sessions go on: keys of tickets, which change every six hours and are valid for twelve, and
/// what is remembered of sessions of TLS 1.2 without tickets.
#[derive(Clone, Debug)]
struct Resumption {
    /// Of all that decides who may have a session: it does not outlive a change of that.
    policy: [u8; 32],
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<ServerSessionMemoryCache>,
}

impl Server {
    /// Reads every file. Sessions of `earlier` go on if their clients would be let in the same way.
    pub fn load(options: &ServerOptions, earlier: Option<&Self>) -> Result<Self, TlsError> {
        let (clients, lists, policy) = clients(options)?;
        let certificates = Arc::new(Certificates::load(&options.certificates)?);
        let resumption = match earlier.filter(|earlier| earlier.resumption.policy == policy) {
            Some(earlier) => earlier.resumption.clone(),
            None => Resumption {
                policy,
                tickets: aws_lc_rs::Ticketer::new()
                    .map_err(|source| TlsError::Library { source })?,
                sessions: ServerSessionMemoryCache::new(SESSIONS_MAX),
            },
        };
        let provider =
            CryptoProvider { cipher_suites: suites(options.preset), ..(*provider()).clone() };
        let builder = ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(versions(options.preset))
            .map_err(|source| TlsError::Library { source })?;
        let mut config = builder
            .with_client_cert_verifier(Arc::clone(&clients))
            .with_cert_resolver(Arc::clone(&certificates) as Arc<_>);
        config.alpn_protocols.clone_from(&options.alpn);
        config.require_ems = options.preset == Preset::Fapi2;
        if options.resumption {
            config.ticketer = Arc::new(Tickets(Arc::clone(&resumption.tickets)));
            config.session_storage =
                Arc::new(Remembered(Arc::clone(&resumption.sessions) as Arc<_>));
        } else {
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: Arc::new(config),
            certificates,
            unknown_name: options.unknown_name,
            client_certificates: options.client_certificates,
            clients,
            resumption,
            lists,
        })
    }

    /// What handshakes are made with.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether a client that says this is spoken to at all.
    pub fn answers(&self, hello: &ClientHello<'_>) -> bool {
        let is_known = || hello.server_name().is_some_and(|name| self.certificates.are_for(name));
        self.unknown_name == UnknownName::Default || is_known()
    }

    /// Whether a request must be for the name that its connection was made for: where the name decided who
    /// may come, another one would pass it by.
    pub fn binds_names(&self) -> bool {
        self.unknown_name == UnknownName::Refuse
            || self.client_certificates != ClientCertificates::Off
    }

    /// Whether clients are asked for certificates at all.
    pub(super) fn asks_clients(&self) -> bool {
        self.client_certificates != ClientCertificates::Off
    }

    /// Of all that decides who may have a session.
    pub(super) fn policy(&self) -> [u8; 32] {
        self.resumption.policy
    }

    /// Verifies what a client has shown, the leaf first, as a whole handshake at this time would. Where
    /// clients are not asked, whatever they have shown to an earlier server is as good as nothing.
    ///
    /// # Errors
    /// Why the handshake would be refused.
    pub(super) fn verify_client(
        &self,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match (self.client_certificates, shown.split_first()) {
            (ClientCertificates::Off, _) | (ClientCertificates::Optional, None) => Ok(()),
            (ClientCertificates::Required, None) => Err(rustls::Error::NoCertificatesPresented),
            (_, Some((leaf, others))) => {
                self.clients.verify_client_cert(leaf, others, now).map(|_verified| ())
            }
        }
    }

    /// When what was read ends to be valid: certificates, their statuses, revocation lists.
    pub fn expiries(&self) -> impl Iterator<Item = &Expiry> {
        self.certificates.expiries().iter().chain(&self.lists)
    }
}

fn versions(preset: Preset) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static LATEST: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match preset {
        Preset::Standard | Preset::Fapi2 => &BOTH,
        Preset::Modern => &LATEST,
    }
}

/// The suites, the best first. Which of them is taken, the client's order decides: it knows whether its
/// processor has AES.
fn suites(preset: Preset) -> Vec<SupportedCipherSuite> {
    let mut suites = vec![
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if preset != Preset::Modern {
        suites.extend([
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ]);
    }
    if preset == Preset::Standard {
        suites.extend([
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]);
    }
    suites
}

/// The verifier, ends of lists, and the digest.
type Clients = (Arc<dyn ClientCertVerifier>, Vec<Expiry>, [u8; 32]);

/// Who verifies clients' certificates, when its lists end, and a digest of all that decides who may have a
/// session: of the very octets that the verifier is made of, which may be others a moment later.
fn clients(options: &ServerOptions) -> Result<Clients, TlsError> {
    let settings = (options.preset, options.client_certificates, options.resumption);
    let mut policy = Sha256::new_with_prefix(format!("{settings:?}"));
    let (true, Some(ca)) =
        (options.client_certificates != ClientCertificates::Off, &options.client_ca)
    else {
        return Ok((Arc::new(NoClientAuth), Vec::new(), policy.finalize().into()));
    };
    let mut roots = RootCertStore::empty();
    let content = pem::content(ca)?;
    policy.update(Sha256::digest(&content));
    for certificate in pem::certificates_in(ca, &content)? {
        let unusable = |source| TlsError::Authority { path: ca.clone(), source };
        roots.add(certificate).map_err(unusable)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let mut expiries = Vec::new();
    for path in &options.client_crls {
        let content = pem::content(path)?;
        policy.update(Sha256::digest(&content));
        let lists = pem::revocation_lists_in(path, &content)?;
        let ends = lists.iter().filter_map(|list| next_update(list)).min();
        expiries.extend(ends.map(|not_after| Expiry::of_revocation_list(path, not_after)));
        builder = builder.with_crls(lists);
    }
    if !options.client_crls.is_empty() {
        // A list that nobody renews would let in whom its authority has revoked since.
        builder = builder.enforce_revocation_expiration();
    }
    if options.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|source| TlsError::Clients { source })?;
    Ok((verifier, expiries, policy.finalize().into()))
}
