//! Which requests an API is there for: the hosts and base paths of its document. Where one process
//! serves several, the claims tell whose a request is.

use std::sync::Arc;

use super::authority::{Host, HostRule, Name, Port};
use super::paths::{Segment, Shape};
use super::uri::{Plus, decode};

/// One base path, and the hosts that it is served for.
#[derive(Clone, Debug)]
pub struct Claim {
    base: Box<[Shape]>,
    hosts: Arc<HostRule>,
}

/// How closely a claim describes what it claims. The greater goes first: who names the host before
/// who takes any, then the longer base path, then the one that is written out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    host: u8,
    segments: usize,
    literals: Box<[u8]>,
}

impl Claim {
    pub(super) fn new(base: &[Segment], hosts: &Arc<HostRule>) -> Self {
        Self { base: base.iter().map(Segment::shape).collect(), hosts: Arc::clone(hosts) }
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.base == other.base && self.hosts == other.hosts
    }

    /// Whether the claim is to requests for this host.
    pub fn allows(&self, authority: Option<&str>) -> bool {
        self.hosts.allows(authority)
    }

    /// Whether a raw path lies below the base path.
    pub fn covers(&self, path: &str) -> bool {
        let mut segments = path.split('/').skip(1);
        self.base.iter().all(|shape| {
            let Some(segment) = segments.next().and_then(|text| decode(text, Plus::Literal)) else {
                return false;
            };
            match shape {
                Shape::Literal(literal) => **literal == *segment,
                Shape::Expression => !segment.is_empty(),
                Shape::Mixed(pattern) => pattern.split(&segment, &mut Vec::new()).is_some(),
            }
        })
    }

    pub fn rank(&self) -> Rank {
        let by_shape = |shape: &Shape| match shape {
            Shape::Literal(_) => 2,
            Shape::Mixed(_) => 1,
            Shape::Expression => 0,
        };
        let host = match &*self.hosts {
            HostRule::Any => 0,
            HostRule::Of(hosts) if hosts.iter().any(|host| is_pattern(&host.name)) => 1,
            HostRule::Of(_) => 2,
        };
        let literals = self.base.iter().map(by_shape).collect();
        Rank { host, segments: self.base.len(), literals }
    }

    /// Whether there are requests that both claim with the same right.
    pub fn rivals(&self, other: &Self) -> bool {
        self.rank() == other.rank()
            && self.base.iter().zip(&other.base).all(|(one, other)| may_be_one(one, other))
            && share_a_host(&self.hosts, &other.hosts)
    }
}

fn is_pattern(name: &Name) -> bool {
    matches!(name, Name::Pattern(_))
}

fn may_be_one(one: &Shape, other: &Shape) -> bool {
    match (one, other) {
        (Shape::Literal(one), Shape::Literal(other)) => one == other,
        (Shape::Literal(text), Shape::Mixed(pattern))
        | (Shape::Mixed(pattern), Shape::Literal(text)) => {
            pattern.split(text, &mut Vec::new()).is_some()
        }
        (Shape::Mixed(one), Shape::Mixed(other)) => one.overlaps(other),
        (Shape::Expression, _) | (_, Shape::Expression) => true,
    }
}

fn share_a_host(one: &HostRule, other: &HostRule) -> bool {
    match (one, other) {
        (HostRule::Of(hosts), HostRule::Of(others)) => {
            hosts.iter().any(|host| others.iter().any(|other| is_shared(host, other)))
        }
        _ => true,
    }
}

fn is_shared(one: &Host, other: &Host) -> bool {
    let is_port = match (one.port, other.port) {
        (Port::Is { number, .. }, Port::Is { number: other, .. }) => number == other,
        (Port::Default, Port::Is { number, .. }) | (Port::Is { number, .. }, Port::Default) => {
            matches!(number, 80 | 443)
        }
        _ => true,
    };
    is_port
        && match (&one.name, &other.name) {
            (Name::Text(one), Name::Text(other)) => one.eq_ignore_ascii_case(other),
            (Name::Address(one), Name::Address(other)) => one == other,
            (Name::Pattern(pattern), Name::Text(text))
            | (Name::Text(text), Name::Pattern(pattern)) => {
                pattern.split(&text.to_ascii_lowercase(), &mut Vec::new()).is_some()
            }
            (Name::Pattern(one), Name::Pattern(other)) => one.overlaps(other),
            (Name::Address(_), _) | (_, Name::Address(_)) => false,
        }
}
