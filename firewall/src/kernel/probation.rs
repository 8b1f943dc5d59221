//! A program that has taken another's place is on probation: if it gives up on packets, or lets much
//! less pass than the one before it, that one is put back.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use firewall_common::Reason;

use super::attach::Attachments;
use super::attacher::xdp;
use super::maps::Counters;
use super::pin::Pins;
use super::{Holder, Kernel, KernelError};
use crate::clock::Monotonic;

/// How often the counters are looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(500);

/// What a new program is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbationRules {
    /// How long it is on probation; zero: it is not.
    pub time: Duration,
    /// Packets that must have come before anything follows from them.
    pub packets: u64,
    /// It may give up on no more than this share of the packets.
    pub given_up: f64,
    /// What passes, as a share of all but the banned and those beyond a budget, may fall to no less
    /// than so much of what it was before.
    pub passing: f64,
}

impl Default for ProbationRules {
    fn default() -> Self {
        Self { time: Duration::from_mins(1), packets: 1000, given_up: 0.01, passing: 0.5 }
    }
}

/// Where a program stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Trial {
    /// It is the one that a later program will be compared with.
    #[default]
    Settled,
    /// It has taken the place of another, which is kept until then.
    OnProbation { until: Monotonic },
    /// The one before it was put back, for this reason.
    RolledBack { reason: String },
}

/// What a program has done with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Record {
    passed: u64,
    /// By checks of a packet alone: what is banned, and how much is sent, says nothing of the program.
    dropped: u64,
    given_up: u64,
}

/// Reasons to drop that depend on how much comes.
const OF_AMOUNT: [Reason; 6] =
    [Reason::T15, Reason::C1, Reason::C2, Reason::B1, Reason::B2, Reason::S1];

impl Record {
    fn of(counters: &Counters) -> Self {
        let sum = |of: fn(&Reason) -> bool| {
            let reasons = Reason::ALL.iter().filter(|reason| of(reason));
            reasons.map(|reason| counters.acted(*reason).packets).sum()
        };
        Self {
            passed: sum(|reason| matches!(reason, Reason::Passed | Reason::Allowed)),
            dropped: sum(|reason| reason.is_check() && !OF_AMOUNT.contains(reason)),
            given_up: counters.given_up(),
        }
    }

    /// What came after `earlier`. Counters of an interface that was given to another begin anew.
    fn since(self, earlier: Self) -> Self {
        Self {
            passed: self.passed.saturating_sub(earlier.passed),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            given_up: self.given_up.saturating_sub(earlier.given_up),
        }
    }

    const fn packets(self) -> u64 {
        self.passed + self.dropped + self.given_up
    }

    /// The share that passed; none of less than `least` packets.
    fn passing(self, least: u64) -> Option<f64> {
        (self.packets() >= least.max(1)).then(|| share(self.passed, self.packets()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of packets to a few digits")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// What is wrong with a program.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    GivesUp { given_up: u64, packets: u64 },
    PassesLess { before: f64, now: f64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivesUp { given_up, packets } => {
                write!(f, "it gave up on {given_up} of {packets} packets")
            }
            Self::PassesLess { before, now } => {
                let (before, now) = (before * 100.0, now * 100.0);
                write!(f, "it let {now:.1} % of the packets pass, the one before it {before:.1} %")
            }
        }
    }
}

/// What follows from what it has done, and from what the one before it did.
fn judge(rules: &ProbationRules, before: Record, now: Record) -> Option<Fault> {
    let passing = now.passing(rules.packets)?;
    let (given_up, packets) = (now.given_up, now.packets());
    if share(given_up, packets) > rules.given_up {
        return Some(Fault::GivesUp { given_up, packets });
    }
    let before = before.passing(rules.packets)?;
    (passing < before * rules.passing).then_some(Fault::PassesLess { before, now: passing })
}

/// The program before this one, for as long as it may come back, and for ever if it has.
#[derive(Default)]
pub(super) struct Probation {
    previous: Option<Xdp>,
    trial: Trial,
    /// What was counted until the program took the other's place.
    before: Record,
    looked: Monotonic,
}

impl Probation {
    /// Of the loaded program and the one before it, the one that is to be attached.
    pub(super) fn in_force<'a>(
        &'a mut self,
        own: &'a mut Ebpf,
    ) -> Result<&'a mut Xdp, KernelError> {
        match (&self.trial, &mut self.previous) {
            (Trial::RolledBack { .. }, Some(previous)) => Ok(previous),
            _ => xdp(own),
        }
    }

    /// To be called when the program has taken the place of what was attached before, if anything
    /// was; `before` had been counted by then.
    pub(super) fn begin(
        &mut self,
        rules: &ProbationRules,
        own: &mut Xdp,
        attachments: &Attachments,
        before: &Counters,
    ) -> Result<(), KernelError> {
        let Some(pins) = attachments.pins() else { return Ok(()) };
        let path = pins.program();
        if rules.time.is_zero() || !attachments.has_adopted() || !path.exists() {
            return keep(own, pins);
        }
        match Xdp::from_pin(&path, XdpAttachType::Interface) {
            Ok(previous) => {
                self.previous = Some(previous);
                self.before = Record::of(before);
                self.trial = Trial::OnProbation { until: Monotonic::now().after(rules.time) };
                Ok(())
            }
            // What cannot be put back is no reason not to go on.
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no earlier program to return to");
                keep(own, pins)
            }
        }
    }

    pub(super) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Puts the program before this one back where this one does wrong, and keeps this one when its
    /// time is over. Gives where it stands if that has changed.
    pub(super) fn tend(
        &mut self,
        rules: &ProbationRules,
        own: &mut Ebpf,
        attachments: &mut Attachments,
        counters: impl Fn() -> Result<Counters, KernelError>,
        now: Monotonic,
    ) -> Result<Option<&Trial>, KernelError> {
        let Trial::OnProbation { until } = self.trial else { return Ok(None) };
        if now.since(self.looked) < INTERVAL {
            return Ok(None);
        }
        self.looked = now;
        let since = Record::of(&counters()?).since(self.before);
        if let Some(fault) = judge(rules, self.before, since) {
            self.roll_back(own, attachments, &fault.to_string())?;
            return Ok(Some(&self.trial));
        }
        if now < until {
            return Ok(None);
        }
        self.trial = Trial::Settled;
        self.previous = None;
        if let Some(pins) = attachments.pins() {
            keep(xdp(own)?, pins)?;
        }
        Ok(Some(&self.trial))
    }

    /// Puts the program before this one back, as far as that can be done.
    fn roll_back(
        &mut self,
        own: &mut Ebpf,
        attachments: &mut Attachments,
        reason: &str,
    ) -> Result<(), KernelError> {
        self.trial = Trial::RolledBack { reason: reason.to_owned() };
        if let Err(error) = attachments.replace_all(self.in_force(own)?) {
            let reason = format!("{reason}; but it is not back everywhere: {}", error.told());
            self.trial = Trial::RolledBack { reason };
        }
        Ok(())
    }
}

/// Pins a program as the one to return to.
fn keep(program: &mut Xdp, pins: &Pins) -> Result<(), KernelError> {
    let (path, new) = (pins.program(), pins.new_program());
    let failed = |path: &Path, action, source| {
        Err(KernelError::Pin { path: path.to_owned(), action, source })
    };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return failed(&new, "removed", error);
        }
        _ => {}
    }
    if let Err(error) = program.pin(&new) {
        return failed(&new, "pinned", std::io::Error::other(error));
    }
    fs::rename(&new, &path).or_else(|error| failed(&path, "renamed", error))
}

impl Kernel {
    /// Where the loaded program stands.
    pub fn trial(&self) -> &Trial {
        match &self.holder {
            Holder::Own(local) => local.trial(),
            Holder::Loader(loader) => loader.trial(),
        }
    }

    /// Looks after a program on probation: puts the one before it back where it does wrong, and keeps
    /// it when its time is over. Gives where it stands if that has changed. To be called every few
    /// hundred milliseconds; the counters are read twice a second. Where there is a loader, that one
    /// does it.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read, or a program not be put back or pinned.
    pub fn tend(&mut self, now: Monotonic) -> Result<Option<&Trial>, KernelError> {
        match &mut self.holder {
            Holder::Own(local) => local.tend(now),
            Holder::Loader(loader) => Ok(loader.new_trial()),
        }
    }
}
