//! HTTP/2 frame by frame: what no client library would send, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use super::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 section 7).
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a `RST_STREAM` or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame's octets.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut octets = vec![length[1], length[2], length[3], kind, flags];
    octets.extend(stream.to_be_bytes());
    octets.extend(payload);
    octets
}

/// One setting of a SETTINGS frame.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A block of fields, each literal, without indexing, in octets as they are given (RFC 7541 section
/// 6.2.2).
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (name, value) in fields {
        octets.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut octets, text.len());
            octets.extend(text);
        }
    }
    octets
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(octets: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        return octets.push(u8::try_from(length).unwrap());
    }
    octets.push(127);
    length -= 127;
    while length >= 128 {
        octets.push(u8::try_from(length % 128 + 128).unwrap());
        length /= 128;
    }
    octets.push(u8::try_from(length).unwrap());
}

pub(crate) type Fields = Vec<(String, String)>;

/// The fields of a request, to change.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Fields {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")];
    pseudo.iter().chain(more).map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// What became of one stream.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) body: Vec<u8>,
    /// The code of its `RST_STREAM`.
    pub(crate) reset: Option<u32>,
}

impl Outcome {
    pub(crate) fn rule(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["rule"].as_str().unwrap_or_default().to_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    stream: TcpStream,
    read: Vec<u8>,
    next: u32,
    /// Frames that were read while others were waited for.
    kept: Vec<Frame>,
    pub(crate) goaway: Option<Frame>,
}

impl Http2 {
    /// Connects, and begins as a client does that wants answers in literal fields.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST.into(), to)
    }

    pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> Self {
        Self::begin(source, to, &setting(1, 0))
    }

    /// Whether a new connection of the source's is served. Who is not let in may be told so before he
    /// has seen that he was connected.
    pub(crate) fn is_let_in(source: IpAddr, to: SocketAddr) -> bool {
        Self::reach(source, to).is_ok_and(|mut client| {
            client.send(PREFACE).send(frame(SETTINGS, 0, 0, &setting(1, 0)));
            client.is_served()
        })
    }

    pub(crate) fn begin(source: IpAddr, to: SocketAddr, settings: &[u8]) -> Self {
        let mut client = Self::silent(source, to);
        client.send(PREFACE).send(frame(SETTINGS, 0, 0, settings));
        client
    }

    /// Connects, and says nothing.
    pub(crate) fn silent(source: IpAddr, to: SocketAddr) -> Self {
        Self::reach(source, to).unwrap()
    }

    fn reach(source: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self { stream, read: Vec::new(), next: 1, kept: Vec::new(), goaway: None })
    }

    /// The server's end, once the client has begun; none if it left before.
    pub(crate) fn accepted(mut stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).ok().filter(|()| preface == *PREFACE)?;
        Some(Self { stream, read: Vec::new(), next: 2, kept: Vec::new(), goaway: None })
    }

    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        // The other end may be closed already; what it said is still to be read.
        drop(self.stream.write_all(octets.as_ref()));
        self
    }

    /// Sends; false where the other end takes no more.
    pub(crate) fn try_send(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).is_ok()
    }

    /// Reads what comes, and says nothing to it.
    pub(crate) fn swallow(&mut self) {
        while self.stream.read(&mut [0; 1024]).is_ok_and(|octets| octets > 0) {}
    }

    /// Closes both directions.
    pub(crate) fn end(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }

    /// The number that the next request is sent by.
    pub(crate) fn take_id(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a head, which ends the request where `flags` say so.
    pub(crate) fn head(&mut self, flags: u8, block: &[u8]) -> u32 {
        let id = self.take_id();
        self.send(frame(HEADERS, flags | END_HEADERS, id, block));
        id
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, fields: &Fields) -> u32 {
        self.head(END_STREAM, &block(fields))
    }

    /// Sends a request with a body in one frame.
    pub(crate) fn ask_with(&mut self, fields: &Fields, body: &[u8]) -> u32 {
        let id = self.head(0, &block(fields));
        self.send(frame(DATA, END_STREAM, id, body));
        id
    }

    /// The next frame; none if the connection has ended. Settings are agreed to.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if self.read.len() >= 9 {
                let length = u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]);
                let end = 9 + usize::try_from(length).unwrap();
                if self.read.len() >= end {
                    let octets: Vec<u8> = self.read.drain(..end).collect();
                    let stream = u32::from_be_bytes(octets[5..9].try_into().unwrap());
                    let (kind, flags, payload) = (octets[3], octets[4], octets[9..].to_vec());
                    let frame_read = Frame { kind, flags, stream, payload };
                    if kind == SETTINGS && flags & ACK == 0 {
                        self.send(frame(SETTINGS, ACK, 0, b""));
                    }
                    if kind == GOAWAY {
                        self.goaway = Some(frame_read.clone());
                    }
                    return Some(frame_read);
                }
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.read.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("nothing came within {PATIENCE:?}; so far {:?}", self.kept)
                }
                Err(_) => return None,
            }
        }
    }

    /// The next frame of this kind; those before it are passed over.
    pub(crate) fn frame_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// What becomes of a stream. If the connection ends first, what had come of it until then.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        let mut later = Vec::new();
        while let Some(frame) = kept.next().or_else(|| self.frame()) {
            if frame.stream != stream {
                later.push(frame);
                continue;
            }
            match frame.kind {
                HEADERS => outcome.status = outcome.status.or(Some(status(&frame.payload))),
                DATA => outcome.body.extend(&frame.payload),
                RST_STREAM => outcome.reset = Some(frame.code()),
                _ => {}
            }
            let is_end = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if is_end || frame.kind == RST_STREAM {
                break;
            }
        }
        self.kept = later.into_iter().chain(kept).collect();
        outcome
    }

    /// Asks for something that is there; whether that is answered.
    pub(crate) fn is_served(&mut self) -> bool {
        let id = self.ask(&request("GET", "/notes", &[]));
        self.outcome(id).status == Some(200)
    }

    /// Waits for the other side to end the connection; gives the code of its GOAWAY.
    pub(crate) fn closed(&mut self) -> Option<u32> {
        while self.frame().is_some() {}
        self.goaway.as_ref().map(Frame::code)
    }
}

/// The status with which a block begins: one of HPACK's table, or a literal.
fn status(block: &[u8]) -> u16 {
    let indexed = [200, 204, 206, 304, 400, 404, 500];
    match block {
        // A table's new size (RFC 7541 section 6.3).
        [0x20..=0x3f, rest @ ..] => status(rest),
        [first @ 0x88..=0x8e, ..] => indexed[usize::from(first - 0x88)],
        // A name of the table, and a value in Huffman's code.
        [_, length, value @ ..] if length & 0x80 != 0 => {
            digits(&value[..usize::from(length & 0x7f)])
        }
        [_, length, value @ ..] => {
            std::str::from_utf8(&value[..usize::from(*length)]).unwrap().parse().unwrap()
        }
        _ => panic!("no status in {block:?}"),
    }
}

/// Decimal digits (RFC 7541 appendix B): five bits for 0 to 2, six for the others.
fn digits(octets: &[u8]) -> u16 {
    let bits: Vec<u8> =
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |from: usize, count: usize| {
            bits[from..from + count].iter().fold(0_u16, |value, bit| value << 1 | u16::from(*bit))
        };
        let short = take(at, 5);
        let digit = if short < 3 {
            at += 5;
            short
        } else {
            at += 6;
            take(at - 6, 6) - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}
