//! Which interfaces are wanted, and what is known of each.

use std::fmt;
use std::str::FromStr;

use firewall_common::Role;

use super::netlink::Link;

/// `IFNAMSIZ` less its final zero.
const NAME_OCTETS: usize = 15;

/// A name of interfaces, in which `*` stands for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// A text that can match no interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no interface's name or pattern: {problem}")]
pub struct PatternError {
    text: String,
    problem: &'static str,
}

impl Pattern {
    /// Whether it has a wildcard.
    pub fn is_wild(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// Whether it stands for the name.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut from) = (0, 0);
        // The last star, and how much of the name it has been tried for.
        let mut star: Option<(usize, usize)> = None;
        while let Some(octet) = name.get(from) {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(wanted) if *wanted == b'?' || wanted == octet => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    let Some((place, tried)) = star else { return false };
                    star = Some((place, tried + 1));
                    at = place + 1;
                    from = tried + 1;
                }
            }
        }
        pattern.iter().skip(at).all(|rest| *rest == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // What the kernel takes for a name (`dev_valid_name`), wildcards aside.
        let problem = if text.is_empty() {
            "it is empty"
        } else if text == "." || text == ".." {
            "no interface may be called that"
        } else if text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
        {
            "'/', ':', spaces and control characters are in no name"
        } else if text.bytes().filter(|octet| *octet != b'*').count() > NAME_OCTETS {
            "a name has at most 15 octets"
        } else if text.len() > 2 * NAME_OCTETS {
            "it has more stars than a name has octets"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(PatternError { text: text.to_owned(), problem })
    }
}

/// Interfaces to attach to, now and when they appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceOptions {
    pub pattern: Pattern,
    pub role: Role,
    /// Whether something is wrong where none is attached.
    pub is_required: bool,
    /// For a device without native mode on top of another, as a VLAN: attach to the one beneath,
    /// natively, which filters all of that one's traffic.
    pub beneath: bool,
}

impl InterfaceOptions {
    /// Interfaces of which nothing is known, and which may be missing.
    pub fn of(pattern: Pattern) -> Self {
        Self { pattern, role: Role::default(), is_required: false, beneath: false }
    }
}

/// Kinds of devices that hand on what one other device received.
const STACKED: [&str; 4] = ["vlan", "macvlan", "ipvlan", "macvtap"];

impl Link {
    /// The index of the device that this one is stacked on.
    pub(super) fn lower(&self) -> Option<u32> {
        let kind = self.kind.as_deref()?;
        self.beneath.filter(|_| STACKED.contains(&kind))
    }

    pub(super) fn is_bond(&self) -> bool {
        self.kind.as_deref() == Some("bond")
    }
}

/// The links that are wanted, with the first option that wants each.
///
/// A wildcard never stands for loopback, nor for what is filtered already: a device on top of one
/// that is wanted, or a member of a bond that is.
pub(super) fn wanted<'a>(
    links: &'a [Link],
    options: &'a [InterfaceOptions],
) -> Vec<(&'a Link, &'a InterfaceOptions)> {
    let first = |link: &Link| options.iter().find(|option| option.pattern.matches(&link.name));
    let is_wanted = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.is_some_and(|link| !link.is_loopback && first(link).is_some())
    };
    let is_bond = |index: &u32| links.iter().any(|link| link.index == *index && link.is_bond());
    let is_covered = |link: &Link| {
        link.lower().is_some_and(is_wanted) || link.master.filter(is_bond).is_some_and(is_wanted)
    };
    let want = |link: &'a Link| {
        let exact = options
            .iter()
            .find(|option| !option.pattern.is_wild() && option.pattern.matches(&link.name));
        let wild = || first(link).filter(|_| !link.is_loopback && !is_covered(link));
        Some((link, exact.or_else(wild)?))
    };
    links.iter().filter_map(want).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_as_a_shells_do() {
        for (text, matching, others) in [
            ("eth0", vec!["eth0"], vec!["eth", "eth00", "eth1", "xeth0", ""]),
            ("eth*", vec!["eth", "eth0", "eth12", "eth0.5"], vec!["et", "xeth0", "Eth0"]),
            ("eth?", vec!["eth0", "ethx"], vec!["eth", "eth10"]),
            ("*", vec!["", "lo", "eth0"], vec![]),
            ("en*s0f?", vec!["enp3s0f1", "ens0s0f0", "ens0fs0f0"], vec!["enp3s0f10", "enp3s0f"]),
            ("*a*b*", vec!["ab", "xaxbx", "aab"], vec!["ba", "a", "b"]),
            ("[a]", vec!["[a]"], vec!["a"]),
            ("**0", vec!["eth0", "0"], vec!["eth1"]),
        ] {
            for name in matching {
                assert!(pattern(text).matches(name), "{text} {name}");
            }
            for name in others {
                assert!(!pattern(text).matches(name), "{text} {name}");
            }
        }
    }

    #[test]
    fn what_no_interface_is_called_is_refused() {
        for text in ["eth0", "abcdefghijklmno", "abcdefghijklmno*", "eth0.100", "a-b_c", "?"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for text in
            ["", ".", "..", "a/b", "a b", "eth0:1", "abcdefghijklmnop", "a\n", &"*".repeat(31)]
        {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    fn link(index: u32, name: &str, kind: &str) -> Link {
        let kind = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
        Link { index, name: name.into(), kind, ..Link::default() }
    }

    #[test]
    fn a_wildcard_wants_nothing_twice() {
        let links = [
            Link { is_loopback: true, ..link(1, "lo", "") },
            link(2, "eth0", ""),
            Link { beneath: Some(2), ..link(3, "eth0.5", "vlan") },
            // A veth's number names its other end, which it is not stacked on.
            Link { beneath: Some(2), ..link(4, "eth7", "veth") },
            link(5, "bond0", "bond"),
            Link { master: Some(5), ..link(6, "eth1", "") },
            link(7, "br0", "bridge"),
            Link { master: Some(7), ..link(8, "eth2", "") },
        ];
        let of = |text: &str| InterfaceOptions::of(pattern(text));
        let names = |texts: &[&str]| {
            let options: Vec<_> = texts.iter().map(|text| of(text)).collect();
            let wanted = wanted(&links, &options);
            wanted
                .iter()
                .map(|(link, option)| format!("{} by {}", link.name, option.pattern))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&["*"]),
            ["eth0 by *", "eth7 by *", "bond0 by *", "br0 by *", "eth2 by *"]
        );
        assert_eq!(names(&["eth0.*"]), ["eth0.5 by eth0.*"]);
        assert_eq!(names(&["eth?", "lo"]).len(), 5);
        assert_eq!(names(&["eth*", "eth0.5"])[1], "eth0.5 by eth0.5");
        assert_eq!(names(&["eth1", "bond*"]), ["bond0 by bond*", "eth1 by eth1"]);
        assert_eq!(names(&[]), [""; 0]);
    }
}
