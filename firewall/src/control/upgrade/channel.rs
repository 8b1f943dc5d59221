//! What two processes say to each other during an upgrade: lines over a pair of sockets, the listening
//! sockets beside the first of them (`SCM_RIGHTS`, unix(7)).
//!
//! The two are of different versions, as a rule: what is said here may grow, and must not change.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context as _, bail, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The variable that tells a process whose place it is to take.
pub(super) const PREDECESSOR: &str = "FIREWALL_PREDECESSOR";
/// What both speak.
const VERSION: u32 = 1;
/// Sockets in one message; the kernel takes 253.
const TOGETHER: usize = 64;
/// More than one for each worker, and two, are a mistake.
const SOCKETS_MAX: usize = 4 * TOGETHER + 2;
/// A line is short; a reason is cut.
const LINE_OCTETS: usize = 4096;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// New: everything is read and compiled, and nothing opened yet.
    Prepared,
    /// Old: it has let go of everything that one process alone may have.
    Yours,
    /// New: it serves.
    Serving,
    /// Old: the service manager knows.
    Told,
    /// New: it cannot, and ends.
    Failed(String),
}

impl Message {
    fn line(&self) -> String {
        match self {
            Self::Prepared => "prepared\n".into(),
            Self::Yours => "yours\n".into(),
            Self::Serving => "serving\n".into(),
            Self::Told => "told\n".into(),
            Self::Failed(reason) => {
                let reason = reason.replace('\n', "; ");
                let end = reason.floor_char_boundary(LINE_OCTETS - 64);
                format!("failed {}\n", reason.get(..end).unwrap_or_default())
            }
        }
    }

    fn of(line: &str) -> anyhow::Result<Self> {
        Ok(match line.split_once(' ').unwrap_or((line, "")) {
            ("prepared", "") => Self::Prepared,
            ("yours", "") => Self::Yours,
            ("serving", "") => Self::Serving,
            ("told", "") => Self::Told,
            ("failed", reason) => Self::Failed(reason.to_owned()),
            _ => bail!("the other process said what has no meaning"),
        })
    }

    /// Nothing but what is expected will do.
    fn must_be(self, expected: &Self) -> anyhow::Result<()> {
        match self {
            found if found == *expected => Ok(()),
            Self::Failed(reason) => bail!("{reason}"),
            found => bail!("expected {expected:?}, found {found:?}"),
        }
    }
}

/// What the old process has to give.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub clients: &'a [TcpListener],
    pub admin: &'a UnixListener,
    pub metrics: Option<&'a TcpListener>,
    /// The number of its last generation.
    pub generation: u64,
}

/// What comes before the sockets.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Preamble {
    version: u32,
    generation: u64,
    clients: usize,
    has_metrics: bool,
}

/// The same as it arrives.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) generation: u64,
    pub(super) clients: Vec<OwnedFd>,
    pub(super) admin: UnixListener,
    pub(super) metrics: Option<TcpListener>,
}

/// The old process's end.
pub(super) struct Successor(tokio::net::UnixStream);

impl Successor {
    /// This end, and the other.
    pub(super) fn pair() -> anyhow::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair().context("a pair of sockets")?;
        ours.set_nonblocking(true)?;
        Ok((Self(tokio::net::UnixStream::from_std(ours)?), theirs.into()))
    }

    pub(super) async fn offer(&mut self, offer: &Offer<'_>) -> anyhow::Result<()> {
        let preamble = Preamble {
            version: VERSION,
            generation: offer.generation,
            clients: offer.clients.len(),
            has_metrics: offer.metrics.is_some(),
        };
        let line = serde_json::to_string(&preamble)? + "\n";
        self.0.write_all(line.as_bytes()).await?;
        let clients = offer.clients.iter().map(AsFd::as_fd);
        let others = [Some(offer.admin.as_fd()), offer.metrics.map(AsFd::as_fd)];
        let sockets: Vec<_> = clients.chain(others.into_iter().flatten()).collect();
        for together in sockets.chunks(TOGETHER) {
            self.0.writable().await?;
            // Nothing but these few is on the way, for which there is room.
            send(self.0.as_fd(), together).context("handing over the sockets")?;
        }
        Ok(())
    }

    pub(super) async fn say(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.0.write_all(message.line().as_bytes()).await?)
    }

    pub(super) async fn expect(&mut self, message: Message) -> anyhow::Result<()> {
        let mut line = Vec::new();
        loop {
            let mut octet = [0];
            let read = self.0.read(&mut octet).await;
            match (read, octet) {
                (Ok(0) | Err(_), _) => bail!("it has ended"),
                (Ok(_), [b'\n']) => break,
                (Ok(_), [octet]) => line.push(octet),
            }
            ensure!(line.len() < LINE_OCTETS, "the other process does not come to an end");
        }
        Message::of(&String::from_utf8(line)?)?.must_be(&message)
    }
}

/// The new process's end. It waits: there is nothing else that it could do.
#[derive(Debug)]
pub(super) struct Talk(UnixStream);

impl Talk {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Takes what the old process has to give.
    pub(super) fn offered(&mut self) -> anyhow::Result<Offered> {
        let preamble: Preamble = serde_json::from_str(&self.line()?).context("the offer")?;
        let Preamble { version, generation, clients, has_metrics } = preamble;
        ensure!(version == VERSION, "the old process speaks version {version}, this one {VERSION}");
        let count = clients + 1 + usize::from(has_metrics);
        ensure!((1..=SOCKETS_MAX).contains(&clients), "{clients} sockets were handed over");
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let received = receive(self.0.as_fd()).context("taking the sockets")?;
            ensure!(!received.is_empty(), "expected {count} sockets, found {}", sockets.len());
            sockets.extend(received);
        }
        ensure!(sockets.len() == count, "expected {count} sockets, found {}", sockets.len());
        let mut others = sockets.split_off(clients).into_iter();
        let admin = others.next().map(UnixListener::from).context("no admin socket")?;
        let metrics = others.next().map(TcpListener::from);
        Ok(Offered { generation, clients: sockets, admin, metrics })
    }

    pub(super) fn say(&mut self, message: &Message) -> anyhow::Result<()> {
        use std::io::Write as _;
        Ok(self.0.write_all(message.line().as_bytes())?)
    }

    pub(super) fn expect(&mut self, message: &Message) -> anyhow::Result<()> {
        Message::of(&self.line()?)?.must_be(message)
    }

    /// Octet by octet: sockets come beside what follows.
    fn line(&mut self) -> anyhow::Result<String> {
        use std::io::Read as _;
        let mut line = Vec::new();
        loop {
            let mut octet = [0];
            self.0.read_exact(&mut octet).context("the old process has ended")?;
            match octet {
                [b'\n'] => return Ok(String::from_utf8(line)?),
                [octet] => line.push(octet),
            }
            ensure!(line.len() < LINE_OCTETS, "the other process does not come to an end");
        }
    }
}

fn send(channel: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    beside.push(SendAncillaryMessage::ScmRights(sockets));
    sendmsg(channel, &[IoSlice::new(b"#")], &mut beside, SendFlags::NOSIGNAL).map(drop)
}

/// The sockets of the next message, closed in programs that this one starts.
fn receive(channel: BorrowedFd<'_>) -> anyhow::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let octets = &mut [IoSliceMut::new(&mut octet)];
    recvmsg(channel, octets, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_was_said() {
        let long = Message::Failed("ä\n".repeat(LINE_OCTETS));
        for message in [
            Message::Prepared,
            Message::Yours,
            Message::Serving,
            Message::Told,
            Message::Failed("listen.address: no".into()),
            Message::Failed(String::new()),
        ] {
            assert_eq!(Message::of(message.line().trim_end()).unwrap(), message);
        }
        let line = long.line();
        assert!(line.len() < LINE_OCTETS && line.find('\n') == Some(line.len() - 1));
        for line in ["", "ready", "prepared well", "yours "] {
            assert_eq!(Message::of(line).is_ok(), line == "yours ", "{line:?}");
        }
        let failed = Message::Failed("why".into()).must_be(&Message::Serving).unwrap_err();
        assert_eq!(failed.to_string(), "why");
        assert!(Message::Yours.must_be(&Message::Told).is_err());
        assert!(Message::Told.must_be(&Message::Told).is_ok());
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn sockets_arrive_in_their_order() {
        let path = std::env::temp_dir().join(format!("firewall-channel-{}", std::process::id()));
        let admin = UnixListener::bind(&path).unwrap();
        for (count, has_metrics) in
            [(1, false), (TOGETHER - 1, true), (TOGETHER, true), (130, false)]
        {
            let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
            let clients: Vec<_> = (0..count).map(|_| tcp()).collect();
            let metrics = has_metrics.then(tcp);
            let runtime = runtime();
            let theirs = runtime.block_on(async {
                let (mut successor, theirs) = Successor::pair().unwrap();
                let metrics = metrics.as_ref();
                let offer = Offer { clients: &clients, admin: &admin, metrics, generation: 7 };
                successor.offer(&offer).await.unwrap();
                theirs
            });
            let offered = Talk::new(theirs.into()).offered().unwrap();
            assert_eq!(offered.generation, 7);
            let port = |one: &TcpListener| one.local_addr().unwrap().port();
            let arrived: Vec<_> = offered.clients.into_iter().map(TcpListener::from).collect();
            let ports = |all: &[TcpListener]| all.iter().map(port).collect::<Vec<_>>();
            assert_eq!(ports(&arrived), ports(&clients));
            assert_eq!(offered.metrics.as_ref().map(port), metrics.as_ref().map(port));
            let address = offered.admin.local_addr().unwrap();
            assert_eq!(address.as_pathname(), Some(path.as_path()));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_offer_is_refused() {
        for said in [
            "",
            "hello\n",
            "{\"version\":2,\"generation\":1,\"clients\":1,\"has_metrics\":false}\n#",
            "{\"version\":1,\"generation\":1,\"clients\":0,\"has_metrics\":false}\n#",
            "{\"version\":1,\"generation\":1,\"clients\":9999,\"has_metrics\":false}\n#",
            // As many as were promised did not come.
            "{\"version\":1,\"generation\":1,\"clients\":1,\"has_metrics\":false}\n#",
        ] {
            use std::io::Write as _;
            let (mut old, new) = UnixStream::pair().unwrap();
            old.write_all(said.as_bytes()).unwrap();
            drop(old);
            assert!(Talk::new(new).offered().is_err(), "{said}");
        }
    }
}
