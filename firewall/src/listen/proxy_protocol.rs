//! The PROXY protocol: a balancer that passes a connection on says first whose it is.
//!
//! Versions 1 and 2 of haproxy.org's `proxy-protocol.txt`, whose sections are named below. The header is
//! believed only of peers that are configured to send it, and then it is required (section 2 forbids
//! to guess): who could choose whether to send one could be whoever he likes.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::address::PeerAddr;

/// What a version 1 header begins with (section 2.1).
const LINE_START: &[u8] = b"PROXY ";
/// The longest version 1 header with its CR LF, in octets (section 2.1).
const LINE_OCTETS_MAX: usize = 107;

/// What a version 2 header begins with (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of a version 2 header that says how long the rest is, in octets.
const FIXED_OCTETS: usize = 16;
/// The longest version 2 header that is read, with all that follows the addresses, in octets. The
/// standard allows 65,551; what balancers tell of TLS and of their clouds is some hundred.
const BINARY_OCTETS_MAX: usize = 4096;

/// The type of the value that holds the header's CRC-32C (section 2.2.4).
const CRC32C_TYPE: u8 = 0x03;
/// Castagnoli's polynomial, least significant bit first (RFC 9260 appendix A).
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

/// How many octets are looked at at once: most headers are shorter.
const PIECE_OCTETS: usize = 256;

/// Who sends headers, and how long a connection waits for one.
#[derive(Clone, Debug)]
pub struct Balancers {
    /// Peers whose connections begin with a header, of either version. Nobody else's do.
    pub networks: Rc<[IpNet]>,
    /// From the connection's start to the header's last octet.
    pub header_timeout: Duration,
}

impl Default for Balancers {
    fn default() -> Self {
        Self { networks: Rc::default(), header_timeout: Duration::from_secs(5) }
    }
}

impl Balancers {
    /// Whether this peer's connections must begin with a header.
    pub fn contain(&self, peer: PeerAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&peer.0))
    }
}

/// One header, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in octets; what follows is the client's.
    pub octets: usize,
    /// Whose connection it is. None where the balancer speaks for itself (`LOCAL`, its health
    /// checks), or cannot name the client: then the connection is the balancer's.
    pub source: Option<PeerAddr>,
}

/// Why a connection does not begin with a header that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the first octets are of neither version")]
    Signature,
    #[error("the line of version 1 is malformed")]
    Line,
    #[error("the version is not 2")]
    Version,
    #[error("the command is neither LOCAL nor PROXY")]
    Command,
    #[error("the address family or the transport is not known")]
    Family,
    #[error("the length does not hold the addresses")]
    Length,
    #[error("the header exceeds 107 octets in version 1, 4096 in version 2")]
    TooLong,
    #[error(
        "the values behind the addresses do not fit the length, or the checksum is no checksum"
    )]
    Value,
    #[error("the checksum is wrong")]
    Checksum,
}

/// Why no header was read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the PROXY header is malformed")]
    Malformed(#[from] Malformed),
    /// So do health checks that only connect.
    #[error("the connection ended before its PROXY header")]
    Ended,
    #[error("the PROXY header cannot be read")]
    Read(#[from] io::Error),
}

/// Takes the header off the stream, and not an octet more. Holds at most 4,352 octets.
///
/// # Errors
/// If what comes is no header, or the stream ends or fails before the header does. It waits as long
/// as the peer does.
pub async fn read(stream: &mut TcpStream) -> Result<Header, HeaderError> {
    let mut held = Vec::new();
    let mut piece = [0; PIECE_OCTETS];
    loop {
        // What follows the header is not ours to take, so it is looked at before it is taken.
        let seen = stream.peek(&mut piece).await?;
        if seen == 0 {
            return Err(HeaderError::Ended);
        }
        let before = held.len();
        held.extend_from_slice(piece.get(..seen).unwrap_or_default());
        let header = parse(&held)?;
        let taken = header.map_or(seen, |header| header.octets.saturating_sub(before));
        stream.read_exact(piece.get_mut(..taken).unwrap_or_default()).await?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// The header that `octets` begin with; none while its end is not among them. A longer beginning of
/// the same stream gives the same header, or the same error.
///
/// # Errors
/// If no header begins like this.
pub fn parse(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    if agrees(octets, LINE_START) {
        line(octets)
    } else if agrees(octets, SIGNATURE) {
        binary(octets)
    } else {
        Err(Malformed::Signature)
    }
}

/// Whether `octets`, as far as they are there, are those of `start`.
fn agrees(octets: &[u8], start: &[u8]) -> bool {
    octets.iter().zip(start).all(|(one, other)| one == other)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CR LF.
fn line(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = octets.get(..LINE_OCTETS_MAX).unwrap_or(octets);
    let Some(end) = window.iter().position(|octet| *octet == b'\n') else {
        return if window.len() < LINE_OCTETS_MAX { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let text = window.get(LINE_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let source = line_source(text.ok_or(Malformed::Line)?)?;
    Ok(Some(Header { octets: end + 1, source }))
}

/// Whom the words of a version 1 header name, those behind `PROXY`.
fn line_source(words: &[u8]) -> Result<Option<PeerAddr>, Malformed> {
    // Whatever follows is to be ignored.
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let text = str::from_utf8(words).map_err(|_no_text| Malformed::Line)?;
    let words: Vec<_> = text.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed::Line);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    match (address(source), address(destination)) {
        (Some(source), Some(_)) if is_port(source_port) && is_port(destination_port) => {
            Ok(Some(PeerAddr::new(source)))
        }
        _ => Err(Malformed::Line),
    }
}

/// A decimal number of 16 bits, without sign and leading zeros.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

/// What a version 2 header tells of addresses.
#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    /// The family, of any transport: a client may reach its balancer by QUIC.
    fn of(octet: u8) -> Result<Self, Malformed> {
        match octet {
            0x00 => Ok(Self::Unspecified),
            0x11 | 0x12 => Ok(Self::V4),
            0x21 | 0x22 => Ok(Self::V6),
            0x31 | 0x32 => Ok(Self::Unix),
            _ => Err(Malformed::Family),
        }
    }

    /// Octets of both addresses, with their ports.
    const fn octets(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }

    /// The first of both addresses, where it is one of IP.
    fn source(self, addresses: &[u8]) -> Option<PeerAddr> {
        let address = match self {
            Self::V4 => IpAddr::from(*addresses.first_chunk::<4>()?),
            Self::V6 => IpAddr::from(*addresses.first_chunk::<16>()?),
            Self::Unspecified | Self::Unix => return None,
        };
        Some(PeerAddr::new(address))
    }
}

/// Version 2: signature, version and command, family, length, addresses, values.
fn binary(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(fixed) = octets.first_chunk::<FIXED_OCTETS>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    if command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    // Of LOCAL everything else is to be ignored, the family too.
    let family = match command & 0x0f {
        0 => Family::Unspecified,
        1 => Family::of(family)?,
        _ => return Err(Malformed::Command),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < family.octets() {
        return Err(Malformed::Length);
    }
    let whole = FIXED_OCTETS + length;
    if whole > BINARY_OCTETS_MAX {
        return Err(Malformed::TooLong);
    }
    let Some(header) = octets.get(..whole) else { return Ok(None) };
    let addresses = header.get(FIXED_OCTETS..).unwrap_or_default();
    // Without a family it cannot be told where addresses end and values begin.
    if !matches!(family, Family::Unspecified) {
        check_values(header, FIXED_OCTETS + family.octets())?;
    }
    Ok(Some(Header { octets: whole, source: family.source(addresses) }))
}

/// Sees that the values behind the addresses fill the header exactly, and that the checksum, if one
/// of them is it, is right. The others are passed over.
fn check_values(header: &[u8], addresses_end: usize) -> Result<(), Malformed> {
    let mut at = addresses_end;
    let mut checksum = None;
    loop {
        let rest = header.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let &[kind, high, low, ..] = rest else { return Err(Malformed::Value) };
        let end = 3 + usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(3..end).ok_or(Malformed::Value)?;
        if kind == CRC32C_TYPE {
            let told = <[u8; 4]>::try_from(value).map_err(|_no_checksum| Malformed::Value)?;
            if checksum.replace((at + 3, told)).is_some() {
                return Err(Malformed::Value);
            }
        }
        at += end;
    }
    let Some((place, told)) = checksum else { return Ok(()) };
    // It is taken over the whole header, with zeros in its own place.
    let before = header.iter().take(place);
    let after = header.iter().skip(place + told.len());
    let whole = before.chain(&[0; 4]).chain(after);
    if crc32c(whole) == u32::from_be_bytes(told) { Ok(()) } else { Err(Malformed::Checksum) }
}

/// Bit by bit: few headers have it, and none is long.
fn crc32c<'a>(octets: impl Iterator<Item = &'a u8>) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ (CRC32C_POLYNOMIAL & (crc & 1).wrapping_neg());
    !octets.fold(u32::MAX, |crc, octet| (0..8).fold(crc ^ u32::from(*octet), |crc, _| shift(crc)))
}
