//! How tunnels end, and how many there may be.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use http::Method;
use rustls::version::TLS13;

use super::{CHAT, logged, start};
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::tls::{Authority, TlsClient, install};
use crate::kit::websocket::{
    BINARY, CLOSE, Sockets, TEXT, echo, frame, handshake, head, offer, read, switching,
};
use crate::kit::{Scratch, eventually};

/// A frame's first octet, and its payload.
type Frame = (u8, Vec<u8>);

/// An upstream that says what it heard last.
fn listening() -> (Sockets, std::sync::mpsc::Receiver<Option<Frame>>) {
    let (heard, hearing) = channel();
    let speak = move |mut reader: BufReader<TcpStream>| {
        let mut last = None;
        while let Ok(frame) = read(&mut reader) {
            last = Some(frame);
        }
        heard.send(last).unwrap();
    };
    (Sockets::start(|_| switching(""), speak), hearing)
}

/// A farewell for this reason.
fn gone(code: u16) -> Frame {
    (CLOSE, code.to_be_bytes().to_vec())
}

#[test]
fn silence_and_age_end_a_tunnel() {
    for (limits, reason) in [
        ("tunnel_idle_timeout = \"300ms\"", "idle"),
        ("tunnel_age = \"300ms\"", "age"),
        // Half a header is no frame, behind which another could stand.
        ("tunnel_idle_timeout = \"300ms\"\ntunnel_age = \"1h\"", "idle"),
    ] {
        let (sockets, hearing) = listening();
        let setup = Setup { limits: limits.into(), ..Setup::of(CHAT) };
        let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
        let mut client = Client::open(gateway.address, "/chat");
        client.send(frame(TEXT, b"a", true));
        if limits.contains("1h") {
            client.send([0x81]);
        }
        assert_eq!(client.close_code(), Some(1001), "{limits}");
        assert!(client.closed().is_empty());
        assert_eq!(hearing.recv().unwrap(), Some(gone(1001)), "{limits}");
        assert_eq!(logged(&gateway, 1)["tunnel_end"], reason, "{limits}");
    }
}

#[test]
fn octets_from_either_side_keep_a_tunnel() {
    let speak = |reader: BufReader<TcpStream>| {
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(100));
            reader.get_ref().write_all(&frame(TEXT, b"tick", false)).unwrap();
        }
    };
    let sockets = Sockets::start(|_| switching(""), speak);
    let setup = Setup { limits: "tunnel_idle_timeout = \"600ms\"".into(), ..Setup::of(CHAT) };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut client = Client::open(gateway.address, "/chat");
    for _ in 0..12 {
        assert_eq!(client.frame(), Some((TEXT, b"tick".to_vec())));
    }
    assert!(client.closed().is_empty());
    assert_eq!(logged(&gateway, 1)["tunnel_end"], "upstream");
}

#[test]
fn either_end_takes_the_other_along() {
    let (sockets, hearing) = listening();
    let gateway = start(&sockets);
    for is_reset in [false, true] {
        let mut client = Client::open(gateway.address, "/chat");
        client.send(frame(TEXT, b"last", true));
        std::thread::sleep(Duration::from_millis(50));
        if is_reset {
            client.reset();
        }
        drop(client);
        assert_eq!(hearing.recv().unwrap(), Some((TEXT, b"last".to_vec())));
    }
    assert_eq!(logged(&gateway, 2)["tunnel_end"], "client");
    for is_reset in [false, true] {
        let speak = move |reader: BufReader<TcpStream>| {
            reader.get_ref().write_all(&frame(TEXT, b"last", false)).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            if is_reset {
                let socket = socket2::SockRef::from(reader.get_ref());
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
        };
        let sockets = Sockets::start(|_| switching(""), speak);
        let gateway = start(&sockets);
        let mut client = Client::open(gateway.address, "/chat");
        assert_eq!(client.frame(), Some((TEXT, b"last".to_vec())), "{is_reset}");
        assert!(client.closed().is_empty());
        assert_eq!(logged(&gateway, 1)["tunnel_end"], "upstream", "{is_reset}");
    }
}

#[test]
fn one_side_may_end_before_the_other_has_said_all() {
    let speak = |mut reader: BufReader<TcpStream>| {
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        let answer = frame(BINARY, &vec![7; rest.len()], false);
        reader.get_ref().write_all(&answer).unwrap();
    };
    let sockets = Sockets::start(|_| switching(""), speak);
    let gateway = start(&sockets);
    let stream = TcpStream::connect(gateway.address).unwrap();
    let mut client = Client::over(stream.try_clone().unwrap());
    client.send(handshake("/chat"));
    assert_eq!(client.answer().unwrap().status, 101);
    let sent = frame(BINARY, &vec![1; 100_000], true);
    client.send(&sent);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.frame(), Some((BINARY, vec![7; sent.len()])));
    assert!(client.closed().is_empty());
}

#[test]
fn there_are_only_so_many_tunnels() {
    for (limits, status, rule) in [
        ("tunnels_per_source = 2", 429, "upgrade.tunnels-of-source"),
        ("tunnels_per_worker = 2", 503, "upgrade.tunnels"),
    ] {
        let sockets = Sockets::echo();
        let setup =
            Setup { listen: "workers = 1".into(), limits: limits.into(), ..Setup::of(CHAT) };
        let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
        let mut first = Client::open(gateway.address, "/chat");
        let mut second = Client::open(gateway.address, "/chat");
        let mut third = Client::connect(gateway.address);
        let answer = third.send(handshake("/chat")).answer().unwrap();
        assert_eq!((answer.status, &*answer.rule()), (status, rule));
        assert_eq!(sockets.heads().len(), 2, "it was not forwarded");
        // A seat is free as soon as a tunnel has ended; the others go on.
        first.send(frame(CLOSE, &[3, 232], true));
        assert_eq!(first.close_code(), Some(1000));
        assert!(first.closed().is_empty());
        eventually("a seat is free", || {
            let mut client = Client::connect(gateway.address);
            (client.send(handshake("/chat")).answer()?.status == 101).then_some(())
        });
        second.send(frame(TEXT, b"still", true));
        assert_eq!(second.frame(), Some((TEXT, b"still".to_vec())));
    }
}

#[test]
fn tunnels_leave_the_upstreams_connections_to_requests() {
    let answer = |head: &str| {
        if head.contains("Upgrade") || head.contains("upgrade") {
            return switching("");
        }
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into()
    };
    let sockets = Sockets::start(answer, echo);
    let setup = Setup {
        listen: "workers = 1".into(),
        upstream: "connections = 1".into(),
        ..Setup::of(CHAT)
    };
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let _tunnels = [(); 3].map(|()| Client::open(gateway.address, "/chat"));
    let mut client = Client::connect(gateway.address);
    for _ in 0..2 {
        assert_eq!(client.send(bodiless("GET /plain")).answer().unwrap().status, 200);
    }
}

#[test]
fn a_stop_says_that_it_goes_away() {
    let (sockets, hearing) = listening();
    let setup = Setup { limits: "drain_timeout = \"20s\"".into(), ..Setup::of(CHAT) };
    let mut gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut idle = Client::open(gateway.address, "/chat");
    let mut busy = Client::open(gateway.address, "/chat");
    // A frame in hand may come to its end.
    busy.send(&frame(TEXT, b"in hand", true)[..8]);
    std::thread::sleep(Duration::from_millis(100));
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(idle.close_code(), Some(1001));
    assert!(idle.closed().is_empty());
    assert_eq!(hearing.recv().unwrap(), Some(gone(1001)));
    busy.send(&frame(TEXT, b"in hand", true)[8..]);
    assert_eq!(busy.close_code(), Some(1001));
    assert!(busy.closed().is_empty());
    assert_eq!(hearing.recv().unwrap(), Some(gone(1001)));
    assert_eq!(gateway.ended(), Some(0));
    let ends: Vec<_> = gateway.access_log().iter().map(|line| line["tunnel_end"].clone()).collect();
    assert_eq!(ends, ["drained", "drained"]);
}

#[test]
fn a_ban_ends_its_clients_tunnels() {
    let setup = |clients: &str| Setup {
        management: "loopback = false\nown_addresses = false".into(),
        clients: clients.into(),
        ..Setup::of(CHAT)
    };
    let ban = |address: &str| serde_json::json!({"target": format!("{address}/32"), "for_seconds": 600, "reason": "test"});
    let (sockets, _hearing) = listening();
    let gateway = Gateway::start_before(&setup(""), &[&sockets.url()]);
    let mut client = Client::open(gateway.address, "/chat");
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban("127.0.0.1")));
    assert!(matches!(client.close_code(), None | Some(1008)));
    assert_eq!(logged(&gateway, 1)["tunnel_end"], "banned");
    // Behind a proxy, whose connection is not the client's.
    let (sockets, hearing) = listening();
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::start_before(&setup(trusted), &[&sockets.url()]);
    let open = |address: &str| {
        let fields = format!("{}X-Forwarded-For: {address}\r\n", offer());
        let mut client = Client::connect(gateway.address);
        client.send(format!("GET /chat HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        assert_eq!(client.answer().unwrap().status, 101);
        client
    };
    let (mut banned, mut other) = (open("192.0.2.7"), open("192.0.2.8"));
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban("192.0.2.7")));
    assert_eq!(banned.close_code(), Some(1008));
    assert_eq!(hearing.recv().unwrap(), Some(gone(1001)));
    assert_eq!(logged(&gateway, 1)["tunnel_end"], "banned");
    other.send(frame(CLOSE, &[3, 232], true));
    // Its upstream says nothing back, and waits for it to leave.
    drop(other);
    assert_eq!(hearing.recv().unwrap(), Some((CLOSE, vec![3, 232])));
}

/// Resident memory of the process, in octets.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn a_large_message_flows_through_little_memory() {
    const LENGTH: usize = 64 << 20;
    // It reads slowly at first, so that what is sent must wait for it.
    let speak = |mut reader: BufReader<TcpStream>| {
        std::thread::sleep(Duration::from_millis(300));
        let mut piece = vec![0; 64 << 10];
        let mut start = head(BINARY, LENGTH as u64, true);
        reader.read_exact(&mut start).unwrap();
        assert_eq!(start, head(BINARY, LENGTH as u64, true));
        for _ in 0..LENGTH / piece.len() {
            reader.read_exact(&mut piece).unwrap();
            assert!(piece == vec![3; piece.len()]);
        }
        reader.get_ref().write_all(&frame(TEXT, b"got it", false)).unwrap();
        let mut writer = reader.get_ref();
        writer.write_all(&head(BINARY, LENGTH as u64, false)).unwrap();
        for _ in 0..LENGTH / piece.len() {
            writer.write_all(&vec![1; piece.len()]).unwrap();
        }
    };
    let sockets = Sockets::start(|_| switching(""), speak);
    let gateway = start(&sockets);
    let mut client = Client::open(gateway.address, "/large");
    let before = resident(&gateway);
    client.send(head(BINARY, LENGTH as u64, true));
    for _ in 0..LENGTH >> 16 {
        client.send(vec![3; 1 << 16]);
    }
    assert_eq!(client.frame(), Some((TEXT, b"got it".to_vec())));
    std::thread::sleep(Duration::from_millis(300));
    let during = resident(&gateway);
    let (first, payload) = client.frame().unwrap();
    assert_eq!((first, payload.len()), (BINARY, LENGTH));
    assert!(payload.iter().all(|octet| *octet == 1));
    let grown = during.max(resident(&gateway)).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} octets more for {LENGTH}");
}

#[test]
fn through_tls_on_both_sides() {
    let (ca, folder) = (Authority::new("test"), Scratch::new());
    let own = install(&folder, "own", &ca.issue(&["api.example"], None, 1));
    let setup = Setup { listen: format!("tls = {{ certificate = [{own}] }}"), ..Setup::of(CHAT) };
    let sockets = Sockets::echo();
    let gateway = Gateway::start_before(&setup, &[&sockets.url()]);
    let mut stream = TlsClient::new(&ca, &[&TLS13], None).connect(gateway.address, "api.example");
    let asking = handshake("/chat").replace("a.test", "api.example");
    let early = frame(TEXT, b"early", true);
    stream.write_all(&[asking.as_bytes(), &early].concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        answer.push(octet[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(read(&mut stream).unwrap(), (TEXT, b"early".to_vec()));
    let payload = vec![9; 150_000];
    stream.write_all(&frame(BINARY, &payload, true)).unwrap();
    assert_eq!(read(&mut stream).unwrap(), (BINARY, payload));
    stream.write_all(&frame(CLOSE, &[3, 232], true)).unwrap();
    assert_eq!(read(&mut stream).unwrap(), (CLOSE, vec![3, 232]));
    // With a word of farewell, which a cut would not have.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let line = logged(&gateway, 1);
    assert_eq!(
        (&line["tls"], &line["tunnel_end"]),
        (&"TLSv1.3".into(), &"client".into()),
        "{line}"
    );
}
