//! How clients behave, as the workers report it, and what becomes of their standing.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use tokio::sync::mpsc;

use super::stats::{count, gauge};
use super::{Keeper, KeeperHandle, Plane};
use crate::address::ClientAddr;
use crate::ban::standing::{StandingChange, Standings};
use crate::clock::Monotonic;

/// Reports that may wait for the keeper; workers keep what does not fit, and report it later.
pub(super) const REPORTS_MAX: usize = 64;
/// Sources in one report; the requests of further ones are not noted until it is taken.
const SOURCES_MAX: usize = 4_096;

/// What one worker saw of its clients since it last reported.
#[derive(Debug, Default)]
pub struct Conduct {
    /// Requests that kept the contract, of each source that has not broken it.
    conforming: HashMap<ClientAddr, u32>,
    /// Who broke it.
    violating: BTreeSet<IpAddr>,
}

impl Conduct {
    pub(super) fn is_empty(&self) -> bool {
        self.conforming.is_empty() && self.violating.is_empty()
    }

    /// A request kept the contract, and was answered with success.
    pub fn conform(&mut self, client: ClientAddr) {
        if self.conforming.len() < SOURCES_MAX || self.conforming.contains_key(&client) {
            let requests = self.conforming.entry(client).or_default();
            *requests = requests.saturating_add(1);
        }
    }

    /// A request broke the contract, whether it was refused or only observed.
    pub fn violate(&mut self, client: ClientAddr) {
        self.conforming.remove(&client);
        if self.violating.len() < SOURCES_MAX {
            self.violating.insert(client.0);
        }
    }
}

impl KeeperHandle {
    /// Hands over what a worker saw; what the keeper has no room for stays with the worker.
    pub fn report(&self, conduct: &mut Conduct) {
        if conduct.is_empty() {
            return;
        }
        if let Ok(place) = self.conduct.try_reserve() {
            place.send(std::mem::take(conduct));
        }
    }
}

/// The standings, and what of them the kernel does not hold yet.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) standings: Standings,
    pub(super) reports: mpsc::Receiver<Conduct>,
    /// Who is still in the kernel's table, because a write failed.
    owed: BTreeSet<IpAddr>,
}

impl Lane {
    pub(super) fn new(standings: Standings, reports: mpsc::Receiver<Conduct>) -> Self {
        Self { standings, reports, owed: BTreeSet::new() }
    }
}

impl<P: Plane> Keeper<P> {
    /// Takes a worker's report. Who is exempt needs no standing, for nothing sheds it.
    pub(super) fn note(&mut self, conduct: Conduct, now: Monotonic) {
        for (client, requests) in conduct.conforming {
            if !self.ledger.exempt().contains(client.0) {
                let change = self.lane.standings.conform(client, requests, now);
                self.write_standing(change);
            }
        }
        for client in conduct.violating {
            self.fall(ClientAddr(client));
        }
    }

    /// Takes a source's standing away, in the kernel too.
    pub(super) fn fall(&mut self, client: ClientAddr) {
        let change = self.lane.standings.violate(client);
        self.write_standing(change);
    }

    /// Forgets those who have not been here for long, and tries again what failed.
    pub(super) fn tend_standing(&mut self, now: Monotonic) {
        for change in self.lane.standings.expire(now) {
            self.write_standing(Some(change));
        }
        for source in std::mem::take(&mut self.lane.owed) {
            self.write_standing(Some(StandingChange::Fall(source)));
        }
    }

    /// Tells a new table who is in good standing.
    pub(super) fn stand_again(&mut self) {
        for source in self.lane.standings.known().collect::<Vec<_>>() {
            self.write_standing(Some(StandingChange::Rise(source)));
        }
    }

    fn write_standing(&mut self, change: Option<StandingChange>) {
        let Some(change) = change else { return };
        gauge(&self.stats.standing, self.lane.standings.good());
        match change {
            StandingChange::Rise(source) => self.ledger.note_standing(source, true),
            StandingChange::Fall(source) => self.ledger.note_standing(source, false),
        }
        let Some(plane) = &mut self.plane else { return };
        let written = match change {
            StandingChange::Rise(source) => {
                self.lane.owed.remove(&source);
                plane.stand(source)
            }
            StandingChange::Fall(source) => plane.fall(source),
        };
        if let Err(error) = written {
            count(&self.stats.kernel_errors);
            match change {
                // A stranger to the kernel alone: it rises again after it is forgotten.
                StandingChange::Rise(source) => {
                    tracing::debug!(%source, %error, "the kernel's table of the known cannot be written");
                }
                StandingChange::Fall(source) => {
                    self.lane.owed.insert(source);
                }
            }
        }
    }
}
