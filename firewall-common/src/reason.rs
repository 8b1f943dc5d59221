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
    /// The IPv4 header is cut short, of another version, or shorter than five words (RFC 791 3.1).
    I1 = 6, "I1", Drop;
    /// The IPv4 total length is less than the header or more than the frame (RFC 791 3.1).
    I2 = 7, "I2", Drop;
    /// The IPv6 header is cut short, of another version, or longer in its payload than the frame
    /// (RFC 8200 3).
    V1 = 8, "V1", Drop;
    /// The IPv6 extension headers are cut short or more than six (RFC 9288): not parsed.
    V6 = 9, "V6", Observe;
    /// The TCP header is cut short or shorter than five words (RFC 9293 3.1).
    T1 = 10, "T1", Drop;
    /// A TCP port is zero (RFC 6335 6).
    T2 = 11, "T2", Drop;
    /// Neither ACK, SYN nor RST (RFC 9293 3.10.7.4): NULL, FIN and XMAS scans.
    T3 = 12, "T3", Drop;
    /// SYN with FIN (RFC 6247: T/TCP is historic).
    T4 = 13, "T4", Drop;
    /// SYN with RST (RFC 9293 3.10.7).
    T5 = 14, "T5", Drop;
}

impl Reason {
    /// What this reason does on an interface of this role unless it is configured otherwise.
    pub const fn default_mode(self, role: Role) -> Mode {
        match (role, self) {
            (Role::Internet | Role::Lan, reason) => reason.common_mode(),
        }
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
