//! Asks the kernel which XDP program an interface runs: by rtnetlink, which knows the network
//! namespace of the caller, as `/sys/class/net` does not.

use std::io;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket,
    socket_with,
};

/// What runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Attached {
    /// The identifier of the program; none where nothing runs.
    pub(super) program: Option<u32>,
    pub(super) is_native: bool,
    pub(super) is_generic: bool,
}

const HEADER_LENGTH: usize = 16;
const LINK_LENGTH: usize = 16;
const REQUEST_LENGTH: u32 = 32;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

/// The index of the interface in this network namespace; none if there is no such interface.
pub(super) fn interface_index(name: &str) -> io::Result<Option<u32>> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What runs on the interface with this index.
pub(super) fn attached(index: u32) -> io::Result<Attached> {
    // NETLINK_ROUTE is protocol 0, which is what no protocol means.
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(index), SendFlags::empty())?;
    // A link with many virtual functions has the longest message; beyond this it is cut short.
    let mut buffer = vec![0; 64 * 1024];
    let (length, _) = recv(&socket, &mut *buffer, RecvFlags::empty())?;
    parse(buffer.get(..length).unwrap_or_default())
}

fn request(index: u32) -> [u8; HEADER_LENGTH + LINK_LENGTH] {
    let mut request = [0; HEADER_LENGTH + LINK_LENGTH];
    let fields: [(usize, &[u8]); 4] = [
        (0, &REQUEST_LENGTH.to_ne_bytes()),
        (4, &RTM_GETLINK.to_ne_bytes()),
        (6, &NLM_F_REQUEST.to_ne_bytes()),
        (HEADER_LENGTH + 4, &index.to_ne_bytes()),
    ];
    for (offset, field) in fields {
        for (to, from) in request.iter_mut().skip(offset).zip(field) {
            *to = *from;
        }
    }
    request
}

fn parse(message: &[u8]) -> io::Result<Attached> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut short");
    let kind = number(message.get(4..6).ok_or_else(cut)?);
    if kind == u32::from(NLMSG_ERROR) {
        let code = message.get(HEADER_LENGTH..HEADER_LENGTH + 4).ok_or_else(cut)?;
        return Err(io::Error::from_raw_os_error(number(code).cast_signed().wrapping_neg()));
    }
    if kind != u32::from(RTM_NEWLINK) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link's netlink message"));
    }
    let attributes = message.get(HEADER_LENGTH + LINK_LENGTH..).ok_or_else(cut)?;
    let mut attached = Attached::default();
    for (_, xdp) in Attributes(attributes).filter(|(kind, _)| *kind == IFLA_XDP) {
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
    }
    Ok(attached)
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

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut attribute = length.to_ne_bytes().to_vec();
        attribute.extend(kind.to_ne_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn link(attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_LENGTH + LINK_LENGTH];
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message.extend(attributes);
        message
    }

    #[test]
    fn program_and_mode_are_read() {
        let name = attribute(3, b"eth0\0");
        for (mode, is_native, is_generic) in [(1, true, false), (2, false, true), (3, true, false)]
        {
            let id = attribute(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes());
            let xdp = [attribute(IFLA_XDP_ATTACHED, &[mode]), id].concat();
            let message = link(&[name.clone(), attribute(IFLA_XDP | 0x8000, &xdp)].concat());
            let expected = Attached { program: Some(77), is_native, is_generic };
            assert_eq!(parse(&message).unwrap(), expected);
        }
        let idle = link(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0])));
        assert_eq!(parse(&idle).unwrap(), Attached::default());
    }

    #[test]
    fn no_message_cut_short_is_read_beyond_its_end() {
        let xdp = attribute(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes());
        let message = link(&attribute(IFLA_XDP, &xdp));
        for length in 0..message.len() {
            match parse(&message[..length]) {
                Ok(attached) => assert_eq!(attached.program, None, "cut to {length}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
    }

    #[test]
    fn the_kernels_error_is_ours() {
        let mut message = vec![0; HEADER_LENGTH + 4];
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message[16..].copy_from_slice(&(-19_i32).to_ne_bytes());
        assert_eq!(parse(&message).unwrap_err().raw_os_error(), Some(19));
    }

    #[test]
    fn loopback_is_found() {
        let index = interface_index("lo").unwrap().unwrap();
        assert_eq!(attached(index).unwrap().program, None);
        assert_eq!(interface_index("no-such-link").unwrap(), None);
    }
}
