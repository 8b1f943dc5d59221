//! Whom nobody can lock out: the management allowlist, and where each of its entries comes from.
//!
//! What the host shows is read once, at start. Later a stranger may open connections of his own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::ban::exempt::Exempt;
use crate::control::config::{Detect, Management};

mod host;
mod sockets;

/// Peers of SSH that are taken in; a host with more sessions is no gateway.
const SSH_PEERS_MAX: usize = 64;

/// Why somebody is on the allowlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowSource {
    /// `management.allow`.
    Configured,
    /// `management.loopback`.
    Loopback,
    /// `management.own_addresses`.
    OwnAddress,
    /// A default route leads to it.
    Gateway,
    /// `resolv.conf` names it.
    Dns,
    /// Somebody is logged in from there.
    Ssh,
    /// `clients.trusted_proxies` or `listen.proxy_protocol`: never banned, for others stand behind
    /// it.
    TrustedProxy,
}

impl AllowSource {
    /// The word for it in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Loopback => "loopback",
            Self::OwnAddress => "own-address",
            Self::Gateway => "gateway",
            Self::Dns => "dns",
            Self::Ssh => "ssh",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

/// One entry of the allowlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Allowed {
    pub network: IpNet,
    pub source: AllowSource,
}

/// The allowlist that the configuration and the host amount to, in order.
///
/// # Errors
///
/// When the host's own addresses are wanted and cannot be read. What else the host does not show is
/// left out, with a warning.
pub fn allowlist<'a>(
    management: &Management,
    proxies: impl Iterator<Item = &'a IpNet>,
) -> Result<Vec<Allowed>, std::io::Error> {
    let configured = management.allow.iter().map(|&net| (net, AllowSource::Configured));
    let proxies = proxies.map(|&net| (net, AllowSource::TrustedProxy));
    let mut found: Vec<(IpNet, AllowSource)> = configured.chain(proxies).collect();
    if management.loopback {
        found.extend(Exempt::loopback().map(|net| (net, AllowSource::Loopback)));
    }
    let mut add = |addresses: &[IpAddr], source| {
        // Loopback is ruled by its own key, and nobody is "any address".
        let usable = addresses.iter().map(IpAddr::to_canonical).filter(|address| {
            !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
        });
        found.extend(usable.map(|address| (IpNet::from(address), source)));
    };
    if management.own_addresses {
        add(&own_addresses()?, AllowSource::OwnAddress);
    }
    let root = Path::new("/");
    for detect in &management.detect {
        match detect {
            Detect::Gateway => add(&host::gateways(root), AllowSource::Gateway),
            Detect::Dns => add(&host::name_servers(root), AllowSource::Dns),
            Detect::Ssh => {
                let connection = std::env::var("SSH_CONNECTION").ok();
                let mut peers = host::ssh_peers(root, connection.as_deref());
                if peers.len() > SSH_PEERS_MAX {
                    tracing::warn!(found = peers.len(), "too many SSH peers to allow them all");
                    peers.truncate(SSH_PEERS_MAX);
                }
                add(&peers, AllowSource::Ssh);
            }
        }
    }
    let allowed = found
        .into_iter()
        .map(|(network, source)| Allowed { network: crate::ban::canonical(network), source });
    Ok(allowed.collect::<BTreeSet<_>>().into_iter().collect())
}

/// The addresses of every interface in this network namespace.
pub fn own_addresses() -> std::io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Management {
        Management {
            allow: Vec::new(),
            loopback: false,
            own_addresses: false,
            detect: BTreeSet::new(),
        }
    }

    #[test]
    fn each_entry_tells_where_it_comes_from() {
        let management = Management {
            allow: vec!["192.0.2.9/24".parse().unwrap()],
            loopback: true,
            own_addresses: true,
            ..none()
        };
        let allowed = allowlist(&management, ["10.0.0.1/32".parse().unwrap()].iter()).unwrap();
        let find = |net: &str, source| {
            let network = net.parse().unwrap();
            allowed.contains(&Allowed { network, source })
        };
        assert!(find("192.0.2.0/24", AllowSource::Configured), "{allowed:?}");
        assert!(find("10.0.0.1/32", AllowSource::TrustedProxy));
        assert!(find("127.0.0.0/8", AllowSource::Loopback));
        let is_own = |allowed: &&Allowed| allowed.source == AllowSource::OwnAddress;
        assert!(allowed.iter().filter(is_own).all(|own| !own.network.addr().is_loopback()));
    }

    #[test]
    fn everything_can_be_switched_off() {
        assert_eq!(allowlist(&none(), [].iter()).unwrap(), []);
    }

    #[test]
    fn names_are_those_of_the_listing() {
        for source in [AllowSource::Configured, AllowSource::OwnAddress, AllowSource::TrustedProxy]
        {
            assert_eq!(serde_json::to_value(source).unwrap(), source.name());
        }
    }
}
