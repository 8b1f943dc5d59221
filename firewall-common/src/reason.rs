//! Why a packet was dropped, or would have been: the identifiers that operators filter by.

/// What is done with a packet that a check objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Drop,
    /// Count it, sample it, and let it pass.
    Observe,
    Off,
}

/// What an interface faces, which decides the modes of checks unless they are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// The public Internet alone: addresses that are never routed there are no sources.
    Internet,
    /// A network of one's own, or one that nothing is known of.
    #[default]
    Lan,
}

/// What a finding proves of the source that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing: anybody can send such a packet in anybody's name.
    Spoofable,
    /// That it receives what it is sent: it completed a handshake, or made a request.
    Routable,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $id:literal, $mode:ident;)*) => {
        /// Why a packet got its verdict. Each has a counter, an identifier, and a mode.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const COUNT: u32 = {
                let (mut count, mut rest) = (0, Self::ALL);
                while let [_, tail @ ..] = rest {
                    (count, rest) = (count + 1, tail);
                }
                count
            };

            /// The stable identifier, for logs, metrics and configuration.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            const fn common_mode(self) -> Mode {
                match self { $(Self::$name => Mode::$mode,)* }
            }
        }

        impl TryFrom<u32> for Reason {
            type Error = UnknownReason;

            fn try_from(number: u32) -> Result<Self, UnknownReason> {
                match number {
                    $($number => Ok(Self::$name),)*
                    _ => Err(UnknownReason(number)),
                }
            }
        }
    };
}

reasons! {
    /// Nothing objected, or only checks in observe mode did.
    Passed = 0, "passed", Off;
    /// Something objected, but the source is on the management allowlist.
    Allowed = 1, "allowed", Off;
    /// The source's address, or its /64, is banned.
    Ban = 2, "ban", Drop;
    /// The source is in a banned range.
    BanRange = 3, "ban-range", Drop;
    /// The frame ends within its Ethernet header or a VLAN tag (IEEE 802.3, 802.1Q).
    E1 = 4, "E1", Drop;
    /// More than two VLAN tags (IEEE 802.1ad): what is behind them is not read.
    E2 = 5, "E2", Observe;
    /// The frame's source is a group address (IEEE 802.3 3.2.3).
    E3 = 6, "E3", Observe;
    /// A datagram to one host in a frame to many (RFC 1122 3.3.6).
    E4 = 7, "E4", Observe;
    /// The IPv4 header is cut short, of another version, or shorter than five words (RFC 791 3.1).
    I1 = 8, "I1", Drop;
    /// The IPv4 total length is less than the header or more than the frame (RFC 791 3.1).
    I2 = 9, "I2", Drop;
    /// The IPv4 header's checksum is wrong (RFC 1122 3.2.1.2).
    I3 = 10, "I3", Off;
    /// An IPv4 source route (RFC 7126 4.3, 4.4).
    I4 = 11, "I4", Drop;
    /// Any other IPv4 option (RFC 7126).
    I5 = 12, "I5", Observe;
    /// The reserved flag of the IPv4 header is set (RFC 791 3.1).
    I6 = 13, "I6", Off;
    /// A fragment that must not be fragmented (RFC 6864 4.1).
    I7 = 14, "I7", Observe;
    /// The time to live, or hop limit, is zero (RFC 1122 3.2.1.7).
    I8 = 15, "I8", Off;
    /// An IPv4 source that is no host: 0/8 but for DHCP and IGMP, 127/8, 224/4, 240/4 (RFC 1122
    /// 3.2.1.3).
    I9 = 16, "I9", Drop;
    /// A source that is not routed on the Internet: private, shared, link-local, benchmarking
    /// (RFC 6890).
    I10 = 17, "I10", Off;
    /// Source and destination are the same: LAND (CERT CA-1997-28).
    I11 = 18, "I11", Drop;
    /// TCP, or UDP to a served port, to a broadcast or multicast destination (RFC 1122 4.2.3.10).
    I12 = 19, "I12", Drop;
    /// The destination is none of the host's addresses (RFC 1122 3.3.4.2, the strong model).
    I13 = 20, "I13", Off;
    /// A source reserved for documentation (RFC 5737, RFC 3849).
    I14 = 21, "I14", Off;
    /// The source is one of the host's own addresses (RFC 2827).
    I15 = 22, "I15", Observe;
    /// A first fragment too short for the ports, or for TCP's flags (RFC 1858 3).
    F1 = 23, "F1", Drop;
    /// A TCP fragment at offset eight, over the flags of the first (RFC 3128).
    F2 = 24, "F2", Drop;
    /// A fragment that ends beyond the longest datagram: ping of death (RFC 791 3.1).
    F3 = 25, "F3", Drop;
    /// A fragment before the last whose length is no multiple of eight (RFC 791 3.1, RFC 8200 4.5).
    F4 = 26, "F4", Drop;
    /// A fragmented datagram to a port where QUIC is served (RFC 9000 14).
    F5 = 27, "F5", Drop;
    /// A fragmented SYN to a port that is served (RFC 9293 3.7.1).
    F6 = 28, "F6", Drop;
    /// The IPv6 header is cut short, of another version, or longer in its payload than the frame
    /// (RFC 8200 3).
    V1 = 29, "V1", Drop;
    /// TCP or UDP from an IPv6 source that is no host: `::`, `::1`, mapped, discard-only, site-local,
    /// multicast (RFC 4291, RFC 6666, RFC 3879).
    V2 = 30, "V2", Drop;
    /// A link-local source to a global destination (RFC 4291 2.5.6).
    V3 = 31, "V3", Off;
    /// A routing header of type 0 (RFC 5095).
    V4 = 32, "V4", Drop;
    /// Any other routing header (RFC 9288 3.5).
    V5 = 33, "V5", Observe;
    /// Extension headers cut short, more than six or than 256 octets, or hop-by-hop options not first
    /// (RFC 8200 4.1, RFC 9288).
    V6 = 34, "V6", Observe;
    /// A first IPv6 fragment that ends before the transport header does (RFC 7112).
    V7 = 35, "V7", Drop;
    /// The TCP header is cut short or shorter than five words (RFC 9293 3.1).
    T1 = 36, "T1", Drop;
    /// A TCP port is zero (RFC 6335 6).
    T2 = 37, "T2", Drop;
    /// Neither ACK, SYN nor RST (RFC 9293 3.10.7.4): NULL, FIN and XMAS scans.
    T3 = 38, "T3", Drop;
    /// SYN with FIN (RFC 6247: T/TCP is historic).
    T4 = 39, "T4", Drop;
    /// SYN with RST (RFC 9293 3.10.7).
    T5 = 40, "T5", Drop;
    /// RST with FIN, or FIN, PSH and URG at once.
    T6 = 41, "T6", Observe;
    /// Urgent data to a served port (RFC 6093).
    T7 = 42, "T7", Off;
    /// A SYN with data and without TCP Fast Open (RFC 7413).
    T9 = 43, "T9", Observe;
    /// The TCP options of a SYN are malformed (RFC 9293 3.1).
    T10 = 44, "T10", Observe;
    /// A SYN whose maximum segment size is less than 48 octets (CVE-2019-11479).
    T11 = 45, "T11", Drop;
    /// A SYN as scanners write it: no window, sequence number zero, an acknowledgement number, or a
    /// maximum segment size below 536 octets (RFC 9293 3.7.1).
    T12 = 46, "T12", Observe;
    /// SYN and ACK to a served port: a reflected answer.
    T13 = 47, "T13", Observe;
    /// A TCP segment, not a SYN, that no socket waits for (RFC 9293 3.10.7.1).
    T14 = 48, "T14", Off;
    /// The UDP length is less than eight or more than the datagram (RFC 768).
    U1 = 49, "U1", Drop;
    /// The UDP destination port is zero, or the source port is and QUIC is served (RFC 6335 6).
    U2 = 50, "U2", Drop;
    /// UDP from a port that is known to amplify, and no socket waits for it (CERT TA14-017A).
    U3 = 51, "U3", Off;
    /// UDP that no socket waits for.
    U4 = 52, "U4", Off;
    /// A QUIC Initial in a datagram of less than 1,200 octets (RFC 9000 14.1).
    U5 = 53, "U5", Drop;
    /// UDP to a served port without QUIC.
    U6 = 54, "U6", Drop;
    /// An ICMP redirect, timestamp or address mask, an echo of more than 1,024 octets or to many
    /// (RFC 6918, RFC 4890).
    C3 = 55, "C3", Observe;
    /// Neither TCP, UDP nor the family's ICMP.
    G1 = 56, "G1", Off;
    /// More new connections than the source's budget (RFC 4987 3.1).
    T15 = 57, "T15", Observe;
    /// A new connection that was asked for a SYN cookie instead (RFC 4987 3.6).
    T16 = 58, "T16", Off;
    /// More ICMP echo requests than the source's budget, or everybody's.
    C1 = 59, "C1", Observe;
    /// More ICMP errors than everybody's budget (RFC 4443 2.4); below it they always pass, for paths
    /// are found by them (RFC 4890 4.3.1).
    C2 = 60, "C2", Drop;
    /// More UDP datagrams than the source's budget.
    B1 = 61, "B1", Observe;
    /// More packets than the source's budget.
    B2 = 62, "B2", Off;
    /// A new connection shed under pressure, its source not being in good standing.
    S1 = 63, "S1", Drop;
}

impl Reason {
    /// What this reason does on an interface of this role unless it is configured otherwise.
    pub const fn default_mode(self, role: Role) -> Mode {
        match (role, self) {
            (Role::Internet, Self::I10) => Mode::Drop,
            (Role::Internet, Self::I14) => Mode::Observe,
            (Role::Internet | Role::Lan, reason) => reason.common_mode(),
        }
    }

    /// What a packet proves that gets this reason: nothing. Each is found in a single packet, before
    /// anything was sent to its source.
    pub const fn evidence(self) -> Evidence {
        Evidence::Spoofable
    }

    /// Whether this is a check of packets, whose mode may be set; bans have a mode of their own,
    /// and cookies a key.
    pub const fn is_check(self) -> bool {
        !matches!(self, Self::Passed | Self::Allowed | Self::Ban | Self::BanRange | Self::T16)
    }
}

/// A number that is no [`Reason`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason(pub u32);

impl core::fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "expected a reason below {}, found {}", Reason::COUNT, self.0)
    }
}

impl core::error::Error for UnknownReason {}

/// A set of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Reasons(u64);

impl Reasons {
    pub const NONE: Self = Self(0);
    pub const BITS: u32 = u64::BITS;

    #[inline(always)]
    pub const fn holds(self, reason: Reason) -> bool {
        self.0 & (1 << reason as u32) != 0
    }

    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn with(self, reason: Reason) -> Self {
        Self(self.0 | 1 << reason as u32)
    }

    #[inline(always)]
    #[must_use]
    pub const fn without(self, reason: Reason) -> Self {
        Self(self.0 & !(1 << reason as u32))
    }

    /// The set of what is in both.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set of what is in either.
    #[inline(always)]
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set that has these bits.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The reason of the least number; none of an empty set.
    #[inline(always)]
    pub fn first(self) -> Option<Reason> {
        Reason::try_from(self.0.trailing_zeros()).ok()
    }

    /// The number whose bit `n` says whether reason `n` is in the set.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_identifiers_come_back() {
        let mut seen = std::collections::HashSet::new();
        for (number, &reason) in (0..).zip(Reason::ALL) {
            assert_eq!(reason as u32, number);
            assert_eq!(Reason::try_from(number), Ok(reason));
            assert!(seen.insert(reason.id()), "{} is given twice", reason.id());
        }
        assert_eq!(Reason::try_from(Reason::COUNT), Err(UnknownReason(Reason::COUNT)));
    }
}
