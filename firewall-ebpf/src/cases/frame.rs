//! Frames, put together layer by layer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 1 << 1;
pub(super) const RST: u8 = 1 << 2;
pub(super) const PSH: u8 = 1 << 3;
pub(super) const ACK: u8 = 1 << 4;
pub(super) const URG: u8 = 1 << 5;

pub(super) const TCP: u8 = 6;

pub(super) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    vlan(&[], ethertype, payload)
}

/// An Ethernet header with a tag of each of `types`.
pub(super) fn vlan(types: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in types {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Where the fixed IP header of a frame ends; the frame's end where it carries no IP.
pub(super) fn known(frame: &[u8]) -> usize {
    let mut offset = 12;
    loop {
        match frame.get(offset..offset + 2) {
            Some([0x81, 0x00] | [0x88, 0xa8]) => offset += 4,
            Some([0x08, 0x00]) => return offset + 22,
            Some([0x86, 0xdd]) => return offset + 42,
            _ => return frame.len(),
        }
    }
}

pub(super) struct Ipv4 {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    options: Vec<u8>,
    fragment: u16,
    ttl: u8,
    protocol: u8,
}

pub(super) fn ipv4(source: Ipv4Addr) -> Ipv4 {
    let destination = Ipv4Addr::new(203, 0, 113, 80);
    Ipv4 { source, destination, options: Vec::new(), fragment: 0, ttl: 64, protocol: TCP }
}

impl Ipv4 {
    /// Octets of options; no-operations, a multiple of four.
    pub(super) fn options(self, options: usize) -> Self {
        Self { options: vec![1; options], ..self }
    }

    /// These options, then ends of the list up to a whole word.
    pub(super) fn list(self, options: &[u8]) -> Self {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        Self { options, ..self }
    }

    pub(super) fn to(self, destination: Ipv4Addr) -> Self {
        Self { destination, ..self }
    }

    pub(super) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// Flags and fragment offset.
    pub(super) fn fragment(self, fragment: u16) -> Self {
        Self { fragment, ..self }
    }

    pub(super) fn protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }

    pub(super) fn build(&self, payload: &[u8]) -> Vec<u8> {
        let words = u8::try_from(5 + self.options.len() / 4).unwrap();
        let total = u16::try_from(20 + self.options.len() + payload.len()).unwrap();
        let mut packet = vec![0x40 | words, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(&self.options);
        let sum = sum(&packet).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet.extend(payload);
        packet
    }
}

/// The checksum that a header of zero there must have (RFC 1071), one word after the other.
pub(super) fn sum(header: &[u8]) -> u16 {
    let mut sum = 0_u16;
    for word in header.as_chunks::<2>().0 {
        let (added, carries) = sum.overflowing_add(u16::from_be_bytes(*word));
        sum = added + u16::from(carries);
    }
    !sum
}

pub(super) fn ipv6(source: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let destination = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);
    ipv6_to(source, destination, next_header, payload)
}

pub(super) fn ipv6_to(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// An extension header of `length` more than its first eight octets, in units of eight.
pub(super) fn extension(next_header: u8, length: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, length];
    header.resize((usize::from(length) + 1) * 8, 0);
    header.extend(payload);
    header
}

/// An authentication header: its length counts words, less two.
pub(super) fn authentication(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, 4];
    header.resize(24, 0);
    header.extend(payload);
    header
}

/// A fragment header; `field` is offset and flags.
pub(super) fn fragment6(next_header: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend(field.to_be_bytes());
    header.extend([0; 4]);
    header.extend(payload);
    header
}

pub(super) fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = tcp_ports(40_000, 443);
    segment[13] = flags;
    if flags & ACK == 0 {
        segment[8..12].fill(0);
    }
    segment
}

/// A segment with options, then ends of the list up to a whole word, and data.
pub(super) fn tcp_options(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut segment = tcp(flags);
    segment.extend(options);
    segment.resize(segment.len().next_multiple_of(4), 0);
    segment[12] = u8::try_from(segment.len() / 4).unwrap() << 4;
    segment.extend(data);
    segment
}

pub(super) fn tcp_ports(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = source.to_be_bytes().to_vec();
    segment.extend(destination.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, ACK, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

pub(super) fn udp(source: u16, destination: u16) -> Vec<u8> {
    udp_data(source, destination, &[])
}

pub(super) fn udp_data(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = source.to_be_bytes().to_vec();
    datagram.extend(destination.to_be_bytes());
    datagram.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}
