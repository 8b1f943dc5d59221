//! The last good copy of each feed, on disk: what is enforced from the start, before any origin is
//! asked.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::clock::Wall;
use crate::state_file;

/// The first word of a copy, with the version of its form.
const HEAD: &str = "firewall-feed-1";
/// Larger than any copy: two million of the longest prefixes.
const OCTETS_MAX: usize = 128 << 20;

/// A copy that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The list, in the plain format.
    pub(super) list: Vec<u8>,
    /// When its origin gave it.
    pub(super) since: Wall,
}

/// A copy is there and cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("{} cannot be read", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not what was written", path.display())]
    Damaged { path: PathBuf },
}

fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.list"))
}

/// The copy of a feed; none if there never was one.
pub(super) fn load(directory: &Path, name: &str) -> Result<Option<Kept>, KeptError> {
    let path = path(directory, name);
    let octets = match state_file::read(&path, OCTETS_MAX) {
        Ok(Some(octets)) => octets,
        Ok(None) => return Ok(None),
        Err(source) => return Err(KeptError::Unreadable { path, source }),
    };
    take_apart(&octets).map(Some).ok_or(KeptError::Damaged { path })
}

fn take_apart(octets: &[u8]) -> Option<Kept> {
    let end = octets.iter().position(|octet| *octet == b'\n')?;
    let (head, list) = octets.split_at_checked(end + 1)?;
    let mut words = std::str::from_utf8(head).ok()?.split_ascii_whitespace();
    let is_ours = words.next()? == HEAD;
    let since = Wall::from_ms(words.next()?.parse().ok()?);
    let is_whole = words.next()? == digest(list);
    (is_ours && is_whole).then(|| Kept { list: list.to_vec(), since })
}

fn digest(list: &[u8]) -> String {
    let digest = Sha256::digest(list);
    format!("{digest:x}")
}

/// Replaces the copy of a feed.
pub(super) fn store(
    directory: &Path,
    name: &str,
    listed: &[IpNet],
    since: Wall,
) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut list = Vec::new();
    for net in listed {
        writeln!(list, "{net}")?;
    }
    let mut copy = format!("{HEAD} {} {}\n", since.ms(), digest(&list)).into_bytes();
    copy.append(&mut list);
    state_file::replace(&path(directory, name), &copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_comes_back_whole_or_not_at_all() {
        let directory = std::env::temp_dir().join(format!("fw-kept-{}", std::process::id()));
        let listed: Vec<IpNet> =
            ["192.0.2.0/24", "2001:db8::/32"].map(|net| net.parse().unwrap()).into();
        let since = Wall::from_ms(1_795_300_897_250);
        assert_eq!(load(&directory, "a").unwrap(), None);
        store(&directory, "a", &listed, since).unwrap();
        let list = b"192.0.2.0/24\n2001:db8::/32\n".to_vec();
        assert_eq!(load(&directory, "a").unwrap(), Some(Kept { list, since }));

        let file = path(&directory, "a");
        let whole = std::fs::read(&file).unwrap();
        for cut in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            assert!(matches!(load(&directory, "a"), Err(KeptError::Damaged { .. })), "{cut}");
        }
        let mut other = whole.clone();
        *other.last_mut().unwrap() = b' ';
        std::fs::write(&file, other).unwrap();
        assert!(matches!(load(&directory, "a"), Err(KeptError::Damaged { .. })));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
