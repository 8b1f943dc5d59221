//! Frames against RFC 6455, in both directions.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use super::{CHAT, logged, start};
use crate::kit::client::{Client, bodiless, exchange};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::websocket::{
    BINARY, CLOSE, PING, Sockets, TEXT, echo, frame, handshake, head, read, switching,
};

#[test]
fn a_clients_frame_that_is_malformed_ends_the_tunnel() {
    let (heard, hearing) = channel();
    let sockets = Sockets::start(
        |_| switching(""),
        move |mut reader: BufReader<TcpStream>| {
            let mut frames = Vec::new();
            while let Ok(frame) = read(&mut reader) {
                frames.push(frame);
            }
            heard.send(frames).unwrap();
        },
    );
    let gateway = start(&sockets);
    let malformed = "upgrade.frame";
    let cases = [
        (frame(TEXT, b"a", false), 1002, malformed),
        (frame(0xc1, b"a", true), 1002, malformed),
        (frame(0xa1, b"a", true), 1002, malformed),
        (frame(0x83, b"a", true), 1002, malformed),
        (frame(0x8b, b"a", true), 1002, malformed),
        (frame(0x80, b"a", true), 1002, malformed),
        (frame(0x09, b"a", true), 1002, malformed),
        (frame(PING, &[0; 126], true), 1002, malformed),
        (frame(CLOSE, &[0], true), 1002, malformed),
        (vec![BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002, malformed),
        (head(BINARY, 200_001, true), 1009, "upgrade.message-too-large"),
    ];
    for (place, (octets, code, rule)) in cases.into_iter().enumerate() {
        let mut client = Client::open(gateway.address, "/chat");
        client.send(frame(TEXT, b"good", true)).send(&octets);
        assert_eq!(client.close_code(), Some(code), "{octets:?}");
        assert!(client.closed().is_empty());
        // What was well-formed has passed, and nothing else but our own word.
        let frames = hearing.recv().unwrap();
        assert_eq!(frames, [(TEXT, b"good".to_vec()), (CLOSE, vec![3, 233])], "{octets:?}");
        let line = logged(&gateway, place + 1);
        assert_eq!((&line["rule"], &line["verdict"]), (&rule.into(), &"refused".into()), "{line}");
        assert_eq!(line["tunnel_end"], "client-frame");
    }
    let metrics = gateway.metrics();
    let counted = r#"firewall_contract_violations_total{action="refused",api="test",rule="upgrade.frame"} 10"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn an_upstreams_frame_that_is_malformed_ends_the_tunnel() {
    for (octets, code, rule) in [
        (frame(TEXT, b"a", true), 1002, "response.frame"),
        (frame(0x91, b"a", false), 1002, "response.frame"),
        (head(BINARY, 200_001, false), 1009, "response.too-large"),
    ] {
        let (heard, hearing) = channel();
        let sockets = Sockets::start(
            |_| switching(""),
            move |mut reader: BufReader<TcpStream>| {
                reader.get_ref().write_all(&octets).unwrap();
                heard.send(read(&mut reader).unwrap()).unwrap();
            },
        );
        let gateway = start(&sockets);
        let mut client = Client::open(gateway.address, "/chat");
        assert_eq!(client.close_code(), Some(1011), "{rule}");
        assert!(client.closed().is_empty());
        let (first, payload) = hearing.recv().unwrap();
        assert_eq!((first, payload), (CLOSE, u16::to_be_bytes(code).to_vec()));
        let line = logged(&gateway, 1);
        assert_eq!((&line["rule"], &line["tunnel_end"]), (&rule.into(), &"upstream-frame".into()));
    }
}

#[test]
fn what_is_observed_passes_as_it_is() {
    let sockets = Sockets::echo();
    let setup = Setup { api: "requests = \"observe\"".into(), ..Setup::of(CHAT) };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut client = Client::open(gateway.address, "/chat");
    client.send(frame(0x83, b"reserved", true));
    // The upstream sends it back, which its own side's rules refuse.
    assert_eq!(client.close_code(), Some(1011));
    let line = logged(&gateway, 1);
    assert_eq!(line["rule"], "upgrade.frame", "the first is logged: {line}");
    let setup =
        Setup { api: "requests = \"observe\"\nresponses = \"observe\"".into(), ..Setup::of(CHAT) };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut client = Client::open(gateway.address, "/chat");
    for _ in 0..2 {
        client.send(frame(0x83, b"reserved", true));
        assert_eq!(client.frame(), Some((0x83, b"reserved".to_vec())));
    }
    client.send(frame(CLOSE, &[3, 232], true));
    assert_eq!(client.close_code(), Some(1000));
    let line = logged(&gateway, 1);
    assert_eq!((&line["rule"], &line["verdict"]), (&"upgrade.frame".into(), &"observed".into()));
    // What is not declared is refused in any mode: nobody could tell what follows it.
    let answer = exchange(gateway.address, handshake("/plain"));
    assert_eq!((answer.status, &*answer.rule()), (400, "framing.upgrade"));
    let setup = Setup { api: "requests = \"off\"\nresponses = \"off\"".into(), ..Setup::of(CHAT) };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut client = Client::open(gateway.address, "/chat");
    client.send(frame(0xf3, b"reserved", true));
    assert_eq!(client.frame(), Some((0xf3, b"reserved".to_vec())));
}

#[test]
fn malformed_frames_are_offences() {
    let sockets = Sockets::echo();
    let setup = Setup {
        management: "loopback = false\nown_addresses = false".into(),
        bans: "threshold = 10\nweights = { framing = 5 }".into(),
        ..Setup::of(CHAT)
    };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut bystander = Client::open(gateway.address, "/chat");
    for offence in 0..2 {
        let mut client = Client::open(gateway.address, "/chat");
        client.send(frame(TEXT, b"a", false));
        let code = client.close_code();
        assert!(code == Some(1002) || offence == 1, "{code:?}");
        assert!(client.closed().is_empty());
    }
    assert_eq!(gateway.bans().len(), 1);
    // Its other tunnels end with it.
    assert!(matches!(bystander.close_code(), None | Some(1008)));
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    assert!(!Client::is_let_in(loopback, gateway.address, bodiless("GET /plain")), "banned");
}

#[test]
fn compression_is_let_where_it_was_agreed_on() {
    let asking = handshake("/deflated").replace(
        "Upgrade: websocket",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: websocket",
    );
    for agrees in [true, false] {
        let answer =
            switching(if agrees { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" });
        let sockets = Sockets::start(move |_| answer.clone(), echo);
        let gateway = start(&sockets);
        let mut client = Client::connect(gateway.address);
        let answer = client.send(&asking).answer().unwrap();
        assert_eq!(answer.status, 101);
        let agreed = answer.header("sec-websocket-extensions");
        assert_eq!(agreed, agrees.then_some("permessage-deflate"));
        client.send(frame(0xc1, b"deflated", true));
        if agrees {
            assert_eq!(client.frame(), Some((0xc1, b"deflated".to_vec())));
        } else {
            assert_eq!(client.close_code(), Some(1002));
        }
    }
}
