//! `framing`: which requests an HTTP/1.1 stream holds, by what the scanner lets pass, by a plain reading
//! of those octets, and by hyper's.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use firewall::listen::framing::{Framing, HeadLimits};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::Target;

pub(crate) const TARGET: Target = Target { name: "framing", run, seeds, words: WORDS };

/// One request of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    /// By name, in small letters; of one name in their order.
    fields: Vec<(String, String)>,
    /// None if the stream ends within it.
    body: Option<Vec<u8>>,
}

/// The first octet of an input says how the others are cut into reads.
fn run(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = scan(stream, stream.len());
    let cut = scan(stream, usize::from(*cut) % 17 + 1);
    assert_eq!(whole, cut, "the verdict depends on the cuts: {}", stream.escape_ascii());
    let Some(passed) = stream.get(..whole.0) else { panic!("more passed than there was") };

    let expected = plain(passed);
    let (heads, found) = (whole.1, hyper_reads(passed));
    let context = passed.escape_ascii();
    assert_eq!(expected.len() as u64, heads, "{context}: {expected:?}");
    assert!(expected.starts_with(&found), "{context}: hyper {found:?}, not {expected:?}");
    // What follows the last request of a connection is not read.
    if let Some(last) = found.len().checked_sub(1).and_then(|last| expected.get(last)) {
        let is_last = found.len() < expected.len();
        assert!(!is_last || closes(passed, last), "{context}: hyper {found:?}, not {expected:?}");
    } else {
        assert!(expected.is_empty(), "{context}: hyper found nothing, not {expected:?}");
    }
}

/// How much passes of a stream that comes in such pieces, how many heads that is, and why no more.
fn scan(stream: &[u8], piece: usize) -> (usize, u64, Option<String>) {
    let mut framing = Framing::new(HeadLimits::default());
    let (mut passed, mut end) = (0, 0);
    while end < stream.len() {
        end = stream.len().min(end + piece.max(1));
        let unjudged = stream.get(passed..end).unwrap_or_default();
        let more = framing.scan(unjudged);
        assert!(more <= unjudged.len(), "{}", stream.escape_ascii());
        passed += more;
    }
    let refusal = framing.refusal().map(|refusal| format!("{refusal:?}"));
    (passed, framing.heads(), refusal)
}

/// The requests in octets of which each can be read in one way: a head ends with an empty line, a body
/// is as long as it says, and there is no third thing.
fn plain(mut octets: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some((head, rest)) = split(octets, b"\r\n\r\n") {
        let head = text(head);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.trim_matches([' ', '\t']);
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let mut fields: Vec<_> = lines.map(field).collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        let value = |name: &str| fields.iter().find(|field| field.0 == name);
        let (body, rest) = if value("transfer-encoding").is_some() {
            chunks(rest)
        } else {
            let length = value("content-length").map_or(Some(0), |length| length.1.parse().ok());
            let body = length.and_then(|length| rest.split_at_checked(length));
            body.map_or((None, &[][..]), |(body, rest)| (Some(body.to_vec()), rest))
        };
        seen.push(Seen { method: method.into(), target: target.into(), fields, body });
        octets = rest;
    }
    seen
}

/// A body in chunks, if it is there to its end, and what follows it.
fn chunks(mut octets: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let mut body = Vec::new();
    while let Some((line, rest)) = split(octets, b"\r\n") {
        let size = std::str::from_utf8(line).unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some((chunk, rest)) = rest.split_at_checked(size) else { break };
        let Some(rest) = rest.strip_prefix(b"\r\n") else { break };
        if size == 0 {
            return (Some(body), rest);
        }
        body.extend_from_slice(chunk);
        octets = rest;
    }
    (None, &[])
}

/// A character for each octet.
fn text(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

fn split<'a>(octets: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = octets.windows(end.len()).position(|window| window == end)?;
    Some((octets.get(..at)?, octets.get(at + end.len()..)?))
}

/// Whether hyper may take this request for the last of its connection.
fn closes(passed: &[u8], request: &Seen) -> bool {
    let says = |(name, value): &(String, String)| {
        name == "connection" && value.to_ascii_lowercase().contains("close")
    };
    // Only HTTP/1.1 goes on without being asked to.
    let line = format!("{} {} HTTP/1.0\r\n", request.method, request.target);
    let is_old = passed.windows(line.len()).any(|window| window == line.as_bytes());
    is_old || request.fields.iter().any(says)
}

/// The requests that hyper finds in a stream, which ends with these octets.
fn hyper_reads(passed: &[u8]) -> Vec<Seen> {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        let place = seen.borrow().len();
        seen.borrow_mut().push(Seen {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            fields,
            body: None,
        });
        let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
        if let Some(seen) = seen.borrow_mut().get_mut(place) {
            seen.body = body;
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let mut protocol = http1::Builder::new();
    protocol.header_read_timeout(None).half_close(true);
    let mut connection = pin!(protocol.serve_connection(Stream(passed), service));
    // The stream is always ready, and so every poll makes progress; each gives hyper a bounded part.
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..=passed.len() {
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    seen.take()
}

/// Octets to be read, then the end; what is written is forgotten.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let octets = &mut self.get_mut().0;
        let (now, rest) = octets.split_at(octets.len().min(buf.remaining()));
        buf.put_slice(now);
        *octets = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "Trailer: a\r\n",
    "\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "\n",
    "\r",
    "\t",
    ", ",
    "identity",
    "http://a/b",
    "*",
    "#",
    "\0",
];

fn seeds() -> Vec<Vec<u8>> {
    const STREAMS: [&str; 13] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/b?c=d HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
         GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost : a\r\n b: c\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade, HTTP2-Settings\r\n\r\n",
    ];
    let first = |(index, stream): (usize, &&str)| {
        let mut seed = vec![u8::try_from(index * 5).unwrap_or(0)];
        seed.extend_from_slice(stream.as_bytes());
        seed
    };
    STREAMS.iter().enumerate().map(first).collect()
}
