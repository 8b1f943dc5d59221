//! The network that a gateway lives in: clients on one side, the API on the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{LabError, NetNs, Port, cable};

/// Three namespaces in a row, client, gateway and API, joined by two cables.
///
/// The gateway does not forward packets: the only way from a client to the API is a proxy on the
/// gateway. Every lab uses the same addresses, since no two labs see each other.
#[derive(Debug)]
pub struct Topology {
    pub client: NetNs,
    pub gateway: NetNs,
    pub api: NetNs,
    /// Whether the IPv6 addresses exist; a kernel may be told to have none.
    pub ipv6: bool,
}

impl Topology {
    /// How many addresses the client end has in each family.
    pub const CLIENTS: u8 = 8;

    /// The gateway's interface towards the clients: the one that an XDP program belongs on.
    pub const PUBLIC_INTERFACE: &'static str = "public0";

    /// The gateway as the clients see it.
    pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    pub const GATEWAY_V6: Ipv6Addr = on_v6(0xc000, 1);

    /// The API as the gateway sees it.
    pub const API_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
    pub const API_V6: Ipv6Addr = on_v6(0xa000, 2);

    /// Makes the namespaces and the cables; about 50 ms.
    pub fn new() -> Result<Self, LabError> {
        let client = NetNs::new()?;
        let gateway = NetNs::new()?;
        let api = NetNs::new()?;
        let ipv6 = client.run(has_ipv6)?;

        let clients: Vec<(IpAddr, u8)> = (0..Self::CLIENTS)
            .flat_map(|n| [(Self::client_v4(n).into(), 24), (Self::client_v6(n).into(), 64)])
            .collect();
        let mut gateways = vec![(Self::GATEWAY_V4.into(), 24), (Self::GATEWAY_V6.into(), 64)];
        // One address in each client's network, so that each is a neighbour and none needs a route.
        gateways.extend((0..Self::CLIENTS).map(|n| (on_v6(client_network(n), 1).into(), 64)));
        cable(
            Port {
                namespace: &client,
                interface: "client0",
                addresses: &usable(&clients, ipv6),
                gateways: &if ipv6 {
                    vec![Self::GATEWAY_V4.into(), on_v6(client_network(0), 1).into()]
                } else {
                    vec![Self::GATEWAY_V4.into()]
                },
            },
            Port {
                namespace: &gateway,
                interface: Self::PUBLIC_INTERFACE,
                addresses: &usable(&gateways, ipv6),
                gateways: &[],
            },
        )?;
        cable(
            Port {
                namespace: &gateway,
                interface: "private0",
                addresses: &usable(
                    &[(Ipv4Addr::new(10, 77, 1, 1).into(), 24), (on_v6(0xa000, 1).into(), 64)],
                    ipv6,
                ),
                gateways: &[],
            },
            Port {
                namespace: &api,
                interface: "api0",
                addresses: &usable(&[(Self::API_V4.into(), 24), (Self::API_V6.into(), 64)], ipv6),
                gateways: &[],
            },
        )?;
        Ok(Self { client, gateway, api, ipv6 })
    }

    /// The `n`th client's address; `n` is less than [`Topology::CLIENTS`].
    pub const fn client_v4(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 2 + n)
    }

    /// The `n`th client's address. Each is in a /64 of its own: a ban of one is not a ban of all.
    pub const fn client_v6(n: u8) -> Ipv6Addr {
        on_v6(client_network(n), 2)
    }
}

const fn client_network(n: u8) -> u16 {
    0xc100 + n as u16
}

const fn on_v6(network: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, network, 0, 0, 0, host)
}

/// Whether the calling thread's namespace has the IPv6 loopback address, which the kernel gives to
/// every interface that may use IPv6.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn usable(addresses: &[(IpAddr, u8)], ipv6: bool) -> Vec<(IpAddr, u8)> {
    addresses.iter().copied().filter(|(address, _)| ipv6 || address.is_ipv4()).collect()
}
