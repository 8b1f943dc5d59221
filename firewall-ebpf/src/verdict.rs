//! From a frame and the tables to a verdict: the order of the packet path.

use firewall_common::{Config, Policy, Reason, Reasons, table};

use crate::packet::{Packet, field};
use crate::source::{
    Family, IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_TCP, Payload, Source, Transport, payload,
    transport4, transport6,
};

/// The tables that a packet is judged by, and the clock of their deadlines.
pub trait Tables {
    /// A ban that was found.
    type Hit: Copy;

    fn config(&self) -> Config;

    /// What is to be done on the interface that the packet came in by.
    fn policy(&self) -> Policy;

    /// The time in nanoseconds on `CLOCK_MONOTONIC`, as of the last tick.
    fn now_ns(&self) -> u64;

    /// The ban of the longest prefix that holds `source`.
    fn ban(&self, source: Source) -> Option<Self::Hit>;

    /// The same in what the tables had no room for.
    fn spilled(&self, source: Source) -> Option<Self::Hit>;

    /// Whether the ban is of more than an address or an IPv6 /64.
    fn is_range(&self, hit: Self::Hit) -> bool;

    /// Whether the management allowlist holds `source`.
    fn allows(&self, source: Source) -> bool;

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

    /// A ban that is found holds: the daemon lifts those that end. Tables known to be empty are not
    /// asked.
    #[inline(always)]
    fn ban<T: Tables<Hit = H>>(&mut self, tables: &T, source: Source) -> Result<(), Reason> {
        let (table, spill) = match source.family {
            Family::V4 => (table::BAN4, table::SPILL4),
            Family::V6 => (table::BAN6, table::SPILL6),
            Family::None => return Ok(()),
        };
        let mut hit = if self.config.has(table) { tables.ban(source) } else { None };
        if hit.is_none() && self.config.has(spill) {
            hit = tables.spilled(source);
        }
        match hit {
            Some(hit) if tables.is_range(hit) => self.banned(Reason::BanRange, hit),
            Some(hit) => self.banned(Reason::Ban, hit),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn banned(&mut self, reason: Reason, hit: H) -> Result<(), Reason> {
        let found = self.object(reason);
        if found.is_err() {
            self.hit = Some(hit);
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

#[cfg(test)]
mod tests;
