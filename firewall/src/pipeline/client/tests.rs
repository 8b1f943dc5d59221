//! Header forms in a table: whoever is not trusted cannot speak for another.

use http::header::{HeaderName, HeaderValue};

use super::*;

/// The proxies of every case: one network of each family, and one address.
const TRUSTED: [&str; 3] = ["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.250/32"];

/// `F: ` and `X: ` begin lines of `Forwarded` and `X-Forwarded-For`.
fn found(peer: &str, lines: &[&str]) -> Result<ClientAddr, Violation> {
    let trusted = TRUSTED.map(|net| net.parse().unwrap());
    let mut fields = HeaderMap::new();
    for line in lines {
        let custom = HeaderName::from_static(X_FORWARDED_FOR);
        let name = if line.starts_with("F: ") { FORWARDED } else { custom };
        fields.append(name, HeaderValue::from_bytes(&line.as_bytes()[3..]).unwrap());
    }
    client(PeerAddr::new(peer.parse().unwrap()), &trusted, &fields)
}

/// `None` is a refusal.
#[track_caller]
fn check(peer: &str, lines: &[&str], expected: Option<&str>) {
    let expected = expected
        .map(|address| ClientAddr(address.parse().unwrap()))
        .ok_or_else(|| Violation::new(Rule::Forwarded));
    assert_eq!(found(peer, lines), expected, "{lines:?}");
}

#[test]
fn what_a_stranger_says_is_ignored() {
    for lines in [
        &[][..],
        &["X: 198.51.100.1"],
        &["F: for=198.51.100.1"],
        &["X: ,,,", "F: =\"", "F: for=198.51.100.1"],
    ] {
        check("203.0.113.9", lines, Some("203.0.113.9"));
        check("::ffff:203.0.113.9", lines, Some("203.0.113.9"));
        check("2001:db8::9", lines, Some("2001:db8::9"));
    }
    let long = format!("X: {}", "198.51.100.1,".repeat(2000));
    check("203.0.113.9", &[&long], Some("203.0.113.9"));
}

#[test]
fn x_forwarded_for() {
    let long_v6 = "2001:db8:1:2:3:4:5:6";
    for (lines, expected) in [
        (&[][..], Some("10.0.0.1")),
        (&["X: 198.51.100.1"][..], Some("198.51.100.1")),
        (&["X: \t198.51.100.1 \t"], Some("198.51.100.1")),
        (&["X: 198.51.100.1:4711"], Some("198.51.100.1")),
        (&["X: 198.51.100.1:_p"], Some("198.51.100.1")),
        (&["X: 2001:db8:1:2:3:4:5:6"], Some(long_v6)),
        (&["X: [2001:db8:1:2:3:4:5:6]"], Some(long_v6)),
        (&["X: [2001:db8:1:2:3:4:5:6]:443"], Some(long_v6)),
        (&["X: ::ffff:198.51.100.1"], Some("198.51.100.1")),
        (&["X: [::ffff:198.51.100.1]:1"], Some("198.51.100.1")),
        (&["X: ::ffff:10.0.0.7"], Some("10.0.0.7")),
        // A client that claims another's address stands left of its own.
        (&["X: 192.0.2.66, 198.51.100.1"], Some("198.51.100.1")),
        (&["X: 192.0.2.66", "X: 198.51.100.1"], Some("198.51.100.1")),
        (&["X: 10.0.0.9, 198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
        (&["X: 198.51.100.1,10.0.0.3,2001:db8:ffff::1"], Some("198.51.100.1")),
        (&["X: 198.51.100.1, 10.0.0.3", "X: 10.0.0.2"], Some("198.51.100.1")),
        (&["X: 10.0.0.9, 10.0.0.8"], Some("10.0.0.9")),
        (&["X: rubbish\"=[, 198.51.100.1"], Some("198.51.100.1")),
        (&["X: , 198.51.100.1"], Some("198.51.100.1")),
        (&["X: unknown"], Some("10.0.0.1")),
        (&["X: UNKNOWN:80"], Some("10.0.0.1")),
        (&["X: 198.51.100.1, unknown, 10.0.0.3"], Some("10.0.0.3")),
        (&["X: _hidden.a-b"], Some("10.0.0.1")),
        (&["X: 198.51.100.1, _x"], Some("10.0.0.1")),
        (&["X: unknown, 198.51.100.1"], Some("198.51.100.1")),
        (&["X: "], None),
        (&["X: 198.51.100.1,"], None),
        (&["X: 198.51.100.1, , 10.0.0.2"], None),
        (&["X: 198.51.100.1 10.0.0.2"], None),
        (&["X: \"198.51.100.1\""], None),
        (&["X: 198.51.100.256"], None),
        (&["X: 198.51.100.01"], None),
        (&["X: 198.51.100"], None),
        (&["X: 3325256705"], None),
        (&["X: 0xc6336401"], None),
        (&["X: 198.51.100.1:"], None),
        (&["X: 198.51.100.1:65536"], None),
        (&["X: 198.51.100.1:+80"], None),
        (&["X: 198.51.100.1/32"], None),
        (&["X: [2001:db8::1"], None),
        (&["X: 2001:db8::1]"], None),
        (&["X: [2001:db8::1]443"], None),
        (&["X: [198.51.100.1]"], None),
        (&["X: fe80::1%eth0"], None),
        (&["X: example.com"], None),
        (&["X: _"], None),
        (&["X: _a b"], None),
        (&["X: 198.51.100.1\u{e9}"], None),
    ] {
        check("10.0.0.1", lines, expected);
    }
}

#[test]
fn forwarded() {
    for (lines, expected) in [
        (&["F: for=198.51.100.1"][..], Some("198.51.100.1")),
        (&["F: For=198.51.100.1"], Some("198.51.100.1")),
        (&["F: for=\"198.51.100.1:4711\""], Some("198.51.100.1")),
        (&["F: for=198.51.100.1:4711"], Some("198.51.100.1")),
        (&["F: for=\"[2001:db8::1]\""], Some("2001:db8::1")),
        (&["F: for=\"[2001:db8::1]:4711\""], Some("2001:db8::1")),
        (&["F: for=[2001:db8::1]"], Some("2001:db8::1")),
        (&["F: for=\"[::ffff:198.51.100.1]\""], Some("198.51.100.1")),
        (&["F: by=10.0.0.1;for=198.51.100.1;proto=https;host=\"a:1\""], Some("198.51.100.1")),
        (&["F: proto=https; for=198.51.100.1 ; by=_x"], Some("198.51.100.1")),
        (&["F: for=192.0.2.66, for=198.51.100.1"], Some("198.51.100.1")),
        (&["F: for=192.0.2.66", "F: for=198.51.100.1, for=10.0.0.2"], Some("198.51.100.1")),
        (&["F: for=198.51.100.1;host=\"a,for=192.0.2.66\""], Some("198.51.100.1")),
        (&["F: for=198.51.100.1;host=\"\\\",for=192.0.2.66\""], Some("198.51.100.1")),
        (&["F: for=rubbish, for=198.51.100.1"], Some("198.51.100.1")),
        (&["F: for=unknown"], Some("10.0.0.1")),
        (&["F: for=_hidden;by=_x"], Some("10.0.0.1")),
        (&["F: for=198.51.100.1, for=\"_a:_b\", for=10.0.0.3"], Some("10.0.0.3")),
        (&["F: proto=https"], Some("10.0.0.1")),
        (&["F: FOR=UNKNOWN"], Some("10.0.0.1")),
        (&["F: for=\"unknown:80\""], Some("10.0.0.1")),
        (&["F: for=\"198.51.100.1:_p\""], Some("198.51.100.1")),
        (&["F: for=\"[2001:db8::1]:_p.q-r\""], Some("2001:db8::1")),
        (&["F: for=\"_SEVKISEK\""], Some("10.0.0.1")),
        (&["F: for=192.0.2.66, for=unknown, for=10.0.0.2"], Some("10.0.0.2")),
        // Pairs and elements may be empty, but not where a hop's word is needed.
        (&["F: for=198.51.100.1;"], Some("198.51.100.1")),
        (&["F: ;for=198.51.100.1;;by=_x;"], Some("198.51.100.1")),
        (&["F: ,for=198.51.100.1"], Some("198.51.100.1")),
        (&["F: for=192.0.2.66,\t, ;, for=198.51.100.1"], Some("198.51.100.1")),
        (&["F: ", "F: for=198.51.100.1"], Some("198.51.100.1")),
        (&["F: "], None),
        (&["F: ;"], None),
        (&["F: for=198.51.100.1,"], None),
        (&["F: for=198.51.100.1, , for=10.0.0.2"], None),
        (&["F: for=198.51.100.1,;,for=10.0.0.2"], None),
        (&["F: for=198.51.100.1", "F: "], None),
        (&["F: for"], None),
        (&["F: for="], None),
        (&["F: for=\"\""], None),
        (&["F: for =198.51.100.1"], None),
        (&["F: for= 198.51.100.1"], None),
        (&["F: =198.51.100.1"], None),
        (&["F: for=198.51.100.1;for=192.0.2.66"], None),
        (&["F: for=198.51.100.1 for=192.0.2.66"], None),
        (&["F: for=\"198.51.100.1"], None),
        (&["F: for=\"198.51.100\\.1\""], None),
        (&["F: for=\"[2001:db8::1\""], None),
        (&["F: for=\"[2001:db8::1]443\""], None),
        (&["F: for=\"[unknown]\""], None),
        (&["F: for=\"198.51.100.1:65536\""], None),
        (&["F: for=\"_\""], None),
        (&["F: for=\"_a b\""], None),
        (&["F: for=2001:db8::x"], None),
        (&["F: for=a.example"], None),
        // An open quotation cannot swallow what the proxies append.
        (&["F: for=\"192.0.2.66, for=198.51.100.1"], None),
        (&["F: for=192.0.2.66;host=\"x, for=\"[2001:db8::1]\""], None),
        (&["F: for=192.0.2.66;host=\"x\\, for=\"[2001:db8::1]\""], None),
    ] {
        check("10.0.0.1", lines, expected);
    }
}

#[test]
fn both_fields_must_name_the_same_client() {
    for (lines, expected) in [
        (&["F: for=198.51.100.1", "X: 198.51.100.1"], Some("198.51.100.1")),
        (&["F: for=198.51.100.1", "X: 192.0.2.66, 198.51.100.1:1"], Some("198.51.100.1")),
        (&["F: for=198.51.100.1", "X: 192.0.2.66"], None),
        (&["F: for=unknown", "X: 198.51.100.1"], None),
        (&["F: rubbish", "X: 198.51.100.1"], None),
        (&["F: for=198.51.100.1", "X: rubbish"], None),
    ] {
        check("192.0.2.250", lines, expected);
        check("::ffff:192.0.2.250", lines, expected);
    }
}

#[test]
fn hops_and_octets_have_limits() {
    let listed = |hops: usize| format!("X: {}198.51.100.1", "a, ".repeat(hops - 1));
    check("10.0.0.1", &[&listed(32)], Some("198.51.100.1"));
    check("10.0.0.1", &[&listed(33)], None);
    let elements = |hops: usize| format!("F: {}for=198.51.100.1", "for=a, ".repeat(hops - 1));
    check("10.0.0.1", &[&elements(32)], Some("198.51.100.1"));
    check("10.0.0.1", &[&elements(33)], None);
    let lines = vec!["X: 198.51.100.1"; 32];
    check("10.0.0.1", &lines, Some("198.51.100.1"));
    check("10.0.0.1", &[&lines[..], &["X: 198.51.100.1"]].concat(), None);

    let long = |octets: usize| {
        let end = ", 198.51.100.1";
        format!("X: {}{end}", "a".repeat(octets - end.len()))
    };
    check("10.0.0.1", &[&long(10_240)], Some("198.51.100.1"));
    check("10.0.0.1", &[&long(10_241)], None);
    check("10.0.0.1", &["X: a", &long(10_240)], None);
}

#[test]
fn whatever_a_stranger_claims_he_is_himself_or_refused() {
    const WORDS: [&str; 17] = [
        "for=",
        "by=",
        "10.0.0.9",
        "192.0.2.66",
        "2001:db8:ffff::1",
        "unknown",
        "_x",
        "\"",
        "\\",
        ",",
        ";",
        " ",
        "=",
        "[",
        "]",
        ":80",
        "",
    ];
    // Marsaglia's xorshift: the same claims in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        WORDS[usize::try_from(state % 17).unwrap()]
    };
    let (mut told, mut refused) = (0, 0);
    for length in (1..12).cycle().take(20_000) {
        let claim: String = (0..length).map(|_| word()).collect();
        let [alone, own] = [format!("F: {claim}"), format!("F: {claim}, for=198.51.100.1;by=_p")];
        let quoted = format!("F: {claim}, for=\"198.51.100.1:4711\";proto=https");
        let [listed, custom] = [format!("X: {claim}, 198.51.100.1"), format!("X: {claim}")];
        for lines in [
            &[&*own][..],
            &[&*quoted],
            &[&*alone, "F: for=198.51.100.1"],
            &[&*listed],
            &[&*custom, "X: 198.51.100.1"],
            &[&*alone, "X: 198.51.100.1"],
            &[&*custom, "F: for=198.51.100.1"],
        ] {
            match found("10.0.0.1", lines) {
                Ok(client) => {
                    assert_eq!(client.0.to_string(), "198.51.100.1", "{lines:?}");
                    told += 1;
                }
                Err(violation) => {
                    assert_eq!(violation, Violation::new(Rule::Forwarded));
                    refused += 1;
                }
            }
        }
    }
    assert!(told > 40_000 && refused > 10_000, "{told} told, {refused} refused");
}
