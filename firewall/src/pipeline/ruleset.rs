//! Everything one request is judged by. Replaced whole by a reload; a request sees one from start to
//! end.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::contract::{Contract, OperationIndex};
use crate::metrics::OperationMetrics;
use crate::pipeline::answer_fields::AnswerFields;
use crate::tls::server::Server;
use crate::upstream::Upstream;

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
}

/// One API: its contract, and where its requests go.
#[derive(Clone)]
pub struct Api {
    pub name: Arc<str>,
    pub contract: Arc<Contract>,
    pub request_mode: Mode,
    pub response_mode: Mode,
    pub upstream: Upstream,
    /// Who has shown no certificate is refused.
    pub client_certificate: bool,
    /// What answers get and lose on their way to the client.
    pub answer_fields: AnswerFields,
    /// One entry for each of the contract's operations, in the same order.
    pub operations: Vec<OperationMetrics>,
    /// For what no operation matched.
    pub unmatched: OperationMetrics,
}

impl Api {
    /// The counters of an operation, or of what none matched.
    pub fn metrics(&self, operation: Option<OperationIndex>) -> &OperationMetrics {
        operation
            .and_then(|operation| self.operations.get(operation.0 as usize))
            .unwrap_or(&self.unmatched)
    }
}

/// One generation of the policy.
#[derive(Clone)]
pub struct Ruleset {
    /// 1 for the first; one more after each reload.
    pub generation: u64,
    pub api: Api,
    pub limits: ExchangeLimits,
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
    cached: RefCell<Rc<Held>>,
}

/// One generation, as a worker's requests share it.
pub struct Held {
    ruleset: Arc<Ruleset>,
    /// The worker's own copy.
    pub(super) answer_fields: AnswerFields,
}

impl Held {
    fn new(ruleset: Arc<Ruleset>) -> Self {
        let answer_fields = ruleset.api.answer_fields.of_a_worker();
        Self { ruleset, answer_fields }
    }
}

impl Deref for Held {
    type Target = Ruleset;

    fn deref(&self) -> &Ruleset {
        &self.ruleset
    }
}

impl Rulesets {
    pub fn new(shared: Arc<ArcSwap<Ruleset>>) -> Self {
        let cached = RefCell::new(Rc::new(Held::new(shared.load_full())));
        Self { shared, cached }
    }

    /// The present generation.
    pub fn current(&self) -> Rc<Held> {
        let mut cached = self.cached.borrow_mut();
        let present = self.shared.load();
        if !Arc::ptr_eq(&present, &cached.ruleset) {
            *cached = Rc::new(Held::new(Arc::clone(&present)));
        }
        Rc::clone(&cached)
    }
}
