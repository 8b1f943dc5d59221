//! Asks the kernel about network interfaces: by netlink, which knows the network namespace of its
//! socket, as `/sys/class/net` does not.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

pub(super) mod generic;
mod link;

pub(super) use link::{Attached, Link};

const HEADER_LENGTH: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// What was listed changed meanwhile: the list may lack something.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// A link with many virtual functions has the longest message; beyond this it is cut short.
const ANSWER_OCTETS: usize = 64 * 1024;
/// Lists that were interrupted before it is given up.
const ATTEMPTS: usize = 8;

/// A socket for questions. It stays in the network namespace that it was made in.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// A socket of rtnetlink(7).
    pub(super) fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, which is what no protocol means.
        Self::open(None)
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = open(protocol, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a question, and gives every message of the answer to `each`.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = message(kind, NLM_F_REQUEST | flags, self.sequence, body);
        send(&self.socket, &question, SendFlags::empty())?;
        let is_list = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut is_interrupted = false;
        let mut buffer = vec![0; ANSWER_OCTETS];
        loop {
            let (length, _) = recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            for message in Messages(buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                // The rest of a list that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                is_interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE if is_interrupted => return Err(Errno::INTR.into()),
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return outcome(message.body),
                    _ => each(message.body)?,
                }
                if !is_list {
                    return Ok(());
                }
            }
        }
    }

    /// Asks for a list until none of its parts changed while it was read.
    fn list(
        &mut self,
        kind: u16,
        body: &[u8],
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            result = self.ask(kind, NLM_F_DUMP, body, each);
            match &result {
                Err(error)
                    if matches!(
                        Errno::from_io_error(error),
                        Some(Errno::INTR | Errno::BUSY | Errno::NOBUFS)
                    ) => {}
                _ => break,
            }
        }
        result
    }
}

fn open(protocol: Option<Protocol>, flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// A socket that hears of every change of an interface in the caller's network namespace, with room
/// for `octets` of messages that nobody has read yet.
pub(super) fn listen_for_links(octets: usize) -> io::Result<OwnedFd> {
    const RTMGRP_LINK: u32 = 1;

    let socket = open(None, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // Beyond the system's own limit only with CAP_NET_ADMIN.
    if set_socket_recv_buffer_size_force(&socket, octets).is_err() {
        set_socket_recv_buffer_size(&socket, octets)?;
    }
    bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_LINK))?;
    Ok(socket)
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_LENGTH + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_LENGTH + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // The port: the kernel's.
    message.extend([0; 4]);
    message.extend(body);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut short")
}

/// What an error message says; number zero is success.
fn outcome(body: &[u8]) -> io::Result<()> {
    match number(body.get(..4).ok_or_else(cut)?).cast_signed() {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    }
}

/// One message of a datagram.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram, up to the first that is cut short, which is an error.
struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    fn read(&mut self) -> Option<Message<'a>> {
        let field = |from: usize, to: usize| self.0.get(from..to).map(number);
        let length = field(0, 4)? as usize;
        let message = Message {
            kind: u16::try_from(field(4, 6)?).ok()?,
            flags: u16::try_from(field(6, 8)?).ok()?,
            sequence: field(8, 12)?,
            body: self.0.get(HEADER_LENGTH..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.read();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or_else(cut))
    }
}

/// A number of up to four octets, in the machine's order.
fn number(octets: &[u8]) -> u32 {
    match *octets {
        [a] => u32::from(a),
        [a, b] => u32::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// A text, which the kernel ends with a zero.
fn text(octets: &[u8]) -> String {
    let octets = octets.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(octets).into_owned()
}

/// The attributes of a message: type and value, up to the first that is cut short.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The two highest bits say how the value is meant, not what it is.
        const TYPE_MASK: u32 = 0x3fff;

        let length = number(self.0.get(..2)?) as usize;
        let kind = u16::try_from(number(self.0.get(2..4)?) & TYPE_MASK).ok()?;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let datagram = [message(16, 2, 7, &[1, 2, 3, 4]), message(3, 0x10, 7, &[])].concat();
        let read: Vec<_> = Messages(&datagram)
            .map(|message| message.unwrap())
            .map(|message| (message.kind, message.flags, message.sequence, message.body.to_vec()))
            .collect();
        assert_eq!(read, [(16, 2, 7, vec![1, 2, 3, 4]), (3, 0x10, 7, Vec::new())]);
    }

    #[test]
    fn no_message_cut_short_is_read_beyond_its_end() {
        let whole = message(16, 0, 1, &[9; 8]);
        for length in 1..whole.len() {
            let mut messages = Messages(&whole[..length]);
            let error = messages.next().unwrap().err().expect("cut");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut to {length}");
            assert!(messages.next().is_none());
        }
        // A length shorter than a header would never end.
        let mut short = whole;
        short[..4].copy_from_slice(&4_u32.to_ne_bytes());
        assert!(Messages(&short).next().unwrap().is_err());
    }

    #[test]
    fn the_kernels_error_is_ours() {
        assert_eq!(outcome(&(-19_i32).to_ne_bytes()).unwrap_err().raw_os_error(), Some(19));
        assert!(outcome(&[0; 4]).is_ok());
        assert!(outcome(&[0; 3]).is_err());
    }

    #[test]
    fn attributes_end_where_they_are_cut() {
        let two = [attribute(1, b"abc"), attribute(0x8002, &[])].concat();
        let read: Vec<_> = Attributes(&two).collect();
        assert_eq!(read, [(1, b"abc".as_slice()), (2, [].as_slice())]);
        for (octets, count) in [(&two[..7], 1), (&two[..6], 0), (&[3, 0, 1, 0], 0), (&two[..11], 1)]
        {
            assert_eq!(Attributes(octets).count(), count, "{octets:?}");
        }
    }
}
