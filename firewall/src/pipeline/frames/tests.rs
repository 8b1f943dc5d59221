//! Frames by their headers, in pieces of every size.

use super::*;

const LIMIT: u64 = 70_000;

/// A frame with a payload of zeros, masked or not.
fn frame(first: u8, payload: usize, is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { MASKED } else { 0 };
    let mut octets = vec![first];
    match payload {
        0..126 => octets.push(mask | u8::try_from(payload).unwrap()),
        126..65_536 => {
            octets.push(mask | 0x7e);
            octets.extend(u16::try_from(payload).unwrap().to_be_bytes());
        }
        _ => {
            octets.push(mask | 0x7f);
            octets.extend((payload as u64).to_be_bytes());
        }
    }
    octets.extend(if is_masked { &[1, 2, 3, 4][..] } else { &[] });
    octets.resize(octets.len() + payload, 0);
    octets
}

/// What becomes of the octets, cut into pieces of this many: how many pass, and the fault.
fn judged(frames: &Frames, octets: &[u8], piece: usize) -> (usize, Option<Fault>) {
    let mut frames = frames.clone();
    let (mut held, mut passed) = (Vec::new(), 0);
    for piece in octets.chunks(piece) {
        held.extend_from_slice(piece);
        let judged = frames.scan(&held, false);
        held.drain(..judged);
        passed += judged;
        assert!(frames.fault().is_some() || held.len() < 14, "no more than a header is held");
    }
    (passed, frames.fault())
}

#[track_caller]
fn check(frames: &Frames, octets: &[u8], passed: usize, fault: Option<Fault>) {
    for piece in [1, 2, 3, 5, 7, 13, 14, 15, 4096, usize::MAX] {
        let found = judged(frames, octets, piece);
        let shown = octets.get(..octets.len().min(16)).unwrap();
        assert_eq!(found, (passed, fault), "{shown:?} in pieces of {piece}");
    }
}

#[test]
fn frames_by_their_headers() {
    let malformed = Some(Fault::Malformed);
    for sender in [Sender::Client, Sender::Upstream] {
        let is_masked = sender == Sender::Client;
        let plain = Frames::new(sender, LIMIT, false);
        let compressed = Frames::new(sender, LIMIT, true);
        let wrongly_masked = frame(FINAL | TEXT, 2, !is_masked);
        check(&plain, &wrongly_masked, 0, malformed);
        let frame = |first, payload| frame(first, payload, is_masked);
        for opcode in 0..16 {
            let is_known = matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG);
            let octets = frame(FINAL | opcode, 2);
            let expected = if is_known { (octets.len(), None) } else { (0, malformed) };
            check(&plain, &octets, expected.0, expected.1);
            // Without its last fragment a message is none; a control frame has but one.
            let octets = frame(opcode, 2);
            let is_begun = matches!(opcode, TEXT | BINARY);
            let expected = if is_begun { (octets.len(), None) } else { (0, malformed) };
            check(&plain, &octets, expected.0, expected.1);
            for reserved in [0x10, 0x20, 0x40] {
                let octets = frame(FINAL | reserved | opcode, 2);
                check(&plain, &octets, 0, malformed);
                let is_meant = reserved == COMPRESSED && is_begun;
                let expected = if is_meant { (octets.len(), None) } else { (0, malformed) };
                check(&compressed, &octets, expected.0, expected.1);
            }
        }
        // Of a message in fragments the first alone is marked as compressed (RFC 7692 section 6.1).
        let octets = [frame(COMPRESSED | TEXT, 2), frame(FINAL | COMPRESSED, 2)].concat();
        check(&compressed, &octets, octets.len() / 2, malformed);
    }
}

#[test]
fn lengths_at_their_bounds() {
    for sender in [Sender::Client, Sender::Upstream] {
        let is_masked = sender == Sender::Client;
        let frames = Frames::new(sender, LIMIT, false);
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let octets = frame(FINAL | BINARY, length, is_masked);
            check(&frames, &octets, octets.len(), None);
        }
        check(&frames, &frame(FINAL | BINARY, 70_001, is_masked), 0, Some(Fault::TooLarge));
        for opcode in [CLOSE, PING, PONG] {
            let octets = frame(FINAL | opcode, 125, is_masked);
            check(&frames, &octets, octets.len(), None);
            check(&frames, &frame(FINAL | opcode, 126, is_masked), 0, Some(Fault::Malformed));
        }
        for (length, is_sound) in [(0, true), (1, false), (2, true), (3, true)] {
            let octets = frame(FINAL | CLOSE, length, is_masked);
            let fault = (!is_sound).then_some(Fault::Malformed);
            check(&frames, &octets, if is_sound { octets.len() } else { 0 }, fault);
        }
        let mask = if is_masked { MASKED } else { 0 };
        // Longer than it must be written, or with the first of its bits.
        for length in [
            &[mask | 0x7e, 0, 0][..],
            &[mask | 0x7e, 0, 125],
            &[mask | 0x7f, 0, 0, 0, 0, 0, 0, 0, 125],
            &[mask | 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[mask | 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[mask | 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let octets = [&[FINAL | BINARY], length, &[0; 200]].concat();
            check(&frames, &octets, 0, Some(Fault::Malformed));
        }
    }
}

#[test]
fn messages_in_fragments() {
    let frames = Frames::new(Sender::Client, 10, false);
    let part = |first, payload| frame(first, payload, true);
    let malformed = Some(Fault::Malformed);
    for (parts, passing, fault) in [
        (vec![part(TEXT, 5), part(0, 0), part(FINAL, 5)], 3, None),
        (vec![part(TEXT, 5), part(FINAL | PING, 125), part(FINAL, 5)], 3, None),
        (vec![part(TEXT, 5), part(0, 5), part(FINAL, 0), part(FINAL | TEXT, 10)], 4, None),
        (vec![part(TEXT, 5), part(FINAL, 6)], 1, Some(Fault::TooLarge)),
        (vec![part(TEXT, 5), part(0, 5), part(0, 1)], 2, Some(Fault::TooLarge)),
        (vec![part(TEXT, 5), part(FINAL | TEXT, 1)], 1, malformed),
        (vec![part(FINAL | TEXT, 5), part(FINAL, 1)], 1, malformed),
        (vec![part(FINAL | CLOSE, 2), part(FINAL | TEXT, 1)], 1, malformed),
        (vec![part(FINAL | CLOSE, 2), part(FINAL | PONG, 1)], 2, None),
    ] {
        let passed = parts.iter().take(passing).map(Vec::len).sum();
        check(&frames, &parts.concat(), passed, fault);
    }
}

#[test]
fn another_frame_can_be_put_between_two() {
    let mut frames = Frames::new(Sender::Client, 100, false);
    let octets = [frame(FINAL | TEXT, 20, true), frame(FINAL | TEXT, 20, true)].concat();
    let first = octets.len() / 2;
    assert!(frames.is_between());
    assert_eq!(frames.scan(&octets[..10], false), 10);
    assert!(!frames.is_between());
    assert_eq!(frames.scan(&octets[10..], true), first - 10);
    assert!(frames.is_between());
    assert_eq!(frames.scan(&octets[first..], true), 0);
    assert_eq!(frames.scan(&octets[first..], false), first);
    for (sender, is_masked) in [(Sender::Client, true), (Sender::Upstream, false)] {
        let close = close_frame(sender, CloseCode::GoingAway, [7, 0, 1, 2]);
        check(&Frames::new(sender, 0, false), &close, close.len(), None);
        let mut payload = [close[close.len() - 2], close[close.len() - 1]];
        if is_masked {
            payload[0] ^= 7;
        }
        assert_eq!(u16::from_be_bytes(payload), 1001);
    }
}
