//! The chunked transfer coding (RFC 9112 section 7.1), without what the standard tolerates:
//! extensions, white space, trailers.

use crate::violation::Rule;

/// Hexadecimal digits of a chunk size; sixteen hold every 64-bit number.
const SIZE_DIGITS: u8 = 16;

/// One body in the chunked coding, while it is read.
pub(super) struct Chunked {
    next: Next,
    /// The size being read, then the octets left of its chunk.
    size: u64,
}

enum Next {
    Size { digits: u8 },
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    EndCarriageReturn,
    EndLineFeed,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { next: Next::Size { digits: 0 }, size: 0 }
    }
}

impl Chunked {
    /// The octets that belong to the body and are well-framed; whether they end it, or what is
    /// wrong with the octet that follows them.
    pub(super) fn read(&mut self, octets: &[u8]) -> (usize, Result<bool, Rule>) {
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            if let Next::Data = self.next {
                let here = u64::try_from(octets.len() - at).unwrap_or(u64::MAX);
                let taken = here.min(self.size);
                self.size -= taken;
                at += usize::try_from(taken).unwrap_or(0);
                if self.size == 0 {
                    self.next = Next::DataCarriageReturn;
                }
                continue;
            }
            match self.step(octet) {
                Ok(false) => at += 1,
                Ok(true) => return (at + 1, Ok(true)),
                Err(rule) => return (at, Err(rule)),
            }
        }
        (at, Ok(false))
    }

    /// Takes one octet of the framing; true if it was the last of the body.
    fn step(&mut self, octet: u8) -> Result<bool, Rule> {
        self.next = match (&self.next, octet) {
            (Next::Size { digits }, b'\r') if *digits > 0 => Next::SizeLineFeed,
            (Next::Size { digits }, _) if *digits < SIZE_DIGITS => {
                let digit = char::from(octet).to_digit(16).ok_or(Rule::Chunk)?;
                self.size = self.size << 4 | u64::from(digit);
                Next::Size { digits: digits + 1 }
            }
            (Next::SizeLineFeed, b'\n') if self.size == 0 => Next::EndCarriageReturn,
            (Next::SizeLineFeed, b'\n') => Next::Data,
            (Next::DataCarriageReturn, b'\r') => Next::DataLineFeed,
            (Next::DataLineFeed, b'\n') => Next::Size { digits: 0 },
            (Next::EndCarriageReturn, b'\r') => Next::EndLineFeed,
            (Next::EndCarriageReturn, octet) if octet != b'\n' => return Err(Rule::Trailer),
            (Next::EndLineFeed, b'\n') => return Ok(true),
            _ => return Err(Rule::Chunk),
        };
        Ok(false)
    }
}
