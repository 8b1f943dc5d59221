//! A client that sends what it is told to, octet by octet, and reads what comes.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use super::PATIENCE;

/// An answer, as read from the socket.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first line of the field `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The rule that a refusal names.
    #[track_caller]
    pub(crate) fn rule(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["rule"].as_str().unwrap().to_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST.into(), to).unwrap()
    }

    /// Connects from one of the host's addresses: all of 127.0.0.0/8 are on loopback.
    pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(Self::over(socket.into()))
    }

    /// Whether a new connection of the source's is answered. Who is not let in may be told so before he
    /// has seen that he was connected.
    pub(crate) fn is_let_in(source: IpAddr, to: SocketAddr, request: impl AsRef<[u8]>) -> bool {
        let connected = Self::connect_from(source, to);
        connected.is_ok_and(|mut client| client.send(request).answer().is_some())
    }

    /// Speaks over a connection that is there already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        // A refusal may already have closed the other end; what it said is still to be read.
        drop(self.stream.write_all(octets.as_ref()));
        self
    }

    /// The same connection, for another thread to send on.
    pub(crate) fn clone_stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Has the connection end with a reset.
    pub(crate) fn reset(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Reads one answer to a request that is not HEAD; none if the connection ended first.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if status == 204 || status == 304 || (100..200).contains(&status) {
            return Some(answer);
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length {
                self.more()?;
            }
            answer.body = self.read.drain(..length).collect();
        } else if answer.header("transfer-encoding").is_some() {
            answer.body = self.chunked()?;
        } else {
            while self.more().is_some() {}
            answer.body = std::mem::take(&mut self.read);
        }
        Some(answer)
    }

    fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(end) = find(&self.read, b"\r\n") {
                    break end;
                }
                self.more()?;
            };
            let line: Vec<u8> = self.read.drain(..line_end + 2).collect();
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.read.len() < size + 2 {
                self.more()?;
            }
            body.extend(self.read.drain(..size));
            self.read.drain(..2);
            if size == 0 {
                return Some(body);
            }
        }
    }

    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing came within {PATIENCE:?}; so far {:?}", self.read)
            }
            Err(_) => None,
        }
    }

    /// Reads at most so many octets, and at least one; none if the connection has ended.
    pub(crate) fn some_octets(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.read.is_empty() {
            self.more()?;
        }
        let length = most.min(self.read.len());
        Some(self.read.drain(..length).collect())
    }

    /// Waits for the other side to end the connection; gives what came before that.
    pub(crate) fn closed(&mut self) -> Vec<u8> {
        while self.more().is_some() {}
        std::mem::take(&mut self.read)
    }
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn exchange(to: SocketAddr, octets: impl AsRef<[u8]>) -> Answer {
    Client::connect(to).send(octets).answer().expect("an answer")
}

/// A request with a JSON body.
pub(crate) fn with_body(line: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: shop.test\r\nContent-Type: {media_type}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A request without a body.
pub(crate) fn bodiless(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}
