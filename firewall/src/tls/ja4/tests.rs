//! Fingerprints: the published example, the rules one by one, and an independent computation.

use super::*;
use crate::tls::hello::Gathering;
use crate::tls::hello::tests::{list, message, of_library};

const SERVER_NAMES: &[u8] = b"\0\x0e\0\0\x0bapi.example";

fn of(version: u16, suites: &[u16], extensions: &[(u16, &[u8])]) -> String {
    let message = message(version, suites, extensions);
    Ja4::of(&ClientHello::parse(&message).unwrap()).to_string()
}

/// Behind its length in one octet.
fn short(octets: &[u8]) -> Vec<u8> {
    [&[u8::try_from(octets.len()).unwrap()], octets].concat()
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| short(name)).collect();
    [&u16::try_from(names.len()).unwrap().to_be_bytes()[..], &names].concat()
}

/// Chrome, as `FoxIO` publishes it: `t13d1516h2_8daaf6152771_e5627efa2ab1`. The order of suites and
/// extensions is that of the wire, which the fingerprint must not show.
#[test]
fn the_published_example() {
    let suites = [
        0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let versions = short(&[0x5a, 0x5a, 3, 4, 3, 3]);
    let signatures = list(&[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]);
    let protocols = alpn(&[b"h2", b"http/1.1"]);
    let mut extensions: Vec<(u16, &[u8])> = vec![
        (0x2a2a, &[]),
        (0x0000, SERVER_NAMES),
        (0x0017, &[]),
        (0xff01, &[0]),
        (0x000a, &[0, 2, 0, 29]),
        (0x000b, &[1, 0]),
        (0x0023, &[]),
        (0x0010, &protocols),
        (0x0005, &[1, 0, 0, 0, 0]),
        (0x000d, &signatures),
        (0x0012, &[]),
        (0x0033, &[]),
        (0x002d, &[1, 1]),
        (0x002b, &versions),
        (0x001b, &[2, 0, 2]),
        (0x4469, &[]),
        (0xfafa, &[0]),
        (0x0015, &[0; 100]),
    ];
    let expected = "t13d1516h2_8daaf6152771_e5627efa2ab1";
    assert_eq!(of(0x0303, &suites, &extensions), expected);
    // Chrome permutes its extensions since 2023.
    extensions.reverse();
    assert_eq!(of(0x0303, &suites, &extensions), expected);
    let mut reversed = suites;
    reversed.reverse();
    assert_eq!(of(0x0303, &reversed, &extensions), expected);
}

#[test]
fn versions_and_names() {
    let listed = |versions: &[u8]| short(versions);
    for (legacy, versions, expected) in [
        (0x0303, None, "t12i"),
        (0x0302, None, "t11i"),
        (0x0301, None, "t10i"),
        (0x0300, None, "ts3i"),
        (0x0002, None, "t00i"),
        (0x0303, Some(listed(&[3, 4])), "t13i"),
        (0x0303, Some(listed(&[3, 3, 3, 4])), "t13i"),
        (0x0303, Some(listed(&[0xfa, 0xfa, 3, 3])), "t12i"),
        (0x0303, Some(listed(&[3, 5])), "t00i"),
        // Nothing that can be read: the older field counts.
        (0x0301, Some(listed(&[])), "t10i"),
        (0x0301, Some(vec![9, 3, 4]), "t10i"),
    ] {
        let extensions: Vec<(u16, &[u8])> =
            versions.iter().map(|versions| (0x002b, &versions[..])).collect();
        assert_eq!(&of(legacy, &[5], &extensions)[..4], expected, "{legacy:x} {versions:?}");
        let mut named = extensions;
        named.push((0, SERVER_NAMES));
        assert_eq!(of(legacy, &[5], &named)[3..4], *"d");
    }
}

#[test]
fn counts_and_protocols() {
    let counted = |suites: u16, extensions: u16| {
        let suites: Vec<u16> = (1..=suites).collect();
        let extensions: Vec<(u16, &[u8])> =
            (0x100..0x100 + extensions).map(|number| (number, &[][..])).collect();
        of(0x0303, &suites, &extensions)[4..8].to_owned()
    };
    assert_eq!(counted(0, 0), "0000");
    assert_eq!(counted(9, 10), "0910");
    assert_eq!(counted(99, 100), "9999");
    assert_eq!(counted(150, 1), "9901");
    for (names, expected) in [
        (vec![], "00"),
        (vec![&b"h2"[..]], "h2"),
        (vec![b"http/1.1"], "h1"),
        (vec![b"x"], "xx"),
        (vec![b"\xab"], "ab"),
        (vec![b"\xab\xcd"], "ad"),
        (vec![b"0\xab"], "3b"),
        (vec![b"01\xab\xcd"], "3d"),
        (vec![b"0\xab\xcd1"], "01"),
        (vec![b"\x0a\x0a", b"h2"], "h2"),
        (vec![b""], "00"),
    ] {
        let content = alpn(&names);
        assert_eq!(&of(0x0303, &[5], &[(16, &content)])[8..10], expected, "{names:?}");
    }
    assert_eq!(&of(0x0303, &[5], &[(16, &[])])[8..10], "00");
    assert_eq!(&of(0x0303, &[5], &[(16, &[0, 9, 9])])[8..10], "00");
}

#[test]
fn digests_of_nothing_and_without_signatures() {
    assert_eq!(of(0x0303, &[], &[]), "t12i000000_000000000000_000000000000");
    assert_eq!(of(0x0303, &[0x0a0a], &[(0xaaaa, &[])]), "t12i000000_000000000000_000000000000");
    // SNI and ALPN count, and are not digested.
    let found = of(0x0303, &[0x002f], &[(0, SERVER_NAMES), (16, &[]), (10, &[])]);
    assert_eq!(found, format!("t12d010300_{}_{}", sum("002f"), sum("000a")));
    let signatures = list(&[0x0804, 0x1a1a, 0x0403]);
    let found = of(0x0303, &[0x002f], &[(13, &signatures)]);
    assert!(found.ends_with(&sum("000d_0804,0403")), "in their order, without GREASE: {found}");
}

/// By another implementation than the code's.
fn sum(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let octets = digest.as_ref().iter().take(6).map(|octet| format!("{octet:02x}"));
    octets.collect::<Vec<_>>().concat()
}

/// The library's hello, read by nothing of ours: offsets counted from the octets themselves.
#[test]
fn the_librarys_client() {
    let octets = of_library(&[b"http/1.1"]);
    let mut gathering = Gathering::default();
    let mut rest = &octets[..];
    while let Some(wanted) = gathering.wants() {
        let (read, after) = rest.split_at(wanted);
        gathering.take(read).unwrap();
        rest = after;
    }
    let found = Ja4::of(&ClientHello::parse(gathering.message()).unwrap()).to_string();

    let u16_at = |at: usize| usize::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    let grease = |number: &usize| number & 0x0f0f == 0x0a0a;
    // Record 5, message 4, version 2, random 32, session 1 and 32.
    let suites_at = 5 + 4 + 2 + 32 + 1 + usize::from(octets[43]);
    let suites_end = suites_at + 2 + u16_at(suites_at);
    let mut suites: Vec<usize> = (suites_at + 2..suites_end).step_by(2).map(u16_at).collect();
    suites.retain(|number| !grease(number));
    let mut at = suites_end + 2 + 2;
    let (mut numbers, mut signatures) = (Vec::new(), Vec::new());
    while at < octets.len() {
        let (number, length) = (u16_at(at), u16_at(at + 2));
        if number == 13 {
            signatures = (at + 6..at + 4 + length).step_by(2).map(u16_at).collect();
        }
        numbers.push(number);
        at += 4 + length;
    }
    numbers.retain(|number| !grease(number));
    let start = format!("t13d{:02}{:02}h1", suites.len(), numbers.len());
    suites.sort_unstable();
    numbers.retain(|number| ![0, 16].contains(number));
    numbers.sort_unstable();
    let hex = |numbers: &[usize]| {
        numbers.iter().map(|number| format!("{number:04x}")).collect::<Vec<_>>().join(",")
    };
    let features = format!("{}_{}", hex(&numbers), hex(&signatures));
    assert_eq!(found, format!("{start}_{}_{}", sum(&hex(&suites)), sum(&features)));
}
