//! What the maps are to the kernel's program, for the host.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::vec::Vec;

use firewall_common::{Config, Policy, Reasons};

use super::{HostPurse, NOW_NS, Prefix, source};
use crate::budget::{self, Class};
use crate::source::{Family, Source};
use crate::verdict::{Flow, Socket, Tables};

/// What the maps are to the kernel's program.
#[derive(Clone, Debug)]
pub struct HostTables {
    pub config: Config,
    pub policy: Policy,
    pub(super) bans: Vec<Prefix>,
    pub(super) allow: Vec<Prefix>,
    pub(super) own: Vec<IpAddr>,
    pub(super) purse: RefCell<HostPurse>,
}

impl Tables for HostTables {
    type Hit = Prefix;

    const NO_HIT: Prefix = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32);

    fn config(&self) -> Config {
        self.config
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn now_ns(&self) -> u64 {
        NOW_NS
    }

    fn ban(&self, source: Source) -> Option<Prefix> {
        let holds = self.bans.iter().filter(|prefix| contains(**prefix, source));
        holds.copied().max_by_key(|(_, bits)| *bits)
    }

    fn spilled(&self, _: Source) -> Option<Prefix> {
        None
    }

    fn is_range(&self, (address, bits): Prefix) -> bool {
        match address {
            IpAddr::V4(_) => bits != 32,
            IpAddr::V6(_) => bits != 64 && bits != 128,
        }
    }

    fn allows(&self, source: Source) -> bool {
        self.allow.iter().any(|prefix| contains(*prefix, source))
    }

    fn is_own(&self, address: Source) -> bool {
        self.own.iter().any(|own| source(*own) == address)
    }

    /// Of no case there is a socket: the kernel's are tried by tests of their own.
    fn socket(&self, _: &Flow) -> Socket {
        Socket::None
    }

    fn count_drop(&self, _: Prefix) {}

    fn charge(&self, class: Class, source: Source, asked: Reasons) -> Reasons {
        let charge = |payer| budget::charge(&mut *self.purse.borrow_mut(), class, payer, asked);
        budget::payer(source).map_or(Reasons::NONE, charge)
    }
}

fn contains((network, bits): Prefix, source: Source) -> bool {
    let octets = source.octets();
    let (network, address) = match (network, source.family) {
        (IpAddr::V4(network), Family::V4) => {
            let [a, b, c, d, ..] = octets;
            let address = u32::from_be_bytes([a, b, c, d]);
            (u128::from(network.to_bits()) << 96, u128::from(address) << 96)
        }
        (IpAddr::V6(network), Family::V6) => (network.to_bits(), u128::from_be_bytes(octets)),
        _ => return false,
    };
    bits == 0 || (network ^ address) >> (128 - bits) == 0
}
