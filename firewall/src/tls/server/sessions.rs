//! Sessions that do not go on: who has shown a certificate that is over makes a whole handshake, in which a
//! newer one can be shown. Whether what is shown is accepted, the listener asks anew in any case.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls_pki_types::UnixTime;

use crate::tls::certificate::Certificate;

/// Keys of tickets, for certificates that are not over.
#[derive(Debug)]
pub(super) struct Tickets(pub(super) Arc<dyn ProducesTickets>);

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher).filter(|session| goes_on(session, UnixTime::now()))
    }
}

/// Sessions that are remembered, for certificates that are not over.
#[derive(Debug)]
pub(super) struct Remembered(pub(super) Arc<dyn StoresServerSessions>);

impl StoresServerSessions for Remembered {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).filter(|session| goes_on(session, UnixTime::now()))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key).filter(|session| goes_on(session, UnixTime::now()))
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

/// Whether a session is of nobody who has shown a certificate, or of one whose certificate is not over.
fn goes_on(session: &[u8], now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match leaf(session) {
        Some([]) => true,
        Some(der) => Certificate::parse(der).is_some_and(|leaf| now <= leaf.not_after),
        None => false,
    }
}

/// The certificate that a client has shown, nothing if it has shown none, out of the library's own encoding of
/// its session; none where that is another than the one known, which costs a whole handshake and no more.
fn leaf(session: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(session);
    if fields.number(1)? == 1 {
        let _name = fields.counted(1)?;
    }
    let _version_and_suite = fields.octets(4)?;
    let _secret = fields.counted(1)?;
    let _has_extended_secret = fields.octets(1)?;
    match fields.number(1)? {
        0 => Some(&[]),
        1 => Fields(fields.counted(3)?).counted(3).filter(|leaf| !leaf.is_empty()),
        _ => None,
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(octets)
    }

    /// A big-endian number of at most four octets.
    fn number(&mut self, octets: usize) -> Option<usize> {
        let octets = self.octets(octets)?;
        Some(octets.iter().fold(0, |number, octet| number << 8 | usize::from(*octet)))
    }

    /// What follows its own length.
    fn counted(&mut self, octets_of_length: usize) -> Option<&'a [u8]> {
        let length = self.number(octets_of_length)?;
        self.octets(length)
    }
}
