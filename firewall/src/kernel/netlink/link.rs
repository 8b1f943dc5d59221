//! What rtnetlink says of an interface.

use std::io;

use rustix::io::Errno;

use super::{Attributes, Netlink, attribute, cut, number, text};

const LINK_LENGTH: usize = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

/// What runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::kernel) struct Attached {
    /// The identifier of the program; none where nothing runs.
    pub(in crate::kernel) program: Option<u32>,
    pub(in crate::kernel) is_native: bool,
    pub(in crate::kernel) is_generic: bool,
}

/// An interface of the network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in crate::kernel) struct Link {
    pub(in crate::kernel) index: u32,
    pub(in crate::kernel) name: String,
    pub(in crate::kernel) mtu: u32,
    pub(in crate::kernel) is_up: bool,
    pub(in crate::kernel) is_loopback: bool,
    /// What kind of virtual device it is: `veth`, `vlan`, `bond`; none for hardware.
    pub(in crate::kernel) kind: Option<String>,
    /// The interface of this namespace that it is made on, as a VLAN's.
    pub(in crate::kernel) beneath: Option<u32>,
    /// The bond or bridge that it is a member of.
    pub(in crate::kernel) master: Option<u32>,
    /// Bus and name of the hardware; none for virtual devices, and before Linux 5.14.
    pub(in crate::kernel) hardware: Option<(String, String)>,
    pub(in crate::kernel) attached: Attached,
}

impl Netlink {
    /// Every interface.
    pub(in crate::kernel) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = std::collections::BTreeMap::new();
        self.list(RTM_GETLINK, &question(0), &mut |body| {
            let link = parse(body)?;
            links.insert(link.index, link);
            Ok(())
        })?;
        Ok(links.into_values().collect())
    }

    /// The interface with this index; none if there is none.
    pub(in crate::kernel) fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut link = None;
        let asked = self.ask(RTM_GETLINK, 0, &question(index), &mut |body| {
            link = Some(parse(body)?);
            Ok(())
        });
        match asked {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
            asked => asked.map(|()| link),
        }
    }
}

/// `struct ifinfomsg`, and that no statistics are wanted.
fn question(index: u32) -> Vec<u8> {
    let mut body = vec![0; LINK_LENGTH];
    if let Some(field) = body.get_mut(4..8) {
        field.copy_from_slice(&index.to_ne_bytes());
    }
    body.extend(attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes()));
    body
}

fn parse(body: &[u8]) -> io::Result<Link> {
    let flags = number(body.get(8..12).ok_or_else(cut)?);
    let mut link = Link {
        index: number(body.get(4..8).ok_or_else(cut)?),
        is_up: flags & IFF_UP != 0,
        is_loopback: flags & IFF_LOOPBACK != 0,
        ..Link::default()
    };
    let (mut bus, mut device, mut is_elsewhere) = (None, None, false);
    for (kind, value) in Attributes(body.get(LINK_LENGTH..).ok_or_else(cut)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number(value),
            IFLA_LINK => link.beneath = Some(number(value)).filter(|index| *index != 0),
            IFLA_MASTER => link.master = Some(number(value)).filter(|index| *index != 0),
            IFLA_LINK_NETNSID => is_elsewhere = true,
            IFLA_LINKINFO => {
                link.kind = Attributes(value)
                    .find_map(|(kind, value)| (kind == IFLA_INFO_KIND).then(|| text(value)));
            }
            IFLA_PARENT_DEV_NAME => device = Some(text(value)),
            IFLA_PARENT_DEV_BUS_NAME => bus = Some(text(value)),
            IFLA_XDP => link.attached = attached(value),
            _ => {}
        }
    }
    if is_elsewhere {
        link.beneath = None;
    }
    link.hardware = bus.zip(device);
    Ok(link)
}

fn attached(xdp: &[u8]) -> Attached {
    let mut attached = Attached::default();
    let mut mode = 0;
    for (kind, value) in Attributes(xdp) {
        match kind {
            IFLA_XDP_ATTACHED => mode = number(value),
            IFLA_XDP_PROG_ID | IFLA_XDP_DRV_PROG_ID | IFLA_XDP_SKB_PROG_ID
            | IFLA_XDP_HW_PROG_ID => attached.program = Some(number(value)),
            _ => {}
        }
    }
    // XDP_ATTACHED_DRV, _SKB, _HW, _MULTI.
    attached.is_native = matches!(mode, 1 | 3 | 4);
    attached.is_generic = matches!(mode, 2);
    attached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; LINK_LENGTH];
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body.extend(attributes.concat());
        body
    }

    fn vlan() -> Vec<u8> {
        body(&[
            attribute(IFLA_IFNAME, b"eth0.5\0"),
            attribute(IFLA_MTU, &1500_u32.to_ne_bytes()),
            attribute(IFLA_LINK, &2_u32.to_ne_bytes()),
            attribute(IFLA_MASTER, &9_u32.to_ne_bytes()),
            attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"vlan\0")),
        ])
    }

    #[test]
    fn a_link_is_read() {
        let expected = Link {
            index: 7,
            name: "eth0.5".into(),
            mtu: 1500,
            is_up: true,
            kind: Some("vlan".into()),
            beneath: Some(2),
            master: Some(9),
            ..Link::default()
        };
        assert_eq!(parse(&vlan()).unwrap(), expected);
        // The other end of a veth pair in another namespace has an index of that namespace.
        let mut elsewhere = vlan();
        elsewhere.extend(attribute(IFLA_LINK_NETNSID, &[0; 4]));
        assert_eq!(parse(&elsewhere).unwrap(), Link { beneath: None, ..expected });
        let hardware = body(&[
            attribute(IFLA_PARENT_DEV_NAME, b"0000:00:03.0\0"),
            attribute(IFLA_PARENT_DEV_BUS_NAME, b"pci\0"),
        ]);
        let device = ("pci".to_owned(), "0000:00:03.0".to_owned());
        assert_eq!(parse(&hardware).unwrap().hardware, Some(device));
    }

    #[test]
    fn program_and_mode_are_read() {
        for (mode, is_native, is_generic) in [
            (1, true, false),
            (2, false, true),
            (3, true, false),
            (4, true, false),
            (0, false, false),
        ] {
            let xdp = [
                attribute(IFLA_XDP_ATTACHED, &[mode]),
                attribute(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes()),
            ];
            let link = parse(&body(&[attribute(IFLA_XDP, &xdp.concat())])).unwrap();
            assert_eq!(link.attached, Attached { program: Some(77), is_native, is_generic });
        }
        let idle = attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0]));
        assert_eq!(parse(&body(&[idle])).unwrap().attached, Attached::default());
    }

    #[test]
    fn no_link_cut_short_is_read_beyond_its_end() {
        let whole = vlan();
        for length in 0..whole.len() {
            match parse(&whole[..length]) {
                Ok(link) => assert!(length >= LINK_LENGTH && link.kind.is_none(), "{length}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
    }

    #[test]
    fn loopback_is_found() {
        let mut netlink = Netlink::route().unwrap();
        let links = netlink.links().unwrap();
        let found = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(found.is_loopback);
        assert_eq!(
            netlink.link(found.index).unwrap().as_ref().map(|link| &link.name),
            Some(&found.name)
        );
        assert_eq!(netlink.link(u32::MAX >> 1).unwrap(), None);
    }
}
