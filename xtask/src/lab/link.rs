//! Cables: veth pairs between namespaces, and the addresses on their ends.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{LabError, NetNs};

/// Ethernet's; native XDP on veth asks for at most 3498 on the other end.
const MTU: u32 = 1500;

/// An answer of the kernel's that takes longer than this is none.
const NETLINK_PATIENCE: Duration = Duration::from_secs(10);

/// One end of a cable: an interface in a namespace, and its addresses with their prefix lengths.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    pub namespace: &'a NetNs,
    /// At most 15 octets.
    pub interface: &'a str,
    pub addresses: &'a [(IpAddr, u8)],
    /// Where everything goes that is on no attached network.
    pub gateways: &'a [IpAddr],
}

/// Joins two ports by a veth pair, both ends up. The addresses can be used at once: IPv6 addresses
/// skip duplicate address detection.
pub fn cable(left: Port<'_>, right: Port<'_>) -> Result<(), LabError> {
    let other_end = LinkMessageBuilder::<LinkUnspec>::new()
        .name(right.interface)
        .mtu(MTU)
        .setns_by_fd(right.namespace.file.as_raw_fd())
        .build();
    let pair = LinkVeth::new(left.interface, right.interface)
        .mtu(MTU)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)))
        .build();
    left.namespace.run(|| {
        netlink("making a veth pair", async |handle| handle.link().add(pair).execute().await)
    })??;
    // Addresses come after both ends are up: without a carrier IPv6 holds them back.
    for port in [left, right] {
        port.namespace.run(|| up(port.interface))??;
    }
    [left, right].into_iter().try_for_each(give)
}

/// Gives an interface that is there, and up, its addresses and routes.
pub fn give(port: Port<'_>) -> Result<(), LabError> {
    port.namespace.run(|| address(port))?
}

/// Deletes an interface of the namespace; the other end of its cable goes with it.
pub fn unplug(namespace: &NetNs, interface: &str) -> Result<(), LabError> {
    namespace.run(|| {
        let index = index(interface)?;
        netlink("deleting an interface", async |handle| handle.link().del(index).execute().await)
    })?
}

/// Brings an interface of the calling thread's namespace up.
pub(super) fn up(interface: &str) -> Result<(), LabError> {
    let message = LinkUnspec::new_with_name(interface).up().build();
    netlink("bringing an interface up", async |handle| handle.link().set(message).execute().await)
}

/// Gives an interface of the calling thread's namespace its addresses and routes.
fn address(port: Port<'_>) -> Result<(), LabError> {
    let index = index(port.interface)?;
    netlink("adding an address", async |handle| {
        for &(address, prefix) in port.addresses {
            let mut request = handle.address().add(index, address, prefix);
            if address.is_ipv6() {
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            }
            request.execute().await?;
        }
        Ok(())
    })?;
    netlink("adding a route", async |handle| {
        for gateway in port.gateways {
            let route = match gateway {
                IpAddr::V4(gateway) => {
                    RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(*gateway).build()
                }
                IpAddr::V6(gateway) => {
                    RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(*gateway).build()
                }
            };
            handle.route().add(route).execute().await?;
        }
        Ok(())
    })
}

/// The index of an interface of the calling thread's namespace.
pub(super) fn index(interface: &str) -> Result<u32, LabError> {
    if_nametoindex(interface)
        .map_err(|errno| LabError::failed("finding an interface", errno.into()))
}

/// Talks to the kernel about the calling thread's namespace.
pub(super) fn netlink(
    operation: &'static str,
    talk: impl AsyncFnOnce(&Handle) -> Result<(), rtnetlink::Error>,
) -> Result<(), LabError> {
    let failed = |source| LabError::failed(operation, source);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let outcome = runtime.block_on(async {
        let (connection, handle, _messages) = rtnetlink::new_connection().map_err(failed)?;
        let connection = tokio::spawn(connection);
        let outcome = tokio::time::timeout(NETLINK_PATIENCE, talk(&handle)).await;
        connection.abort();
        Ok(outcome)
    })?;
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(LabError::refused(
            operation,
            "CAP_NET_ADMIN",
            io::Error::from_raw_os_error(message.raw_code().saturating_neg()),
        )),
        Ok(Err(error)) => Err(failed(io::Error::other(error))),
        Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}
