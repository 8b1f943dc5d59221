//! From a frame and the tables to a verdict: the order of the packet path.

use firewall_common::{Config, Policy, Reason, Reasons, table};

use crate::awaited::{ASKING, unawaited};
use crate::budget::{Class, Kind};
use crate::findings::Findings;
use crate::inspect::inspect;
use crate::ipv4::IPV4_LENGTH;
use crate::ipv6::IPV6_LENGTH;
use crate::link::{Link, Network, link};
use crate::ordinary::{is_ordinary4, is_ordinary6};
use crate::packet::{Packet, field};
use crate::source::{Family, Source};

/// Who speaks to whom, as a socket is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub source: Source,
    pub destination: Source,
    /// Source port and destination port, in network order.
    pub ports: [u8; 4],
}

/// The host's socket that a packet would go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    None,
    /// One that waits for anybody.
    Bound,
    /// One of exactly this flow; of UDP any.
    Connected,
}

/// The tables that a packet is judged by, and the clock of their deadlines.
pub trait Tables {
    /// A ban that was found.
    type Hit: Copy;

    /// What stands where there is none: an enum's payload would be undefined there, which the compiler
    /// moves about and the kernel's verifier refuses.
    const NO_HIT: Self::Hit;

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

    /// Whether this is one of the host's own addresses.
    fn is_own(&self, address: Source) -> bool;

    /// The socket that the flow's next packet goes to.
    fn socket(&self, flow: &Flow) -> Socket;

    /// Counts one packet dropped by the ban.
    fn count_drop(&self, hit: Self::Hit);

    /// Charges a packet to its source's budgets, and gives those of the reasons `asked` that object;
    /// see [`budget::charge`](crate::budget::charge).
    fn charge(&self, class: Class, source: Source, asked: Reasons) -> Reasons;

    /// The checks that object to a packet that is not ordinary.
    #[inline(always)]
    fn inspect<P: Packet + ?Sized>(&self, packet: &P, policy: &Policy, link: Link) -> Reasons
    where
        Self: Sized,
    {
        inspect(packet, self, link, Findings::new(policy))
    }

    /// The checks that object to a packet for which no socket waits.
    #[inline(always)]
    fn unawaited<P: Packet + ?Sized>(&self, packet: &P, link: Link) -> Reasons
    where
        Self: Sized,
    {
        unawaited(packet, self, link)
    }
}

/// What becomes of a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What became of it: empty if nothing but what was observed objected, else [`Reason::Allowed`]
    /// alone, or the reasons that drop. A set, because the verifier would follow a single reason
    /// through all that comes after for each of them.
    pub acted: Reasons,
    /// The checks that objected in observe mode.
    pub observed: Reasons,
    /// Whom the packet names as its sender.
    pub source: Source,
    /// Whose counters it is counted in.
    pub slot: u32,
    /// The packet passed so far, and may have a budget: [`budgets`] is to be asked, with its [`Kind`].
    pub is_due: bool,
    /// Any packet of IP but a segment of an open connection, which has no [`Kind`].
    pub is_odd: bool,
    pub link: Link,
}

impl Verdict {
    #[inline(always)]
    pub const fn drops(&self) -> bool {
        !self.acted.without(Reason::Allowed).is_empty()
    }

    /// Why: of several that drop the one of the least number, else [`Reason::Passed`].
    pub fn reason(&self) -> Reason {
        self.acted.first().unwrap_or(Reason::Passed)
    }
}

/// The error is the set of those reasons that drop.
type Judged = Result<(), Reasons>;

/// What has been found of one packet so far.
struct Inspection<H> {
    policy: Policy,
    observed: Reasons,
    source: Source,
    /// The ban that drops the packet.
    is_hit: bool,
    hit: H,
    /// Those of [`FORGED`] that objected.
    forged: Reasons,
    /// A packet of IP that is not ordinary: every one but segments of open connections.
    is_odd: bool,
    link: Link,
}

/// The checks that object to the source itself: such a packet is not from whom it names, and so the
/// allowlist, which vouches for a source, says nothing of it.
const FORGED: Reasons =
    Reasons::NONE.with(Reason::I9).with(Reason::I11).with(Reason::I15).with(Reason::V2);

/// Judges a frame: first by itself, then by the budgets.
#[inline(always)]
pub fn verdict<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let verdict = judge(packet, tables);
    if !verdict.is_due {
        return verdict;
    }
    let kind = if verdict.is_odd { Kind::of(packet, verdict.link) } else { Kind::NONE };
    budgets(kind, verdict, tables)
}

/// Judges a frame by itself.
///
/// The ban is looked up as soon as the fixed IP header is there, so that neither options, fragments
/// nor extension headers evade it. The allowlist wins over everything but a source that is forged on
/// its face, but only a packet that something objected to asks it.
#[inline(always)]
pub fn judge<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let policy = tables.policy();
    let mut inspection = Inspection {
        policy,
        observed: Findings::new(&policy).found(),
        source: Source::NONE,
        is_hit: false,
        hit: T::NO_HIT,
        forged: Findings::new(&policy).found(),
        is_odd: false,
        link: Link::OTHER,
    };
    // Not kept as the enum, whose payload is undefined where there is none: the compiler would carry
    // it through the calls below, and the verifier refuse that.
    let dropping = match inspection.frame(packet, tables) {
        Ok(()) => Reasons::NONE,
        Err(dropping) => dropping,
    };
    let Inspection { policy, observed, source, is_hit, hit, forged, is_odd, link } = inspection;
    let slot = policy.slot;
    let has_packets = policy.drop.or(policy.observe).holds(Reason::B2);
    let is_due = link.is_ip() && (is_odd || has_packets);
    if dropping.is_empty() && observed.is_empty() {
        return Verdict { acted: Reasons::NONE, observed, source, slot, is_due, is_odd, link };
    }
    // Read anew, so that it need not be kept on the stack beneath what inspects the packet.
    let config = tables.config();
    let asks_allowlist = !is_hit || config.has(table::ALLOWED_BAN);
    if asks_allowlist && forged.is_empty() && allows(tables, config, source) {
        let acted = Reasons::NONE.with(Reason::Allowed);
        let observed = Reasons::NONE;
        return Verdict { acted, observed, source, slot, is_due: false, is_odd, link };
    }
    if dropping.is_empty() {
        return Verdict { acted: dropping, observed, source, slot, is_due, is_odd, link };
    }
    let (all_pass, because) = passes_all(&config, tables);
    if all_pass {
        let (acted, observed) = (Reasons::NONE, observed.or(dropping).or(because));
        return Verdict { acted, observed, source, slot, is_due: false, is_odd, link };
    }
    if is_hit {
        tables.count_drop(hit);
    }
    Verdict { acted: dropping, observed, source, slot, is_due: false, is_odd, link }
}

/// Judges a packet of this kind that passed by the budgets of its source, and of all.
///
/// A step of its own, as [`Kind::of`] is one, because the kernel's verifier is to walk it once, and not
/// again for each way in which a packet passes.
#[inline(always)]
pub fn budgets<T: Tables>(kind: Kind, verdict: Verdict, tables: &T) -> Verdict {
    let verdict = Verdict { is_due: false, ..verdict };
    let Policy { drop, observe, .. } = tables.policy();
    let objecting = tables.charge(kind.class(), verdict.source, drop.or(observe));
    let (observed, dropping) = (objecting.and(observe), objecting.and(drop));
    if objecting.is_empty() {
        return verdict;
    }
    let config = tables.config();
    if allows(tables, config, verdict.source) {
        let acted = Reasons::NONE.with(Reason::Allowed);
        return Verdict { acted, observed: Reasons::NONE, ..verdict };
    }
    let observed = verdict.observed.or(observed);
    if dropping.is_empty() {
        return Verdict { observed, ..verdict };
    }
    let (all_pass, because) = passes_all(&config, tables);
    if all_pass {
        return Verdict { observed: observed.or(dropping).or(because), ..verdict };
    }
    Verdict { acted: dropping, observed, ..verdict }
}

/// Whether nothing is dropped for now, and what is to be counted beside that if it is for want of a
/// daemon. The clock is read only where one of the two is to be known, of what is about to be dropped.
#[inline(always)]
fn passes_all<T: Tables>(config: &Config, tables: &T) -> (bool, Reasons) {
    let (pass_until, drop_until) = (config.pass_until_mono_ns, config.drop_until_mono_ns);
    if pass_until | drop_until == 0 {
        return (false, Reasons::NONE);
    }
    let now = tables.now_ns();
    if drop_until != 0 && now >= drop_until {
        return (true, Reasons::NONE.with(Reason::Passed));
    }
    (now < pass_until, Reasons::NONE)
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
    fn object(&mut self, reason: Reason) -> Judged {
        if self.policy.drop.holds(reason) {
            return Err(Reasons::NONE.with(reason));
        }
        if self.policy.observe.holds(reason) {
            self.observed = self.observed.with(reason);
        }
        Ok(())
    }

    /// Judges the packet by all that the checks found: what drops is the reason of the least number,
    /// and everything else was observed.
    #[inline(always)]
    fn judge(&mut self, found: Reasons) -> Judged {
        if found.is_empty() {
            return Ok(());
        }
        self.forged = found.and(FORGED);
        self.observed = self.observed.or(found.and(self.policy.observe));
        let dropping = found.and(self.policy.drop);
        if dropping.is_empty() { Ok(()) } else { Err(dropping) }
    }

    #[inline(always)]
    fn frame<P: Packet + ?Sized, T: Tables<Hit = H>>(&mut self, packet: &P, tables: &T) -> Judged {
        let mut findings = Findings::new(&self.policy);
        let link = link(packet, &mut findings);
        self.link = link;
        let config = tables.config();
        let is_ordinary = match link.network {
            Network::Ipv4 => self.ipv4(packet, tables, config, link, &mut findings)?,
            Network::Ipv6 => self.ipv6(packet, tables, config, link, &mut findings)?,
            Network::Other => true,
        };
        let mut found = findings.found();
        if !is_ordinary {
            self.is_odd = true;
            found = found.or(tables.inspect(packet, &self.policy, link));
        }
        if findings.wants(ASKING) {
            let enabled = self.policy.drop.or(self.policy.observe);
            found = found.or(tables.unawaited(packet, link).and(enabled));
        }
        self.judge(found)
    }

    /// Whether the packet is an ordinary one; the error is that its source is banned.
    #[inline(always)]
    fn ipv4<P: Packet + ?Sized, T: Tables<Hit = H>>(
        &mut self,
        packet: &P,
        tables: &T,
        config: Config,
        link: Link,
        findings: &mut Findings,
    ) -> Result<bool, Reasons> {
        let Some(header) = packet.read::<IPV4_LENGTH>(link.offset) else {
            findings.note(Reason::I1);
            return Ok(true);
        };
        let source = Source::v4(field(&header, 12));
        self.source = source;
        self.ban(tables, config, source)?;
        Ok(is_ordinary4(packet, &header, link, &config, findings))
    }

    /// The same of an IPv6 packet.
    #[inline(always)]
    fn ipv6<P: Packet + ?Sized, T: Tables<Hit = H>>(
        &mut self,
        packet: &P,
        tables: &T,
        config: Config,
        link: Link,
        findings: &mut Findings,
    ) -> Result<bool, Reasons> {
        let Some(header) = packet.read::<IPV6_LENGTH>(link.offset) else {
            findings.note(Reason::V1);
            return Ok(true);
        };
        let source = Source::v6(field(&header, 8));
        self.source = source;
        self.ban(tables, config, source)?;
        Ok(is_ordinary6(packet, &header, link, &config, findings))
    }

    /// A ban that is found holds: the daemon lifts those that end. Tables known to be empty are not
    /// asked.
    #[inline(always)]
    fn ban<T: Tables<Hit = H>>(&mut self, tables: &T, config: Config, source: Source) -> Judged {
        let (table, spill) = match source.family {
            Family::V4 => (table::BAN4, table::SPILL4),
            Family::V6 => (table::BAN6, table::SPILL6),
            Family::None => return Ok(()),
        };
        let mut hit = if config.has(table) { tables.ban(source) } else { None };
        if hit.is_none() && config.has(spill) {
            hit = tables.spilled(source);
        }
        match hit {
            Some(hit) if tables.is_range(hit) => self.banned(Reason::BanRange, hit),
            Some(hit) => self.banned(Reason::Ban, hit),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn banned(&mut self, reason: Reason, hit: H) -> Judged {
        let found = self.object(reason);
        if found.is_err() {
            (self.is_hit, self.hit) = (true, hit);
        }
        found
    }
}

#[cfg(test)]
mod tests;
