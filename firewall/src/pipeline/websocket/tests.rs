//! Handshakes as they are asked for, and as they are accepted.

use super::*;

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn keys_are_answered_as_the_standard_has_it() {
    // RFC 6455 section 1.3.
    assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    // RFC 4648 section 10.
    for (octets, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(octets.as_bytes()), text);
    }
}

#[test]
fn keys_are_sixteen_octets() {
    for octets in 0..40_u8 {
        let octets: Vec<u8> = (0..octets).map(|octet| octet.wrapping_mul(37)).collect();
        assert_eq!(is_key(&base64(&octets)), octets.len() == 16, "{octets:?}");
    }
    for (key, expected) in [
        ("AAAAAAAAAAAAAAAAAAAAAA==", true),
        ("AAAAAAAAAAAAAAAAAAAAAB==", false),
        ("AAAAAAAAAAAAAAAAAAAAA===", false),
        ("AAAAAAAAAAAAAAAAAAAAAAA=", false),
        ("AAAAAAAAAA-AAAAAAAAAAA==", false),
        ("AAAAAAAAAA AAAAAAAAAAA==", false),
    ] {
        assert_eq!(is_key(key), expected, "{key}");
    }
}

#[test]
fn extensions_are_tokens_with_parameters() {
    for (text, name) in [
        ("permessage-deflate", Some("permessage-deflate")),
        ("a; b; c=d;e=\"10\"", Some("a")),
        ("a;b = c", None),
        ("", None),
        ("a;", None),
        ("a;b=", None),
        ("a;b=\"", None),
        ("a;b=\"\"", None),
        ("a b", None),
        ("a;b=c=d", None),
        ("\"a\"", None),
    ] {
        assert_eq!(extension(text), name, "{text}");
    }
}

#[test]
fn lists_are_read_over_all_their_lines() {
    let name = SEC_WEBSOCKET_PROTOCOL;
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&["a"], &["a"]),
        (&["a,b", " c "], &["a", "b", "c"]),
        (&["a,,b"], &["a", "", "b"]),
        (&[""], &[""]),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| (name.clone(), *line)).collect();
        assert_eq!(list(&headers(&lines), &name).unwrap(), expected);
    }
    let mut opaque = HeaderMap::new();
    opaque.append(&name, HeaderValue::from_bytes(b"\xe9").unwrap());
    assert_eq!(list(&opaque, &name), Err(Rule::Handshake));
}

#[test]
fn extensions_that_are_agreed_on_twice_are_none() {
    let name = SEC_WEBSOCKET_EXTENSIONS;
    let agreed = |text: &str| agreed(&headers(&[(name.clone(), text)]));
    assert_eq!(agreed("a, b; c"), Some(vec!["a".into(), "b".into()]));
    assert_eq!(agreed("a,"), None);
    assert!(is_unique(&agreed("a, b").unwrap()));
    assert!(!is_unique(&agreed("a, b, a;x").unwrap()));
}

#[test]
fn versions_are_numbers_of_an_octet() {
    for (text, expected) in [
        ("0", true),
        ("8", true),
        ("255", true),
        ("256", false),
        ("08", false),
        ("+8", false),
        ("", false),
    ] {
        assert_eq!(is_version(text), expected, "{text}");
    }
}
