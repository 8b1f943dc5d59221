//! Feeds as they are published, and as they break.

use super::*;

const MOST: usize = 2_000_000;

#[track_caller]
fn reads(text: impl AsRef<[u8]>, format: Format, prefixes: &[&str]) {
    let text = text.as_ref();
    let expected: Vec<IpNet> = prefixes.iter().map(|net| net.parse().unwrap()).collect();
    for format in [format, Format::Auto] {
        let parsed = parse(text, format, MOST);
        let shown = String::from_utf8_lossy(text);
        assert_eq!(
            parsed.map(|parsed| parsed.prefixes),
            Ok(expected.clone()),
            "{format:?}: {shown}"
        );
    }
}

#[track_caller]
fn refuses(text: impl AsRef<[u8]>, format: Format, error: &ParseError) {
    let text = text.as_ref();
    assert_eq!(parse(text, format, MOST).as_ref(), Err(error), "{}", String::from_utf8_lossy(text));
}

#[test]
fn plain_lists() {
    for (text, prefixes) in [
        ("192.0.2.1", &["192.0.2.1/32"][..]),
        ("192.0.2.0/24\n", &["192.0.2.0/24"]),
        ("# head\n192.0.2.1 # why\n\n2001:db8::/32;SBL1\n", &["192.0.2.1/32", "2001:db8::/32"]),
        ("; Spamhaus\n192.0.2.0/24 ; SBL1\n", &["192.0.2.0/24"]),
        // CR LF, byte order mark, tabs, commas, indentation.
        ("192.0.2.1\r\n192.0.2.2\r\n", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("\u{feff}192.0.2.1\n", &["192.0.2.1/32"]),
        ("192.0.2.0\t192.0.2.255\t24\n  192.0.3.1,x\n", &["192.0.2.0/32", "192.0.3.1/32"]),
        // Host bits are cleared, IPv4-mapped addresses are IPv4.
        ("192.0.2.7/24\n2001:db8::1/32\n", &["192.0.2.0/24", "2001:db8::/32"]),
        ("::ffff:192.0.2.7\n::ffff:192.0.2.0/120\n", &["192.0.2.7/32", "192.0.2.0/24"]),
        // What is wide, private or repeated is for the screen to judge.
        ("0.0.0.0/0\n10.0.0.0/8\n10.0.0.0/8\n", &["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/8"]),
        ("192.0.2.0-192.0.2.255\n", &["192.0.2.0/24"]),
        ("192.0.2.1-192.0.2.3\n", &["192.0.2.1/32", "192.0.2.2/31"]),
        ("2001:db8::-2001:db8::1\n", &["2001:db8::/127"]),
        // One line may be broken, as the last of a list that is cut off.
        ("192.0.2.1\n192.0.2.2\n192.0.", &["192.0.2.1/32", "192.0.2.2/32"]),
    ] {
        reads(text, Format::Text, prefixes);
    }
}

#[test]
fn plain_lists_that_are_none() {
    let broken = |line, broken, lines| ParseError::Broken { line, broken, lines };
    for (text, error) in [
        ("", ParseError::Empty),
        ("\r\n \n", ParseError::Empty),
        ("# nothing\n; at all", ParseError::Empty),
        ("<!DOCTYPE html><html>", ParseError::Page),
        ("\n <html>\n192.0.2.1\n", ParseError::Page),
        ("Service unavailable", broken(1, 1, 1)),
        ("192.0.2.1\nnot\nfound\n", broken(2, 2, 3)),
        ("192.0.2.256", broken(1, 1, 1)),
        ("192.0.2.0/33", broken(1, 1, 1)),
        ("2001:db8::/129", broken(1, 1, 1)),
        ("192.0.2.2-192.0.2.1", broken(1, 1, 1)),
        ("192.0.2.1-2001:db8::", broken(1, 1, 1)),
        ("010.0.0.1", broken(1, 1, 1)),
    ] {
        refuses(text, Format::Text, &error);
    }
    refuses(b"\xff\xfe1\x009\x002\x00", Format::Text, &broken(1, 1, 1));
}

#[test]
fn broken_lines_up_to_their_share() {
    let list = |good: usize, bad: usize| "192.0.2.1\n".repeat(good) + &"x\n".repeat(bad);
    assert_eq!(parse(list(38, 2).as_bytes(), Format::Text, MOST).unwrap().broken, 2);
    let error = ParseError::Broken { line: 38, broken: 2, lines: 39 };
    refuses(list(37, 2), Format::Text, &error);
    assert_eq!(parse(list(1, 1).as_bytes(), Format::Text, MOST).unwrap().broken, 1);
}

#[test]
fn entries_up_to_their_limit() {
    let three = "192.0.2.1\n192.0.2.2\n192.0.2.3\n";
    assert_eq!(parse(three.as_bytes(), Format::Text, 3).unwrap().prefixes.len(), 3);
    assert_eq!(parse(three.as_bytes(), Format::Text, 2), Err(ParseError::TooMany { most: 2 }));
    let google = br#"{"prefixes":[{"ipv4Prefix":"192.0.2.0/24"},{"ipv4Prefix":"192.0.3.0/24"}]}"#;
    assert!(parse(google, Format::Google, 2).is_ok());
    assert_eq!(parse(google, Format::Google, 1), Err(ParseError::TooMany { most: 1 }));
    // One line may stand for many prefixes.
    let range = b"0.0.0.1-255.255.255.254";
    assert_eq!(parse(range, Format::Text, 61), Err(ParseError::TooMany { most: 61 }));
    assert_eq!(parse(range, Format::Text, 62).unwrap().prefixes.len(), 62);
}

#[test]
fn a_million_lines() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for n in 0..1_000_000_u32 {
        writeln!(text, "{}", std::net::Ipv4Addr::from(0x0b00_0000 + n)).unwrap();
    }
    assert_eq!(parse(text.as_bytes(), Format::Auto, 1_000_000).unwrap().prefixes.len(), 1_000_000);
    // What is refused costs no more than its limit.
    let error = Err(ParseError::TooMany { most: 9 });
    assert_eq!(parse(text.as_bytes(), Format::Auto, 9), error);
}

const DROP: &str = r#"{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}
{"cidr":"2001:db8::/32","sblid":"SBL2","rir":"arin"}
{"type":"metadata","timestamp":1763740800,"size":7,"records":2,"copyright":"(c)","terms":"x"}
"#;

#[test]
fn spamhaus_lists() {
    reads(DROP, Format::Spamhaus, &["192.0.2.0/24", "2001:db8::/32"]);
    reads(DROP.replace('\n', "\r\n"), Format::Spamhaus, &["192.0.2.0/24", "2001:db8::/32"]);
    reads(format!("\u{feff}{DROP}\n\n"), Format::Spamhaus, &["192.0.2.0/24", "2001:db8::/32"]);
    let undeclared = DROP.replace(r#""records":2,"#, "");
    reads(undeclared, Format::Spamhaus, &["192.0.2.0/24", "2001:db8::/32"]);
    let escaped = DROP.replace("192.0.2.0/24", r"192.0.2.0\/24");
    reads(escaped, Format::Spamhaus, &["192.0.2.0/24", "2001:db8::/32"]);
}

#[test]
fn spamhaus_lists_that_are_cut_off_or_others() {
    let lines: Vec<&str> = DROP.lines().collect();
    let without_end = lines[..2].join("\n");
    refuses(&without_end, Format::Spamhaus, &ParseError::NoMetadata { found: 2 });
    refuses(&without_end, Format::Auto, &ParseError::NoMetadata { found: 2 });
    let without_second = format!("{}\n{}", lines[0], lines[2]);
    let error = ParseError::Incomplete { declared: 2, found: 1 };
    refuses(without_second, Format::Spamhaus, &error);
    let empty = r#"{"type":"metadata","records":0}"#;
    refuses(empty, Format::Spamhaus, &ParseError::Empty);
    for text in [
        // Every way to cut it but between lines.
        &DROP[..20],
        &DROP[..DROP.len() - 20],
        r#"{"asn":1,"domain":"a.example"}"#,
        r#"{"cidr":"192.0.2.0/33"}"#,
        r#"{"cidr":7}"#,
        "[]",
        "null",
    ] {
        assert!(
            matches!(parse(text.as_bytes(), Format::Spamhaus, MOST), Err(ParseError::Json { .. })),
            "{text}"
        );
    }
}

const GOOGLE: &str = r#"{
  "creationTime": "2026-11-01T00:00:00.000000",
  "prefixes": [ { "ipv6Prefix": "2001:db8:10::/64" }, { "ipv4Prefix": "192.0.2.0/27" } ]
}"#;

#[test]
fn google_lists() {
    reads(GOOGLE, Format::Google, &["2001:db8:10::/64", "192.0.2.0/27"]);
    let short: String = GOOGLE.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    reads(short, Format::Google, &["2001:db8:10::/64", "192.0.2.0/27"]);
    let host_bits = GOOGLE.replace("192.0.2.0/27", "192.0.2.1/27");
    reads(host_bits, Format::Google, &["2001:db8:10::/64", "192.0.2.0/27"]);
}

#[test]
fn google_lists_that_say_nothing() {
    // Google's own answer at the addresses from which its lists had moved.
    refuses(r#"{"prefixes":[]}"#, Format::Google, &ParseError::Empty);
    for text in [
        r#"{"creationTime":"x"}"#,
        r#"{"prefixes":{}}"#,
        r#"{"prefixes":[{}]}"#,
        r#"{"prefixes":[{"ipv4Prefix":"x"}]}"#,
        &GOOGLE[..GOOGLE.len() - 1],
        &GOOGLE[..GOOGLE.len() / 2],
        "[]",
        "{",
    ] {
        for format in [Format::Google, Format::Auto] {
            assert!(
                matches!(parse(text.as_bytes(), format, MOST), Err(ParseError::Json { .. })),
                "{format:?}: {text}"
            );
        }
    }
    refuses("<html>", Format::Google, &ParseError::Page);
}
