//! What is left out, and what is not believed.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::feeds::{Format, Origin};

fn settings(lists_private: bool) -> FeedSettings {
    FeedSettings {
        name: "test".into(),
        origin: Origin::File(PathBuf::new()),
        format: Format::Auto,
        refresh: Duration::from_hours(1),
        is_observed: false,
        entries_max: 1_000_000,
        octets_max: 1 << 30,
        lists_private,
    }
}

fn exempt(nets: &[&str]) -> Exempt {
    nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
}

fn prefixes(screened: &Screened) -> Vec<String> {
    screened.prefixes.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(text: &str, allowed: &[&str], lists_private: bool, expected: &[&str]) {
    let screened = screen(text.as_bytes(), &settings(lists_private), &exempt(allowed)).unwrap();
    assert_eq!(prefixes(&screened), expected, "{text}");
}

#[test]
fn what_is_taken() {
    // Overlapping, touching and repeated prefixes are joined.
    check("192.0.2.0/25\n192.0.2.128/25\n192.0.2.7\n192.0.2.7", &[], false, &["192.0.2.0/24"]);
    check("::ffff:192.0.2.7\n192.0.2.6", &[], false, &["192.0.2.6/31"]);
    // Private blocks are nobody's whom the feed can mean.
    check(
        "10.1.2.3\n172.31.0.0/16\n192.0.2.1\nfd00::1\n2001:db8::1",
        &[],
        false,
        &["192.0.2.1/32", "2001:db8::1/128"],
    );
    check(
        "172.0.0.0/8",
        &[],
        false,
        &["172.0.0.0/12", "172.32.0.0/11", "172.64.0.0/10", "172.128.0.0/9"],
    );
    check("10.1.2.3\nfd00::1", &[], true, &["10.1.2.3/32", "fd00::1/128"]);
    // The allowlist is cut out.
    check("192.0.2.0/30", &["192.0.2.1/32"], false, &["192.0.2.0/32", "192.0.2.2/31"]);
    check("192.0.2.0/30", &["192.0.0.0/16"], false, &[]);
}

#[test]
fn what_is_too_wide_is_left_out() {
    let text = "0.0.0.0/0\n::/0\n11.0.0.0/7\n192.0.2.1\n";
    let screened = screen(text.as_bytes(), &settings(false), &exempt(&[])).unwrap();
    assert_eq!((prefixes(&screened), screened.too_wide), (vec!["192.0.2.1/32".into()], 3));
    let all = screen(b"0.0.0.0/0\n::/0", &settings(false), &exempt(&[]));
    assert_eq!(all.unwrap_err(), ScreenError::TooWide);
    let none = screen(b"<html>", &settings(false), &exempt(&[]));
    assert_eq!(none.unwrap_err(), ScreenError::Parse(ParseError::Page));
}

#[test]
fn a_quarter_of_all_addresses_is_the_most() {
    let eights = |count: u8| -> String {
        (11..11 + count).fold(String::new(), |text, first| text + &format!("{first}.0.0.0/8\n"))
    };
    let text = eights(64);
    assert!(screen(text.as_bytes(), &settings(true), &exempt(&[])).is_ok());
    let text = eights(64) + "192.0.2.1\n";
    let found = screen(text.as_bytes(), &settings(true), &exempt(&[]));
    assert_eq!(found.unwrap_err(), ScreenError::TooMuch);
    let nineteens = |count: u32| -> String {
        (0..count).fold(String::new(), |mut text, n| {
            let n = 0x2000_0000 + (n << 13);
            writeln!(text, "{:x}:{:x}::/19", n >> 16, n & 0xffff).unwrap();
            text
        })
    };
    assert!(screen(nineteens(128).as_bytes(), &settings(false), &exempt(&[])).is_ok());
    let found = screen(nineteens(129).as_bytes(), &settings(false), &exempt(&[]));
    assert_eq!(found.unwrap_err(), ScreenError::TooMuch);
}

/// A feed of single addresses none of which touch.
fn scattered(range: std::ops::Range<u32>) -> Screened {
    let mut text = String::new();
    for n in range {
        writeln!(text, "{}", Ipv4Addr::from(0x0b00_0000 + 2 * n)).unwrap();
    }
    screen(text.as_bytes(), &settings(false), &exempt(&[])).unwrap()
}

#[test]
fn changes_that_surprise() {
    for (before, after, expected) in [
        (0..1000, 0..1000, None),
        // A fifth may vanish, and a hundred whatever the share.
        (0..1000, 200..1000, None),
        (0..1000, 201..1000, Some(Surprise::Shrunk { vanished: 201, before: 1000 })),
        (0..101, 100..101, None),
        (0..102, 101..102, Some(Surprise::Shrunk { vanished: 101, before: 102 })),
        // What comes instead does not make up for it.
        (0..1000, 500..5000, Some(Surprise::Shrunk { vanished: 500, before: 1000 })),
        (0..10, 0..10_010, None),
        (0..10, 0..10_011, Some(Surprise::Grown { appeared: 10_001, before: 10 })),
        (0..3000, 0..15_000, None),
        (0..3000, 0..15_001, Some(Surprise::Grown { appeared: 12_001, before: 3000 })),
    ] {
        let found = surprise(&scattered(before.clone()), &scattered(after.clone()));
        assert_eq!(found, expected, "{before:?} to {after:?}");
    }
}

#[test]
fn prefixes_cut_otherwise_are_no_change() {
    // All even addresses, and then the odd ones too: each /32 is gone, and none has vanished.
    let before = scattered(0..1000);
    let after = screen(b"11.0.0.0/21", &settings(false), &exempt(&[])).unwrap();
    assert_eq!(surprise(&before, &after), None);
}
