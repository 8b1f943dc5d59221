//! Hosts that a request may name, and whether it names one of them.
//!
//! Names are compared without regard to case. A port that is the default of the server's scheme may
//! be given or left out. A full stop at the end of a name makes it another one: some readers drop it
//! and others do not, so it is served only where the list has it.

use core::net::Ipv6Addr;

use super::paths::Pattern;

/// Which hosts are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostRule {
    #[default]
    Any,
    Of(Vec<Host>),
}

/// One host that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: Name,
    pub(crate) port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Text(Box<str>),
    Address(Ipv6Addr),
    /// In lower case.
    Pattern(Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Any,
    /// It may be left out if it is the default.
    Is {
        number: u16,
        is_default: bool,
    },
    /// That of whichever web scheme.
    Default,
}

impl HostRule {
    /// Whether a request for `authority`, its `Host`, is served.
    pub(crate) fn allows(&self, authority: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Of(hosts) => authority
                .and_then(split)
                .is_some_and(|(name, port)| hosts.iter().any(|host| host.is(name, port))),
        }
    }

    /// What either of the rules allows.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Of(mut hosts), Self::Of(others)) => {
                hosts.extend(others);
                Self::Of(hosts)
            }
            _ => Self::Any,
        }
    }
}

impl Host {
    fn is(&self, name: &str, port: Option<u16>) -> bool {
        let is_port = match (self.port, port) {
            (Port::Any, _) | (Port::Default, None | Some(80 | 443)) => true,
            (Port::Is { is_default, .. }, None) => is_default,
            (Port::Is { number, .. }, Some(port)) => number == port,
            (Port::Default, Some(_)) => false,
        };
        is_port
            && match &self.name {
                Name::Text(text) => text.eq_ignore_ascii_case(name),
                Name::Address(expected) => address(name) == Some(*expected),
                Name::Pattern(pattern) => {
                    pattern.split(&name.to_ascii_lowercase(), &mut Vec::new()).is_some()
                }
            }
    }

    /// A host as an operator names it: any port will do where none is given.
    pub(crate) fn named(text: &str) -> Option<Self> {
        let (name, port) = split(text)?;
        let name = match address(name) {
            Some(address) => Name::Address(address),
            None if is_name(name) => Name::Text(name.into()),
            None => return None,
        };
        let port = port.map_or(Port::Any, |number| Port::Is {
            number,
            is_default: matches!(number, 80 | 443),
        });
        Some(Self { name, port })
    }
}

/// Octets that a registered name may have in a `Host` that is accepted at all.
pub(crate) fn is_name(text: &str) -> bool {
    let is_octet = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'.' | b'-' | b'_' | b'~');
    !text.is_empty() && text.bytes().all(is_octet)
}

/// An IPv6 address in brackets.
pub(crate) fn address(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Name and port; none where the port is no number.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
            let port = port.parse().ok().filter(|_| is_number)?;
            Some((name, Some(port)))
        }
        _ => Some((authority, None)),
    }
}
