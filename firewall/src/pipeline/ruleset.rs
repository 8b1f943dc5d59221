//! Everything one request is judged by. Replaced whole by a reload; a request sees one from start to
//! end.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::contract::{Contract, OperationIndex};
use crate::metrics::{ApiMetrics, Metrics, OperationMetrics};
use crate::pipeline::answer_fields::AnswerFields;
use crate::pipeline::choice::Choice;
use crate::pipeline::tunnel::TunnelTimes;
use crate::tls::server::Server;
use crate::upstream::Upstream;
use crate::upstream::pool::Pool;
use crate::violation::Rule;

/// What happens where a message is against its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It passes unchanged; the violation is logged and counted.
    Observe,
    /// It is not looked at.
    Off,
}

/// The bounds of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeLimits {
    /// Longest time from the head to the last octet of the request's body.
    pub body_timeout: Duration,
    /// Longest time from the first octet sent upstream to the head of the answer.
    pub response_timeout: Duration,
    /// Longest time from the head of the answer to its last octet, where the answer is checked.
    pub response_body_timeout: Duration,
    /// Of what an exchange becomes that is upgraded.
    pub tunnel: TunnelTimes,
}

/// One API: its contract, and where its requests go.
#[derive(Clone)]
pub struct Api {
    pub name: Arc<str>,
    pub contract: Arc<Contract>,
    pub request_mode: Mode,
    pub response_mode: Mode,
    pub upstream: Upstream,
    pub limits: ExchangeLimits,
    /// Who has shown no certificate is refused.
    pub client_certificate: bool,
    /// What answers get and lose on their way to the client.
    pub answer_fields: AnswerFields,
    /// One entry for each of the contract's operations, in the same order.
    pub operations: Vec<OperationMetrics>,
    /// For what no operation matched, and for the API as a whole.
    pub metrics: ApiMetrics,
}

/// One generation of the policy.
#[derive(Clone)]
pub struct Ruleset {
    /// 1 for the first; one more after each reload.
    pub generation: u64,
    /// At least one. The first speaks for what is none's, where that must be answered.
    pub apis: Vec<Api>,
    pub choice: Choice,
    /// Of requests that are none of the APIs'.
    pub nobody: ApiMetrics,
    /// The peers whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How clients are met; none: in plain text.
    pub tls: Option<Arc<Server>>,
}

/// One worker's hold on the present generation.
///
/// The shared pointer is only compared on the request path; the reference count that a request
/// moves is the worker's own, so that cores share no cache line that is written.
pub struct Rulesets {
    shared: Arc<ArcSwap<Ruleset>>,
    metrics: Arc<Metrics>,
    cached: RefCell<Rc<Held>>,
}

/// One generation, as a worker's requests share it.
pub struct Held {
    ruleset: Arc<Ruleset>,
    /// The worker's own part of each API, in the same order.
    workings: Vec<Working>,
    /// For requests that are none of the APIs'.
    nobody: Rc<OperationMetrics>,
}

/// What a worker has of an API for itself.
pub(super) struct Working {
    pub(super) answer_fields: AnswerFields,
    pub(super) pool: Rc<Pool>,
    /// Each exchange holds its operation's, by a count of references that is the worker's own.
    operations: Vec<Rc<OperationMetrics>>,
    unmatched: Rc<OperationMetrics>,
}

impl Working {
    /// The counters of an operation, or of what none matched.
    pub(super) fn metrics(&self, operation: Option<OperationIndex>) -> &Rc<OperationMetrics> {
        operation
            .and_then(|operation| self.operations.get(operation.0 as usize))
            .unwrap_or(&self.unmatched)
    }
}

/// Whose a request is.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    pub ruleset: &'a Ruleset,
    /// Where it is nobody's, the one that speaks for it.
    pub api: &'a Api,
    pub(super) working: &'a Working,
    pub(super) nobody: &'a Rc<OperationMetrics>,
    /// Why it is nobody's.
    pub missed: Option<Rule>,
}

impl Held {
    /// Connections are kept where the upstream is as it was in the generation `before`.
    fn new(ruleset: Arc<Ruleset>, before: &[Working], metrics: &Metrics) -> Self {
        let working = |api: &Api| {
            let known = before.iter().find(|working| working.pool.upstream().is(&api.upstream));
            let pool = known.map_or_else(
                || Pool::new(api.upstream.clone(), &api.name, metrics),
                |working| Rc::clone(&working.pool),
            );
            Working {
                answer_fields: api.answer_fields.of_a_worker(),
                pool,
                operations: api.operations.iter().cloned().map(Rc::new).collect(),
                unmatched: Rc::new(api.metrics.unmatched.clone()),
            }
        };
        let workings = ruleset.apis.iter().map(working).collect();
        let nobody = Rc::new(ruleset.nobody.unmatched.clone());
        Self { ruleset, workings, nobody }
    }

    /// Whose a request for this host and path is.
    ///
    /// # Panics
    ///
    /// If the generation has no API, which no configuration says.
    pub fn choose(&self, authority: Option<&str>, path: &str) -> Chosen<'_> {
        let (place, missed) = match self.ruleset.choice.of(authority, path) {
            Ok(place) => (place, None),
            Err(rule) => (0, Some(rule)),
        };
        let api = self.ruleset.apis.get(place).zip(self.workings.get(place));
        let (api, working) = api.expect("a generation has the APIs that it chooses among");
        Chosen { ruleset: &self.ruleset, api, working, nobody: &self.nobody, missed }
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.workings.iter().map(|working| &*working.pool)
    }
}

impl Rulesets {
    pub fn new(shared: Arc<ArcSwap<Ruleset>>, metrics: Arc<Metrics>) -> Self {
        let cached = RefCell::new(Rc::new(Held::new(shared.load_full(), &[], &metrics)));
        Self { shared, metrics, cached }
    }

    /// The present generation.
    pub fn current(&self) -> Rc<Held> {
        let mut cached = self.cached.borrow_mut();
        let present = self.shared.load();
        if !Arc::ptr_eq(&present, &cached.ruleset) {
            let before = &cached.workings;
            *cached = Rc::new(Held::new(Arc::clone(&present), before, &self.metrics));
        }
        Rc::clone(&cached)
    }
}
