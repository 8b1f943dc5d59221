//! Lists of addresses that others keep: read or fetched, screened, and given to both planes.
//!
//! Nobody else's list is trusted. What cannot be read whole changes nothing; what would change too
//! much waits for an operator; the management allowlist is cut out of everything.

pub mod keeper;
mod kept;
pub mod origin;
pub mod parse;
pub mod screen;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use keeper::{FeedReport, Feeds, FeedsHandle};
pub use origin::{Origin, UrlError};
pub use parse::Format;

/// Feeds of one firewall.
pub const FEEDS_MAX: usize = 16;
/// Longest name of a feed: it is a label of metrics and part of a file's name.
const NAME_OCTETS_MAX: usize = 64;

/// One feed as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// One of [`is_name`].
    pub name: Arc<str>,
    pub origin: Origin,
    pub format: Format,
    /// How often a URL is asked; a file is read when it changes.
    pub refresh: Duration,
    /// Who is listed passes, and is counted.
    pub is_observed: bool,
    pub entries_max: usize,
    pub octets_max: usize,
    /// Private, shared and other special addresses are listed too, where the feed lists them.
    pub lists_private: bool,
}

/// What the feeds as a whole go by, from the start to the end of the process.
#[derive(Clone, Debug, Default)]
pub struct FeedsEnvironment {
    /// Where the last good copies are kept; none keeps none.
    pub directory: Option<PathBuf>,
    pub exempt: Arc<crate::ban::exempt::Exempt>,
}

/// The kernel's tables of listed addresses.
pub trait FeedPlane {
    type Error: std::error::Error;

    /// Which table it is, for it may be exchanged for another one, empty; none while there is none, and
    /// nothing becomes of what is written.
    fn epoch(&self) -> Option<u64> {
        Some(0)
    }

    /// Makes `list` hold exactly these prefixes, which neither overlap nor can be joined.
    fn replace(&mut self, list: u8, prefixes: &[IpNet]) -> Result<(), Self::Error>;
}

/// Whether a text can name a feed: letters, digits, `-`, `_` and `.`, which is not its first.
pub fn is_name(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    (1..=NAME_OCTETS_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_files() {
        for (text, expected) in [
            ("spamhaus-drop", true),
            ("a.b_C9", true),
            ("", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(text), expected, "{text:?}");
        }
        assert!(is_name(&"a".repeat(64)));
        assert!(!is_name(&"a".repeat(65)));
    }
}
