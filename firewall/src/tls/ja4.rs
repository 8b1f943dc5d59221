//! JA4: a client's TLS fingerprint, as `FoxIO` describes it (JA4, the part under the BSD licence).
//!
//! What clients permute from one connection to the next is sorted, and what means nothing (GREASE, RFC
//! 8701) is left out, so that one program keeps one fingerprint. It is evidence, no identity: whoever
//! wants to can imitate another's.

#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::hello::{self, ClientHello, is_grease};

const SERVER_NAME: u16 = 0x0000;
const SIGNATURE_ALGORITHMS: u16 = 0x000d;
const ALPN: u16 = 0x0010;

/// What stands for the digest of nothing.
const NOTHING: &str = "000000000000";
/// Digits of a digest that are kept.
const DIGEST_DIGITS: usize = 12;
/// More than this is written as this.
const COUNT_MAX: usize = 99;

/// A fingerprint: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ja4([u8; 36]);

impl Ja4 {
    /// The fingerprint of what a client offers over TCP.
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let mut text = String::with_capacity(36);
        text.push_str(Self::offered(hello));
        let suites: Vec<u16> = hello.suites().filter(|number| !is_grease(*number)).collect();
        let numbers = hello.extensions().map(|(number, _)| number);
        let extensions: Vec<u16> = numbers.filter(|number| !is_grease(*number)).collect();
        for count in [suites.len(), extensions.len()] {
            let count = count.min(COUNT_MAX);
            text.push(digit(count / 10));
            text.push(digit(count % 10));
        }
        text.extend(protocol(hello));
        text.push('_');
        text.push_str(&digest(&listed(suites, true)));
        let told: Vec<u16> =
            extensions.into_iter().filter(|n| *n != SERVER_NAME && *n != ALPN).collect();
        let signatures = hello.extension(SIGNATURE_ALGORITHMS).unwrap_or_default();
        let signatures = hello::numbers(signatures, false).filter(|number| !is_grease(*number));
        let signatures = listed(signatures.collect(), false);
        let mut features = listed(told, true);
        if !features.is_empty() && !signatures.is_empty() {
            features.push('_');
            features.push_str(&signatures);
        }
        text.push('_');
        text.push_str(&digest(&features));
        let mut octets = [b'0'; 36];
        for (octet, written) in octets.iter_mut().zip(text.bytes()) {
            *octet = written;
        }
        Self(octets)
    }

    /// The first four characters: one of a few words, unlike the rest, of which clients can make up
    /// any number.
    pub fn offered(hello: &ClientHello<'_>) -> &'static str {
        match (hello.version(), hello.extension(SERVER_NAME).is_some()) {
            (0x0304, true) => "t13d",
            (0x0304, false) => "t13i",
            (0x0303, true) => "t12d",
            (0x0303, false) => "t12i",
            (0x0302, true) => "t11d",
            (0x0302, false) => "t11i",
            (0x0301, true) => "t10d",
            (0x0301, false) => "t10i",
            (0x0300, true) => "ts3d",
            (0x0300, false) => "ts3i",
            (_, true) => "t00d",
            (_, false) => "t00i",
        }
    }

    pub fn as_str(&self) -> &str {
        // Only ASCII is ever written.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ja4({self})")
    }
}

/// First and last character of the first protocol that is offered; of its hexadecimal digits where one of
/// the two is neither letter nor digit.
fn protocol(hello: &ClientHello<'_>) -> [char; 2] {
    let offered = hello.extension(ALPN).unwrap_or_default();
    let is_meant = |name: &&[u8]| match **name {
        [high, low] => !is_grease(u16::from_be_bytes([high, low])),
        _ => true,
    };
    let first = hello::names(offered).find(is_meant).unwrap_or_default();
    match (first.first(), first.last()) {
        (Some(first), Some(last))
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() =>
        {
            [char::from(*first), char::from(*last)]
        }
        (Some(first), Some(last)) => {
            [digit(usize::from(*first >> 4)), digit(usize::from(*last & 0x0f))]
        }
        _ => ['0', '0'],
    }
}

fn digit(value: usize) -> char {
    u32::try_from(value).ok().and_then(|value| char::from_digit(value, 16)).unwrap_or('0')
}

/// Four hexadecimal digits each, with commas between.
fn listed(mut numbers: Vec<u16>, is_sorted: bool) -> String {
    if is_sorted {
        numbers.sort_unstable();
    }
    let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:04x}")).collect();
    numbers.join(",")
}

/// The first digits of a list's SHA-256.
fn digest(list: &str) -> String {
    if list.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = String::new();
    for octet in Sha256::digest(list) {
        text.extend([digit(usize::from(octet >> 4)), digit(usize::from(octet & 0x0f))]);
    }
    text.truncate(DIGEST_DIGITS);
    text
}
