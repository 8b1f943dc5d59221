//! From a frame and the tables to a verdict: the order of the packet path.

use firewall_common::{Config, FOREVER, Policy, Reason, Reasons, table};

use crate::packet::{Packet, field};
use crate::source::{
    Family, IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_TCP, Payload, Source, Transport, payload,
    transport4, transport6,
};

/// Which table of exact bans is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    V4,
    /// By the first 64 bits of an IPv6 address.
    Network6,
    V6,
}

/// The tables that a packet is judged by, and the clock of their deadlines.
pub trait Tables {
    /// A ban that was found.
    type Hit: Copy;

    fn config(&self) -> Config;

    /// What is to be done on the interface that the packet came in by.
    fn policy(&self) -> Policy;

    /// The time in nanoseconds on `CLOCK_MONOTONIC`, as of the last tick.
    fn now_ns(&self) -> u64;

    /// The ban of exactly this source, or of its /64.
    fn exact(&self, table: Exact, source: Source) -> Option<Self::Hit>;

    /// The ban of the longest range that holds `source`.
    fn range(&self, source: Source) -> Option<Self::Hit>;

    /// Whether the management allowlist holds `source`.
    fn allows(&self, source: Source) -> bool;

    /// The moment at which the ban ends.
    fn until_ns(&self, hit: Self::Hit) -> u64;

    /// Counts one packet dropped by the ban.
    fn count_drop(&self, hit: Self::Hit);
}

/// What becomes of a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why; [`Reason::Passed`] and [`Reason::Allowed`] pass, every other reason drops.
    pub reason: Reason,
    /// The checks that objected in observe mode.
    pub observed: Reasons,
    /// Whom the packet names as its sender.
    pub source: Source,
    /// Whose counters it is counted in.
    pub slot: u32,
}

impl Verdict {
    #[inline(always)]
    pub const fn drops(&self) -> bool {
        !matches!(self.reason, Reason::Passed | Reason::Allowed)
    }
}

/// What has been found of one packet so far.
struct Inspection<H> {
    config: Config,
    policy: Policy,
    observed: Reasons,
    source: Source,
    /// The ban that drops the packet.
    hit: Option<H>,
}

/// Judges a frame.
///
/// The ban is looked up as soon as the fixed IP header is there, so that neither options, fragments
/// nor extension headers evade it. The allowlist wins over everything, but only a packet that
/// something objected to asks it.
#[inline(always)]
pub fn verdict<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let mut inspection = Inspection {
        config: tables.config(),
        policy: tables.policy(),
        observed: Reasons::NONE,
        source: Source::NONE,
        hit: None,
    };
    let found = inspection.frame(packet, tables);
    let Inspection { config, policy, observed, source, hit } = inspection;
    let slot = policy.slot;
    if found.is_ok() && observed.is_empty() {
        return Verdict { reason: Reason::Passed, observed, source, slot };
    }
    let asks_allowlist = hit.is_none() || config.has(table::ALLOWED_BAN);
    if asks_allowlist && allows(tables, config, source) {
        return Verdict { reason: Reason::Allowed, observed: Reasons::NONE, source, slot };
    }
    let mut observed = observed;
    let reason = match found {
        Ok(()) => Reason::Passed,
        // The clock is read only when something is about to be dropped while all is to pass.
        Err(reason)
            if config.pass_until_mono_ns != 0 && tables.now_ns() < config.pass_until_mono_ns =>
        {
            observed = observed.with(reason);
            Reason::Passed
        }
        Err(reason) => {
            if let Some(hit) = hit {
                tables.count_drop(hit);
            }
            reason
        }
    };
    Verdict { reason, observed, source, slot }
}

#[inline(always)]
fn allows<T: Tables>(tables: &T, config: Config, source: Source) -> bool {
    match source.family {
        Family::V4 => config.has(table::ALLOW4) && tables.allows(source),
        Family::V6 => config.has(table::ALLOW6) && tables.allows(source),
        Family::None => false,
    }
}

impl<H: Copy> Inspection<H> {
    /// Records that `reason` objects; the error is that it drops.
    #[inline(always)]
    fn object(&mut self, reason: Reason) -> Result<(), Reason> {
        if self.policy.drop.holds(reason) {
            return Err(reason);
        }
        if self.policy.observe.holds(reason) {
            self.observed = self.observed.with(reason);
        }
        Ok(())
    }

    #[inline(always)]
    fn frame<P: Packet + ?Sized, T: Tables<Hit = H>>(
        &mut self,
        packet: &P,
        tables: &T,
    ) -> Result<(), Reason> {
        match payload(packet) {
            Ok(Payload::Ipv4 { offset }) => self.ipv4(packet, tables, offset),
            Ok(Payload::Ipv6 { offset }) => self.ipv6(packet, tables, offset),
            Ok(Payload::Other) => Ok(()),
            Err(reason) => self.object(reason),
        }
    }

    #[inline(always)]
    fn ipv4<P: Packet + ?Sized, T: Tables<Hit = H>>(
        &mut self,
        packet: &P,
        tables: &T,
        offset: usize,
    ) -> Result<(), Reason> {
        let Some(header) = packet.read::<IPV4_LENGTH>(offset) else {
            return self.object(Reason::I1);
        };
        let source = Source::v4(field(&header, 12));
        self.source = source;
        self.ban(tables, source)?;
        match transport4(&header, offset, packet.length()) {
            Ok(transport) => self.transport(packet, transport),
            Err(reason) => self.object(reason),
        }
    }

    #[inline(always)]
    fn ipv6<P: Packet + ?Sized, T: Tables<Hit = H>>(
        &mut self,
        packet: &P,
        tables: &T,
        offset: usize,
    ) -> Result<(), Reason> {
        let Some(header) = packet.read::<IPV6_LENGTH>(offset) else {
            return self.object(Reason::V1);
        };
        let source = Source::v6(field(&header, 8));
        self.source = source;
        self.ban(tables, source)?;
        match transport6(packet, &header, offset) {
            Ok(transport) => self.transport(packet, transport),
            Err(reason) => self.object(reason),
        }
    }

    /// Exact before range; an entry past its deadline is none. Tables known to be empty are not
    /// asked, and the clock only for a ban that ends.
    #[inline(always)]
    fn ban<T: Tables<Hit = H>>(&mut self, tables: &T, source: Source) -> Result<(), Reason> {
        let config = self.config;
        let exact = match source.family {
            Family::V4 if config.has(table::BAN4) => live(tables, tables.exact(Exact::V4, source)),
            Family::V6 => self.exact6(tables, source),
            _ => None,
        };
        if exact.is_some() {
            return self.banned(Reason::Ban, exact);
        }
        let ranges = match source.family {
            Family::V4 => table::RANGE4,
            Family::V6 => table::RANGE6,
            Family::None => 0,
        };
        if config.has(ranges) {
            let range = live(tables, tables.range(source));
            if range.is_some() {
                return self.banned(Reason::BanRange, range);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn exact6<T: Tables<Hit = H>>(&self, tables: &T, source: Source) -> Option<H> {
        if self.config.has(table::BAN6_NETWORK) {
            let network = live(tables, tables.exact(Exact::Network6, source));
            if network.is_some() {
                return network;
            }
        }
        if self.config.has(table::BAN6) {
            return live(tables, tables.exact(Exact::V6, source));
        }
        None
    }

    #[inline(always)]
    fn banned(&mut self, reason: Reason, hit: Option<H>) -> Result<(), Reason> {
        let found = self.object(reason);
        if found.is_err() {
            self.hit = hit;
        }
        found
    }

    #[inline(always)]
    fn transport<P: Packet + ?Sized>(
        &mut self,
        packet: &P,
        transport: Option<Transport>,
    ) -> Result<(), Reason> {
        match transport {
            Some(transport) if transport.protocol == PROTOCOL_TCP => self.tcp(packet, transport),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn tcp<P: Packet + ?Sized>(&mut self, packet: &P, transport: Transport) -> Result<(), Reason> {
        const TCP_LENGTH: usize = 20;
        const FIN: u8 = 1;
        const SYN: u8 = 1 << 1;
        const RST: u8 = 1 << 2;
        const ACK: u8 = 1 << 4;

        let Transport { offset, end, is_fragment, is_far, .. } = transport;
        let available = end.saturating_sub(offset);
        let header = if available < TCP_LENGTH {
            None
        } else if is_far {
            packet.read_far::<TCP_LENGTH>(offset)
        } else {
            packet.read::<TCP_LENGTH>(offset)
        };
        let Some(header) = header else {
            // The rest of a first fragment's header may be in the next one.
            return if is_fragment { Ok(()) } else { self.object(Reason::T1) };
        };
        let [words, flags] = field(&header, 12);
        let header_length = usize::from(words >> 4) * 4;
        if header_length < TCP_LENGTH || (header_length > available && !is_fragment) {
            self.object(Reason::T1)?;
        }
        if field(&header, 0) == [0, 0] || field(&header, 2) == [0, 0] {
            self.object(Reason::T2)?;
        }
        if flags & (ACK | SYN | RST) == 0 {
            self.object(Reason::T3)?;
        }
        if flags & (SYN | FIN) == SYN | FIN {
            self.object(Reason::T4)?;
        }
        if flags & (SYN | RST) == SYN | RST {
            self.object(Reason::T5)?;
        }
        Ok(())
    }
}

/// The ban, if it has not ended.
#[inline(always)]
fn live<T: Tables>(tables: &T, hit: Option<T::Hit>) -> Option<T::Hit> {
    let hit = hit?;
    let until_ns = tables.until_ns(hit);
    if until_ns == FOREVER || tables.now_ns() < until_ns { Some(hit) } else { None }
}

#[cfg(test)]
mod tests;
