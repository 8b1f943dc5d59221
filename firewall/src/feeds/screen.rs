//! What of a feed is taken: nothing too wide, nothing private, nobody of the allowlist; and whether
//! that is believable after what the feed listed before.

use std::net::IpAddr;

use ipnet::IpNet;

use super::FeedSettings;
use super::parse::{ParseError, parse};
use crate::ban::exempt::Exempt;
use crate::ban::feed_set::Intervals;
use crate::ban::is_too_wide;

/// The most of the IPv4 addresses that a feed may list: a quarter.
const V4_ADDRESSES_MAX: u128 = 1 << 30;
/// The most of the IPv6 addresses: a /12.
const V6_ADDRESSES_MAX: u128 = 1 << 116;

/// Entries that may vanish whatever the share, and the share beyond: one in so many.
const VANISHED_FEW: usize = 100;
const VANISHED_SHARE: usize = 5;
/// Entries that may appear whatever the share, and the multiple of what was there beyond.
const APPEARED_FEW: usize = 10_000;
const APPEARED_MULTIPLE: usize = 4;

/// Blocks that no stranger has (RFC 6890 and its registries), so that a list of all that should not
/// be routed does not lock out the neighbours.
const PRIVATE: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/127",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// What a feed lists, ready for both planes.
#[derive(Clone, Debug)]
pub struct Screened {
    /// As the feed has it, joined where it can be: what is kept on disk.
    pub listed: Vec<IpNet>,
    /// The same without what must not be listed: what is enforced.
    pub prefixes: Vec<IpNet>,
    pub addresses: Intervals,
    /// Entries that were left out because they are too wide.
    pub too_wide: usize,
    /// Lines that could not be read.
    pub broken: usize,
}

/// The feed's new content is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScreenError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("every entry is wider than /8, of IPv6 than /19")]
    TooWide,
    #[error("it lists more than a quarter of all IPv4 addresses, or an IPv6 /12 and more")]
    TooMuch,
}

/// Reads a feed and leaves out what must not be listed.
pub fn screen(
    octets: &[u8],
    settings: &FeedSettings,
    exempt: &Exempt,
) -> Result<Screened, ScreenError> {
    let parsed = parse(octets, settings.format, settings.entries_max)?;
    let all = parsed.prefixes.len();
    let mut listed = parsed.prefixes;
    listed.retain(|net| !is_too_wide(*net));
    let too_wide = all - listed.len();
    if listed.is_empty() {
        return Err(ScreenError::TooWide);
    }
    let listed = IpNet::aggregate(&listed);
    if is_too_much(&listed) {
        return Err(ScreenError::TooMuch);
    }
    let private = PRIVATE.iter().filter(|_| !settings.lists_private);
    let private: Exempt = private.filter_map(|net| net.parse::<IpNet>().ok()).collect();
    let public = listed.iter().flat_map(|&net| private.cut_out_of(net));
    let prefixes: Vec<IpNet> = public.flat_map(|net| exempt.cut_out_of(net)).collect();
    let addresses = prefixes.iter().collect();
    Ok(Screened { listed, prefixes, addresses, too_wide, broken: parsed.broken })
}

fn is_too_much(prefixes: &[IpNet]) -> bool {
    let (mut v4, mut v6) = (0_u128, 0_u128);
    for prefix in prefixes {
        let (sum, bits) = match prefix.addr() {
            IpAddr::V4(_) => (&mut v4, 32),
            IpAddr::V6(_) => (&mut v6, 128),
        };
        let size = 1_u128.checked_shl(bits - u32::from(prefix.prefix_len())).unwrap_or(u128::MAX);
        *sum = sum.saturating_add(size);
    }
    v4 > V4_ADDRESSES_MAX || v6 > V6_ADDRESSES_MAX
}

/// A change that waits for an operator: it is more likely a broken feed than the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Surprise {
    #[error("{vanished} of {before} entries would vanish")]
    Shrunk { vanished: usize, before: usize },
    #[error("{appeared} entries would be added to {before}")]
    Grown { appeared: usize, before: usize },
}

/// Whether a feed changes more than one does.
pub fn surprise(before: &Screened, after: &Screened) -> Option<Surprise> {
    let vanished = not_in(&before.prefixes, &after.addresses);
    let appeared = not_in(&after.prefixes, &before.addresses);
    let before = before.prefixes.len();
    if vanished > VANISHED_FEW && vanished * VANISHED_SHARE > before {
        return Some(Surprise::Shrunk { vanished, before });
    }
    (appeared > APPEARED_FEW && appeared > APPEARED_MULTIPLE * before)
        .then_some(Surprise::Grown { appeared, before })
}

/// How many of the prefixes are not wholly among the addresses, however these are cut.
fn not_in(prefixes: &[IpNet], addresses: &Intervals) -> usize {
    prefixes.iter().filter(|prefix| !addresses.covers(**prefix)).count()
}

#[cfg(test)]
mod tests;
