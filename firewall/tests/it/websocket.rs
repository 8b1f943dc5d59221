//! WebSockets through the real program: handshakes as octets, an upstream by hand.

mod ends;
mod frames;

use crate::kit::client::{Client, bodiless};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::websocket::{CLOSE, KEY, Sockets, TEXT, echo, frame, handshake, offer, switching};

const CHAT: &str = include_str!("contracts/chat.yaml");

fn start(sockets: &Sockets) -> Gateway {
    Gateway::start_before(&Setup::of(CHAT), &[&sockets.url()])
}

/// The last line of the access log, once there are so many.
#[track_caller]
fn logged(gateway: &Gateway, lines: usize) -> serde_json::Value {
    eventually("the exchange is logged", || {
        let log = gateway.access_log();
        (log.len() >= lines).then(|| log[lines - 1].clone())
    })
}

/// What hides behind a handshake, if it is read as HTTP.
const SECOND: &str = "GET /plain HTTP/1.1\r\nHost: second.test\r\n\r\n";

#[test]
fn a_declared_upgrade_becomes_a_tunnel() {
    let sockets = Sockets::echo();
    let gateway = start(&sockets);
    let mut client = Client::open(gateway.address, "/chat?room=7");
    for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        client.send(frame(TEXT, &payload, true));
        assert_eq!(client.frame(), Some((TEXT, payload)), "{length}");
    }
    let metrics = gateway.metrics();
    assert!(metrics.contains("firewall_tunnels{api=\"test\"} 1"), "{metrics}");
    client.send(frame(CLOSE, &[3, 232], true));
    assert_eq!(client.close_code(), Some(1000));
    assert!(client.closed().is_empty());
    let line = logged(&gateway, 1);
    assert_eq!((&line["status"], &line["operation"]), (&101.into(), &"chat".into()), "{line}");
    assert_eq!(line["tunnel_end"], "client");
    assert_eq!(line["verdict"], "passed");
    let payload = 1 + 125 + 126 + 65_535 + 65_536 + 200_000 + 2;
    let down = payload + 2 * 4 + 4 * 2 + 10 * 2;
    assert_eq!(line["response_octets"], down, "{line}");
    assert_eq!(line["request_octets"], down + 8 * 4, "{line}");
    let metrics = gateway.metrics();
    for sample in [
        "firewall_tunnels{api=\"test\"} 0".to_owned(),
        "firewall_tunnels_ended_total{api=\"test\",reason=\"client\"} 1".to_owned(),
        format!("firewall_tunnel_octets_total{{api=\"test\",direction=\"down\"}} {down}"),
    ] {
        assert!(metrics.contains(&sample), "{sample} is not in\n{metrics}");
    }
    let head = sockets.heads().pop().unwrap().to_ascii_lowercase();
    for line in [
        "get /chat?room=7 http/1.1\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-version: 13\r\n",
        "\r\nx-forwarded-for: 127.0.0.1\r\n",
        &format!("\r\nsec-websocket-key: {KEY}\r\n").to_ascii_lowercase(),
    ] {
        assert!(head.contains(line), "{line:?} is not in {head}");
    }
}

#[test]
fn what_follows_the_handshake_at_once_is_the_tunnels() {
    let sockets = Sockets::echo();
    let gateway = start(&sockets);
    let mut client = Client::connect(gateway.address);
    let octets = [handshake("/chat").into_bytes(), frame(TEXT, b"early", true)].concat();
    // Also where it comes octet by octet.
    for cut in [octets.len(), octets.len() - 3, octets.len() - 11, 20] {
        let mut client = Client::connect(gateway.address);
        client.send(&octets[..cut]);
        std::thread::sleep(std::time::Duration::from_millis(20));
        client.send(&octets[cut..]);
        assert_eq!(client.answer().unwrap().status, 101, "{cut}");
        assert_eq!(client.frame(), Some((TEXT, b"early".to_vec())), "{cut}");
    }
    // A request there is no frame, and never one of HTTP.
    let answer = client.send(handshake("/chat") + SECOND).answer().unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(client.close_code(), Some(1002));
    assert!(client.closed().is_empty());
    assert!(!sockets.heads().iter().any(|head| head.contains("/plain")));
}

/// A request with these lines in place of some of a handshake's.
fn with(path: &str, removed: &[&str], more: &str) -> String {
    let kept = offer();
    let kept = kept.split_inclusive("\r\n");
    let kept: String =
        kept.filter(|line| !removed.iter().any(|name| line.starts_with(name))).collect();
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{kept}{more}\r\n")
}

#[test]
fn offers_that_are_refused_take_the_connection_with_them() {
    let sockets = Sockets::echo();
    let gateway = start(&sockets);
    let chat = |removed: &[&str], more: &str| with("/chat", removed, more);
    let upgrade = "framing.upgrade";
    let malformed = "upgrade.handshake";
    let (key, version, connection) = ("Sec-WebSocket-K", "Sec-WebSocket-V", "Connection");
    let cases = [
        (handshake("/plain"), 400, upgrade),
        (handshake("/nothing"), 404, "route.unknown-path"),
        (handshake("/chat?room=x"), 400, "parameter.type"),
        (handshake("/chat").replace("GET", "POST"), 400, upgrade),
        (handshake("/chat").replace("GET", "HEAD"), 400, upgrade),
        (handshake("/chat").replace("HTTP/1.1", "HTTP/1.0"), 400, upgrade),
        (chat(&[connection], ""), 400, upgrade),
        (chat(&[connection], "Connection: keep-alive\r\n"), 400, upgrade),
        (chat(&[connection], "Connection: upgraded\r\n"), 400, upgrade),
        (chat(&["Upgrade"], "Upgrade: h2c\r\n"), 400, upgrade),
        (chat(&["Upgrade"], "Upgrade: websocket, h2c\r\n"), 400, upgrade),
        (chat(&["Upgrade"], "Upgrade: h2c, websocket\r\n"), 400, upgrade),
        (chat(&["Upgrade"], "Upgrade: websocket/13\r\n"), 400, upgrade),
        (chat(&["Upgrade"], "Upgrade:\r\n"), 400, upgrade),
        (chat(&[], "Upgrade: websocket\r\n"), 400, upgrade),
        (chat(&[], "Upgrade: h2c\r\n"), 400, upgrade),
        (chat(&[], "HTTP2-Settings: AAMA\r\n"), 400, upgrade),
        (chat(&[], "Content-Length: 54\r\n"), 400, upgrade),
        (chat(&[], "Transfer-Encoding: chunked\r\n"), 400, upgrade),
        (chat(&[], "Content-Length: 1\r\nContent-Length: 0\r\n"), 400, "framing.content-length"),
        (chat(&[], "Expect: 100-continue\r\n"), 400, upgrade),
        (chat(&[version], ""), 400, malformed),
        (chat(&[version], "Sec-WebSocket-Version: x\r\n"), 400, malformed),
        (chat(&[version], "Sec-WebSocket-Version: 13, 8\r\n"), 400, malformed),
        (chat(&[], "Sec-WebSocket-Version: 13\r\n"), 400, malformed),
        (chat(&[version], "Sec-WebSocket-Version: 8\r\n"), 426, "upgrade.version"),
        (chat(&[version], "Sec-WebSocket-Version: 14\r\n"), 426, "upgrade.version"),
        (chat(&[key], ""), 400, malformed),
        (chat(&[key], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"), 400, malformed),
        (chat(&[key], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"), 400, malformed),
        (chat(&[key], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n"), 400, malformed),
        (chat(&[], &format!("Sec-WebSocket-Key: {KEY}\r\n")), 400, malformed),
        (chat(&[], "Sec-WebSocket-Protocol: a,,b\r\n"), 400, malformed),
        (chat(&[], "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n"), 400, malformed),
        (chat(&[], "Sec-WebSocket-Extensions: a;=b\r\n"), 400, malformed),
        (chat(&[], "Sec-WebSocket-Accept: x\r\n"), 400, malformed),
        (chat(&[connection], "Connection: upgrade, sec-websocket-key\r\n"), 400, malformed),
        (with("/site", &[], "Origin: https://evil.test\r\n"), 403, "upgrade.origin"),
        (
            with("/site", &[], "Origin: https://app.test\r\nOrigin: https://app.test\r\n"),
            403,
            "upgrade.origin",
        ),
    ];
    for (request, status, rule) in cases {
        let mut client = Client::connect(gateway.address);
        let answer = client.send(request.clone() + SECOND).answer().expect("an answer");
        assert_eq!((answer.status, &*answer.rule()), (status, rule), "{request}");
        let connection = answer.header("connection").unwrap_or_default();
        assert!(connection.starts_with("close"), "{request}{answer:?}");
        if rule == "upgrade.version" {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert!(connection.contains("upgrade"), "{connection}");
        }
        assert!(client.closed().is_empty(), "what follows is not answered: {request}");
    }
    assert!(sockets.heads().is_empty(), "what was refused was not forwarded");
}

#[test]
fn offers_that_pass() {
    let sockets = Sockets::echo();
    let gateway = start(&sockets);
    for (request, sent) in [
        (with("/chat", &["Connection"], "Connection: keep-alive, Upgrade\r\n"), ""),
        (with("/chat", &["Connection"], "Connection: keep-alive\r\nConnection: UPGRADE\r\n"), ""),
        (with("/chat", &["Upgrade"], "Upgrade: WebSocket\r\n"), ""),
        (with("/chat", &[], "Content-Length: 0\r\n"), ""),
        (with("/chat", &[], "Origin: https://any.test\r\n"), "origin: https://any.test"),
        (with("/site", &[], "Origin: https://app.test\r\n"), "origin: https://app.test"),
        (handshake("/site"), ""),
        (handshake("/either"), ""),
        (with("/chat", &[], "Sec-WebSocket-Protocol: a, b\r\n"), "sec-websocket-protocol: a, b"),
        (
            with(
                "/deflated",
                &[],
                "Sec-WebSocket-Extensions: x-unknown, permessage-deflate; \
                 client_max_window_bits; server_max_window_bits=\"10\"\r\n",
            ),
            "sec-websocket-extensions: permessage-deflate; client_max_window_bits; \
             server_max_window_bits=\"10\"\r\n",
        ),
    ] {
        let mut client = Client::connect(gateway.address);
        let answer = client.send(&request).answer().expect("an answer");
        assert_eq!(answer.status, 101, "{request}{}", answer.head);
        client.send(frame(TEXT, b"a", true));
        assert_eq!(client.frame(), Some((TEXT, b"a".to_vec())), "{request}");
        let head = sockets.heads().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains(sent), "{sent} is not in {head}");
    }
    // Compression is not offered where the contract does not let it.
    let compressing = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut client = Client::connect(gateway.address);
    let answer = client.send(with("/chat", &[], compressing)).answer().unwrap();
    assert_eq!(answer.status, 101);
    let head = sockets.heads().pop().unwrap().to_ascii_lowercase();
    assert!(!head.contains("extensions"), "{head}");
}

#[test]
fn who_asks_for_no_upgrade_is_told_of_it_or_answered_as_declared() {
    let sockets = Sockets::start(
        |_| "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        |_| unreachable!(),
    );
    let gateway = start(&sockets);
    let mut client = Client::connect(gateway.address);
    for _ in 0..2 {
        let answer = client.send(bodiless("GET /chat")).answer().unwrap();
        assert_eq!((answer.status, &*answer.rule()), (426, "upgrade.required"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("connection"), Some("upgrade"), "the connection is kept");
    }
    assert!(sockets.heads().is_empty());
    let answer = client.send(bodiless("GET /either")).answer().unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn an_answer_that_is_no_switch_is_judged_and_ends_the_connection() {
    for (answer, status, path) in [
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", 401, "/chat"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "/either"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502, "/chat"),
        ("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", 502, "/chat"),
    ] {
        let sockets = Sockets::start(|_| answer.into(), |_| unreachable!());
        let gateway = start(&sockets);
        let mut client = Client::connect(gateway.address);
        let octets = handshake(path) + SECOND + SECOND;
        let found = client.send(octets).answer().unwrap();
        assert_eq!(found.status, status, "{answer}");
        assert_eq!(found.header("connection"), Some("close"), "{found:?}");
        assert!(client.closed().is_empty(), "what follows is not answered");
        assert_eq!(sockets.heads().len(), 1, "nor forwarded: {:?}", sockets.heads());
    }
}

#[test]
fn a_switch_that_is_not_what_was_asked_for_is_refused() {
    let good = switching("");
    for (answer, fields) in [
        (good.replace("xOo=", "xOa="), ""),
        (good.replace("Sec-WebSocket-Accept", "X-Accept"), ""),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), ""),
        (good.replace("Upgrade: websocket", "X-Upgrade: websocket"), ""),
        (good.replace("Connection: Upgrade", "Connection: close"), ""),
        (switching("Sec-WebSocket-Protocol: a\r\n"), ""),
        (switching("Sec-WebSocket-Protocol: b\r\n"), "Sec-WebSocket-Protocol: a\r\n"),
        (switching("Sec-WebSocket-Protocol: A\r\n"), "Sec-WebSocket-Protocol: a\r\n"),
        (switching("Sec-WebSocket-Extensions: permessage-deflate\r\n"), ""),
        // It was asked for, and not passed on.
        (
            switching("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
        (switching("Content-Length: 5\r\n"), ""),
        (switching("Transfer-Encoding: chunked\r\n"), ""),
    ] {
        let told = answer.clone();
        let sockets = Sockets::start(move |_| told.clone(), echo);
        let gateway = start(&sockets);
        let mut client = Client::connect(gateway.address);
        let found = client.send(with("/chat", &[], fields)).answer().unwrap();
        assert_eq!(found.status, 502, "{answer}");
        assert!(client.closed().is_empty());
    }
    // Nor may one come that nobody asked for.
    let sockets = Sockets::start(|_| switching(""), echo);
    let gateway = start(&sockets);
    for path in ["/plain", "/either"] {
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.send(bodiless(&format!("GET {path}"))).answer().unwrap().status, 502);
    }
    // The declared fields of a 101 are checked as any answer's.
    let sockets = Sockets::start(|_| switching("X-Version: one\r\n"), echo);
    let gateway = start(&sockets);
    let answer = Client::connect(gateway.address).send(handshake("/deflated")).answer().unwrap();
    assert_eq!((answer.status, &*answer.rule()), (502, "response.header"));
}
