//! Whose certificates are believed where the firewall is the client: those of one file, or the system's.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::pem::{self, PemError};

/// Where distributions keep the authorities that they believe, the first that there is. They are kept
/// current by the system's updates; what is compiled into a program is as old as the program.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Nobody could be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("no file of the system's authorities is found: name one")]
    NoRoots,
    #[error("{}: no certificate in it can be believed", path.display())]
    NoAuthority { path: PathBuf },
}

/// The authorities that are believed.
pub struct Authorities {
    pub roots: RootCertStore,
    /// As the file has them, those among them that cannot be believed too.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The file.
    pub path: PathBuf,
}

impl Authorities {
    /// Reads the file, or the system's if none is named.
    ///
    /// # Errors
    ///
    /// No file is named and the system has none, it cannot be read, or no authority is in it.
    pub fn load(named: Option<&Path>) -> Result<Self, AuthoritiesError> {
        let mut system = SYSTEM_ROOTS.iter().map(Path::new);
        let path = named.or_else(|| system.find(|path| path.exists()));
        let path = path.ok_or(AuthoritiesError::NoRoots)?.to_owned();
        let certificates = pem::certificates(&path)?;
        let mut roots = RootCertStore::empty();
        let (believed, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if believed == 0 {
            return Err(AuthoritiesError::NoAuthority { path });
        }
        Ok(Self { roots, certificates, path })
    }
}
