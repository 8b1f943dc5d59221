//! A WebSocket's two ends, by hand (RFC 6455): frames as octets, and an upstream that speaks them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::Client;

/// The key of section 1.3, and what answers it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;

/// The fields of a handshake, each line ended.
pub(crate) fn offer() -> String {
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n"
    )
}

/// A handshake for a path.
pub(crate) fn handshake(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{}\r\n", offer())
}

/// A 101 with these lines more.
pub(crate) fn switching(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// One frame; a client's is masked.
pub(crate) fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mut octets = head(first, payload.len() as u64, is_masked);
    let mask = if is_masked { [1, 2, 3, 4] } else { [0; 4] };
    octets.extend(payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    octets
}

/// The header of one frame.
pub(crate) fn head(first: u8, length: u64, is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut octets = vec![first];
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        octets.push(mask | short);
    } else if let Ok(length) = u16::try_from(length) {
        octets.push(mask | 0x7e);
        octets.extend(length.to_be_bytes());
    } else {
        octets.push(mask | 0x7f);
        octets.extend(length.to_be_bytes());
    }
    octets.extend_from_slice(if is_masked { &[1, 2, 3, 4] } else { &[] });
    octets
}

/// Reads one frame: its first octet and its payload, unmasked.
pub(crate) fn read(stream: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    stream.read_exact(&mut start)?;
    let length = match start[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => short.into(),
    };
    let is_masked = start[1] & 0x80 != 0;
    let mut mask = [0; 4];
    if is_masked {
        stream.read_exact(&mut mask)?;
    }
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload)?;
    if !is_masked {
        return Ok((start[0], payload));
    }
    for (octet, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *octet ^= mask;
    }
    Ok((start[0], payload))
}

impl Client {
    /// Asks for a WebSocket, and gets it.
    #[track_caller]
    pub(crate) fn open(to: SocketAddr, path: &str) -> Self {
        let mut client = Self::connect(to);
        let answer = client.send(handshake(path)).answer().expect("an answer");
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// Reads one frame of the other side's; none where the connection ended.
    pub(crate) fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        read(self).ok()
    }

    /// The status by which the other side closes, whatever it says before.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            let (first, payload) = self.frame()?;
            if first == CLOSE {
                return Some(payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)));
            }
        }
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(octets) = self.some_octets(buffer.len()) else { return Ok(0) };
        buffer[..octets.len()].copy_from_slice(&octets);
        Ok(octets.len())
    }
}

/// An upstream that answers each head as it is told, and where that is a 101 speaks as it is told.
#[derive(Clone)]
pub(crate) struct Sockets {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Sockets {
    pub(crate) fn start(
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
        speak: impl Fn(BufReader<TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::default());
        let sockets = Self { address, heads: Arc::clone(&heads) };
        let both = Arc::new((answer, speak));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (heads, both) = (Arc::clone(&heads), Arc::clone(&both));
                thread::spawn(move || {
                    drop(stream.set_nodelay(true));
                    let mut reader = BufReader::new(stream);
                    while let Some(head) = read_head(&mut reader) {
                        heads.lock().unwrap().push(head.clone());
                        let answer = (both.0)(&head);
                        if reader.get_ref().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        if answer.contains(" 101 ") {
                            return (both.1)(reader);
                        }
                    }
                });
            }
        });
        sockets
    }

    /// One that accepts, and sends back what it gets.
    pub(crate) fn echo() -> Self {
        Self::start(|_| switching(""), echo)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Sends each frame back, and a close frame as the last.
pub(crate) fn echo(mut reader: BufReader<TcpStream>) {
    while let Ok((first, payload)) = read(&mut reader) {
        let sent = reader.get_ref().write_all(&frame(first, &payload, false));
        if sent.is_err() || first == CLOSE {
            return;
        }
    }
}
