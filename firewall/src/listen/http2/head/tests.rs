//! Heads as h2 hands them up.

use http::Request;

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_octets: 200, fields: 4, target_octets: 20 };

fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request = request.header(*name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn lines(head: &Parts) -> Vec<(&str, &str)> {
    let fields = head.headers.iter();
    fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}

#[test]
fn what_http1_would_have_brought() {
    let host = ("host", "a.test");
    for (uri, fields, target, expected) in [
        ("http://a.test/a?b=%20", vec![], "/a?b=%20", vec![host]),
        ("https://a.test/", vec![("x", "1")], "/", vec![host, ("x", "1")]),
        (
            "http://A.test/",
            vec![("x", "1"), ("host", "a.test")],
            "/",
            vec![("host", "A.test"), ("x", "1")],
        ),
        ("/", vec![("x", "1"), ("host", "a.test")], "/", vec![host, ("x", "1")]),
        ("http://[::1]:80/", vec![], "/", vec![("host", "[::1]:80")]),
        (
            "http://a.test/",
            vec![("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3; d")],
            "/",
            vec![host, ("cookie", "a=1; b=2; c=3; d"), ("x", "1")],
        ),
        ("http://a.test/", vec![("x", "1"), ("x", "2")], "/", vec![host, ("x", "1"), ("x", "2")]),
        ("http://a.test/", vec![("te", "trailers")], "/", vec![host, ("te", "trailers")]),
        ("http://a.test/", vec![("x", "")], "/", vec![host, ("x", "")]),
        ("http://a.test/", vec![("x", "a\tb c")], "/", vec![host, ("x", "a\tb c")]),
        (
            "http://a.test/",
            vec![("content-length", "12")],
            "/",
            vec![host, ("content-length", "12")],
        ),
        (
            "http://a.test/",
            vec![("expect", "100-Continue")],
            "/",
            vec![host, ("expect", "100-Continue")],
        ),
    ] {
        let mut head = head("GET", uri, &fields);
        assert_eq!(judge(&mut head, &LIMITS), Ok(()), "{uri} {fields:?}");
        assert_eq!(head.uri.to_string(), target);
        assert_eq!(lines(&head), expected, "{uri} {fields:?}");
    }
    let mut whole = head("OPTIONS", "*", &[("host", "a.test")]);
    assert_eq!(judge(&mut whole, &LIMITS), Ok(()));
    assert_eq!(whole.uri.to_string(), "*");
}

#[test]
fn what_could_be_read_in_two_ways() {
    for (method, uri, fields, rule) in [
        (&"A".repeat(33)[..], "http://a.test/", vec![], Rule::RequestLine),
        ("CONNECT", "a.test:80", vec![], Rule::Target),
        ("GET", "*", vec![("host", "a.test")], Rule::Target),
        ("GET", "ftp://a.test/", vec![], Rule::Target),
        ("GET", "http://a.test/a{b\"", vec![], Rule::Target),
        ("GET", "/", vec![], Rule::Host),
        ("GET", "/", vec![("host", "a.test"), ("host", "a.test")], Rule::Host),
        ("GET", "/", vec![("host", "")], Rule::Host),
        ("GET", "http://a.test/", vec![("host", "b.test")], Rule::Host),
        ("GET", "http://a.test/", vec![("host", "a.test:80")], Rule::Host),
        ("GET", "http://a.test/", vec![("host", "a.test"), ("host", "b.test")], Rule::Host),
        ("GET", "http://me@a.test/", vec![], Rule::Host),
        ("GET", "http://a!b/", vec![], Rule::Host),
        ("GET", "http://a.test/", vec![("x", " a")], Rule::FieldLine),
        ("GET", "http://a.test/", vec![("x", "a\t")], Rule::FieldLine),
        ("GET", "http://a.test/", vec![("content-length", "012")], Rule::ContentLength),
        ("GET", "http://a.test/", vec![("content-length", "+1")], Rule::ContentLength),
        ("GET", "http://a.test/", vec![("content-length", "")], Rule::ContentLength),
        (
            "GET",
            "http://a.test/",
            vec![("content-length", "1"), ("content-length", "1")],
            Rule::ContentLength,
        ),
        ("GET", "http://a.test/", vec![("expect", "magic")], Rule::Expectation),
        ("GET", "http://a.test/", vec![("http2-settings", "AAMAAABk")], Rule::Upgrade),
        ("GET", "http://a.test/", vec![("upgrade", "h2c")], Rule::Upgrade),
    ] {
        let mut head = head(method, uri, &fields);
        assert_eq!(judge(&mut head, &LIMITS), Err(rule), "{method} {uri} {fields:?}");
    }
}

#[test]
fn limits_are_those_of_http1() {
    let target = |octets: usize| format!("http://a.test/{}", "a".repeat(octets - 1));
    for (octets, verdict) in [(20, Ok(())), (21, Err(Rule::TargetTooLong))] {
        assert_eq!(judge(&mut head("GET", &target(octets), &[]), &LIMITS), verdict);
    }
    let fields = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")];
    for (count, verdict) in [(4, Ok(())), (5, Err(Rule::HeadTooLarge))] {
        assert_eq!(judge(&mut head("GET", "http://a.test/", &fields[..count]), &LIMITS), verdict);
    }
    let rest = "GET / HTTP/1.1\r\nhost: a.test\r\nx: \r\n\r\n".len();
    for (octets, verdict) in [(200, Ok(())), (201, Err(Rule::HeadTooLarge))] {
        let value = "a".repeat(octets - rest);
        let mut head = head("GET", "http://a.test/", &[("x", &value)]);
        assert_eq!(judge(&mut head, &LIMITS), verdict, "{octets}");
    }
}
