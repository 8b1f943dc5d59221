//! An upstream that lies, breaks off, stalls or says too much: its clients get whole answers to their
//! own requests, or are told that there is none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless, exchange, with_body};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Received, Upstream, json};
use crate::kit::{PATIENCE, eventually};

/// One worker, so that every request meets the same upstream connections.
fn setup(mode: &str, upstream: &str) -> Setup {
    let api = format!("requests = \"{mode}\"\nresponses = \"{mode}\"");
    let upstream = upstream.into();
    let limits = "response_timeout = \"2s\"\nresponse_body_timeout = \"2s\"".into();
    Setup { listen: "workers = 1".into(), api, upstream, limits, ..Setup::of(NOTES) }
}

/// The request for which [`by_case`] gives the answer with this number.
fn case(method: &str, number: usize) -> String {
    format!("{method} /notes HTTP/1.1\r\nHost: a.test\r\nX-Case: {number}\r\n\r\n")
}

/// An upstream that answers a numbered request from the list, and any other one honestly.
fn by_case(answers: Vec<Vec<u8>>) -> Upstream {
    Upstream::start(move |request| match request.header("x-case") {
        Some(number) => answers[number.parse::<usize>().unwrap()].clone(),
        None => json("200 OK", r#"[{"text":"honest"}]"#),
    })
}

/// What comes for an honest request: on the same connection, if that is still open.
#[track_caller]
fn assert_honest(client: &mut Client, gateway: &Gateway, what: &str) {
    client.send(bodiless("GET /notes"));
    let answer = client
        .answer()
        .or_else(|| Client::connect(gateway.address).send(bodiless("GET /notes")).answer())
        .expect("an answer");
    assert_eq!(answer.status, 200, "{what}");
    assert_eq!(answer.text(), r#"[{"text":"honest"}]"#, "{what}");
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                        Content-Length: 21\r\n\r\n[{\"text\":\"smuggled\"}]";

#[test]
fn what_is_no_answer_becomes_a_502() {
    let chunks = "2\r\n[]\r\n0\r\n\r\n";
    let answers = vec![
        format!("{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n{chunks}{SMUGGLED}"),
        format!("{HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]"),
        format!("{HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\n[]"),
        format!("{HEAD}Content-Length: 2, 2\r\n\r\n[]"),
        format!("{HEAD}Content-Length: +2\r\n\r\n[]"),
        format!("{HEAD}Content-Length: -2\r\n\r\n[]"),
        format!("{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n{chunks}"),
        format!("{HEAD}Transfer-Encoding: chunked, chunked\r\n\r\n{chunks}"),
        format!("{HEAD}Transfer-Encoding: xchunked\r\nConnection: close\r\n\r\n{chunks}"),
        format!("{HEAD}Transfer-Encoding: identity\r\nConnection: close\r\n\r\n[]"),
        format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n".into(),
        "HTTP/2 200 OK\r\n\r\n".into(),
        "HTTP/1.1 2x0 OK\r\n\r\n".into(),
        "HTTP/1.1 99 OK\r\n\r\n".into(),
        "<html>\r\n\r\n".into(),
        "\0".repeat(64),
        format!("{HEAD}X: a\r\n folded\r\nContent-Length: 2\r\n\r\n[]"),
        format!("{HEAD}X : a\r\nContent-Length: 2\r\n\r\n[]"),
        format!("{HEAD}X: a\0b\r\nContent-Length: 2\r\n\r\n[]"),
        format!("{HEAD}X: a\rY: b\r\nContent-Length: 2\r\n\r\n[]"),
        format!("{HEAD}X: {}\r\nContent-Length: 2\r\n\r\n[]", "a".repeat(1 << 20)),
        format!("{HEAD}{}\r\n[]", "X: a\r\n".repeat(200)),
        "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n".into(),
    ];
    for mode in ["enforce", "off"] {
        let upstream = by_case(answers.iter().map(|text| text.clone().into_bytes()).collect());
        let gateway = Gateway::start(&setup(mode, ""), &upstream);
        for (number, octets) in answers.iter().enumerate() {
            let shown = format!("{mode}: {:?}", octets.chars().take(200).collect::<String>());
            let mut client = Client::connect(gateway.address);
            client.send(case("GET", number));
            let answer = client.answer().unwrap_or_else(|| panic!("no answer: {shown}"));
            assert_eq!(answer.status, 502, "{shown}\n{}", answer.text());
            assert_eq!(answer.json()["type"], "urn:firewall:upstream:protocol", "{shown}");
            assert_honest(&mut client, &gateway, &shown);
        }
    }
}

#[test]
fn what_is_odd_but_plain_is_one_answer() {
    let answers = [
        (format!("{HEAD}Content-Length: 2\r\n\r\n[]"), "[]"),
        (format!("{HEAD}Transfer-Encoding: Chunked\r\n\r\n2;a=b\r\n[]\r\n0\r\nX: 1\r\n\r\n"), "[]"),
        (format!("{HEAD}Connection: close\r\n\r\n[]"), "[]"),
        (
            format!(
                "{}{HEAD}Content-Length: 2\r\n\r\n[]",
                "HTTP/1.1 103 Early Hints\r\nX: a\r\n\r\n".repeat(1000)
            ),
            "[]",
        ),
        (format!("{HEAD}Connection: Content-Length\r\nContent-Length: 2\r\n\r\n[]"), "[]"),
        (format!("{HEAD}Content-Length: 2\r\n\r\n[]{SMUGGLED}"), "[]"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n{SMUGGLED}"), "[]"),
    ];
    for mode in ["enforce", "off"] {
        let octets = answers.iter().map(|(text, _)| text.clone().into_bytes());
        let upstream = by_case(octets.collect());
        let gateway = Gateway::start(&setup(mode, ""), &upstream);
        for (number, (octets, body)) in answers.iter().enumerate() {
            let shown = format!("{mode}: {:?}", octets.chars().take(200).collect::<String>());
            for _ in 0..10 {
                let mut client = Client::connect(gateway.address);
                let answer = client.send(case("GET", number)).answer().expect(&shown);
                assert_eq!((answer.status, answer.text().as_str()), (200, *body), "{shown}");
                assert_honest(&mut client, &gateway, &shown);
            }
        }
    }
}

/// Answers that end with their head, whatever it announces (RFC 9112 section 6.3).
#[test]
fn answers_without_a_body() {
    let answers = [
        ("HEAD", format!("{HEAD}Content-Length: 21\r\n\r\n"), 200),
        ("HEAD", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"), 200),
        ("HEAD", SMUGGLED.to_owned(), 200),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".into(), 204),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 21\r\nETag: \"a\"\r\n\r\n".into(),
            304,
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 304),
    ];
    let upstream = by_case(answers.iter().map(|(_, text, _)| text.clone().into_bytes()).collect());
    let gateway = Gateway::start(&setup("off", ""), &upstream);
    for (number, (method, octets, status)) in answers.iter().enumerate() {
        let mut client = Client::connect(gateway.address);
        client.send(format!("{}{}", case(method, number), bodiless("GET /notes")));
        // The client's kit reads a body by the head alone, so that this one is read as a whole.
        let request = "GET /notes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let all = String::from_utf8(client.send(request).closed()).unwrap();
        let heads: Vec<_> =
            all.match_indices("HTTP/1.1 ").map(|(at, _)| &all[at + 9..at + 12]).collect();
        assert_eq!(heads, [status.to_string().as_str(), "200", "200"], "{octets:?}\n{all}");
        let after_head = all.split_once("\r\n\r\n").unwrap().1;
        assert!(after_head.starts_with("HTTP/1.1 200"), "{octets:?}\n{all}");
        assert!(!all.contains("smuggled"), "{octets:?}\n{all}");
    }
}

#[test]
fn a_body_that_breaks_off_is_no_answer() {
    let answers = vec![
        format!("{HEAD}Connection: close\r\nContent-Length: 50\r\n\r\n[]").into_bytes(),
        format!("{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n")
            .into_bytes(),
        format!("{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n")
            .into_bytes(),
        format!("{HEAD}Content-Length: 50\r\n\r\n[]").into_bytes(),
    ];
    for mode in ["enforce", "off"] {
        let upstream = by_case(answers.clone());
        let gateway = Gateway::start(&setup(mode, ""), &upstream);
        for number in 0..answers.len() {
            let mut client = Client::connect(gateway.address);
            client.send(case("GET", number));
            if mode == "enforce" {
                let answer = client.answer().expect("an answer");
                let expected = if number == 3 { 504 } else { 502 };
                assert_eq!(answer.status, expected, "{number}");
            } else if number < 3 {
                // What was passed on already cannot be taken back; it must not look whole.
                assert!(client.answer().is_none(), "{number}");
            }
        }
        assert_honest(&mut Client::connect(gateway.address), &gateway, mode);
    }
}

/// An upstream whose answer to `/notes/1` waits until the test says so.
fn slow() -> (Upstream, Sender<()>) {
    let (release, waiting) = channel();
    let waiting = Arc::new(Mutex::new(waiting));
    let answer = move |request: &Received| {
        if request.line().contains("/notes/1 ") {
            waiting.lock().unwrap().recv_timeout(PATIENCE).expect("to be released");
        }
        json("200 OK", r#"{"text":"honest"}"#)
    };
    (Upstream::start(answer), release)
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let (upstream, release) = slow();
    let limits = "connections = 1, pending_timeout = \"500ms\"";
    let gateway = Gateway::start(&setup("enforce", limits), &upstream);
    let mut leaving = Client::connect(gateway.address);
    leaving.send(bodiless("GET /notes/1"));
    eventually("the slow request is there", || (upstream.received().len() == 1).then_some(()));
    let mut waiting = Client::connect(gateway.address);
    let answer = waiting.send(bodiless("GET /notes/7")).answer().expect("an answer");
    assert_eq!(answer.json()["type"], "urn:firewall:upstream:saturated");
    drop(leaving);
    let served = eventually("the place is free", || {
        let answer = waiting.send(bodiless("GET /notes/7")).answer()?;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(served.text(), r#"{"text":"honest"}"#);
    // It was heard of, so it is told of.
    eventually("a line for each exchange", || {
        gateway.access_log().iter().any(|line| line["status"] == 499).then_some(())
    });
    release.send(()).unwrap();
}

/// An upstream that answers `/endless` without end, and says when it can say no more.
fn endless() -> (SocketAddr, Receiver<()>) {
    let (told, ended) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let serve = move |mut stream: TcpStream| {
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap_or(0);
        if !request[..length].starts_with(b"GET /endless") {
            drop(stream.write_all(&json("200 OK", "[]")));
            return;
        }
        drop(stream.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").as_bytes()));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
        told.send(()).unwrap();
    };
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(serve));
    (address, ended)
}

/// Asks for the endless answer, and reads as long as `reading` says, now and then.
fn read_for(gateway: &Gateway, reading: Duration) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bodiless("GET /endless").as_bytes()).unwrap();
    let pause = Duration::from_millis(20);
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..reading.as_millis() / pause.as_millis() {
        assert_ne!(stream.read(&mut buffer).unwrap(), 0, "cut off while reading");
        std::thread::sleep(pause);
    }
    stream
}

/// Who takes nothing of an answer, or is gone, holds no connection on either side for long.
#[test]
fn an_endless_answer_ends_with_its_client() {
    let (address, ended) = endless();
    let setup = setup("off", "connections = 1, pending_timeout = \"500ms\"");
    let limits = "idle_timeout = \"500ms\"".into();
    let gateway =
        Gateway::start_with(&Setup { limits, ..setup }, &format!("http://{address}"), |command| {
            command.spawn().unwrap()
        });
    for is_leaving in [true, false] {
        let stream = read_for(&gateway, Duration::from_secs(2));
        let staying = (!is_leaving).then_some(stream);
        ended.recv_timeout(PATIENCE).expect("the upstream's connection ends");
        let answer = Client::connect(gateway.address).send(bodiless("GET /notes")).answer();
        assert_eq!(answer.expect("an answer").status, 200, "the place is free again");
        drop(staying);
    }
}

/// Kept alive by its word, closed in fact: no client may notice.
#[test]
fn a_connection_that_the_upstream_closed_is_not_used() {
    let answer = format!("{HEAD}X-Connection: close\r\nContent-Length: 2\r\n\r\n[]");
    let upstream = Upstream::start(move |_| answer.clone().into_bytes());
    let gateway = Gateway::start(&setup("enforce", ""), &upstream);
    let mut client = Client::connect(gateway.address);
    for number in 0..30 {
        let answer = client.send(bodiless("GET /notes")).answer().expect("an answer");
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
    }
    // What met a closing connection was not read there, and was sent once more.
    assert_eq!(upstream.received().len(), 30);
}

#[test]
fn what_is_not_idempotent_is_sent_once() {
    // The first answer keeps its word; the second request is read, and the connection closed on it.
    let answer = format!("{HEAD}Content-Length: 2\r\n\r\n[]");
    let upstream = Upstream::start(move |request| match request.line() {
        "GET /notes HTTP/1.1" => answer.clone().into_bytes(),
        _ => Vec::new(),
    });
    let setup = Setup { listen: "workers = 1".into(), ..setup("enforce", "") };
    let gateway = Gateway::start(&setup, &upstream);
    assert_eq!(exchange(gateway.address, bodiless("GET /notes")).status, 200);
    let note = with_body("POST /notes", "application/json", r#"{"text":"a"}"#);
    assert_eq!(exchange(gateway.address, note).status, 502);
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_client_can_neither_forge_nor_hide_what_hops_say() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let request = "GET /notes HTTP/1.1\r\nHost: a.test\r\n\
                   Connection: Host, X-Forwarded-For, X-Forwarded-Proto\r\n\
                   X_Forwarded_For: 10.9.9.9\r\nX-Real_IP: 10.9.9.9\r\nX-Forwarded-Proto: https\r\n\
                   X_Other: kept\r\n\r\n";
    let answer = Client::connect(gateway.address).send(request).answer().expect("an answer");
    assert_eq!(answer.status, 200);
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.header("host"), Some("a.test"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x_other"), Some("kept"));
    assert!(!received.head.contains("10.9.9.9"), "{}", received.head);
}

const LETTER: &str = r#"
openapi: 3.0.3
info: { title: Letter, version: "1" }
paths:
  /letter:
    get:
      responses:
        "200":
          description: long
          content: { application/json: { schema: { type: string } } }
"#;

/// How long an answer may take is the client's line's affair, not that of the idle timeout.
#[test]
fn a_slow_reader_gets_the_whole_answer() {
    const OCTETS: usize = 16 << 20;
    let letter = json("200 OK", &format!("\"{}\"", "a".repeat(OCTETS - 2)));
    let upstream = Upstream::start(move |_| letter.clone());
    let limits = format!("idle_timeout = \"1500ms\"\nresponse_octets = {OCTETS}");
    let gateway = Gateway::start(&Setup { limits, ..Setup::of(LETTER) }, &upstream);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect(&gateway.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /letter HTTP/1.1\r\nHost: a.test\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let octets = stream.read(&mut buffer).expect("the rest of the answer");
        if octets == 0 {
            break;
        }
        read += octets;
        std::thread::sleep(Duration::from_millis(12));
    }
    assert!(read > OCTETS, "{read} of {OCTETS} octets");
}
