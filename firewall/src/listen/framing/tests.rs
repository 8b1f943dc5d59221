//! Every rule of the framing: accepted, refused, and at its boundary; however the octets arrive.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What became of a stream: heads let pass, octets let pass, and the refusal.
#[derive(Debug, PartialEq)]
struct Outcome {
    heads: u64,
    judged: usize,
    refusal: Option<Refusal>,
}

/// Feeds a stream in pieces that end at the given offsets, holding back what is not let pass.
fn feed(stream: &[u8], ends: impl IntoIterator<Item = usize>, limits: HeadLimits) -> Outcome {
    let mut framing = Framing::new(limits);
    let (mut judged, mut fed) = (0, 0);
    for end in ends.into_iter().chain([stream.len()]) {
        assert!(end >= fed);
        fed = end;
        judged += framing.scan(&stream[judged..fed]);
        assert!(judged <= fed);
    }
    Outcome { heads: framing.heads(), judged, refusal: framing.refusal() }
}

/// The outcome of a stream, once it is certain that no way of cutting it changes it.
#[track_caller]
fn outcome(stream: &[u8], limits: HeadLimits) -> Outcome {
    let whole = feed(stream, [], limits);
    for end in 0..=stream.len() {
        let cut = feed(stream, [end], limits);
        assert_eq!(cut, whole, "cut at {end}: {:?}", String::from_utf8_lossy(stream));
    }
    let single = feed(stream, 0..=stream.len(), limits);
    assert_eq!(single, whole, "octet by octet: {:?}", String::from_utf8_lossy(stream));
    whole
}

#[track_caller]
fn accepts(stream: &[u8], heads: u64) {
    let expected = Outcome { heads, judged: stream.len(), refusal: None };
    let found = outcome(stream, HeadLimits::default());
    assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(stream));
}

#[track_caller]
fn refuses_head(stream: &[u8], rule: Rule) {
    refuses_head_after(0, stream, rule);
}

#[track_caller]
fn refuses_head_after(ordinal: u64, stream: &[u8], rule: Rule) {
    let refusal = Some(Refusal { ordinal, part: Part::Head, rule });
    let found = outcome(stream, HeadLimits::default());
    assert_eq!(found.refusal, refusal, "{:?}", String::from_utf8_lossy(stream));
    assert_eq!(found.heads, ordinal);
}

#[track_caller]
fn refuses_body(stream: &[u8], rule: Rule) {
    let refusal = Some(Refusal { ordinal: 0, part: Part::Body, rule });
    let found = outcome(stream, HeadLimits::default());
    assert_eq!(found.refusal, refusal, "{:?}", String::from_utf8_lossy(stream));
    assert_eq!(found.heads, 1);
}

fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn request_lines() {
    for line in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "get / HTTP/1.1",
        "QUERY /a/b?c=d HTTP/1.1",
        "M!#$%&'*+-.^_`|~0 / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "OPTIONS /* HTTP/1.1",
        "GET /a;b=c/d@e:f(g)'h,i&j=k+l$m!n*o~p%20q HTTP/1.1",
        "GET /[a]{b}|c^d_e HTTP/1.1",
        "GET /?a[b]={c}|d^e`f\\g?h/i HTTP/1.1",
        "GET // HTTP/1.1",
    ] {
        accepts(&with_line(line), 1);
    }
    for (line, rule) in [
        ("", Rule::RequestLine),
        ("\r\nGET / HTTP/1.1", Rule::RequestLine),
        ("\nGET / HTTP/1.1", Rule::RequestLine),
        (" GET / HTTP/1.1", Rule::RequestLine),
        ("\tGET / HTTP/1.1", Rule::RequestLine),
        ("GET", Rule::RequestLine),
        ("GET\t/ HTTP/1.1", Rule::RequestLine),
        ("G(T / HTTP/1.1", Rule::RequestLine),
        ("G\0T / HTTP/1.1", Rule::RequestLine),
        ("\u{16}\u{3}\u{1}", Rule::RequestLine),
        ("GET / http/1.1", Rule::RequestLine),
        ("GET / a HTTP/1.1", Rule::RequestLine),
        ("GET /  HTTP/1.1", Rule::RequestLine),
        ("GET / HTTP/1.1 ", Rule::RequestLine),
        ("GET / HTTP/1.1\t", Rule::RequestLine),
        ("GET /", Rule::Version),
        ("GET / HTTP/2.0", Rule::Version),
        ("PRI * HTTP/2.0", Rule::Target),
        ("GET / HTTP/1.2", Rule::Version),
        ("GET / HTTP/1.10", Rule::Version),
        ("GET / HTTP/11", Rule::Version),
        ("GET / HTTP/0.9", Rule::Version),
        ("GET  / HTTP/1.1", Rule::Target),
        ("GET http://a/ HTTP/1.1", Rule::Target),
        ("GET a HTTP/1.1", Rule::Target),
        ("GET a:80 HTTP/1.1", Rule::Target),
        ("GET * HTTP/1.1", Rule::Target),
        ("OPTIONS ** HTTP/1.1", Rule::Target),
        ("OPTIONS *?a HTTP/1.1", Rule::Target),
        ("OPTIONS a HTTP/1.1", Rule::Target),
        ("options * HTTP/1.1", Rule::Target),
        ("CONNECT a:443 HTTP/1.1", Rule::Target),
        ("CONNECT / HTTP/1.1", Rule::Target),
        ("GET /a#b HTTP/1.1", Rule::Target),
        ("GET /a?b#c HTTP/1.1", Rule::Target),
        ("GET /a\tb HTTP/1.1", Rule::Target),
        ("GET /a\0 HTTP/1.1", Rule::Target),
        ("GET /a\u{7f} HTTP/1.1", Rule::Target),
        ("GET /\u{e9} HTTP/1.1", Rule::Target),
        ("GET /?\u{e9} HTTP/1.1", Rule::Target),
        ("GET /a\\b HTTP/1.1", Rule::Target),
        ("GET /<a> HTTP/1.1", Rule::Target),
        ("GET /a\"b HTTP/1.1", Rule::Target),
        ("GET /a?b=\"c\" HTTP/1.1", Rule::Target),
        ("GET /\nHTTP/1.1", Rule::BareLineFeed),
        ("GET / HTTP/1.1\n", Rule::BareLineFeed),
        ("GET / HTTP/1.1\rX", Rule::BareCarriageReturn),
        ("GET / HTTP/1.1\r\r\n", Rule::BareCarriageReturn),
    ] {
        refuses_head(&with_line(line), rule);
    }
}

#[test]
fn field_lines() {
    for fields in [
        "",
        "A: b\r\n",
        "A:b\r\n",
        "A:\r\n",
        "A: \t b \t\r\n",
        "a!#$%&'*+-.^_`|~0Z: b\r\n",
        "A: \"b\" (c), d;e=f\tg\r\n",
        "A: 1234567\t9\r\nB: 12345678\t\r\n",
        "A: b\r\nA: c\r\n",
        "Expect: 100-continue\r\n",
        "expect: 100-Continue\r\n",
        "Connection: close\r\n",
        "TE: trailers\r\n",
        "Upgraded: a\r\nUpgrad: b\r\nHTTP2-Setting: c\r\nContent-Lengthy: +\r\n",
    ] {
        accepts(&with_fields(fields), 1);
    }
    accepts(b"GET / HTTP/1.1\r\nHost: a\r\nA: \xe9\x80\xff\r\n\r\n", 1);
    for (fields, rule) in [
        ("A : b\r\n", Rule::FieldLine),
        ("A\t: b\r\n", Rule::FieldLine),
        (": b\r\n", Rule::FieldLine),
        ("A\r\n", Rule::FieldLine),
        ("A b\r\n", Rule::FieldLine),
        ("A(: b\r\n", Rule::FieldLine),
        ("\u{e9}: b\r\n", Rule::FieldLine),
        (" A: b\r\n", Rule::FieldLine),
        ("A: b\r\n c\r\n", Rule::FieldLine),
        ("A: b\r\n\tc\r\n", Rule::FieldLine),
        ("A: b\0c\r\n", Rule::FieldLine),
        ("A: 123456789\u{1f}\r\n", Rule::FieldLine),
        ("A: 123456789\u{7f}\r\n", Rule::FieldLine),
        ("A: b\u{b}\r\n", Rule::FieldLine),
        ("A: b\n", Rule::BareLineFeed),
        ("A: b\nB: c\r\n", Rule::BareLineFeed),
        ("A\n", Rule::BareLineFeed),
        ("\n", Rule::BareLineFeed),
        ("A: b\n\r\n", Rule::BareLineFeed),
        ("A: b\rc\r\n", Rule::BareCarriageReturn),
        ("A: b\r\r\n", Rule::BareCarriageReturn),
        ("\rA: b\r\n", Rule::BareCarriageReturn),
        ("Expect: 200-ok\r\n", Rule::Expectation),
        ("Expect:\r\n", Rule::Expectation),
        ("Expect: 100-continue, 100-continue\r\n", Rule::Expectation),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Rule::Expectation),
        ("Upgrade: h2c\r\n", Rule::Upgrade),
        ("upgrade: websocket\r\n", Rule::Upgrade),
        ("HTTP2-Settings: AAMAAABkAAQAAP__\r\n", Rule::Upgrade),
    ] {
        refuses_head(&with_fields(fields), rule);
    }
}

#[test]
fn offers() {
    let asking = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let (named, offer) = ("Connection: Upgrade\r\n", "Upgrade: websocket\r\n");
    let both = format!("{named}{offer}");
    for fields in [
        &*both,
        "upgrade:\tWebSocket \r\nconnection:keep-alive ,UPGRADE\r\n",
        "Connection: a\r\nConnection: b, upgrade\r\nUpgrade: websocket\r\n",
        &format!("{both}Content-Length: 0\r\n"),
    ] {
        // Nothing behind it passes, be it a request or not.
        for behind in ["", GET, "\u{1}\u{2}\r\r\n"] {
            let head = asking(fields);
            let found = outcome(&[&*head, behind.as_bytes()].concat(), HeadLimits::default());
            let expected = Outcome { heads: 1, judged: head.len(), refusal: None };
            assert_eq!(found, expected, "{fields}");
            let mut framing = Framing::new(HeadLimits::default());
            framing.scan(&[GET.as_bytes(), &head].concat());
            assert_eq!(framing.offer(), Some(1));
            assert!(!framing.is_in_head());
        }
    }
    for fields in [
        offer,
        &format!("{offer}Connection: upgrades\r\n"),
        &format!("{offer}Connection: \"upgrade\"\r\n"),
        &format!("{both}{offer}"),
        &format!("{named}Upgrade: websocket, h2c\r\n"),
        &format!("{named}Upgrade: websocket,\r\n"),
        &format!("{both}HTTP2-Settings: AAMA\r\n"),
        &format!("{both}Content-Length: 1\r\n"),
        &format!("Content-Length: 1\r\n{both}"),
        &format!("{both}Transfer-Encoding: chunked\r\n"),
        &format!("{both}Expect: 100-continue\r\n"),
    ] {
        refuses_head(&asking(fields), Rule::Upgrade);
    }
    for line in ["POST / HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0", "get / HTTP/1.1"] {
        refuses_head(format!("{line}\r\nHost: a\r\n{both}\r\n").as_bytes(), Rule::Upgrade);
    }
    // What is not offered is no offer, whatever `Connection` says.
    let framed = [&*asking(named), GET.as_bytes()].concat();
    accepts(&framed, 2);
    refuses_head(format!("GET / HTTP/1.1\r\n{both}\r\n").as_bytes(), Rule::Host);
}

#[test]
fn lengths() {
    for (fields, body) in [
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 5\r\n", "12345"),
        ("cOnTeNt-LeNgTh:\t5 \r\n", "\r\n\r\n\0"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: CHUNKED\r\n", "5\r\n12345\r\n0\r\n\r\n"),
    ] {
        let mut stream = with_fields(fields);
        stream.extend_from_slice(body.as_bytes());
        accepts(&stream, 1);
        stream.extend_from_slice(GET.as_bytes());
        accepts(&stream, 2);
    }
    for value in [
        "",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "05",
        "00",
        "a",
        "\u{b2}",
        "9223372036854775808",
        "18446744073709551616",
        "10000000000000000000",
        "99999999999999999999999999999999",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        refuses_head(&with_fields(&fields), Rule::ContentLength);
    }
    for (fields, rule) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Rule::ContentLength),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Rule::ContentLength),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Rule::LengthConflict),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Rule::LengthConflict),
        ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", Rule::LengthConflict),
        ("Content-Length: 0\r\nTransfer-Encoding: identity\r\n", Rule::LengthConflict),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: identity, chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: ,chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked,\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked chunked\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: identity\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding:\r\n", Rule::TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Rule::FieldLine),
        ("Transfer-Encoding : chunked\r\n", Rule::FieldLine),
        ("Transfer-Encoding:\r\n chunked\r\n", Rule::TransferEncoding),
        ("Content-Length : 5\r\n", Rule::FieldLine),
    ] {
        refuses_head(&with_fields(fields), rule);
    }
    let one_zero = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refuses_head(one_zero, Rule::TransferEncoding);
    accepts(b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 1);
}

#[test]
fn largest_length_is_waited_for() {
    let mut stream = with_fields("Content-Length: 9223372036854775807\r\n");
    stream.extend_from_slice(GET.as_bytes());
    accepts(&stream, 1);
}

#[test]
fn chunks() {
    let head = String::from_utf8(with_fields("Transfer-Encoding: chunked\r\n")).unwrap();
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        "a\r\n0123456789\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
        "0000000000000001\r\nx\r\n0000000000000000\r\n\r\n",
    ] {
        accepts(format!("{head}{body}").as_bytes(), 1);
        accepts(format!("{head}{body}{GET}").as_bytes(), 2);
    }
    accepts(format!("{head}ffffffffffffffff\r\n{GET}").as_bytes(), 1);
    for (body, rule) in [
        ("\r\n", Rule::Chunk),
        ("x\r\n", Rule::Chunk),
        ("+1\r\nx\r\n", Rule::Chunk),
        ("-1\r\nx\r\n", Rule::Chunk),
        ("0x1\r\nx\r\n", Rule::Chunk),
        ("1 \r\nx\r\n", Rule::Chunk),
        (" 1\r\nx\r\n", Rule::Chunk),
        ("1;a=b\r\nx\r\n", Rule::Chunk),
        ("0;a\r\n\r\n", Rule::Chunk),
        ("1\nx\r\n", Rule::Chunk),
        ("1\rx\r\n", Rule::Chunk),
        ("1\r\nxy\r\n", Rule::Chunk),
        ("1\r\nx\n0\r\n\r\n", Rule::Chunk),
        ("1\r\nx\r0\r\n\r\n", Rule::Chunk),
        ("1\r\nx0\r\n\r\n", Rule::Chunk),
        ("00000000000000001\r\nx\r\n", Rule::Chunk),
        ("10000000000000000\r\nx\r\n", Rule::Chunk),
        ("0\n\r\n", Rule::Chunk),
        ("0\r\n\n", Rule::Chunk),
        ("0\r\n\rx", Rule::Chunk),
        ("0\r\nA: b\r\n\r\n", Rule::Trailer),
        ("0\r\n A: b\r\n\r\n", Rule::Trailer),
    ] {
        refuses_body(format!("{head}{body}{GET}").as_bytes(), rule);
    }
}

#[test]
fn no_octet_of_the_chunked_framing_can_be_another() {
    let head = with_fields("Transfer-Encoding: chunked\r\n");
    let body = b"1\r\nx\r\n0\r\n\r\n";
    for place in (0..body.len()).filter(|place| body[*place] != b'x') {
        for octet in (0..=0xff_u8).filter(|octet| *octet != body[place]) {
            let mut stream = [&head[..], body].concat();
            stream[head.len() + place] = octet;
            let found = feed(&stream, [], HeadLimits::default());
            let is_size = body[place].is_ascii_digit() || body[place + 1..].starts_with(b"\n0");
            let is_other_size = is_size && octet.is_ascii_hexdigit();
            assert!(found.refusal.is_some() || is_other_size, "{octet:#x} at {place}");
        }
    }
}

#[test]
fn nothing_of_a_refused_message_passes() {
    let bad = with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let stream = [GET.as_bytes(), &bad, GET.as_bytes()].concat();
    let found = outcome(&stream, HeadLimits::default());
    assert_eq!(found.judged, GET.len());
    refuses_head_after(1, &stream, Rule::LengthConflict);

    let head = with_fields("Transfer-Encoding: chunked\r\n");
    let stream = [&head[..], b"1\r\nx\r\n2;\r\n", GET.as_bytes()].concat();
    let found = outcome(&stream, HeadLimits::default());
    assert_eq!(found.judged, head.len() + b"1\r\nx\r\n2".len());
}

#[test]
fn hosts() {
    for host in [
        "a",
        "a.example",
        "A.EXAMPLE:80",
        "a_b-c~d.e",
        "192.0.2.1",
        "192.0.2.1:65535",
        "[::1]",
        "[2001:db8::1]:8080",
        "[::ffff:192.0.2.1]:1",
        "example.com.",
        "a:0",
        "xn--bcher-kva.example",
    ] {
        accepts(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), 1);
        accepts(format!("GET / HTTP/1.0\r\nhOST:{host}\t \r\n\r\n").as_bytes(), 1);
    }
    for host in [
        "",
        "a b",
        "a,b",
        "a/b",
        "a@b",
        "user@a",
        "a:",
        "a:x",
        "a:+1",
        "a:65536",
        "a:000080",
        "a:1:2",
        ":80",
        "a%20b",
        "%61",
        "a;b",
        "a?b",
        "a#b",
        "a\\b",
        "[]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1%eth0]",
        "[192.0.2.1]",
        "[v1.a]",
        "http://a",
        "\u{e9}",
        "a\"",
        "(a)",
        "a*",
    ] {
        refuses_head(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), Rule::Host);
    }
    for name in ["a".repeat(255), format!("{}:1", "a".repeat(255))] {
        let stream = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        assert_eq!(feed(stream.as_bytes(), [], HeadLimits::default()).heads, 1);
    }
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(256));
    refuses_head(long.as_bytes(), Rule::Host);
    refuses_head(b"GET / HTTP/1.1\r\n\r\n", Rule::Host);
    refuses_head(b"GET / HTTP/1.0\r\n\r\n", Rule::Host);
    refuses_head(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Rule::Host);
    refuses_head(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nhost: c\r\n\r\n", Rule::Host);
    // RFC 9112 section 5.1: a name with a space before the colon is no Host to anyone.
    refuses_head(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Rule::FieldLine);
}

#[test]
fn limits_at_n_and_one_more() {
    let limits = HeadLimits { head_octets: 64, fields: 3, target_octets: 8 };
    let check = |stream: &str, expected: Option<Rule>| {
        let found = outcome(stream.as_bytes(), limits);
        let rule = found.refusal.map(|refusal| refusal.rule);
        assert_eq!(rule, expected, "{stream:?}");
        assert_eq!(found.heads, u64::from(expected.is_none()), "{stream:?}");
    };
    let head =
        |padding: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(padding));
    let padding = 64 - head(0).len();
    check(&head(padding), None);
    check(&head(padding + 1), Some(Rule::HeadTooLarge));
    check(&head(padding + 100), Some(Rule::HeadTooLarge));
    // A bad octet beyond the limit is not what the head is refused for.
    check(&head(padding + 100).replace("b\r\n\r\n", "\0\r\n\r\n"), Some(Rule::HeadTooLarge));

    check("GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("GET /23456789 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rule::TargetTooLong));
    check("GET /234567# HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rule::Target));
    check("GET /2345678# HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rule::TargetTooLong));
    check("GET /2?45678 HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("GET /2?456789 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rule::TargetTooLong));
    check("GET /234567?9 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rule::TargetTooLong));

    check("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nB: c\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nB: c\r\nD: e\r\n\r\n", Some(Rule::HeadTooLarge));

    let method = |octets: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(octets));
    check(&method(32), None);
    check(&method(33), Some(Rule::RequestLine));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let limits = HeadLimits::default();
    assert_eq!((limits.head_octets, limits.fields, limits.target_octets), (16_384, 100, 8_192));
    let head = |octets: usize| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n";
        head.replace("A: ", &format!("A: {}", "b".repeat(octets - head.len())))
    };
    assert_eq!(feed(head(16_384).as_bytes(), [], limits).heads, 1);
    let found = feed(head(16_385).as_bytes(), [], limits);
    assert_eq!(found.refusal.map(|refusal| refusal.rule), Some(Rule::HeadTooLarge));
}

#[test]
fn a_refusal_for_time_names_what_was_being_read() {
    let mut framing = Framing::new(HeadLimits::default());
    assert_eq!(framing.scan(GET.as_bytes()), GET.len());
    assert_eq!(framing.scan(b"GET /"), 0);
    framing.refuse(Rule::HeadTimeout);
    let refusal = Refusal { ordinal: 1, part: Part::Head, rule: Rule::HeadTimeout };
    assert_eq!(framing.refusal(), Some(refusal));
    framing.refuse(Rule::Chunk);
    assert_eq!(framing.refusal(), Some(refusal), "the first refusal stands");
    assert_eq!(framing.scan(GET.as_bytes()), 0, "nothing passes after a refusal");
}

#[test]
fn control_octets_are_found_at_every_place_in_a_word() {
    for control in (0..=0x1f_u8).chain([0x7f]) {
        for place in 0..40 {
            let mut value = vec![b'~'; 40];
            value[place] = control;
            let mut stream = b"GET / HTTP/1.1\r\nHost: a\r\nA: ".to_vec();
            stream.extend_from_slice(&value);
            stream.extend_from_slice(b"\r\n\r\n");
            let expected = match control {
                b'\t' => None,
                b'\n' => Some(Rule::BareLineFeed),
                b'\r' => Some(Rule::BareCarriageReturn),
                _ => Some(Rule::FieldLine),
            };
            // CR at the value's end is a second one before the line's own.
            let found = feed(&stream, [], HeadLimits::default());
            let rule = found.refusal.map(|refusal| refusal.rule);
            assert_eq!(rule, expected, "{control:#x} at {place}");
        }
    }
    for other in (0x20..=0xff_u8).filter(|octet| *octet != 0x7f) {
        let mut stream = b"GET / HTTP/1.1\r\nHost: a\r\nA: ".to_vec();
        stream.extend_from_slice(&[other; 40]);
        stream.extend_from_slice(b"\r\n\r\n");
        assert_eq!(feed(&stream, [], HeadLimits::default()).heads, 1, "{other:#x}");
    }
}
