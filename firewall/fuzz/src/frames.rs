//! `frames`: which WebSocket frames of a direction pass, however they are cut, against a plain reading
//! of RFC 6455 section 5 that has all octets at hand.

use firewall::pipeline::frames::{Fault, Frames, Sender};

use super::Target;

pub(crate) const TARGET: Target = Target { name: "frames", run, seeds, words: &[] };

/// Octets that a message may have.
const MESSAGE_OCTETS: u64 = 300;

/// The first octet of an input says who sends, whether messages may be compressed, and how the others
/// are cut into reads.
fn run(data: &[u8]) {
    let Some((how, stream)) = data.split_first() else { return };
    let sender = if how & 1 == 0 { Sender::Client } else { Sender::Upstream };
    let is_compressed = how & 2 != 0;
    let frames = || Frames::new(sender, MESSAGE_OCTETS, is_compressed);
    let whole = scan(frames(), stream, stream.len());
    let cut = scan(frames(), stream, usize::from(how >> 2) % 17 + 1);
    let context = stream.escape_ascii();
    assert_eq!(whole, cut, "the verdict depends on the cuts: {context}");
    let expected = plain(stream, sender == Sender::Client, is_compressed);
    assert_eq!(whole, expected, "{sender:?} {is_compressed} {context}");
}

/// How much passes of a stream that comes in such pieces, and why no more.
fn scan(mut frames: Frames, stream: &[u8], piece: usize) -> (usize, Option<Fault>) {
    let (mut passed, mut end) = (0, 0);
    while end < stream.len() {
        end = stream.len().min(end + piece.max(1));
        let unjudged = stream.get(passed..end).unwrap_or_default();
        let more = frames.scan(unjudged, false);
        assert!(more <= unjudged.len());
        assert!(
            frames.fault().is_some() || unjudged.len() - more < 14,
            "more than a header is held"
        );
        passed += more;
    }
    (passed, frames.fault())
}

/// What passes of a stream, and the first thing that is wrong with it.
fn plain(stream: &[u8], is_masked: bool, is_compressed: bool) -> (usize, Option<Fault>) {
    let (mut at, mut message, mut has_closed) = (0, None::<u64>, false);
    loop {
        let octet = |offset: usize| stream.get(at + offset).copied();
        let fault = |fault| (at, Some(fault));
        let Some(first) = octet(0) else { return (at, None) };
        let (is_final, opcode) = (first >= 0x80, first % 16);
        let is_control = opcode >= 8;
        let reserved = first & 0x70;
        let is_data_begun = opcode == 1 || opcode == 2;
        let is_known = [0, 1, 2, 8, 9, 10].contains(&opcode);
        let may_be_marked = is_compressed && is_data_begun && reserved == 0x40;
        if !is_known
            || !(reserved == 0 || may_be_marked)
            || (is_control && !is_final)
            || (!is_control && has_closed)
            || (opcode == 0 && message.is_none())
            || (is_data_begun && message.is_some())
        {
            return fault(Fault::Malformed);
        }
        let Some(second) = octet(1) else { return (at, None) };
        let short = u64::from(second % 128);
        if (second >= 0x80) != is_masked
            || (is_control && short > 125)
            || (opcode == 8 && short == 1)
        {
            return fault(Fault::Malformed);
        }
        let width = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut length = if width == 0 { short } else { 0 };
        for offset in 2..2 + width {
            let Some(octet) = octet(offset) else { return (at, None) };
            length = length << 8 | u64::from(octet);
        }
        let least = [(2, 126), (8, 65_536)].iter().find(|(of, _)| *of == width);
        if least.is_some_and(|(_, least)| length < *least) || length >> 63 == 1 {
            return fault(Fault::Malformed);
        }
        let octets = message.unwrap_or(0) + length;
        if !is_control && octets > MESSAGE_OCTETS {
            return fault(Fault::TooLarge);
        }
        let header = 2 + width + if is_masked { 4 } else { 0 };
        if stream.len() < at + header {
            return (at, None);
        }
        if !is_control {
            message = (!is_final).then_some(octets);
        }
        has_closed |= opcode == 8;
        let behind = (at + header) as u64 + length;
        if behind >= stream.len() as u64 {
            return (stream.len(), None);
        }
        at = usize::try_from(behind).unwrap_or(stream.len());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let long = [&[0x82, 0xfe, 0x01, 0x00, 9, 9, 9, 9][..], &[7; 256]].concat();
    let streams: [&[u8]; 9] = [
        b"\x81\x85\x01\x02\x03\x04hello\x88\x82\x01\x02\x03\x04\x02\xea",
        b"\x01\x82aaaahi\x89\x80aaaa\x80\x81aaaa!",
        &long,
        b"\xc1\x81aaaa!",
        b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00aaaa",
        b"\x81\x05hello\x88\x02\x03\xe8",
        b"\x01\x02hi\x89\x00\x80\x01!",
        b"\x82\x7e\x00\x80",
        b"\x88\x00\x81\x00",
    ];
    let mut seeds = Vec::new();
    for stream in streams {
        for how in [0_u8, 1, 2, 3] {
            seeds.push([&[how | 0x14][..], stream].concat());
        }
    }
    seeds
}
