//! Who speaks: the connection's peer, and the client behind it.

use std::net::IpAddr;

use ipnet::IpNet;

/// Who speaks on a connection: the other end of the socket, or whom a balancer there names as the one
/// whose connection it passes on. An IPv4-mapped IPv6 address is folded to IPv4, so that one host
/// has one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub IpAddr);

impl PeerAddr {
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

/// The caller, once trusted proxies have been seen through. Equal to the peer unless the peer is a
/// trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

impl ClientAddr {
    /// What is banned when this client is: the address for IPv4, its /64 for IPv6, in which one host
    /// may take any address it likes (RFC 7934).
    pub fn ban_target(self) -> IpNet {
        match self.0 {
            IpAddr::V4(address) => IpNet::from(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpNet::new_assert(IpAddr::V6(network.into()), 64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ban_target_is_the_address_or_its_64() {
        for (client, target) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ] {
            let client = ClientAddr(client.parse().unwrap());
            assert_eq!(client.ban_target(), target.parse::<IpNet>().unwrap());
        }
    }
}
