//! Who is in good standing: sources whose requests have kept the contract for some time. Under
//! pressure they pass where strangers are shed.
//!
//! Like the ledger it knows no map and no clock: time comes in, and [`StandingChange`]s go out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::ClientAddr;
use crate::clock::Monotonic;

/// Sources in good standing: as many as the kernel's table has room for.
pub const STANDING_MAX: usize = 65_536;
/// Sources that are remembered, those in good standing among them.
pub const CANDIDATES_MAX: usize = 131_072;
/// Candidates that are looked at to find the one that gives way to a new one.
const SAMPLE: usize = 8;
/// Sources that are looked at in one turn of [`Standings::expire`].
const EXPIRED_PER_TURN: usize = 4_096;
/// One request, in the unit that is forgotten bit by bit.
const REQUEST: u64 = 1_024;

/// What makes a source no stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingRules {
    /// Requests that kept the contract, and are not forgotten.
    pub requests: u32,
    /// The time from the first of them to the last.
    pub age: Duration,
    /// The time in which half of what a source did is forgotten.
    pub decay: Duration,
}

impl Default for StandingRules {
    fn default() -> Self {
        let decay = Duration::from_hours(24);
        Self { requests: 20, age: Duration::from_mins(1), decay }
    }
}

/// What is to be done about the kernel's table; the source is an address, or the first of a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingChange {
    Rise(IpAddr),
    Fall(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Record {
    source: IpAddr,
    /// Of requests, in units of [`REQUEST`], as of `settled`.
    merit: u64,
    since: Monotonic,
    settled: Monotonic,
    is_good: bool,
}

/// The sources whose conduct is remembered.
#[derive(Debug)]
pub struct Standings {
    rules: StandingRules,
    records: Vec<Record>,
    places: HashMap<IpAddr, usize>,
    good: usize,
    /// Where the search for one to give way, and that for the forgotten, go on.
    cursor: usize,
    candidates_max: usize,
}

impl Standings {
    pub fn new(rules: StandingRules) -> Self {
        let (records, places) = (Vec::new(), HashMap::new());
        Self { rules, records, places, good: 0, cursor: 0, candidates_max: CANDIDATES_MAX }
    }

    /// Requests of a source that kept the contract and were answered with success.
    pub fn conform(
        &mut self,
        client: ClientAddr,
        requests: u32,
        now: Monotonic,
    ) -> Option<StandingChange> {
        let source = source(client);
        let place = match self.places.get(&source) {
            Some(&place) => place,
            None => self.admit(source, now)?,
        };
        let (rules, has_room) = (self.rules, self.good < STANDING_MAX);
        let record = self.records.get_mut(place)?;
        record.merit = decayed(record, rules.decay, now)
            .saturating_add(u64::from(requests).saturating_mul(REQUEST));
        record.settled = now;
        let is_due = record.merit >= u64::from(rules.requests).saturating_mul(REQUEST)
            && now.since(record.since) >= rules.age;
        if record.is_good || !is_due || !has_room {
            return None;
        }
        record.is_good = true;
        self.good += 1;
        Some(StandingChange::Rise(source))
    }

    /// A source broke the contract: it is a stranger again, at once and from the beginning.
    pub fn violate(&mut self, client: ClientAddr) -> Option<StandingChange> {
        let place = *self.places.get(&source(client))?;
        self.forget(place)
    }

    /// Forgets those whose merit has gone: below half of what made it, in good standing; below one
    /// request, before. Looks at some in each turn.
    pub fn expire(&mut self, now: Monotonic) -> Vec<StandingChange> {
        let mut changes = Vec::new();
        for _ in 0..EXPIRED_PER_TURN.min(self.records.len()) {
            if self.cursor >= self.records.len() {
                self.cursor = 0;
            }
            let Some(record) = self.records.get(self.cursor) else { break };
            let least = u64::from(self.rules.requests) * REQUEST / 2;
            let least = if record.is_good { least } else { REQUEST };
            if decayed(record, self.rules.decay, now) < least {
                // Another record takes its place, and is looked at next.
                changes.extend(self.forget(self.cursor));
            } else {
                self.cursor += 1;
            }
        }
        changes
    }

    /// Whether a source is in good standing, and how many requests speak for it.
    pub fn of(&self, client: ClientAddr, now: Monotonic) -> (bool, u64) {
        let record = self.places.get(&source(client)).and_then(|&place| self.records.get(place));
        let merit = |record: &Record| decayed(record, self.rules.decay, now) / REQUEST;
        record.map_or((false, 0), |record| (record.is_good, merit(record)))
    }

    /// Who is in good standing.
    pub fn known(&self) -> impl Iterator<Item = IpAddr> {
        self.records.iter().filter(|record| record.is_good).map(|record| record.source)
    }

    /// How many are in good standing.
    pub fn good(&self) -> usize {
        self.good
    }

    /// A place for a new source; none where all that could give way are in good standing. Who has
    /// the least merit of a few gives way, so that many new ones cannot drive out those who have
    /// almost made it.
    fn admit(&mut self, source: IpAddr, now: Monotonic) -> Option<usize> {
        if self.records.len() >= self.candidates_max {
            let count = self.records.len();
            let least = (0..count.min(SAMPLE))
                .map(|step| (self.cursor + step) % count)
                .filter_map(|place| Some((place, self.records.get(place)?)))
                .filter(|(_, record)| !record.is_good)
                .min_by_key(|(_, record)| record.merit)
                .map(|(place, _)| place);
            self.cursor = self.cursor.wrapping_add(SAMPLE) % count;
            self.forget(least?);
        }
        let place = self.records.len();
        self.records.push(Record { source, merit: 0, since: now, settled: now, is_good: false });
        self.places.insert(source, place);
        Some(place)
    }

    fn forget(&mut self, place: usize) -> Option<StandingChange> {
        if place >= self.records.len() {
            return None;
        }
        let gone = self.records.swap_remove(place);
        self.places.remove(&gone.source);
        if let Some(moved) = self.records.get(place) {
            self.places.insert(moved.source, place);
        }
        if !gone.is_good {
            return None;
        }
        self.good -= 1;
        Some(StandingChange::Fall(gone.source))
    }
}

/// An address, or the first of its /64: one host may take any address of that.
fn source(client: ClientAddr) -> IpAddr {
    client.ban_target().network()
}

/// What is left of a record's merit: half of it after each `decay`, and in between on a straight
/// line.
fn decayed(record: &Record, decay: Duration, now: Monotonic) -> u64 {
    let elapsed = now.since(record.settled).as_nanos();
    let decay = decay.as_nanos().max(1);
    let halves = u32::try_from(elapsed / decay).unwrap_or(u32::MAX);
    let merit = u128::from(record.merit.checked_shr(halves).unwrap_or(0));
    let rest = elapsed % decay;
    u64::try_from(merit - merit * rest / (2 * decay)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const RULES: StandingRules =
        StandingRules { requests: 10, age: Duration::from_mins(1), decay: HOUR };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    fn client(text: &str) -> ClientAddr {
        ClientAddr(text.parse().unwrap())
    }

    /// A source that has risen at `seconds`.
    fn risen(standings: &mut Standings, who: ClientAddr, seconds: u64) {
        assert_eq!(standings.conform(who, 1_000, at(seconds - 60)), None);
        let rise = StandingChange::Rise(source(who));
        assert_eq!(standings.conform(who, 1, at(seconds)), Some(rise));
    }

    #[test]
    fn merit_and_age_make_good_standing() {
        for (who, target) in
            [("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
        {
            let mut standings = Standings::new(RULES);
            let who = client(who);
            assert_eq!(standings.conform(who, 8, at(100)), None, "too few, too new");
            assert_eq!(standings.conform(who, 100, at(159)), None, "too new");
            let rise = StandingChange::Rise(target.parse().unwrap());
            assert_eq!(standings.conform(who, 1, at(160)), Some(rise));
            assert_eq!(standings.conform(who, 1, at(161)), None, "risen already");
            assert_eq!((standings.good(), standings.of(who, at(161)).0), (1, true));
            let mut standings = Standings::new(RULES);
            for second in 0..9 {
                assert_eq!(standings.conform(who, 1, at(100 + 60 * second)), None, "too few");
            }
        }
    }

    #[test]
    fn a_violation_takes_all_of_it_at_once() {
        let mut standings = Standings::new(RULES);
        let who = client("192.0.2.7");
        assert_eq!(standings.violate(who), None);
        risen(&mut standings, who, 100);
        assert_eq!(standings.violate(who), Some(StandingChange::Fall(who.0)));
        assert_eq!((standings.good(), standings.of(who, at(100))), (0, (false, 0)));
        assert_eq!(standings.conform(who, 1_000, at(101)), None, "its age counts anew");
        // One that has not risen has nothing in the kernel to be taken away.
        assert_eq!(standings.violate(who), None);
    }

    #[test]
    fn a_violation_of_one_host_is_its_network_s() {
        let mut standings = Standings::new(RULES);
        risen(&mut standings, client("2001:db8:1:2::1"), 100);
        let fall = StandingChange::Fall("2001:db8:1:2::".parse().unwrap());
        assert_eq!(standings.violate(client("2001:db8:1:2::bad")), Some(fall));
    }

    #[test]
    fn merit_is_forgotten() {
        let mut standings = Standings::new(RULES);
        let who = client("192.0.2.7");
        standings.conform(who, 16, at(0));
        for (hours, merit) in [(0, 16), (1, 8), (2, 4), (3, 2), (4, 1), (5, 0), (1_000, 0)] {
            assert_eq!(standings.of(who, at(hours * 3_600)).1, merit, "after {hours} hours");
        }
        assert_eq!(standings.of(who, at(1_800)).1, 12);
        standings.conform(who, 1, at(60));
        assert!(standings.of(who, at(60)).0);
        // Half of what makes a standing keeps it.
        assert_eq!(standings.expire(at(6_000)), []);
        assert_eq!(standings.expire(at(2 * 3_600)), [StandingChange::Fall(who.0)]);
        assert!(standings.records.is_empty() && standings.places.is_empty());
    }

    #[test]
    fn a_slow_source_never_rises() {
        let mut standings = Standings::new(RULES);
        for hour in 0..1_000 {
            assert_eq!(standings.conform(client("192.0.2.7"), 1, at(hour * 3_600)), None);
        }
    }

    #[test]
    fn a_crowd_drives_out_nobody_in_standing() {
        let mut standings = Standings::new(RULES);
        standings.candidates_max = 64;
        let good = client("192.0.2.7");
        risen(&mut standings, good, 100);
        for number in 0..10_000_u32 {
            let stranger = ClientAddr(Ipv4Addr::from(0x0a00_0000 + number).into());
            assert_eq!(standings.conform(stranger, 1, at(200)), None);
            assert!(standings.records.len() <= 64);
        }
        assert!(standings.of(good, at(200)).0);
        for (place, record) in standings.records.iter().enumerate() {
            assert_eq!(standings.places.get(&record.source), Some(&place));
        }
        assert_eq!(standings.places.len(), standings.records.len());
    }

    #[test]
    fn where_all_are_in_standing_a_newcomer_waits() {
        let mut standings = Standings::new(RULES);
        standings.candidates_max = 4;
        for number in 1..=4 {
            risen(&mut standings, ClientAddr(Ipv4Addr::new(192, 0, 2, number).into()), 100);
        }
        let newcomer = client("192.0.2.9");
        assert_eq!(standings.conform(newcomer, 1_000, at(100)), None);
        assert_eq!(standings.of(newcomer, at(100)), (false, 0));
        standings.violate(client("192.0.2.1"));
        risen(&mut standings, newcomer, 300);
    }
}
