//! Packets and their verdicts: one table that the host runs through [`verdict`](crate::verdict::verdict)
//! and the kernel through `BPF_PROG_TEST_RUN`.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "compiled for tests alone")]

mod addresses;
mod fragments;
mod frame;
mod headers;
mod never;
mod segments;
mod unconnected;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use firewall_common::{Config, Mode, Policy, Reason, Role, own_bit, table};

use crate::source::{Family, Source};
use crate::verdict::{Flow, Socket, Tables};
use frame::{
    ACK, FIN, PSH, RST, SYN, TCP, URG, authentication, ethernet, extension, fragment6, ipv4, ipv6,
    tcp, udp, vlan,
};

pub const CLEAN4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const BANNED4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const CLEAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 1);
pub const BANNED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);

/// The one port at which the proxy listens in every case.
pub const SERVED: u16 = 443;

/// A network: its address and the length of its prefix.
pub type Prefix = (IpAddr, u8);

/// A frame, the tables it meets, and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub frame: Vec<u8>,
    /// Octets up to the end of the fixed IP header, from where on the source is known.
    pub known: usize,
    pub bans: Vec<Prefix>,
    pub allow: Vec<Prefix>,
    pub modes: Vec<(Reason, Mode)>,
    pub role: Role,
    /// Whether QUIC is served, at port 443 as is all else.
    pub quic: bool,
    /// The host's own addresses.
    pub own: Vec<IpAddr>,
    pub reason: Reason,
    pub observed: Vec<Reason>,
}

impl Case {
    fn new(name: &'static str, frame: Vec<u8>, reason: Reason) -> Self {
        let known = frame::known(&frame);
        Self {
            name,
            frame,
            known,
            bans: Vec::new(),
            allow: Vec::new(),
            modes: Vec::new(),
            role: Role::Lan,
            quic: false,
            own: Vec::new(),
            reason,
            observed: Vec::new(),
        }
    }

    /// Sets the mode of `reason` to drop, and expects it.
    fn drops(mut self, reason: Reason) -> Self {
        self.modes.push((reason, Mode::Drop));
        self.reason = reason;
        self
    }

    fn on_internet(mut self) -> Self {
        self.role = Role::Internet;
        self
    }

    fn with_quic(mut self) -> Self {
        self.quic = true;
        self
    }

    fn own(mut self, address: impl Into<IpAddr>) -> Self {
        self.own.push(address.into());
        self
    }

    fn ban(mut self, prefix: impl Into<IpAddr>, length: u8) -> Self {
        self.bans.push((prefix.into(), length));
        self
    }

    fn allow(mut self, prefix: impl Into<IpAddr>, length: u8) -> Self {
        self.allow.push((prefix.into(), length));
        self
    }

    fn mode(mut self, reason: Reason, mode: Mode) -> Self {
        self.modes.push((reason, mode));
        self
    }

    fn observes(mut self, reason: Reason) -> Self {
        self.observed.push(reason);
        self
    }

    /// The tables of this case, for the host.
    pub fn tables(&self) -> HostTables {
        let mut policy = Policy::new(self.role);
        for &(reason, mode) in &self.modes {
            policy = policy.with(reason, mode);
        }
        let mut config = Config::new().serving(&[SERVED], self.quic);
        for &address in &self.own {
            config.own |= own_bit(source(address).words());
        }
        let (allow, own) = (self.allow.clone(), self.own.clone());
        let mut tables = HostTables { config, policy, bans: Vec::new(), allow, own };
        for &(address, _) in &self.bans {
            tables.config.tables |= if address.is_ipv4() { table::BAN4 } else { table::BAN6 };
        }
        tables.bans.clone_from(&self.bans);
        for &(address, _) in &self.allow {
            tables.config.tables |= table::ALLOWED_BAN;
            tables.config.tables |= if address.is_ipv4() { table::ALLOW4 } else { table::ALLOW6 };
        }
        tables
    }
}

/// What the maps are to the kernel's program.
#[derive(Clone, Debug)]
pub struct HostTables {
    pub config: Config,
    pub policy: Policy,
    bans: Vec<Prefix>,
    allow: Vec<Prefix>,
    own: Vec<IpAddr>,
}

impl Tables for HostTables {
    type Hit = Prefix;

    fn config(&self) -> Config {
        self.config
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn now_ns(&self) -> u64 {
        1_000_000_000
    }

    fn ban(&self, source: Source) -> Option<Prefix> {
        let holds = self.bans.iter().filter(|prefix| contains(**prefix, source));
        holds.copied().max_by_key(|(_, bits)| *bits)
    }

    fn spilled(&self, _: Source) -> Option<Prefix> {
        None
    }

    fn is_range(&self, (address, bits): Prefix) -> bool {
        match address {
            IpAddr::V4(_) => bits != 32,
            IpAddr::V6(_) => bits != 64 && bits != 128,
        }
    }

    fn allows(&self, source: Source) -> bool {
        self.allow.iter().any(|prefix| contains(*prefix, source))
    }

    fn is_own(&self, address: Source) -> bool {
        self.own.iter().any(|own| source(*own) == address)
    }

    /// Of no case there is a socket: the kernel's are tried by tests of their own.
    fn socket(&self, _: &Flow) -> Socket {
        Socket::None
    }

    fn count_drop(&self, _: Prefix) {}
}

fn source(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(address) => Source::v4(address.octets()),
        IpAddr::V6(address) => Source::v6(address.octets()),
    }
}

fn contains((network, bits): Prefix, source: Source) -> bool {
    let octets = source.octets();
    let (network, address) = match (network, source.family) {
        (IpAddr::V4(network), Family::V4) => {
            let [a, b, c, d, ..] = octets;
            let address = u32::from_be_bytes([a, b, c, d]);
            (u128::from(network.to_bits()) << 96, u128::from(address) << 96)
        }
        (IpAddr::V6(network), Family::V6) => (network.to_bits(), u128::from_be_bytes(octets)),
        _ => return false,
    };
    bits == 0 || (network ^ address) >> (128 - bits) == 0
}

/// Every case; among them the [`bypasses`].
pub fn all() -> Vec<Case> {
    let mut cases = link();
    cases.extend(network());
    cases.extend(transport());
    cases.extend(bans());
    cases.extend(allowlist());
    cases.extend(modes());
    cases.extend(headers::cases());
    cases.extend(addresses::cases());
    cases.extend(fragments::cases());
    cases.extend(segments::cases());
    cases.extend(unconnected::cases());
    cases.extend(never());
    cases.extend(bypasses());
    cases
}

/// What must never be dropped nor observed, with every check that there is set to drop.
pub fn never() -> Vec<Case> {
    never::cases()
}

/// An IPv4 packet in a frame.
fn frame4(packet: &[u8]) -> Vec<u8> {
    ethernet(0x0800, packet)
}

/// An IPv6 packet in a frame.
fn frame6(packet: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, packet)
}

fn link() -> Vec<Case> {
    let clean = ipv4(CLEAN4).build(&tcp(ACK));
    let short_tag = [&[0; 12][..], &[0x81, 0, 0]].concat();
    let three_tags = vlan(&[0x88a8, 0x8100, 0x8100], 0x0800, &clean);
    vec![
        Case::new("a clean packet", ethernet(0x0800, &clean), Reason::Passed),
        Case::new("one tag", vlan(&[0x8100], 0x0800, &clean), Reason::Passed),
        Case::new("two tags", vlan(&[0x88a8, 0x8100], 0x0800, &clean), Reason::Passed),
        Case::new("a cut tag", short_tag, Reason::E1),
        Case::new("ARP", ethernet(0x0806, &[0; 28]), Reason::Passed),
        Case::new("an IEEE 802.3 length", ethernet(0x0026, &[0; 46]), Reason::Passed),
        Case::new("three tags", three_tags.clone(), Reason::Passed).observes(Reason::E2),
        Case::new("three tags, dropped", three_tags, Reason::E2).mode(Reason::E2, Mode::Drop),
    ]
}

fn network() -> Vec<Case> {
    let case4 = |name, packet: &[u8], reason| Case::new(name, ethernet(0x0800, packet), reason);
    let case6 = |name, packet: &[u8], reason| Case::new(name, ethernet(0x86dd, packet), reason);
    let whole4 = ipv4(CLEAN4).build(&tcp(ACK));
    let whole6 = ipv6(CLEAN6, TCP, &tcp(ACK));
    let mut chain = tcp(ACK);
    let mut next = TCP;
    for _ in 0..6 {
        chain = extension(next, 0, &chain);
        next = 60;
    }
    let seven = ipv6(CLEAN6, 60, &extension(60, 0, &chain));
    let length4 = |length: u16| {
        let mut packet = whole4.clone();
        packet.splice(2..4, length.to_be_bytes());
        packet
    };
    let length6 = |length: u16| {
        let mut packet = whole6.clone();
        packet.splice(4..6, length.to_be_bytes());
        packet
    };
    let first4 = |first| [&[first], &whole4[1..]].concat();
    let long_options = extension(60, 255, &extension(TCP, 255, &tcp(SYN | FIN)));
    vec![
        case4("IPv4, nothing but the header", &ipv4(CLEAN4).build(&[]), Reason::T1),
        case4("IPv4, header cut", &whole4[..19], Reason::I1),
        case4("IPv4, version 5", &first4(0x55), Reason::I1),
        case4("IPv4, four words", &first4(0x44), Reason::I1),
        case4("IPv4, header beyond the frame", &first4(0x4f), Reason::I1),
        case4("IPv4, total length less than the header", &length4(19), Reason::I2),
        case4("IPv4, total length of the header alone", &length4(20), Reason::T1),
        case4("IPv4, total length of the frame", &length4(40), Reason::Passed),
        case4("IPv4, total length beyond the frame", &length4(41), Reason::I2),
        case4("IPv4, total length of a coalesced frame", &length4(0), Reason::Passed),
        case4("IPv4, options", &ipv4(CLEAN4).options(40).build(&tcp(ACK)), Reason::Passed),
        case4("IPv4, ICMP", &ipv4(CLEAN4).protocol(1).build(&[8, 0]), Reason::Passed),
        case6("IPv6, a clean packet", &whole6, Reason::Passed),
        case6("IPv6, header cut", &whole6[..39], Reason::V1),
        case6("IPv6, version 4", &[&[0x40], &whole6[1..]].concat(), Reason::V1),
        case6("IPv6, payload of the frame", &length6(20), Reason::Passed),
        case6("IPv6, payload beyond the frame", &length6(21), Reason::V1),
        case6("IPv6, a jumbogram", &length6(0), Reason::Passed),
        case6("IPv6, no next header", &ipv6(CLEAN6, 59, &[]), Reason::Passed),
        case6("IPv6, six extension headers", &ipv6(CLEAN6, 60, &chain), Reason::Passed),
        case6("IPv6, seven extension headers", &seven, Reason::Passed).observes(Reason::V6),
        case6(
            "IPv6, extension headers beyond the linear buffer",
            &ipv6(CLEAN6, 60, &long_options),
            Reason::T4,
        )
        .observes(Reason::V6),
        case6("IPv6, an extension header cut", &ipv6(CLEAN6, 0, &[6, 0, 0]), Reason::Passed)
            .observes(Reason::V6),
        case6(
            "IPv6, an extension header beyond the packet",
            &ipv6(CLEAN6, 0, &extension(TCP, 1, &[])[..8]),
            Reason::Passed,
        )
        .observes(Reason::V6),
        case6(
            "IPv6, an authentication header",
            &ipv6(CLEAN6, 51, &authentication(TCP, &tcp(SYN | FIN))),
            Reason::T4,
        ),
        case6("IPv6, encrypted", &ipv6(CLEAN6, 50, &[0; 8]), Reason::Passed),
    ]
}

fn transport() -> Vec<Case> {
    let case4 = |name, segment: &[u8], reason| {
        Case::new(name, ethernet(0x0800, &ipv4(CLEAN4).build(segment)), reason)
    };
    let case6 = |name, segment: &[u8], reason| {
        Case::new(name, ethernet(0x86dd, &ipv6(CLEAN6, TCP, segment)), reason)
    };
    let words = |words: u8, length: usize| {
        let mut segment = tcp(ACK);
        segment[12] = words << 4;
        segment.resize(length, 0);
        segment
    };
    let port = |at: usize| {
        let mut segment = tcp(ACK);
        segment[at..at + 2].fill(0);
        segment
    };
    let mut padded = ethernet(0x0800, &ipv4(CLEAN4).build(&tcp(ACK)[..19]));
    padded.resize(60, 0);
    let first_fragment = ipv4(CLEAN4).fragment(0x2000).build(&tcp(ACK)[..16]);
    let first_whole = ipv4(CLEAN4).fragment(0x2000).build(&words(8, 24));
    let syn_fin = [&tcp(SYN | FIN)[..], &[0; 4]].concat();
    let first_syn_fin = ipv4(CLEAN4).fragment(0x2000).build(&syn_fin);
    let later = ipv4(CLEAN4).fragment(2).build(&tcp(SYN | FIN));
    let shortest = ipv4(CLEAN4).fragment(0x2000).build(&tcp(ACK)[..8]);
    let mut padded_fragment = ethernet(0x0800, &shortest);
    padded_fragment.resize(60, 0);
    let case6f = |name, field, segment: &[u8], reason| {
        let packet = ipv6(CLEAN6, 44, &fragment6(TCP, field, segment));
        Case::new(name, ethernet(0x86dd, &packet), reason)
    };
    let mut table = vec![
        case4("TCP, header cut", &tcp(ACK)[..19], Reason::T1),
        case4("TCP, four words", &words(4, 20), Reason::T1),
        case4("TCP, six words in 24 octets", &words(6, 24), Reason::Passed),
        case4("TCP, six words in 23 octets", &words(6, 23), Reason::T1),
        Case::new("TCP, header ends in the padding", padded, Reason::T1),
        Case::new(
            "TCP, first fragment, header cut",
            ethernet(0x0800, &first_fragment),
            Reason::Passed,
        ),
        Case::new(
            "TCP, first fragment, options cut",
            ethernet(0x0800, &first_whole),
            Reason::Passed,
        ),
        Case::new("TCP, first fragment, SYN and FIN", ethernet(0x0800, &first_syn_fin), Reason::T4)
            .mode(Reason::F6, Mode::Off)
            .observes(Reason::T9),
        Case::new("a later fragment holds no header", ethernet(0x0800, &later), Reason::Passed),
        Case::new("TCP, first fragment, header ends in the padding", padded_fragment, Reason::F1),
        case6f("a later IPv6 fragment holds no header", 8, &tcp(SYN | FIN), Reason::Passed),
        case6f("TCP, first IPv6 fragment, SYN and FIN", 1, &syn_fin, Reason::T4)
            .mode(Reason::F6, Mode::Off)
            .observes(Reason::T9),
        case6f("TCP, first IPv6 fragment, header cut", 1, &tcp(ACK)[..16], Reason::V7),
        case6f("TCP, atomic IPv6 fragment, header cut", 0, &tcp(ACK)[..16], Reason::T1),
        case4("TCP, source port 0", &port(0), Reason::T2),
        case4("TCP, destination port 0", &port(2), Reason::T2),
        case6("TCP over IPv6, header cut", &tcp(ACK)[..19], Reason::T1),
        case6("TCP over IPv6, destination port 0", &port(2), Reason::T2),
    ];
    for (name, flags, reason) in [
        ("SYN", SYN, Reason::Passed),
        ("RST", RST, Reason::Passed),
        ("RST, ACK", RST | ACK, Reason::Passed),
        ("FIN, ACK", FIN | ACK, Reason::Passed),
        ("SYN, ECE, CWR (RFC 3168)", SYN | 0xc0, Reason::Passed),
        ("NULL", 0, Reason::T3),
        ("FIN", FIN, Reason::T3),
        ("XMAS", FIN | PSH | URG, Reason::T3),
        ("SYN, FIN", SYN | FIN, Reason::T4),
        ("SYN, RST", SYN | RST, Reason::T5),
    ] {
        table.push(case4(name, &tcp(flags), reason));
        table.push(case6(name, &tcp(flags), reason));
    }
    table
}

fn bans() -> Vec<Case> {
    let from4 = |name, source, reason| {
        Case::new(name, ethernet(0x0800, &ipv4(source).build(&tcp(ACK))), reason)
    };
    let from6 = |name, source, reason| {
        Case::new(name, ethernet(0x86dd, &ipv6(source, TCP, &tcp(ACK))), reason)
    };
    let net4 = Ipv4Addr::new(192, 0, 2, 0);
    let net6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 0);
    let neighbour6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 3, 4, 5, 6);
    let short6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
    vec![
        from4("a banned address", BANNED4, Reason::Ban).ban(BANNED4, 32),
        from4("the next address", Ipv4Addr::new(192, 0, 2, 8), Reason::Passed).ban(BANNED4, 32),
        from4("a banned range", BANNED4, Reason::BanRange).ban(net4, 24),
        from4("the range's last address", Ipv4Addr::new(192, 0, 2, 255), Reason::BanRange)
            .ban(net4, 24),
        from4("behind the range", Ipv4Addr::new(192, 0, 3, 0), Reason::Passed).ban(net4, 24),
        from4("a banned address in a banned range", BANNED4, Reason::Ban)
            .ban(BANNED4, 32)
            .ban(net4, 24),
        from4("half a /24", BANNED4, Reason::BanRange).ban(net4, 25),
        from4("the other half of a /24", Ipv4Addr::new(192, 0, 2, 128), Reason::Passed)
            .ban(net4, 25),
        from4("a banned /16", BANNED4, Reason::BanRange).ban(Ipv4Addr::new(192, 0, 0, 0), 16),
        from4("a banned /15", BANNED4, Reason::BanRange).ban(Ipv4Addr::new(192, 0, 0, 0), 15),
        from4("everything", CLEAN4, Reason::BanRange).ban(Ipv4Addr::UNSPECIFIED, 0),
        from6("a banned /64", BANNED6, Reason::Ban).ban(net6, 64),
        from6("a banned IPv6 address", BANNED6, Reason::Ban).ban(BANNED6, 128),
        from6("the next IPv6 address", CLEAN6, Reason::Passed).ban(BANNED6, 128),
        from6("the next /64", neighbour6, Reason::Passed).ban(net6, 64),
        from6("an address in a banned /64", BANNED6, Reason::Ban).ban(net6, 64).ban(BANNED6, 128),
        from6("a banned IPv6 range", BANNED6, Reason::BanRange).ban(short6, 32),
        from6("an address in a banned IPv6 range", BANNED6, Reason::Ban)
            .ban(BANNED6, 128)
            .ban(short6, 32),
        from6("a banned /80", BANNED6, Reason::BanRange).ban(BANNED6, 80),
        from6("a banned /12", BANNED6, Reason::BanRange).ban(short6, 12),
        from6("every IPv6 address", BANNED6, Reason::BanRange).ban(Ipv6Addr::UNSPECIFIED, 0),
        from6("the other family's ban", BANNED6, Reason::Passed).ban(Ipv4Addr::UNSPECIFIED, 0),
    ]
}

fn allowlist() -> Vec<Case> {
    let from4 = |name, segment: &[u8], reason| {
        Case::new(name, ethernet(0x0800, &ipv4(BANNED4).build(segment)), reason)
    };
    let from6 = |name, segment: &[u8], reason| {
        Case::new(name, ethernet(0x86dd, &ipv6(BANNED6, TCP, segment)), reason)
    };
    let other = Ipv4Addr::new(203, 0, 113, 0);
    vec![
        from4("an allowed address is banned", &tcp(ACK), Reason::Allowed)
            .ban(BANNED4, 32)
            .allow(BANNED4, 32),
        from4("an allowed address in a banned range", &tcp(ACK), Reason::Allowed)
            .ban(BANNED4, 8)
            .allow(BANNED4, 24),
        from4("an allowed address sends a scan", &tcp(0), Reason::Allowed).allow(BANNED4, 32),
        from4("an allowed address, nothing wrong", &tcp(ACK), Reason::Passed).allow(BANNED4, 32),
        from4("another is allowed", &tcp(ACK), Reason::Ban).ban(BANNED4, 32).allow(other, 24),
        from4("another is allowed, a scan", &tcp(0), Reason::T3).allow(other, 24),
        from4("what is allowed is not observed", &tcp(0), Reason::Allowed)
            .mode(Reason::T3, Mode::Observe)
            .allow(BANNED4, 32),
        from6("an allowed IPv6 address is banned", &tcp(ACK), Reason::Allowed)
            .ban(BANNED6, 128)
            .allow(BANNED6, 48),
        from6("an allowed IPv6 address sends a scan", &tcp(0), Reason::Allowed).allow(BANNED6, 128),
        from6("the other family is allowed", &tcp(0), Reason::T3).allow(BANNED4, 0),
    ]
}

fn modes() -> Vec<Case> {
    let from4 = |name, segment: &[u8], reason| {
        Case::new(name, ethernet(0x0800, &ipv4(BANNED4).build(segment)), reason)
    };
    let observe = Mode::Observe;
    vec![
        from4("a ban observed", &tcp(ACK), Reason::Passed)
            .ban(BANNED4, 32)
            .mode(Reason::Ban, observe)
            .observes(Reason::Ban),
        from4("a ban off", &tcp(ACK), Reason::Passed).ban(BANNED4, 32).mode(Reason::Ban, Mode::Off),
        from4("a range observed", &tcp(ACK), Reason::Passed)
            .ban(BANNED4, 24)
            .mode(Reason::BanRange, observe)
            .observes(Reason::BanRange),
        from4("a ban observed, then a scan dropped", &tcp(0), Reason::T3)
            .ban(BANNED4, 32)
            .mode(Reason::Ban, observe)
            .observes(Reason::Ban),
        from4("two checks observed", &tcp(SYN | FIN | RST), Reason::Passed)
            .mode(Reason::T6, Mode::Off)
            .mode(Reason::T4, observe)
            .mode(Reason::T5, observe)
            .observes(Reason::T4)
            .observes(Reason::T5),
        from4("one observed, the next drops", &tcp(SYN | FIN | RST), Reason::T5)
            .mode(Reason::T6, Mode::Off)
            .mode(Reason::T4, observe)
            .observes(Reason::T4),
        from4("a check off", &tcp(0), Reason::Passed).mode(Reason::T3, Mode::Off),
        from4("a cut header observed is not read on", &tcp(0)[..19], Reason::Passed)
            .mode(Reason::T1, observe)
            .observes(Reason::T1),
    ]
}

/// The ways around the small XDP firewalls: in none of these may a banned source pass.
pub fn bypasses() -> Vec<Case> {
    let ban4 = |name, frame| Case::new(name, frame, Reason::Ban).ban(BANNED4, 32);
    let ban6 = |name, frame| Case::new(name, frame, Reason::Ban).ban(BANNED6, 64);
    let plain4 = ipv4(BANNED4).build(&tcp(ACK));
    let plain6 = ipv6(BANNED6, TCP, &tcp(ACK));
    let mut padded = ethernet(0x0800, &ipv4(BANNED4).protocol(17).build(&udp(9, 9)));
    padded.resize(60, 0xff);
    let options = |length| ethernet(0x0800, &ipv4(BANNED4).options(length).build(&tcp(ACK)));
    let bad = |first| ethernet(0x0800, &[&[first], &plain4[1..]].concat());
    let fragment = |field| ethernet(0x0800, &ipv4(BANNED4).fragment(field).build(&tcp(ACK)));
    let later6 = fragment6(TCP, 0xfff8, &[0; 8]);
    let mut deep = tcp(ACK);
    for _ in 0..9 {
        deep = extension(60, 0, &deep);
    }
    let dns4 = ipv4(BANNED4).protocol(17).build(&udp(53, 4000));
    let dns6 = ipv6(BANNED6, 17, &udp(53, 53));
    vec![
        ban4("options", options(4)),
        ban4("options to the limit", options(40)),
        ban4("a header of no length", bad(0x40)),
        ban4("a header beyond the frame", bad(0x4f)),
        ban4("another version", bad(0x95)),
        ban4("a tag", vlan(&[0x8100], 0x0800, &plain4)),
        ban4("a provider's tag", vlan(&[0x88a8], 0x0800, &plain4)),
        ban4("a provider's and a customer's tag", vlan(&[0x88a8, 0x8100], 0x0800, &plain4)),
        ban4("a customer's tag twice", vlan(&[0x8100, 0x8100], 0x0800, &plain4)),
        ban6("a tag before IPv6", vlan(&[0x8100], 0x86dd, &plain6)),
        ban6("two tags before IPv6", vlan(&[0x88a8, 0x8100], 0x86dd, &plain6)),
        ban4("a first fragment", fragment(0x2000)),
        ban4("a later fragment", fragment(0x2001)),
        ban4("the last fragment", fragment(0x1fff)),
        ban6(
            "hop-by-hop options",
            ethernet(0x86dd, &ipv6(BANNED6, 0, &extension(TCP, 0, &tcp(ACK)))),
        ),
        ban6(
            "an atomic fragment",
            ethernet(0x86dd, &ipv6(BANNED6, 44, &fragment6(TCP, 0, &tcp(ACK)))),
        ),
        ban6("a later IPv6 fragment", ethernet(0x86dd, &ipv6(BANNED6, 44, &later6))),
        ban6(
            "an authentication header",
            ethernet(0x86dd, &ipv6(BANNED6, 51, &authentication(TCP, &tcp(ACK)))),
        ),
        ban6("encrypted", ethernet(0x86dd, &ipv6(BANNED6, 50, &[0; 16]))),
        ban6("more extension headers than are read", ethernet(0x86dd, &ipv6(BANNED6, 60, &deep))),
        ban6("an unknown next header", ethernet(0x86dd, &ipv6(BANNED6, 253, &[0; 8]))),
        ban4("UDP from port 53", ethernet(0x0800, &dns4)),
        ban6("UDP over IPv6 from port 53", ethernet(0x86dd, &dns6)),
        ban4("TCP from port 53", ethernet(0x0800, &ipv4(BANNED4).build(&frame::tcp_ports(53, 53)))),
        ban4("ICMP", ethernet(0x0800, &ipv4(BANNED4).protocol(1).build(&[8, 0, 0, 0]))),
        ban4("GRE", ethernet(0x0800, &ipv4(BANNED4).protocol(47).build(&plain4))),
        ban4("padding", padded),
        ban4(
            "a frame of several buffers",
            ethernet(0x0800, &ipv4(BANNED4).build(&[tcp(ACK), vec![0; 8_000]].concat())),
        ),
    ]
}
