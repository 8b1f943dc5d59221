//! What loader and proxy say to each other: JSON behind its length, and with an answer at most one
//! descriptor.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use firewall_common::{Mode as CheckMode, Reason, Role};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Monotonic;
use crate::kernel::attach::{InterfaceReport, Mode};
use crate::kernel::checks::CheckSetting;
use crate::kernel::probation::Trial;

/// Changes when an older process would misunderstand.
pub(in crate::kernel) const PROTOCOL: u32 = 1;
/// Octets of a request; the longest one names some thousand modes of checks.
pub(in crate::kernel) const REQUEST_MAX: usize = 1 << 18;
/// Octets of an answer: ten thousand interfaces.
pub(in crate::kernel) const REPLY_MAX: usize = 1 << 22;

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::kernel) enum Request {
    /// First of all.
    Hello { protocol: u32 },
    /// An array for the tables of bans, of so many lines.
    Lines { lines: u32 },
    /// What the program is attached to by now.
    Interfaces,
    /// The same; and the tables hold what is banned, so that an earlier program may be replaced.
    Filled,
    /// Modes of checks, in place of all that were told before.
    Checks(Vec<WireCheck>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::kernel) enum Reply {
    Welcome(Welcome),
    /// With the descriptor of the array.
    Lines,
    State(State),
    Refused {
        reason: String,
    },
}

/// Who the loader is, and where it has pinned what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kernel) struct Welcome {
    pub(in crate::kernel) version: String,
    pub(in crate::kernel) pid: u32,
    pub(in crate::kernel) maps: PathBuf,
    /// The number of the array that the program finds the tables of bans by.
    pub(in crate::kernel) bans: u32,
}

/// What the loader tells of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kernel) struct State {
    /// Whether it has been attached to anything at all; until then there is nothing to tell.
    pub(in crate::kernel) is_attached: bool,
    interfaces: Vec<WireInterface>,
    /// Name and role of those that are judged.
    judged: Vec<(String, WireRole)>,
    trial: WireTrial,
}

/// Where the program stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum WireTrial {
    #[default]
    Settled,
    OnProbation {
        until_ns: u64,
    },
    RolledBack {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireRole {
    Internet,
    Lan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireMode {
    Native,
    Generic,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireInterface {
    name: String,
    index: u32,
    mode: WireMode,
    reason: Option<String>,
    adopted: bool,
    role: WireRole,
    required: bool,
    on: Vec<String>,
}

/// The mode of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kernel) struct WireCheck {
    id: String,
    mode: WireCheckMode,
    interface: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireCheckMode {
    Drop,
    Observe,
    Off,
}

impl State {
    pub(in crate::kernel) fn new<'a>(
        reports: &[InterfaceReport],
        judged: impl Iterator<Item = (u32, &'a str, Role)>,
        trial: &Trial,
    ) -> Self {
        let trial = match trial {
            Trial::Settled => WireTrial::Settled,
            Trial::OnProbation { until } => WireTrial::OnProbation { until_ns: until.ns() },
            Trial::RolledBack { reason } => WireTrial::RolledBack { reason: reason.clone() },
        };
        let judged = judged.map(|(_, name, role)| (name.to_owned(), role.into()));
        let interface = |report: &InterfaceReport| WireInterface {
            name: report.name.clone(),
            index: report.index,
            mode: match report.mode {
                Mode::Native => WireMode::Native,
                Mode::Generic => WireMode::Generic,
                Mode::None => WireMode::None,
            },
            reason: report.reason.clone(),
            adopted: report.adopted,
            role: report.role.into(),
            required: report.is_required,
            on: report.on.clone(),
        };
        let interfaces = reports.iter().map(interface).collect();
        Self { is_attached: true, interfaces, judged: judged.collect(), trial }
    }

    pub(in crate::kernel) fn trial(&self) -> Trial {
        match &self.trial {
            WireTrial::Settled => Trial::Settled,
            WireTrial::OnProbation { until_ns } => {
                Trial::OnProbation { until: Monotonic::from_ns(*until_ns) }
            }
            WireTrial::RolledBack { reason } => Trial::RolledBack { reason: reason.clone() },
        }
    }

    pub(in crate::kernel) fn reports(&self) -> Vec<InterfaceReport> {
        let report = |interface: &WireInterface| InterfaceReport {
            name: interface.name.clone(),
            index: interface.index,
            mode: match interface.mode {
                WireMode::Native => Mode::Native,
                WireMode::Generic => Mode::Generic,
                WireMode::None => Mode::None,
            },
            reason: interface.reason.clone(),
            adopted: interface.adopted,
            role: interface.role.into(),
            is_required: interface.required,
            on: interface.on.clone(),
        };
        self.interfaces.iter().map(report).collect()
    }

    pub(in crate::kernel) fn judged(&self) -> Vec<(String, Role)> {
        self.judged.iter().map(|(name, role)| (name.clone(), (*role).into())).collect()
    }
}

impl From<Role> for WireRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Internet => Self::Internet,
            Role::Lan => Self::Lan,
        }
    }
}

impl From<WireRole> for Role {
    fn from(role: WireRole) -> Self {
        match role {
            WireRole::Internet => Self::Internet,
            WireRole::Lan => Self::Lan,
        }
    }
}

impl From<&CheckSetting> for WireCheck {
    fn from(setting: &CheckSetting) -> Self {
        Self {
            id: setting.reason.id().to_owned(),
            mode: match setting.mode {
                CheckMode::Drop => WireCheckMode::Drop,
                CheckMode::Observe => WireCheckMode::Observe,
                CheckMode::Off => WireCheckMode::Off,
            },
            interface: setting.interface.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<&WireCheck> for CheckSetting {
    type Error = String;

    fn try_from(check: &WireCheck) -> Result<Self, String> {
        let known = Reason::ALL.iter().find(|reason| reason.id() == check.id && reason.is_check());
        let interface = check.interface.as_ref().map(|pattern| pattern.parse());
        Ok(Self {
            reason: *known.ok_or_else(|| format!("{:?} is no check", check.id))?,
            mode: match check.mode {
                WireCheckMode::Drop => CheckMode::Drop,
                WireCheckMode::Observe => CheckMode::Observe,
                WireCheckMode::Off => CheckMode::Off,
            },
            interface: interface.transpose().map_err(|error| format!("{error}"))?,
        })
    }
}

/// Sends a message, and a descriptor with it if there is one.
pub(in crate::kernel) fn send<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_ne_bytes();
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&length)], &mut ancillary, flags)?;
    stream.write_all(length.get(sent..).unwrap_or_default())?;
    stream.write_all(&body)
}

/// Receives a message of at most `most` octets, and the descriptor that came with it.
pub(in crate::kernel) fn receive<T: DeserializeOwned>(
    mut stream: &UnixStream,
    most: usize,
) -> io::Result<(T, Option<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut ancillary, flags)?.bytes;
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    stream.read_exact(length.get_mut(received..).unwrap_or_default())?;
    let length = u32::from_ne_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, descriptor))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn what_is_sent_is_received() {
        let (near, far) = pair();
        let report = InterfaceReport {
            name: "eth0".into(),
            index: 2,
            mode: Mode::Generic,
            reason: Some("its driver cannot".into()),
            adopted: true,
            role: Role::Internet,
            is_required: true,
            on: vec!["eth1".into()],
        };
        for trial in [
            Trial::Settled,
            Trial::OnProbation { until: Monotonic::from_ns(7) },
            Trial::RolledBack { reason: "it gave up".into() },
        ] {
            let judged = [(2, "eth0", Role::Internet), (3, "eth1", Role::Lan)];
            let state = State::new(std::slice::from_ref(&report), judged.iter().copied(), &trial);
            send(&near, &Reply::State(state), None).unwrap();
            let (Reply::State(state), None) = receive(&far, REPLY_MAX).unwrap() else {
                panic!("another answer");
            };
            assert_eq!(state.reports(), std::slice::from_ref(&report));
            assert_eq!(
                state.judged(),
                [("eth0".into(), Role::Internet), ("eth1".into(), Role::Lan)]
            );
            assert_eq!(state.trial(), trial);
        }
    }

    #[test]
    fn checks_are_named_and_unknown_ones_refused() {
        let reason = *Reason::ALL.iter().find(|reason| reason.is_check()).unwrap();
        for (mode, interface) in [
            (CheckMode::Drop, None),
            (CheckMode::Observe, Some("eth*".parse().unwrap())),
            (CheckMode::Off, None),
        ] {
            let setting = CheckSetting { reason, mode, interface };
            assert_eq!(CheckSetting::try_from(&WireCheck::from(&setting)), Ok(setting));
        }
        let wire = |id: &str, interface: Option<&str>| WireCheck {
            id: id.into(),
            mode: WireCheckMode::Off,
            interface: interface.map(str::to_owned),
        };
        // A ban is no check: that it is enforced is the loader's configuration.
        for broken in [wire("X99", None), wire("ban", None), wire(reason.id(), Some("a/b"))] {
            assert!(CheckSetting::try_from(&broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_descriptor_comes_with_its_answer() {
        let (near, far) = pair();
        let (one, _other) = pair();
        send(&near, &Reply::Lines, Some(one.as_fd())).unwrap();
        send(&near, &Reply::Lines, None).unwrap();
        let (_, descriptor) = receive::<Reply>(&far, REPLY_MAX).unwrap();
        let descriptor = descriptor.unwrap();
        assert_ne!(descriptor.as_raw_fd(), one.as_raw_fd());
        let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert!(receive::<Reply>(&far, REPLY_MAX).unwrap().1.is_none());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let long = u32::try_from(REQUEST_MAX).unwrap() + 1;
        for (octets, kind) in [
            (Vec::new(), io::ErrorKind::UnexpectedEof),
            (vec![1, 0], io::ErrorKind::UnexpectedEof),
            (9_u32.to_ne_bytes().to_vec(), io::ErrorKind::UnexpectedEof),
            (long.to_ne_bytes().to_vec(), io::ErrorKind::InvalidData),
            ([&1_u32.to_ne_bytes()[..], b"x"].concat(), io::ErrorKind::InvalidData),
            ([&4_u32.to_ne_bytes()[..], b"null"].concat(), io::ErrorKind::InvalidData),
        ] {
            let (mut near, far) = pair();
            near.write_all(&octets).unwrap();
            drop(near);
            let error = receive::<Request>(&far, REQUEST_MAX).unwrap_err();
            assert_eq!(error.kind(), kind, "{octets:?}");
        }
    }
}
