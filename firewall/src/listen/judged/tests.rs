//! What hyper makes of a judged stream: that a refusal takes its turn, that the connection ends
//! after it, and that hyper reads what is let pass as the scanner did.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::join;
use tokio::time::sleep;

use crate::address::PeerAddr;
use crate::pipeline::origin::Origin;

use super::*;

/// One request as the service saw it: method, target, and the body or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Whole { method: String, target: String, body: Vec<u8> },
    RefusedHead(Rule),
    RefusedBody(Rule),
    Cut,
}

async fn see(origin: Option<Origin>, request: Request<Incoming>) -> Seen {
    if let Some(violation) = origin.as_ref().and_then(Origin::refusal) {
        return Seen::RefusedHead(violation.rule);
    }
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    match request.into_body().collect().await {
        Ok(body) => Seen::Whole { method, target, body: body.to_bytes().to_vec() },
        Err(_) => match origin.as_ref().and_then(Origin::body_violation) {
            Some(violation) => Seen::RefusedBody(violation.rule),
            None => Seen::Cut,
        },
    }
}

fn answer(seen: &Seen) -> Response<Full<Bytes>> {
    let status = match seen {
        Seen::Whole { .. } => 200,
        Seen::RefusedHead(rule) | Seen::RefusedBody(rule) => rule.status(),
        Seen::Cut => 408,
    };
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.header_read_timeout(None);
    protocol
}

/// What hyper alone sees in a stream.
async fn bare(stream: &[u8]) -> Vec<Seen> {
    let (mut client, server) = duplex(stream.len().max(1));
    let seen = RefCell::default();
    let service = service_fn(async |request| {
        let one = see(None, request).await;
        let response = answer(&one);
        Vec::push(&mut seen.borrow_mut(), one);
        Ok::<_, Infallible>(response)
    });
    let connection = protocol().half_close(true).serve_connection(TokioIo::new(server), service);
    let talk = async {
        client.write_all(stream).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
    };
    let (_outcome, ()) = join!(connection, talk);
    seen.into_inner()
}

/// What the service sees in a judged stream that arrives in these pieces, and what is answered.
async fn judged(pieces: &[&[u8]], patience: Patience) -> (Vec<Seen>, Vec<u8>) {
    let (client, server) = duplex(1 << 20);
    let judgement = Rc::new(Judgement::new(Monotonic::now()));
    let now = Monotonic::now();
    let io = Judged::new(server, HeadLimits::default(), patience, now, Rc::clone(&judgement));
    let seen = RefCell::default();
    let service = service_fn(async |request| {
        let peer = PeerAddr::new([192, 0, 2, 1].into());
        let origin = Origin::begin(peer, peer, 0, now, Rc::clone(&judgement));
        let one = see(Some(origin), request).await;
        let response = answer(&one);
        Vec::push(&mut seen.borrow_mut(), one);
        judgement.end(Monotonic::now());
        Ok::<_, Infallible>(response)
    });
    let connection = protocol().half_close(true).serve_connection(TokioIo::new(io), service);
    let (_outcome, answers) = join!(connection, talk(client, pieces));
    (seen.into_inner(), answers)
}

async fn talk(mut client: DuplexStream, pieces: &[&[u8]]) -> Vec<u8> {
    for piece in pieces {
        if client.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    client.shutdown().await.unwrap();
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.unwrap();
    answers
}

fn whole(method: &str, target: &str, body: &[u8]) -> Seen {
    Seen::Whole { method: method.into(), target: target.into(), body: body.to_vec() }
}

fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let lines = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    lines.map(|line| line[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn a_refused_head_is_answered_in_its_turn_and_is_the_last() {
    let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok\
        POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = [
        whole("GET", "/1", b""),
        whole("POST", "/2", b"ok"),
        Seen::RefusedHead(Rule::LengthConflict),
    ];
    for cut in 0..stream.len() {
        let (first, second) = stream.split_at(cut);
        let (seen, answers) = judged(&[first, second], Patience::default()).await;
        assert_eq!(seen, expected, "cut at {cut}");
        assert_eq!(statuses(&answers), [200, 200, 400], "cut at {cut}");
        let text = String::from_utf8(answers).unwrap();
        assert_eq!(text.matches("connection: close").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_refused_body_fails_its_request_and_is_the_last() {
    let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = [whole("GET", "/1", b""), Seen::RefusedBody(Rule::Trailer)];
    for cut in 0..stream.len() {
        let (first, second) = stream.split_at(cut);
        let (seen, answers) = judged(&[first, second], Patience::default()).await;
        assert_eq!(seen, expected, "cut at {cut}");
        assert_eq!(statuses(&answers), [200, 400], "cut at {cut}");
    }
}

#[tokio::test]
async fn octet_by_octet_is_the_same_stream() {
    let stream = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\n\r\n";
    let pieces: Vec<_> = stream.chunks(1).collect();
    let (seen, answers) = judged(&pieces, Patience::default()).await;
    assert_eq!(seen, [whole("POST", "/1", b"ab"), Seen::RefusedHead(Rule::BareLineFeed)]);
    assert_eq!(statuses(&answers), [200, 400]);
}

/// A connection that was accepted so long ago, when these octets have arrived and no more come.
async fn first_read(octets: &[u8], age: Duration, patience: Patience) -> (Vec<u8>, Rc<Judgement>) {
    let (mut client, server) = duplex(1024);
    client.write_all(octets).await.unwrap();
    let age = u64::try_from(age.as_nanos()).unwrap();
    let accepted_at = Monotonic::from_ns(Monotonic::now().ns() - age);
    let judgement = Rc::new(Judgement::new(accepted_at));
    let limits = HeadLimits::default();
    let mut io = Judged::new(server, limits, patience, accepted_at, Rc::clone(&judgement));
    let mut found = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(5), io.read(&mut found));
    let octets = read.await.expect("overdue at once").unwrap();
    found.truncate(octets);
    (found, judgement)
}

#[tokio::test]
async fn the_first_heads_time_runs_from_the_connections_start() {
    let minute = Duration::from_mins(1);
    let peer = PeerAddr::new([192, 0, 2, 1].into());
    let patience = Patience { head: minute, ..Patience::default() };
    let (found, judgement) = first_read(b"GET /", minute, patience).await;
    assert_eq!(found, SUBSTITUTE);
    let origin = Origin::begin(peer, peer, 0, Monotonic::now(), judgement);
    assert_eq!(origin.refusal().map(|violation| violation.rule), Some(Rule::HeadTimeout));

    let (found, judgement) = first_read(b"", minute, patience).await;
    assert_eq!(found, b"", "who never spoke is not answered");
    let origin = Origin::begin(peer, peer, 0, Monotonic::now(), judgement);
    assert_eq!(origin.refusal(), None);
}

#[tokio::test]
async fn what_is_held_is_bounded() {
    let (mut client, server) = duplex(1 << 20);
    let mut stream = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\nA: ".to_vec();
    stream.resize(10_000, b'x');
    client.write_all(&stream).await.unwrap();
    let now = Monotonic::now();
    let judgement = Rc::new(Judgement::new(now));
    let limits = HeadLimits::default();
    let mut io = Judged::new(server, limits, Patience::default(), now, judgement);
    let mut found = vec![0; 64];
    let mut poll = async |io: &mut Judged<DuplexStream>| {
        tokio::time::timeout(Duration::from_millis(10), io.read(&mut found)).await
    };
    assert!(poll(&mut io).await.is_err(), "an incomplete head is held back");
    assert_eq!(io.held.len(), 10_000);
    client.write_all(b"\r\n\r\n").await.unwrap();
    client.write_all(&vec![b'\n'; 500_000]).await.unwrap();
    let mut taken = 0;
    while taken < 100_004 {
        assert!(io.held.len() < limits.head_octets + 4096, "{}", io.held.len());
        taken += poll(&mut io).await.expect("passes").unwrap();
    }
    assert!(poll(&mut io).await.is_ok(), "what follows is refused");
    assert!(io.held.len() <= SUBSTITUTE.len(), "{}", io.held.len());
    assert!(io.held.capacity() <= 4096, "the memory is given back");
}

#[tokio::test]
async fn a_cut_off_body_is_no_violation() {
    let stream = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc";
    let (seen, answers) = judged(&[stream], Patience::default()).await;
    assert_eq!(seen, [Seen::Cut]);
    assert_eq!(statuses(&answers), [408]);
}

#[tokio::test]
async fn a_large_head_and_a_large_body_pass_whole() {
    let padding = "p".repeat(15_000);
    let head =
        format!("POST /1 HTTP/1.1\r\nHost: a\r\nA: {padding}\r\nContent-Length: 300000\r\n\r\n");
    let body = vec![b'b'; 300_000];
    let next = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (early, late) = head.as_bytes().split_at(9_000);
    let stream = [late, &body, next].concat();
    let (seen, answers) = judged(&[early, &stream], Patience::default()).await;
    assert_eq!(seen, [whole("POST", "/1", &body), whole("GET", "/2", b"")]);
    assert_eq!(statuses(&answers), [200, 200]);
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A stream of one to three requests, and in most of them one to three small damages.
    fn stream(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..=self.below(3) {
            stream.extend_from_slice(self.request().as_bytes());
        }
        for _ in 0..self.below(4) {
            let at = self.below(stream.len());
            let octet = match self.below(3) {
                0 => u8::try_from(self.below(256)).unwrap(),
                1 => *self
                    .pick(&["\r", "\n", ":", " ", "0", "\t", ",", ";", "#"])
                    .as_bytes()
                    .first()
                    .unwrap(),
                _ => stream[self.below(stream.len())],
            };
            match self.below(4) {
                0 => stream[at] = octet,
                1 => stream.insert(at, octet),
                2 => drop(stream.remove(at)),
                _ => {
                    let end = (at + self.below(24)).min(stream.len());
                    let copy = stream[at..end].to_vec();
                    stream.splice(at..at, copy);
                }
            }
        }
        stream
    }

    fn request(&mut self) -> String {
        let method = self.pick(&["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "get", "X"]);
        let target = self.pick(&["/", "/a/b", "/a?b=c", "/%41;x", "*", "/?", "//", "/a?b?c"]);
        let version = self.pick(&["1.1", "1.1", "1.1", "1.0"]);
        let mut head = format!("{method} {target} HTTP/{version}\r\nHost: a.example\r\n");
        for _ in 0..self.below(4) {
            head += self.pick(&[
                "A: b\r\n",
                "Connection: keep-alive\r\n",
                "TE: trailers\r\n",
                "a_b:\tc \r\n",
                "Expect: 100-continue\r\n",
                "Connection: close\r\n",
                "Content-Lengt: 3\r\n",
                "Trailer: x\r\n",
                "X: \u{e9}\r\n",
                "Keep-Alive: 5\r\n",
                "Content-Length: 0\r\n",
            ]);
        }
        let length = self.below(40);
        let body =
            "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n12345678".get(..length).unwrap_or_default();
        match self.below(4) {
            0 | 1 => head + "\r\n",
            2 => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            _ => {
                let (first, second) = body.split_at(body.len() / 2);
                let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
                for chunk in [first, second] {
                    if !chunk.is_empty() {
                        write!(chunked, "{:x}\r\n{chunk}\r\n", chunk.len()).unwrap();
                    }
                }
                chunked + "0\r\n\r\n"
            }
        }
    }
}

/// The requests that the scanner found, by an own reading of the octets that it let pass: where
/// each head ended is asked of the scanner, and everything else read off plainly.
fn scanned(stream: &[u8]) -> (Vec<Seen>, usize, Option<Rule>) {
    let mut framing = Framing::new(HeadLimits::default());
    let (mut seen, mut passed) = (Vec::new(), 0);
    let (mut start, mut head) = (0, None::<&[u8]>);
    let mut finish = |head: &[u8], body: &[u8]| {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let line = String::from_utf8_lossy(head);
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let body =
            if text.contains("\r\ntransfer-encoding:") { dechunked(body) } else { body.to_vec() };
        seen.push(whole(method, target, &body));
    };
    for end in 1..=stream.len() {
        let heads = framing.heads();
        passed += framing.scan(&stream[passed..end]);
        if framing.heads() > heads {
            head = Some(&stream[start..passed]);
            start = passed;
        }
        if framing.is_in_head()
            && let Some(head) = head.take()
        {
            finish(head, &stream[start..passed]);
            start = passed;
        }
    }
    if framing.refusal().is_some_and(|refusal| refusal.part == Part::Head) || head.is_none() {
        passed = start;
    }
    (seen, passed, framing.refusal().map(|refusal| refusal.rule))
}

fn dechunked(mut coded: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = coded.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&coded[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&coded[end + 2..end + 2 + size]);
        coded = &coded[end + 2 + size + 2..];
    }
    body
}

#[tokio::test]
async fn hyper_reads_what_passes_as_the_scanner_did() {
    let mut numbers = Numbers(0x0DDB_1A5E_5BAD_5EED);
    let (mut requests, mut refusals) = (0, 0);
    for round in 0..20_000 {
        let stream = numbers.stream();
        let (expected, passed, refusal) = scanned(&stream);
        requests += expected.len();
        refusals += usize::from(refusal.is_some());

        // A client that asks to close says so to both; what follows is not read.
        let mut found = bare(&stream[..passed]).await;
        found.retain(|seen| *seen != Seen::Cut);
        let text = format!("round {round}: {:?}", String::from_utf8_lossy(&stream));
        assert!(expected.starts_with(&found), "{text}: {found:?}, not {expected:?}");
        let is_closed_early = found.len() < expected.len();
        assert!(!is_closed_early || closes(&stream), "{text}: {found:?}, not {expected:?}");

        let cut = numbers.below(stream.len() + 1);
        let (first, second) = stream.split_at(cut);
        let (seen, _) = judged(&[first, second], Patience::default()).await;
        let (seen, last) = match seen.split_last() {
            Some((last, rest)) if !matches!(last, Seen::Whole { .. }) => (rest, Some(last)),
            _ => (&seen[..], None),
        };
        assert_eq!(seen, found, "{text}");
        match (last, refusal) {
            (Some(Seen::RefusedHead(rule) | Seen::RefusedBody(rule)), Some(expected)) => {
                assert_eq!(*rule, expected, "{text}");
            }
            (Some(Seen::Cut) | None, None) => {}
            (None, Some(_)) => assert!(is_closed_early || closes(&stream), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(requests > 10_000 && refusals > 5_000, "{requests} requests, {refusals} refusals");
}

/// Some request in the stream may end the connection by its own wish.
fn closes(stream: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stream).to_ascii_lowercase();
    text.contains("close") || text.contains("http/1.0")
}

/// A stream that takes all at once, and has sent it a while later, as one that encrypts does.
#[derive(Default)]
struct Buffering(Option<Pin<Box<Sleep>>>);

const SENDING: Duration = Duration::from_millis(400);

impl AsyncRead for Buffering {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Buffering {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.get_mut().0 = Some(Box::pin(sleep(SENDING)));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sending = &mut self.get_mut().0;
        ready!(sending.as_mut().map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(cx)));
        *sending = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a client takes when it is flushed pays for the time that this takes; an octet at a time does not.
#[test]
fn a_flush_that_is_waited_for_earns_patience() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (octets, takes_enough) in [(16 << 10, true), (1, false)] {
        let patience = Patience { idle: SENDING * 5 / 2, ..Patience::default() };
        let sent = runtime.block_on(async {
            let limits = HeadLimits::default();
            let judgement = Rc::<Judgement>::default();
            let now = Monotonic::now();
            let mut judged = Judged::new(Buffering::default(), limits, patience, now, judgement);
            for _ in 0..4 {
                judged.write_all(&vec![0; octets]).await?;
                judged.flush().await?;
            }
            Result::Ok(())
        });
        assert_eq!(sent.is_ok(), takes_enough, "{octets}: {sent:?}");
    }
}
