//! The first message of a client, read from its octets: bounded, and without a library's opinion.
//!
//! [`Gathering`] takes records until the message is whole (RFC 8446 section 5.1); [`ClientHello`] is
//! what the message says (section 4.1.2), as far as a fingerprint needs it. Neither does any I/O.

#[cfg(test)]
pub(in crate::tls) mod tests;

/// The longest message that is gathered, in octets. Those of browsers have 2,000 with a post-quantum
/// key; 16,384 is what one record may hold.
pub const MESSAGE_OCTETS_MAX: usize = 16 * 1024;
/// How many records it may be split into. Some clients split it in a few, to deceive their own censors.
const RECORDS_MAX: usize = 32;

const RECORD_HEADER_OCTETS: usize = 5;
const MESSAGE_HEADER_OCTETS: usize = 4;
/// The longest record (section 5.1).
const RECORD_OCTETS_MAX: usize = 16 * 1024;
/// `ContentType.handshake`.
const HANDSHAKE: u8 = 22;
/// `HandshakeType.client_hello`.
const CLIENT_HELLO: u8 = 1;
/// The extension of this name.
const SUPPORTED_VERSIONS: u16 = 0x002b;

/// Why octets do not begin a handshake that is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHello {
    /// Plain text, most often.
    #[error("not a record of TLS")]
    NotTls,
    #[error("the first message is no ClientHello")]
    NotHello,
    #[error("the ClientHello is longer than {MESSAGE_OCTETS_MAX} octets, or in too many pieces")]
    TooLarge,
}

/// Gathers the first message.
#[derive(Debug, Default)]
pub struct Gathering {
    /// Every octet that was taken.
    octets: Vec<u8>,
    /// The message, without the headers of records.
    message: Vec<u8>,
    records: usize,
    /// Where the record that is being read began.
    record_at: usize,
}

impl Gathering {
    /// How many octets to read next, at most: what comes after the message stays where it is. None:
    /// the message is whole.
    pub fn wants(&self) -> Option<usize> {
        let read = self.octets.len() - self.record_at;
        let wanted = RECORD_HEADER_OCTETS + self.record_octets().unwrap_or(0) - read;
        (wanted > 0).then_some(wanted)
    }

    /// Takes no more octets than [`Self::wants`] says.
    pub fn take(&mut self, octets: &[u8]) -> Result<(), NoHello> {
        let before = self.octets.len() - self.record_at;
        self.octets.extend_from_slice(octets);
        let Some(length) = self.record_octets() else { return self.look_at_start() };
        self.look_at_start()?;
        if length == 0 || length > RECORD_OCTETS_MAX || self.records == RECORDS_MAX {
            return Err(NoHello::TooLarge);
        }
        let body = self.record_at + before.max(RECORD_HEADER_OCTETS);
        self.message.extend_from_slice(self.octets.get(body..).unwrap_or_default());
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NoHello::NotHello);
        }
        if self.message_octets().is_some_and(|octets| octets > MESSAGE_OCTETS_MAX) {
            return Err(NoHello::TooLarge);
        }
        if self.octets.len() == self.record_at + RECORD_HEADER_OCTETS + length && !self.is_whole() {
            self.records += 1;
            self.record_at = self.octets.len();
        }
        Ok(())
    }

    /// As they came.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The message with its header, once it is whole.
    pub fn message(&self) -> &[u8] {
        let octets = self.message_octets().unwrap_or(0);
        self.message.get(..octets).unwrap_or_default()
    }

    /// A record of the handshake, of whatever version of SSL 3 and its successors.
    fn look_at_start(&self) -> Result<(), NoHello> {
        match self.octets.get(self.record_at..).unwrap_or_default() {
            [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(()),
            _ => Err(NoHello::NotTls),
        }
    }

    /// The length that the header of the present record says, once it is whole.
    fn record_octets(&self) -> Option<usize> {
        match self.octets.get(self.record_at..)? {
            [_, _, _, high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        }
    }

    /// The message's length with its header, once that is whole.
    fn message_octets(&self) -> Option<usize> {
        let [_, a, b, c, ..] = self.message.as_slice() else { return None };
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        Some(usize::try_from(length).ok()? + MESSAGE_HEADER_OCTETS)
    }

    fn is_whole(&self) -> bool {
        self.message_octets().is_some_and(|octets| self.message.len() >= octets)
    }
}

/// What a client offers, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    pub legacy_version: u16,
    /// Two octets each.
    suites: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// Reads a message with its header; none where a length leads out of what holds it.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut message = Octets(message);
        (message.u8()? == CLIENT_HELLO).then_some(())?;
        let length = u32::from_be_bytes([0, message.u8()?, message.u8()?, message.u8()?]);
        let mut body = Octets(message.take(usize::try_from(length).ok()?)?);
        let legacy_version = body.u16()?;
        let _random = body.take(32)?;
        let _session = body.short()?;
        let suites = body.long()?;
        let _compression = body.short()?;
        // Clients older than extensions end here (RFC 5246 section 7.4.1.2).
        let extensions = if body.0.is_empty() { &[][..] } else { body.long()? };
        let hello = Self { legacy_version, suites, extensions };
        let is_sound =
            suites.len().is_multiple_of(2) && body.0.is_empty() && hello.are_extensions_sound();
        is_sound.then_some(hello)
    }

    fn are_extensions_sound(&self) -> bool {
        let mut rest = Octets(self.extensions);
        while !rest.0.is_empty() {
            if rest.u16().is_none() || rest.long().is_none() {
                return false;
            }
        }
        true
    }

    /// The suites' numbers, with those that mean nothing (RFC 8701).
    pub fn suites(&self) -> impl Iterator<Item = u16> + 'a {
        pairs(self.suites)
    }

    /// Each extension's number and content.
    pub fn extensions(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = Octets(self.extensions);
        std::iter::from_fn(move || Some((rest.u16()?, rest.long()?)))
    }

    /// The highest version that is offered (RFC 8446 section 4.2.1).
    pub fn version(&self) -> u16 {
        let offered = self.extension(SUPPORTED_VERSIONS).unwrap_or_default();
        let offered = numbers(offered, true).filter(|version| !is_grease(*version));
        offered.max().unwrap_or(self.legacy_version)
    }

    /// The content of the first extension of this number.
    pub fn extension(&self, number: u16) -> Option<&'a [u8]> {
        self.extensions().find(|(found, _)| *found == number).map(|(_, content)| content)
    }
}

/// A number that is sent so that servers go on passing over what they do not know (RFC 8701).
pub(super) fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// The numbers of a list whose length in octets stands before it, in one or two octets; nothing of a
/// list that does not fill its place.
pub(super) fn numbers(content: &[u8], is_short: bool) -> impl Iterator<Item = u16> {
    let mut content = Octets(content);
    let list = if is_short { content.short() } else { content.long() };
    pairs(list.filter(|_| content.0.is_empty()).unwrap_or_default())
}

/// The names of a list as ALPN's (RFC 7301 section 3.1).
pub(super) fn names(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut content = Octets(content);
    let mut list = Octets(content.long().unwrap_or_default());
    std::iter::from_fn(move || list.short())
}

fn pairs(octets: &[u8]) -> impl Iterator<Item = u16> {
    octets.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

/// Octets, from the front.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// What a length of one octet stands before.
    fn short(&mut self) -> Option<&'a [u8]> {
        let octets = self.u8()?;
        self.take(usize::from(octets))
    }

    /// What a length of two octets stands before.
    fn long(&mut self) -> Option<&'a [u8]> {
        let octets = self.u16()?;
        self.take(usize::from(octets))
    }
}
