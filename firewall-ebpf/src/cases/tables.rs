//! What the maps are to the kernel's program, for the host.

use std::cell::RefCell;
use std::net::IpAddr;
use std::vec::Vec;

use firewall_common::{Ban, Config, Policy, Reasons};

use super::{HostPurse, NOW_NS, Prefix, source};
use crate::budget::{self, Class};
use crate::source::{Family, Source};
use crate::verdict::{Exact, Flow, Socket, Tables};

/// What the maps are to the kernel's program.
#[derive(Clone, Debug)]
pub struct HostTables {
    pub config: Config,
    pub policy: Policy,
    pub(super) bans: Vec<(Prefix, Ban)>,
    pub(super) allow: Vec<Prefix>,
    pub(super) own: Vec<IpAddr>,
    pub(super) purse: RefCell<HostPurse>,
}

impl Tables for HostTables {
    type Hit = u64;

    fn config(&self) -> Config {
        self.config
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn now_ns(&self) -> u64 {
        NOW_NS
    }

    fn exact(&self, table: Exact, source: Source) -> Option<u64> {
        let length = match table {
            Exact::V4 => 32,
            Exact::Network6 => 64,
            Exact::V6 => 128,
        };
        let holds = |(address, bits): Prefix| bits == length && contains((address, bits), source);
        self.bans.iter().find(|(prefix, _)| holds(*prefix)).map(|(_, ban)| ban.until_mono_ns)
    }

    fn range(&self, source: Source) -> Option<u64> {
        let is_range = |(address, bits): Prefix| match address {
            IpAddr::V4(_) => bits != 32,
            IpAddr::V6(_) => bits != 64 && bits != 128,
        };
        self.bans
            .iter()
            .filter(|(prefix, _)| is_range(*prefix) && contains(*prefix, source))
            .max_by_key(|((_, bits), _)| *bits)
            .map(|(_, ban)| ban.until_mono_ns)
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

    fn until_ns(&self, hit: u64) -> u64 {
        hit
    }

    fn count_drop(&self, _: u64) {}

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
