//! One request and its answer, while they pass.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use http::request::Parts;

use crate::address::ClientAddr;
use crate::audit_log::RefusedAnswer;
use crate::clock::Monotonic;
use crate::contract::OperationIndex;
use crate::metrics::{ApiMetrics, OperationMetrics};
use crate::pipeline::ruleset::{Api, Chosen, Mode, Ruleset, Working};
use crate::tls::session::Session;
use crate::upstream::grpc::Call;
use crate::violation::{Rule, Violation};

/// Names one exchange in the log, and in the problem details that its client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One worker's supply of identifiers: a counter, spread over 64 bits by a bijection (`SplitMix64`) so
/// that workers and restarts do not collide. They are names, not secrets.
#[derive(Debug)]
pub struct RequestIds(Cell<u64>);

impl RequestIds {
    pub fn new(worker: u16, now: Monotonic) -> Self {
        let worker = u64::from(worker) << 48;
        Self(Cell::new(worker ^ now.ns() ^ (u64::from(std::process::id()) << 20)))
    }

    pub fn next(&self) -> RequestId {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(mixed ^ (mixed >> 31))
    }
}

/// One request, and what has been found out about it.
pub struct Exchange<'a> {
    pub id: RequestId,
    pub ruleset: &'a Ruleset,
    /// Whose it is; the first API's where it is nobody's, as `missed` says.
    pub api: &'a Api,
    pub missed: Option<Rule>,
    working: &'a Working,
    nobody: &'a Rc<OperationMetrics>,
    pub client: ClientAddr,
    /// Whether the client's connection is encrypted, as far as that is known.
    pub is_over_tls: bool,
    /// What the handshake of the peer's own connection settled; none in plain text.
    pub session: Option<&'a Session>,
    pub started: Monotonic,
    pub request: Parts,
    pub request_octets: u64,
    /// What was let pass, at most one of each stage; the log names the first, the counters all.
    observed: Vec<Violation>,
    /// Part of the request is still on the connection, which therefore cannot be used again.
    pub is_unread: bool,
    /// What the upstream answered, where that was refused.
    pub refused: Option<RefusedAnswer>,
    /// Whoever asks expects an answer of gRPC's.
    pub is_call: bool,
    /// Where the operation is a method of gRPC.
    pub call: Option<Rc<Call>>,
}

impl<'a> Exchange<'a> {
    pub fn new(
        id: RequestId,
        chosen: Chosen<'a>,
        client: ClientAddr,
        started: Monotonic,
        request: Parts,
    ) -> Self {
        Self {
            id,
            ruleset: chosen.ruleset,
            api: chosen.api,
            missed: chosen.missed,
            working: chosen.working,
            nobody: chosen.nobody,
            client,
            is_over_tls: false,
            session: None,
            started,
            request,
            request_octets: 0,
            observed: Vec::new(),
            is_unread: false,
            refused: None,
            is_call: false,
            call: None,
        }
    }

    /// The counters of the API, or of what is nobody's.
    pub fn metrics(&self) -> &'a ApiMetrics {
        if self.missed.is_some() { &self.ruleset.nobody } else { &self.api.metrics }
    }

    /// Those of an operation, or of what none matched.
    pub fn operation_metrics(&self, operation: Option<OperationIndex>) -> &'a Rc<OperationMetrics> {
        if self.missed.is_some() { self.nobody } else { self.working.metrics(operation) }
    }

    /// Takes a stage's finding: where the contract is enforced a violation is final, where it is
    /// observed the violation is kept and the message passes.
    pub fn settle<T>(
        &mut self,
        mode: Mode,
        found: Result<T, Violation>,
    ) -> Result<Option<T>, Violation> {
        match (found, mode) {
            (Ok(passed), _) => Ok(Some(passed)),
            (Err(violation), Mode::Enforce) => Err(violation),
            (Err(violation), Mode::Observe) => {
                self.observed.push(violation);
                Ok(None)
            }
            (Err(_), Mode::Off) => Ok(None),
        }
    }

    pub fn observed(&self) -> &[Violation] {
        &self.observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_do_not_repeat() {
        let mut seen = std::collections::HashSet::new();
        for worker in 0..4 {
            let ids = RequestIds::new(worker, Monotonic::from_ns(1_000_000));
            for _ in 0..10_000 {
                assert!(seen.insert(ids.next().get()));
            }
        }
    }
}
