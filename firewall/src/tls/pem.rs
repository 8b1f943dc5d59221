//! Certificates, keys and revocation lists, from the PEM files that hold them (RFC 7468).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// The largest file that is read, in octets: a bundle of all public authorities has 250 KB, but lists of
/// what was revoked grow.
const FILE_OCTETS_MAX: u64 = 16 << 20;

/// Read by others, a key is theirs too; the group may hold those who must read it.
const MODE_OF_OTHERS: u32 = 0o007;

/// A file does not hold what it is to hold.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: larger than {FILE_OCTETS_MAX} octets", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: not PEM", path.display())]
    Malformed { path: PathBuf, source: pem::Error },
    #[error("{}: no {wanted} in it", path.display())]
    Empty { path: PathBuf, wanted: &'static str },
    #[error("{}: two private keys in it", path.display())]
    TwoKeys { path: PathBuf },
    #[error("{}: a private key that is encrypted, for which there is no passphrase", path.display())]
    Encrypted { path: PathBuf },
    #[error(
        "{}: a private key that others than its owner and group may use (mode {mode:o}): chmod o= it",
        path.display()
    )]
    Public { path: PathBuf, mode: u32 },
}

/// Every certificate of a file, in its order; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates_in(path, &content(path)?)
}

/// Every certificate of what a file held, in its order; at least one.
pub(super) fn certificates_in(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    all(path, content, "certificate")
}

/// Every revocation list of what a file held; at least one.
pub(super) fn revocation_lists_in(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    all(path, content, "certificate revocation list")
}

/// The one private key of a file: PKCS#8, PKCS#1 or SEC1. Others than the file's owner and group must
/// not be able to read or change it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let (octets, mode) = read(path)?;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(PemError::Public { path: path.to_owned(), mode: mode & 0o777 });
    }
    let malformed = |source| PemError::Malformed { path: path.to_owned(), source };
    let mut keys = PrivateKeyDer::pem_slice_iter(&octets);
    let Some(key) = keys.next() else {
        let is_encrypted = has_encrypted_key(&octets);
        let path = path.to_owned();
        let empty = |path| PemError::Empty { path, wanted: "private key" };
        return Err(if is_encrypted { PemError::Encrypted { path } } else { empty(path) });
    };
    match keys.next() {
        None => key.map_err(malformed),
        Some(_) => Err(PemError::TwoKeys { path: path.to_owned() }),
    }
}

/// What the library passes over: PKCS#8's encrypted form, and the older one of OpenSSL.
fn has_encrypted_key(octets: &[u8]) -> bool {
    const MARK: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    octets.windows(MARK.len()).any(|window| window == MARK)
}

fn all<T: PemObject>(
    path: &Path,
    content: &[u8],
    wanted: &'static str,
) -> Result<Vec<T>, PemError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(content).collect();
    let found = found.map_err(|source| PemError::Malformed { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(PemError::Empty { path: path.to_owned(), wanted });
    }
    Ok(found)
}

/// What a file holds, whatever it is.
pub(super) fn content(path: &Path) -> Result<Vec<u8>, PemError> {
    read(path).map(|(octets, _)| octets)
}

/// The content and the mode of one and the same file.
fn read(path: &Path) -> Result<(Vec<u8>, u32), PemError> {
    let unreadable = |source| PemError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    let mut octets = Vec::new();
    let read = file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_OCTETS_MAX {
        return Err(PemError::TooLarge { path: path.to_owned() });
    }
    Ok((octets, mode))
}
