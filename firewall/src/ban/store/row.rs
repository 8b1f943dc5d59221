//! A ban as the state file keeps it: ends by the wall clock, for the monotonic one dies with the
//! boot.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ban::ledger::Record;
use crate::ban::prefix::{Family, bits, canonical};
use crate::ban::record::{Ban, DropCount, Origin, Planes, REASON_MAX_BYTES};
use crate::ban::threshold::Threshold;
use crate::clock::{Moment, Monotonic, Wall};

/// A target in the file: family, length, and the address left-aligned, in network order.
pub(super) type Key = [u8; 18];

pub(super) fn key(target: IpNet) -> Key {
    let target = canonical(target);
    let (family, address) = bits(target.addr());
    let mut key = [0; 18];
    let (head, tail) = key.split_at_mut(2);
    head.copy_from_slice(&[if family == Family::V4 { 4 } else { 6 }, target.prefix_len()]);
    tail.copy_from_slice(&address.to_be_bytes());
    key
}

/// The target of a key; none for what [`key`] never writes.
pub(super) fn target(of: Key) -> Option<IpNet> {
    let [family, length, address @ ..] = of;
    let address = u128::from_be_bytes(address);
    let address = match family {
        4 => IpAddr::V4(u32::try_from(address >> 96).ok()?.into()),
        6 => IpAddr::V6(address.into()),
        _ => return None,
    };
    let target = IpNet::new(address, length).ok()?;
    (key(target) == of).then_some(target)
}

/// One ban in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRow {
    since: Wall,
    /// None for a ban without end.
    until: Option<Wall>,
    ttl_ms: Option<u64>,
    origin: Origin,
    rule: Option<Cow<'static, str>>,
    reason: Box<str>,
    step: u8,
    planes: Planes,
    observed: bool,
    drops: u64,
    /// Not in files that were written before there were aggregates.
    #[serde(default)]
    joined: u32,
}

impl BanRow {
    pub fn new(ban: &Ban, at: &Moment) -> Self {
        Self {
            since: at.wall_of(ban.since).unwrap_or(at.wall),
            until: at.wall_of(ban.until),
            ttl_ms: ban.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            origin: ban.origin,
            rule: ban.rule.clone(),
            reason: ban.reason.clone(),
            step: ban.step,
            planes: ban.planes,
            observed: ban.observed,
            drops: ban.drops.total(),
            joined: ban.joined,
        }
    }

    /// Whether nobody was refused for it.
    pub fn is_observed(&self) -> bool {
        self.observed
    }

    /// The ban as it stands now, with the time that it had left by the wall clock; none if it has
    /// ended.
    ///
    /// The wall clock may have been set back since: no ban has more left than it was granted, and
    /// none that the policy made more than the policy's longest.
    pub fn ban(self, target: IpNet, threshold: &Threshold, at: &Moment) -> Option<Ban> {
        let ttl = self.ttl_ms.map(Duration::from_millis);
        let until = match (self.until, self.origin) {
            (None, Origin::Automatic | Origin::Aggregate) => return None,
            (None, Origin::Operator | Origin::Kernel) => Monotonic::NEVER,
            (Some(until), origin) => {
                let mut left = until.since(at.wall).min(ttl.unwrap_or(Duration::MAX));
                if matches!(origin, Origin::Automatic | Origin::Aggregate) {
                    left = left.min(threshold.ladder.longest());
                }
                if left.is_zero() {
                    return None;
                }
                at.monotonic.after(left)
            }
        };
        if self.reason.len() > REASON_MAX_BYTES {
            return None;
        }
        Some(Ban {
            target,
            since: at.monotonic_of(self.since).min(at.monotonic),
            until,
            ttl,
            origin: self.origin,
            rule: self.rule,
            reason: self.reason,
            step: self.step,
            planes: self.planes,
            observed: self.observed,
            drops: DropCount::resumed(self.drops, 0, at.monotonic),
            joined: self.joined,
        })
    }
}

/// A source's steps on the ladder in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRow {
    step: u8,
    forgive_at: Wall,
}

impl RecordRow {
    pub fn new(record: Record, at: &Moment) -> Self {
        let forgive_at = at.wall_of(record.forgive_at).unwrap_or(Wall::from_ms(u64::MAX));
        Self { step: record.step, forgive_at }
    }

    /// The steps as they stand now; none if they are forgiven.
    pub fn record(self, threshold: &Threshold, at: &Moment) -> Option<Record> {
        let longest = threshold.ladder.longest() + threshold.forgive_after;
        let left = self.forgive_at.since(at.wall).min(longest);
        (!left.is_zero()).then(|| Record { step: self.step, forgive_at: at.monotonic.after(left) })
    }
}
