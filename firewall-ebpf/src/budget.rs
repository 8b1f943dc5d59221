//! Whether a packet is still within its source's budget, and within everybody's.
//!
//! Buckets lie in an array of fixed size, on each CPU one of its own: a flood makes no state, takes
//! no lock, and can make nobody else's bucket emptier. What it can do is to take the place of a
//! bucket that owes little, whose owner then starts with a full one.

use firewall_common::{
    BUCKET_SETS, BucketSet, Budget, Budgeted, Budgets, Payer, Policy, Reason, Reasons, Tally,
};

use crate::datagram::{ICMP, ICMPV6, TCP, UDP};
use crate::findings::Findings;
use crate::ipv4::{IPV4_LENGTH, datagram4};
use crate::ipv6::{IPV6_LENGTH, datagram6};
use crate::link::{Link, Network};
use crate::packet::Packet;
use crate::source::{Family, Source};

/// What is known of a packet, from which its [`Class`] follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(u32);

impl Kind {
    /// The packet has no budget of its own.
    const NONE: Self = Self(0);
    const SYN: u32 = 1;
    const UDP: u32 = 1 << 1;
    const ICMP: u32 = 1 << 2;
    const ICMPV6: u32 = 1 << 3;
    /// Where the type of an ICMP message stands.
    const TYPE_SHIFT: u32 = 8;

    /// The kind of a packet of IP.
    #[inline(always)]
    pub fn of<P: Packet + ?Sized>(packet: &P, link: Link) -> Self {
        // Nothing is wanted of the checks: the headers alone.
        let mut findings = Findings::new(&Policy::default());
        let found = match link.network {
            Network::Ipv4 => packet
                .read_far::<IPV4_LENGTH>(link.offset)
                .and_then(|header| datagram4(packet, &header, link, &mut findings)),
            Network::Ipv6 => packet
                .read_far::<IPV6_LENGTH>(link.offset)
                .and_then(|header| datagram6(packet, &header, link, &mut findings)),
            Network::Other => None,
        };
        let Some(datagram) = found else {
            return Self::NONE;
        };
        match (datagram.source.family, datagram.protocol) {
            (_, TCP) => datagram.read::<2, P>(packet, 12).map_or(Self::NONE, Self::tcp),
            (_, UDP) => Self(Self::UDP),
            (Family::V4, ICMP) => Self::icmp(Self::ICMP, datagram.read::<1, P>(packet, 0)),
            (Family::V6, ICMPV6) => Self::icmp(Self::ICMPV6, datagram.read::<1, P>(packet, 0)),
            _ => Self::NONE,
        }
    }

    #[inline(always)]
    const fn tcp([_, flags]: [u8; 2]) -> Self {
        let (syn, ack) = (flags as u32 >> 1, flags as u32 >> 4);
        Self(syn & (ack ^ 1) & Self::SYN)
    }

    #[inline(always)]
    const fn icmp(kind: u32, message: Option<[u8; 1]>) -> Self {
        match message {
            Some([message]) => Self(kind | (message as u32) << Self::TYPE_SHIFT),
            None => Self::NONE,
        }
    }

    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The kind with these [`bits`](Self::bits).
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Neighbour discovery (RFC 4861) is in no class that has a budget of its own.
    #[inline(always)]
    pub(crate) const fn class(self) -> Class {
        let message = self.0 >> Self::TYPE_SHIFT;
        if self.0 & Self::SYN != 0 {
            return Class::Syn;
        }
        if self.0 & Self::UDP != 0 {
            return Class::Udp;
        }
        let (is_v4, is_v6) = (self.0 & Self::ICMP != 0, self.0 & Self::ICMPV6 != 0);
        match message {
            8 if is_v4 => Class::Echo,
            128 if is_v6 => Class::Echo,
            // Unreachable (with "fragmentation needed"), time exceeded, parameter problem (RFC 792).
            3 | 11 | 12 if is_v4 => Class::Error,
            // Those and "packet too big" (RFC 4443 3).
            1..=4 if is_v6 => Class::Error,
            _ => Class::Other,
        }
    }
}

/// What a packet is to the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Other,
    /// A new TCP connection.
    Syn,
    Udp,
    /// An ICMP echo request.
    Echo,
    /// An ICMP error message.
    Error,
}

/// Who pays for what comes from `source`; nobody if it is none.
#[inline(always)]
pub const fn payer(source: Source) -> Option<Payer> {
    let [word, _] = source.words();
    match source.family {
        Family::V4 => Some(Payer { word, family: 4 }),
        Family::V6 => Some(Payer { word, family: 6 }),
        Family::None => None,
    }
}

/// Where budgets, and what was spent of them, are kept.
pub trait Purse {
    fn budgets(&self) -> Budgets;

    /// The time in nanoseconds on `CLOCK_MONOTONIC`, as of the last tick.
    fn now_ns(&self) -> u64;

    /// A number that nobody can foresee.
    fn random(&self) -> u32;

    /// By how much the payer's budgets are multiplied, at least 1.
    fn multiplier(&self, payer: Payer) -> u32;

    /// Whether the payer is in good standing.
    fn is_in_standing(&self, payer: Payer) -> bool;

    /// The set of buckets at an index below [`BUCKET_SETS`].
    fn set(&mut self, index: u32) -> Option<&mut BucketSet>;

    fn tally(&mut self) -> Option<&mut Tally>;
}

/// Charges a packet of this class to its payer, and gives those of the reasons `asked` that object.
/// What is refused is not paid for.
#[inline(always)]
pub fn charge<P: Purse>(purse: &mut P, class: Class, payer: Payer, asked: Reasons) -> Reasons {
    let budgets = purse.budgets();
    let now_ns = purse.now_ns();
    let mut objecting = Reasons::NONE;
    let mut account = Account { purse, budgets: &budgets, payer, now_ns };
    let own = match class {
        Class::Syn => {
            if account.is_shed(asked.holds(Reason::S1)) {
                objecting = objecting.with(Reason::S1);
            }
            Some((Reason::T15, Budgeted::Syn))
        }
        Class::Udp => Some((Reason::B1, Budgeted::Udp)),
        Class::Echo => Some((Reason::C1, Budgeted::Echo)),
        Class::Error | Class::Other => None,
    };
    if let Some((reason, budgeted)) = own
        && asked.holds(reason)
        && !account.pays(budgeted)
    {
        objecting = objecting.with(reason);
    }
    let everybodys = match class {
        Class::Echo => Some((Reason::C1, Budgeted::EveryEcho)),
        Class::Error => Some((Reason::C2, Budgeted::EveryError)),
        Class::Syn | Class::Udp | Class::Other => None,
    };
    // What a source may not send must not be taken from the others.
    if let Some((reason, budgeted)) = everybodys
        && asked.holds(reason)
        && objecting.is_empty()
        && !account.all_pay(budgeted)
    {
        objecting = objecting.with(reason);
    }
    if asked.holds(Reason::B2) && !account.pays(Budgeted::Packets) {
        objecting = objecting.with(Reason::B2);
    }
    objecting
}

struct Account<'a, P> {
    purse: &'a mut P,
    budgets: &'a Budgets,
    payer: Payer,
    now_ns: u64,
}

impl<P: Purse> Account<'_, P> {
    /// Whether this new connection is one of those that are shed.
    #[inline(always)]
    fn is_shed(&mut self, is_asked: bool) -> bool {
        let is_pressed = is_asked && self.now_ns < self.budgets.shed_until_mono_ns;
        let is_drawn = is_pressed && self.purse.random() <= self.budgets.shed;
        let is_spared = is_drawn && self.purse.is_in_standing(self.payer);
        if let Some(tally) = self.purse.tally() {
            tally.syns = tally.syns.wrapping_add(1);
            tally.spared = tally.spared.wrapping_add(u64::from(is_spared));
        }
        is_drawn && !is_spared
    }

    /// Pays from the payer's own bucket; false if it cannot.
    #[inline(always)]
    fn pays(&mut self, budgeted: Budgeted) -> bool {
        let budget = self.budgets.of(budgeted);
        let owner = owner(self.payer, budgeted, self.budgets.seeds);
        let (payer, now_ns) = (self.payer, self.now_ns);
        // The low bits choose the set, all of them the bucket.
        #[expect(clippy::cast_possible_truncation, reason = "masked")]
        let index = owner as u32 & (BUCKET_SETS - 1);
        let Some(set) = self.purse.set(index) else {
            return true;
        };
        let (way, settled_ns) = bucket(set, owner);
        if let Some(paid_ns) = spend(settled_ns, now_ns, budget) {
            put(set, way, owner, paid_ns);
            return true;
        }
        // Only a source that has used up its own budget is sought among networks.
        if self.budgets.has_multipliers == 0 {
            return false;
        }
        let multiplier = self.purse.multiplier(payer);
        let Some(paid_ns) = spend_more(settled_ns, now_ns, budget, multiplier) else {
            return false;
        };
        if let Some(set) = self.purse.set(index) {
            put(set, way, owner, paid_ns);
        }
        true
    }

    /// Pays from everybody's bucket.
    #[inline(always)]
    fn all_pay(&mut self, budgeted: Budgeted) -> bool {
        let (budget, now_ns) = (self.budgets.of(budgeted), self.now_ns);
        let Some(tally) = self.purse.tally() else {
            return true;
        };
        let settled_ns = match budgeted {
            Budgeted::EveryEcho => &mut tally.echo_settled_mono_ns,
            _ => &mut tally.error_settled_mono_ns,
        };
        match spend(*settled_ns, now_ns, budget) {
            Some(paid) => {
                *settled_ns = paid;
                true
            }
            None => false,
        }
    }
}

/// When what is spent is earned again after one more packet; none if that is more than may be owed.
#[inline(always)]
const fn spend(settled_ns: u64, now_ns: u64, budget: Budget) -> Option<u64> {
    if budget.interval_ns == 0 {
        return Some(settled_ns);
    }
    let from_ns = if settled_ns > now_ns { settled_ns } else { now_ns };
    let paid_ns = from_ns.saturating_add(budget.interval_ns);
    if paid_ns.saturating_sub(now_ns) <= budget.burst_ns { Some(paid_ns) } else { None }
}

/// The same of a source whose own budget is used up: beyond it packets cost a `multiplier`th, and
/// may be owed until all that was sent is so many times the burst.
#[inline(always)]
const fn spend_more(settled_ns: u64, now_ns: u64, budget: Budget, multiplier: u32) -> Option<u64> {
    if multiplier <= 1 {
        return None;
    }
    let multiplier = multiplier as u64;
    let interval_ns = budget.interval_ns / multiplier;
    let burst_ns = budget.burst_ns + (budget.burst_ns - budget.burst_ns / multiplier);
    // Nothing is for nothing: at an interval of zero nothing would ever be refused.
    let interval_ns = if interval_ns == 0 { 1 } else { interval_ns };
    spend(settled_ns, now_ns, Budget { interval_ns, burst_ns })
}

/// The place of the owner's bucket in its set, and what stands in it. An owner without one gets the
/// place of the bucket that owes least, full.
#[inline(always)]
fn bucket(set: &BucketSet, owner: u64) -> (usize, u64) {
    let (mut place, mut least_ns) = (0, u64::MAX);
    for (way, (&found, &settled_ns)) in set.owners.iter().zip(&set.settled_mono_ns).enumerate() {
        if found == owner {
            return (way, settled_ns);
        }
        if settled_ns < least_ns {
            (place, least_ns) = (way, settled_ns);
        }
    }
    (place, 0)
}

#[inline(always)]
fn put(set: &mut BucketSet, way: usize, owner: u64, settled_ns: u64) {
    if let (Some(place), Some(settled)) =
        (set.owners.get_mut(way), set.settled_mono_ns.get_mut(way))
    {
        (*place, *settled) = (owner, settled_ns);
    }
}

/// The mark of a payer's bucket for one budget. Of one family and budget no two payers have the same,
/// for every step can be undone; where they lie is not to be foreseen without the seeds.
#[inline(always)]
const fn owner(payer: Payer, budgeted: Budgeted, seeds: [u64; 2]) -> u64 {
    const ODD: u64 = 0xd6e8_feb8_6659_fd93;
    let [first, second] = seeds;
    let mut hash = (payer.word ^ first).wrapping_mul(ODD);
    hash ^= hash >> 32;
    let kind = (payer.family << 32) | (budgeted as u64) << 40;
    hash = (hash ^ second).wrapping_add(kind).wrapping_mul(ODD);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(ODD);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
