//! What a ban is of: an address or a network.

use std::net::IpAddr;

use ipnet::IpNet;

/// `192.0.2.1`, `2001:db8::/64`.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpNetOrAddress(pub(super) IpNet);

impl std::str::FromStr for IpNetOrAddress {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address.to_canonical())));
        }
        text.parse::<IpNet>().map(|net| Self(net.trunc()))
    }
}
