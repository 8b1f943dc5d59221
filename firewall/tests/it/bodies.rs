//! Bodies in flight: what is checked is whole before the upstream sees any of it; what is declared as a
//! stream flows, in bounded memory, and ends on one side when it ends on the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::kit::client::Client;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::{PATIENCE, eventually};

const FILES: &str = r#"
openapi: 3.0.3
info: { title: Files, version: "1" }
paths:
  /files:
    post:
      operationId: upload
      requestBody:
        required: true
        content:
          application/octet-stream:
            x-firewall-stream: 4294967296
            schema: { type: string, format: binary }
      responses:
        "204": { description: stored }
    get:
      operationId: download
      responses:
        "200":
          description: all of it
          content: { application/octet-stream: { x-firewall-stream: 4294967296 } }
  /small:
    post:
      operationId: small
      requestBody:
        content: { application/octet-stream: { x-firewall-stream: 1000 } }
      responses:
        "204": { description: stored }
    get:
      operationId: smallDownload
      responses:
        "200":
          description: all of it
          content: { application/octet-stream: { x-firewall-stream: 1000 } }
  /notes:
    post:
      operationId: note
      requestBody:
        required: true
        content:
          application/json: { schema: { type: array, items: { type: integer } } }
      responses:
        "204": { description: noted }
"#;

/// How long nothing must happen for it to count as not happening.
const SILENCE: Duration = Duration::from_millis(300);
const STORED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// An upstream that does with each connection what it is told.
fn upstream(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn gateway(upstream: SocketAddr, limits: &str) -> Gateway {
    let setup =
        Setup { listen: "workers = 1".into(), limits: limits.to_owned(), ..Setup::of(FILES) };
    Gateway::start_with(&setup, &format!("http://{upstream}"), |command| command.spawn().unwrap())
}

fn head(line: &str, media_type: &str, framing: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n{framing}\r\n\r\n")
}

fn upload(line: &str, octets: usize) -> String {
    head(line, "application/octet-stream", &format!("Content-Length: {octets}"))
}

fn chunked(line: &str) -> String {
    head(line, "application/octet-stream", "Transfer-Encoding: chunked")
}

/// Tells what arrives, piece by piece, and an empty piece at its end. Answers at `marker`.
fn telling(marker: &'static [u8], told: Sender<Vec<u8>>) -> impl Fn(TcpStream) + Clone + Send {
    move |mut stream| {
        let mut all = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = stream.read(&mut buffer) {
            // The test may be over.
            drop(told.send(buffer[..length].to_vec()));
            if length == 0 {
                return;
            }
            all.extend_from_slice(&buffer[..length]);
            if all.ends_with(marker) {
                drop(stream.write_all(STORED));
                all.clear();
            }
        }
        drop(told.send(Vec::new()));
    }
}

/// Collects what the upstream tells until it ends so; false if the connection ended before.
#[track_caller]
fn arrives(told: &Receiver<Vec<u8>>, end: &[u8]) -> bool {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        let piece = told.recv_timeout(PATIENCE).expect("more of the body");
        if piece.is_empty() {
            return false;
        }
        all.extend(piece);
    }
    true
}

#[test]
fn what_is_checked_is_whole_before_the_upstream_sees_any_of_it() {
    let (tell, told) = channel();
    let gateway = gateway(upstream(telling(b"3]", tell)), "");
    let json = |framing: &str| head("POST /notes", "application/json", framing);
    for (head, parts, status) in [
        (json("Content-Length: 7"), ["[1,2", ",3]"], 204),
        (json("Transfer-Encoding: chunked"), ["4\r\n[1,2\r\n", "3\r\n,3]\r\n0\r\n\r\n"], 204),
        (json("Content-Length: 7"), ["[1,2", ",x]"], 400),
        (json("Transfer-Encoding: chunked"), ["4\r\n[1,2\r\n", "3\r\n,x]\r\n0\r\n\r\n"], 400),
    ] {
        let mut client = Client::connect(gateway.address);
        client.send(&head).send(parts[0]);
        assert_eq!(told.recv_timeout(SILENCE), Err(RecvTimeoutError::Timeout), "{head}");
        client.send(parts[1]);
        assert_eq!(client.answer().expect("an answer").status, status, "{head}");
        if status == 204 {
            assert!(arrives(&told, b"3]"), "{head}");
        } else {
            assert_eq!(told.recv_timeout(SILENCE), Err(RecvTimeoutError::Timeout), "{head}");
        }
    }
}

#[test]
fn a_declared_stream_flows() {
    let (tell, told) = channel();
    let gateway = gateway(upstream(telling(b"end", tell)), "body_octets = 10");
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /files", 23)).send("the beginning, ");
    assert!(arrives(&told, b"the beginning, "), "before the rest is there");
    client.send("and ");
    assert!(arrives(&told, b"and "));
    client.send(" end");
    assert_eq!(client.answer().expect("an answer").status, 204);
    // The connection is as good as any other afterwards, on both sides.
    client.send(upload("POST /files", 3)).send("end");
    assert_eq!(client.answer().expect("an answer").status, 204);
    let line = eventually("both lines", || gateway.access_log().get(1).cloned());
    assert_eq!((&line["request_octets"], &line["verdict"]), (&3.into(), &"passed".into()));
    // Nothing is not what is required.
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /files", 0));
    assert_eq!(client.answer().expect("an answer").rule(), "body.missing");
}

#[test]
fn a_stream_ends_at_its_limit() {
    let (tell, told) = channel();
    let gateway = gateway(upstream(telling(b"aend", tell)), "");
    let body = |octets: usize| "a".repeat(octets - 3) + "end";
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /small", 1000)).send(body(1000));
    assert_eq!(client.answer().expect("an answer").status, 204);
    assert!(arrives(&told, b"aend"));
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /small", 1001)).send(body(1001));
    assert_eq!(client.answer().expect("an answer").rule(), "body.too-large");
    assert_eq!(told.recv_timeout(SILENCE), Err(RecvTimeoutError::Timeout), "announced");

    // What was not announced is noticed on its way, and the upstream does not take it for whole.
    let mut client = Client::connect(gateway.address);
    client.send(chunked("POST /small")).send(format!("3e5\r\n{}\r\n", "a".repeat(997)));
    client.send("4\r\naend\r\n0\r\n\r\n");
    assert_eq!(client.answer().expect("an answer").rule(), "body.too-large");
    let mut all = Vec::new();
    loop {
        let piece = told.recv_timeout(PATIENCE).expect("the end of the connection");
        if piece.is_empty() {
            break;
        }
        all.extend(piece);
    }
    assert!(!all.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&all));
}

/// Memory that the process has had at most, in KiB.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What bodies of any length may cost, in KiB.
const MEMORY_MAX: u64 = 8 << 10;
/// Octets of a body that is long for a test.
const LONG: usize = 512 << 20;
const PIECE: usize = 256 << 10;

#[test]
fn long_bodies_take_no_memory() {
    let serve = |mut stream: TcpStream| {
        let mut buffer = vec![0; PIECE];
        let length = stream.read(&mut buffer).unwrap_or(0);
        if buffer[..length].starts_with(b"GET ") {
            let fields = "Content-Type: application/octet-stream";
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {LONG}\r\n\r\n");
            drop(stream.write_all(head.as_bytes()));
            for _ in 0..LONG / PIECE {
                drop(stream.write_all(&buffer));
            }
            return;
        }
        let head_end = buffer[..length].windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let mut left = LONG - (length - head_end);
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap();
        }
        stream.write_all(STORED).unwrap();
    };
    let gateway = gateway(upstream(serve), "");
    // The first requests of each kind take what they always take.
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.send(head("GET /none", "a/b", "X: y")).answer().unwrap().status, 404);
    let before = peak(&gateway);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(upload("POST /files", LONG).as_bytes()).unwrap();
    let piece = vec![b'a'; PIECE];
    for _ in 0..LONG / PIECE {
        stream.write_all(&piece).unwrap();
    }
    assert_eq!(Client::over(stream).answer().expect("an answer").status, 204);
    let after = peak(&gateway);
    eprintln!("{} MiB up: {before} KiB, then {after} KiB", LONG >> 20);
    assert!(after < before + MEMORY_MAX, "{before} KiB, {after} KiB");

    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /files HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut buffer = vec![0; PIECE];
    let mut octets = 0;
    loop {
        let length = stream.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        octets += length;
    }
    assert!(octets > LONG, "{octets}");
    let after = peak(&gateway);
    eprintln!("{} MiB down: {after} KiB", LONG >> 20);
    assert!(after < before + MEMORY_MAX, "{before} KiB, {after} KiB");
}

/// What a sender can get rid of while nobody at the other end takes anything: four sockets' buffers.
const UNTAKEN_MAX: usize = 64 << 20;

#[test]
fn nobody_reads_ahead_of_who_does_not_take() {
    // Reads the head alone, and waits.
    let serve = |mut stream: TcpStream| {
        drop(stream.read(&mut [0; 1024]));
        std::thread::sleep(PATIENCE);
    };
    let gateway = gateway(upstream(serve), "response_timeout = \"60s\"");
    let before = peak(&gateway);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(upload("POST /files", LONG).as_bytes()).unwrap();
    let piece = vec![b'a'; PIECE];
    let mut written = 0;
    while let Ok(length) = stream.write(&piece) {
        written += length;
    }
    let after = peak(&gateway);
    eprintln!("{written} octets untaken: {before} KiB, then {after} KiB");
    assert!(written < UNTAKEN_MAX, "{written}");
    assert!(after < before + MEMORY_MAX, "{before} KiB, {after} KiB");
}

#[test]
fn an_upload_ends_on_both_sides() {
    let (tell, told) = channel();
    let gateway = gateway(upstream(telling(b"end", tell)), "");
    for is_reset in [false, true] {
        let mut client = Client::connect(gateway.address);
        client.send(upload("POST /files", 1 << 20)).send("a beginning");
        assert!(arrives(&told, b"a beginning"));
        if is_reset {
            client.reset();
        }
        drop(client);
        let end = told.recv_timeout(PATIENCE).expect("the upstream hears of it");
        assert!(end.is_empty(), "{end:?}");
    }
    eventually("each is told of", || (gateway.access_log().len() == 2).then_some(()));
}

#[test]
fn an_upstream_that_breaks_off_is_told_of_at_once() {
    let serve = |mut stream: TcpStream| {
        drop(stream.read(&mut [0; 16 << 10]));
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    };
    let gateway = gateway(upstream(serve), "body_timeout = \"60s\"\nresponse_timeout = \"60s\"");
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /files", 1 << 20)).send("a".repeat(64 << 10));
    // The rest never comes: nobody waits for it.
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (502, Some("close")));
    assert_eq!(answer.json()["type"], "urn:firewall:upstream:protocol");
}

#[test]
fn an_early_answer_arrives_before_the_body_has() {
    let serve = |mut stream: TcpStream| {
        drop(stream.read(&mut [0; 16 << 10]));
        drop(stream.write_all(STORED));
        std::thread::sleep(SILENCE);
    };
    let gateway = gateway(upstream(serve), "");
    let mut client = Client::connect(gateway.address);
    client.send(upload("POST /files", 1 << 20)).send("a beginning");
    assert_eq!(client.answer().expect("an answer").status, 204);
}

#[test]
fn who_stalls_is_given_up() {
    let (tell, told) = channel();
    let limits = "body_timeout = \"1s\"\nresponse_timeout = \"1s\"";
    let gateway_of_reader = gateway(upstream(telling(b"end", tell)), limits);
    let mut client = Client::connect(gateway_of_reader.address);
    client.send(upload("POST /files", 1 << 20)).send("a beginning");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.rule().as_str()), (408, "body.incomplete"));
    assert!(!arrives(&told, b"end"), "the upstream does not take it for whole");

    let (tell, _told) = channel();
    let gateway_of_mute = gateway(upstream(telling(b"never", tell)), limits);
    let mut client = Client::connect(gateway_of_mute.address);
    client.send(upload("POST /files", 3)).send("end");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.json()["type"], "urn:firewall:upstream:response-timeout", "{answer:?}");
}

#[test]
fn a_download_ends_at_its_limit() {
    let serve = |framing: &'static str, octets: usize| {
        move |mut stream: TcpStream| {
            drop(stream.read(&mut [0; 1024]));
            let fields = "Content-Type: application/octet-stream\r\nConnection: close";
            let head = format!("HTTP/1.1 200 OK\r\n{fields}{framing}\r\n\r\n");
            drop(stream.write_all(head.as_bytes()));
            drop(stream.write_all(&vec![b'a'; octets]));
        }
    };
    let small = "GET /small HTTP/1.1\r\nHost: a\r\n\r\n";
    for (framing, octets, expected) in [
        ("\r\nContent-Length: 1000", 1000, Some(200)),
        ("\r\nContent-Length: 1001", 1001, Some(502)),
        ("", 1000, Some(200)),
        // Begun already: it must not look whole.
        ("", 1001, None),
    ] {
        let gateway = gateway(upstream(serve(framing, octets)), "");
        let answer = Client::connect(gateway.address).send(small).answer();
        assert_eq!(answer.map(|answer| answer.status), expected, "{framing:?} {octets}");
    }
}
