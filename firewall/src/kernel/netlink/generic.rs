//! What generic netlink says of an interface: what its driver can do for XDP, and which offloads are
//! on.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;
use rustix::net::netlink::GENERIC;

use super::{Attributes, Netlink, attribute, cut, number, text};

const GENL_HEADER_LENGTH: usize = 4;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_RX_SG: u64 = 1 << 5;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const NLA_F_NESTED: u16 = 1 << 15;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// What a driver can do for XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct XdpFeatures {
    pub(in crate::kernel) is_native: bool,
    /// Frames of more than one page, natively.
    pub(in crate::kernel) takes_fragments: bool,
}

/// A socket of generic netlink.
pub(in crate::kernel) struct Generic(Netlink);

impl Generic {
    pub(in crate::kernel) fn open() -> io::Result<Self> {
        Netlink::open(Some(GENERIC)).map(Self)
    }

    /// None on kernels that do not tell, before 6.3.
    pub(in crate::kernel) fn xdp_features(
        &mut self,
        index: u32,
    ) -> io::Result<Option<XdpFeatures>> {
        let Some(family) = self.family("netdev")? else { return Ok(None) };
        let wanted = attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
        let mut features = None;
        self.ask(family, NETDEV_CMD_DEV_GET, &wanted, &mut |body| features = xdp_features(body))?;
        Ok(features)
    }

    /// The names of the offloads that are on; none where the kernel does not tell.
    pub(in crate::kernel) fn offloads(
        &mut self,
        index: u32,
    ) -> io::Result<Option<BTreeSet<String>>> {
        let Some(family) = self.family("ethtool")? else { return Ok(None) };
        let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &index.to_ne_bytes());
        let wanted = attribute(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, &device);
        let mut names = BTreeSet::new();
        let asked =
            self.ask(family, ETHTOOL_MSG_FEATURES_GET, &wanted, &mut |body| names = active(body));
        match asked {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => Ok(None),
            asked => asked.map(|()| Some(names)),
        }
    }

    /// The number of a family of messages; none if the kernel has no such family.
    fn family(&mut self, name: &str) -> io::Result<Option<u16>> {
        let wanted = attribute(CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), &[0]].concat());
        let mut family = None;
        let asked = self.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &wanted, &mut |body| {
            let found = Attributes(body).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID);
            family = found.and_then(|(_, id)| u16::try_from(number(id)).ok());
        });
        match asked {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(None),
            asked => asked.map(|()| family),
        }
    }

    fn ask(
        &mut self,
        family: u16,
        command: u8,
        attributes: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        // `struct genlmsghdr`: command, version, two octets reserved.
        let body = [&[command, 1, 0, 0], attributes].concat();
        self.0.ask(family, 0, &body, &mut |body| {
            each(body.get(GENL_HEADER_LENGTH..).ok_or_else(cut)?);
            Ok(())
        })
    }
}

fn xdp_features(attributes: &[u8]) -> Option<XdpFeatures> {
    let found = Attributes(attributes).find(|(kind, _)| *kind == NETDEV_A_DEV_XDP_FEATURES);
    let bits = u64::from_ne_bytes(found?.1.try_into().ok()?);
    Some(XdpFeatures {
        is_native: bits & NETDEV_XDP_ACT_BASIC != 0,
        takes_fragments: bits & NETDEV_XDP_ACT_RX_SG != 0,
    })
}

/// The names in the set of active features, which lists those that are on.
fn active(attributes: &[u8]) -> BTreeSet<String> {
    let within = |attributes, wanted: u16| {
        Attributes(attributes).filter(move |(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    within(attributes, ETHTOOL_A_FEATURES_ACTIVE)
        .flat_map(|set| within(set, ETHTOOL_A_BITSET_BITS))
        .flat_map(|bits| Attributes(bits).map(|(_, bit)| bit))
        .flat_map(|bit| within(bit, ETHTOOL_A_BITSET_BIT_NAME))
        .map(text)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read() {
        for (bits, is_native, takes_fragments) in
            [(0, false, false), (1, true, false), (0b10_0001, true, true), (1 << 40, false, false)]
        {
            let message = [
                attribute(NETDEV_A_DEV_IFINDEX, &7_u32.to_ne_bytes()),
                attribute(NETDEV_A_DEV_XDP_FEATURES, &u64::to_ne_bytes(bits)),
            ]
            .concat();
            let expected = XdpFeatures { is_native, takes_fragments };
            assert_eq!(xdp_features(&message), Some(expected), "{bits:b}");
            assert_eq!(xdp_features(&message[..message.len() - 1]), None);
        }
    }

    #[test]
    fn offloads_are_read() {
        let bit = |name: &str| attribute(1, &attribute(ETHTOOL_A_BITSET_BIT_NAME, name.as_bytes()));
        let set = |names: &[&str]| {
            let bits = names.iter().map(|name| bit(name)).collect::<Vec<_>>().concat();
            attribute(ETHTOOL_A_BITSET_BITS, &bits)
        };
        let message = [
            // What the hardware could do is no matter.
            attribute(2, &set(&["rx-lro\0"])),
            attribute(ETHTOOL_A_FEATURES_ACTIVE, &set(&["rx-gro-hw\0", "rx-vlan-hw-parse\0"])),
        ]
        .concat();
        let expected = ["rx-gro-hw", "rx-vlan-hw-parse"].map(str::to_owned);
        assert_eq!(active(&message), BTreeSet::from(expected));
        for length in 0..message.len() {
            assert!(active(&message[..length]).len() <= 2);
        }
    }

    #[test]
    fn the_kernel_answers_for_loopback() {
        let lo = Netlink::route().unwrap().links().unwrap();
        let lo = lo.iter().find(|link| link.is_loopback).unwrap().index;
        let mut generic = Generic::open().unwrap();
        assert_eq!(generic.family("no-such-family").unwrap(), None);
        if let Some(features) = generic.xdp_features(lo).unwrap() {
            assert!(!features.is_native, "{features:?}");
        }
        if let Some(offloads) = generic.offloads(lo).unwrap() {
            assert!(offloads.contains("loopback"), "{offloads:?}");
        }
    }
}
