//! Whom a packet names as its sender, and whom as its receiver.

use crate::packet::field;

/// The address that a packet says it comes from.
///
/// Plain words where an enum of arrays would say more: an enum's unused octets are undefined, and the
/// verifier refuses a program that copies them; arrays are taken apart into a register an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub family: Family,
    /// The octets in network order, as they stand in memory; an IPv4 address is the first four,
    /// before zeros.
    words: [u64; 2],
}

/// Which kind of address a [`Source`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Family {
    /// The frame ends before its source, or carries no IP.
    None = 0,
    V4 = 4,
    V6 = 6,
}

impl Source {
    pub const NONE: Self = Self { family: Family::None, words: [0; 2] };

    #[inline(always)]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self { family: Family::V4, words: [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0] }
    }

    #[inline(always)]
    pub fn v6(octets: [u8; 16]) -> Self {
        let words = [u64::from_ne_bytes(field(&octets, 0)), u64::from_ne_bytes(field(&octets, 8))];
        Self { family: Family::V6, words }
    }

    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    pub fn octets(self) -> [u8; 16] {
        let [high, low] = self.words.map(u64::to_ne_bytes);
        let mut octets = [0; 16];
        for (octet, from) in octets.iter_mut().zip(high.into_iter().chain(low)) {
            *octet = from;
        }
        octets
    }
}
