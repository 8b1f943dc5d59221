//! The certificates of a server, found by the name that a client asks for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

use super::{CertificateFiles, TlsError};
use crate::tls::certificate::Certificate;
use crate::tls::{ocsp, pem, provider};

/// What ends at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub path: PathBuf,
    /// `certificate`, `ocsp` or `crl`.
    pub kind: &'static str,
    /// In seconds since 1970.
    pub not_before: Option<i64>,
    /// In seconds since 1970.
    pub not_after: i64,
}

impl Expiry {
    pub(super) fn of_revocation_list(path: &Path, not_after: i64) -> Self {
        Self { path: path.to_owned(), kind: "crl", not_before: None, not_after }
    }
}

/// One certificate with its key.
#[derive(Debug)]
struct Entry {
    names: Vec<String>,
    bare: Arc<CertifiedKey>,
    /// The same with its status, and until when that is good.
    stapled: Option<(Arc<CertifiedKey>, Option<i64>)>,
}

/// All of them, in the configuration's order. The first one, and those for the same names with other
/// keys, answer where no name is known.
#[derive(Debug)]
pub(super) struct Certificates {
    entries: Vec<Entry>,
    /// By name; a wildcard by what follows its `*.`.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
    default: Vec<usize>,
    expiries: Vec<Expiry>,
}

impl Certificates {
    pub(super) fn load(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        let (mut entries, mut expiries) = (Vec::<Entry>::new(), Vec::new());
        for (index, files) in files.iter().enumerate() {
            let entry = load_one(files, &mut expiries)?;
            for name in &entry.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(Vec::new).push(index);
            }
            entries.push(entry);
        }
        let is_default =
            |entry: &Entry| entries.first().is_some_and(|first| first.names == entry.names);
        let numbered = entries.iter().enumerate().filter(|(_, entry)| is_default(entry));
        let default = numbered.map(|(index, _)| index).collect();
        Ok(Self { entries, exact, wildcard, default, expiries })
    }

    /// Whether any is for this name.
    pub(super) fn are_for(&self, name: &str) -> bool {
        self.of_name(name).is_some()
    }

    pub(super) fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// Those for a name: its own before a wildcard's, which stands for one label (RFC 9525 section 6.3).
    fn of_name(&self, name: &str) -> Option<&Vec<usize>> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).or_else(parent)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_name = hello.server_name().and_then(|name| self.of_name(name));
        let candidates = of_name.unwrap_or(&self.default).iter();
        let mut candidates = candidates.filter_map(|index| self.entries.get(*index));
        let schemes = hello.signature_schemes();
        let can_sign = |entry: &&Entry| entry.bare.key.choose_scheme(schemes).is_some();
        let entry = candidates.clone().find(can_sign).or_else(|| candidates.next())?;
        let stapled =
            entry.stapled.as_ref().filter(|(_, until)| until.is_none_or(|end| now() < end));
        Some(Arc::clone(stapled.map_or(&entry.bare, |(key, _)| key)))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Reads one certificate's files, and checks that they belong together.
fn load_one(files: &CertificateFiles, expiries: &mut Vec<Expiry>) -> Result<Entry, TlsError> {
    let CertificateFiles { chain: path, key: key_path, ocsp: ocsp_path } = files;
    let chain = pem::certificates(path)?;
    let mut parsed: Vec<Certificate<'_>> = Vec::new();
    for (number, der) in (1..).zip(&chain) {
        let unreadable = || TlsError::Certificate { path: path.clone(), number };
        let certificate = Certificate::parse(der).ok_or_else(unreadable)?;
        if parsed.last().is_some_and(|before| before.issuer != certificate.subject) {
            return Err(TlsError::Order { path: path.clone(), number });
        }
        parsed.push(certificate);
    }
    let Some(leaf) = parsed.first() else {
        return Err(TlsError::Certificate { path: path.clone(), number: 1 });
    };
    // The chain is no longer good than its shortest-lived link.
    let not_after = parsed.iter().map(|link| link.not_after).min().unwrap_or(leaf.not_after);
    expiries.push(Expiry {
        path: path.clone(),
        kind: "certificate",
        not_before: Some(leaf.not_before),
        not_after,
    });
    let ocsp = match ocsp_path {
        None => None,
        Some(ocsp_path) => {
            let unfit = |source| TlsError::Ocsp { path: ocsp_path.clone(), source };
            let response = pem::content(ocsp_path)?;
            let until = ocsp::good_until(&response, leaf, parsed.get(1)).map_err(unfit)?;
            expiries.extend(until.map(|not_after| Expiry {
                path: ocsp_path.clone(),
                kind: "ocsp",
                not_before: None,
                not_after,
            }));
            Some((response, until))
        }
    };
    let names = leaf.dns_names();
    let key = signing_key(key_path)?;
    let bare = CertifiedKey::new(chain, key);
    bare.keys_match()
        .map_err(|_differ| TlsError::OtherKey { key: key_path.clone(), chain: path.clone() })?;
    let stapled = ocsp.map(|(response, until)| {
        (Arc::new(CertifiedKey { ocsp: Some(response), ..bare.clone() }), until)
    });
    Ok(Entry { names, bare: Arc::new(bare), stapled })
}

fn signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, TlsError> {
    let key = pem::private_key(path)?;
    let unusable = |source| TlsError::Key { path: path.to_owned(), source };
    provider().key_provider.load_private_key(key).map_err(unusable)
}
