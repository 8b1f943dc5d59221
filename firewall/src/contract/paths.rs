//! `PathTable`: from a raw path to the template that matches it, whatever the order of the document.
//!
//! Left to right, at each segment: the literal, then what mixes literals and expressions, the more
//! literal first, then the expression that is the whole segment. What two templates could match in
//! two ways by that order is found when the document is compiled.

mod canonical;
mod overlap;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use http::Method;

use super::authority::HostRule;
use super::operation::OperationIndex;
use super::policy::{Policy, TrailingSlash, Verdict};
use super::uri::{Plus, decode};
use crate::violation::{Rule, Violation};

use canonical::{Canonical, canonical};
use template::{Part, Split};

pub(crate) use template::{Pattern, Segment, Shape, segments};

/// A tree of path segments. A request visits each node at most once, since a node stands at one
/// depth and a path has one segment there.
pub(crate) struct PathTable {
    nodes: Vec<Node>,
    ignores_trailing_slash: bool,
    has_head_through_get: bool,
    takes_first_split: bool,
}

#[derive(Default)]
struct Node {
    /// Decoded, sorted.
    literals: Vec<(Box<str>, usize)>,
    /// In the order of precedence.
    patterns: Vec<(Pattern, usize)>,
    expression: Option<usize>,
    route: Option<Route>,
}

/// What is declared for one template below one base path.
struct Route {
    /// As the document writes it.
    template: Arc<str>,
    /// Segments of the base path.
    base: usize,
    /// Expressions of the base path: the server's variables.
    variables: usize,
    /// What is forwarded before, between and behind the values of the expressions.
    literals: Box<[Box<str>]>,
    operations: Vec<Declared>,
    allow: Arc<str>,
}

/// One method of a template.
pub(crate) struct Declared {
    pub(crate) method: Method,
    pub(crate) operation: OperationIndex,
    pub(crate) hosts: Arc<HostRule>,
    /// Which list of servers it is below.
    pub(crate) servers: usize,
    /// Whether a segment may hold an encoded slash.
    pub(crate) takes_encoded_slash: bool,
    /// Whether it is refused as deprecated.
    pub(crate) is_withdrawn: bool,
}

/// A path that a template matches.
pub(crate) struct Routed {
    pub(crate) operation: OperationIndex,
    /// To forward: one spelling of what was matched.
    pub(crate) path: String,
    /// Where in `path` the template's expressions' values stand, still encoded.
    pub(crate) values: Vec<(usize, usize)>,
}

/// The path that is looked for, and what has been found of it.
struct Search<'p> {
    path: &'p str,
    values: Vec<(usize, usize)>,
    /// Segments whose text could be split in another way, too.
    ambiguous: usize,
}

impl PathTable {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            nodes: vec![Node::default()],
            ignores_trailing_slash: policy.trailing_slash == TrailingSlash::Ignore,
            has_head_through_get: policy.head_through_get == Verdict::Pass,
            takes_first_split: policy.ambiguous_segments == Verdict::Pass,
        }
    }

    /// Adds a method of a template below a base path. Gives another template of the same hierarchy,
    /// whose methods are others.
    ///
    /// # Errors
    ///
    /// The template that has the method already.
    pub(crate) fn insert(
        &mut self,
        base: &[Segment],
        segments: &[Segment],
        template: &Arc<str>,
        declared: Declared,
    ) -> Result<Option<Arc<str>>, Arc<str>> {
        let mut at = 0;
        for (index, segment) in base.iter().chain(segments).enumerate() {
            let is_last = index + 1 == base.len() + segments.len();
            if !(is_last && self.ignores_trailing_slash && segment.parts.is_empty()) {
                at = self.child(at, segment.shape());
            }
        }
        let has_head_through_get = self.has_head_through_get;
        let Some(node) = self.nodes.get_mut(at) else { return Ok(None) };
        let spelling = literals(base.iter().chain(segments));
        let route = node.route.get_or_insert_with(|| Route {
            template: Arc::clone(template),
            base: base.len(),
            variables: base.iter().flat_map(Segment::expressions).count(),
            literals: spelling.clone(),
            operations: Vec::new(),
            allow: "".into(),
        });
        let is_declared = route.operations.iter().any(|known| known.method == declared.method);
        if is_declared || route.base != base.len() || route.literals != spelling {
            return Err(Arc::clone(&route.template));
        }
        route.operations.push(declared);
        route.allow = allow(&route.operations, has_head_through_get);
        Ok((route.template != *template).then(|| Arc::clone(&route.template)))
    }

    fn child(&mut self, at: usize, shape: Shape) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = match shape {
            Shape::Expression => *node.expression.get_or_insert(next),
            Shape::Literal(text) => {
                match node.literals.binary_search_by(|(known, _)| known.cmp(&text)) {
                    Ok(found) => node.literals.get(found).map_or(next, |(_, child)| *child),
                    Err(place) => {
                        node.literals.insert(place, (text, next));
                        next
                    }
                }
            }
            Shape::Mixed(pattern) => {
                let known = node.patterns.iter().find(|(known, _)| *known == pattern);
                if let Some((_, child)) = known {
                    *child
                } else {
                    let rank = Reverse(pattern.rank());
                    let place =
                        node.patterns.partition_point(|(known, _)| Reverse(known.rank()) <= rank);
                    node.patterns.insert(place, (pattern, next));
                    next
                }
            }
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// # Errors
    ///
    /// [`Rule::Path`] for a path that two readers could read in two ways, [`Rule::UnknownPath`],
    /// [`Rule::Method`], [`Rule::Deprecated`], [`Rule::Segment`], [`Rule::Misdirected`].
    pub(crate) fn route(
        &self,
        method: &Method,
        path: &str,
        authority: Option<&str>,
    ) -> Result<Routed, Violation> {
        let ambiguous = || Violation::new(Rule::Path);
        let Canonical { path, encoded_slash } = canonical(path).ok_or_else(ambiguous)?;
        let searched = match path.strip_suffix('/') {
            Some(stripped) if self.ignores_trailing_slash => stripped,
            _ => &*path,
        };
        let mut search = Search { path: searched, values: Vec::new(), ambiguous: 0 };
        let Some(route) = self.find(0, 0, &mut search) else {
            return Err(
                encoded_slash.map_or_else(|| Violation::new(Rule::UnknownPath), |_| ambiguous())
            );
        };
        let takes_slash = |declared: &Declared| {
            encoded_slash.is_none_or(|at| at >= route.base && declared.takes_encoded_slash)
        };
        let find = |wanted: &Method| route.operations.iter().find(|one| one.method == *wanted);
        // RFC 9110 section 9.3.2: HEAD is GET without the content.
        let through_get = self.has_head_through_get && *method == Method::HEAD;
        let declared = find(method).or_else(|| if through_get { find(&Method::GET) } else { None });
        let Some(declared) = declared else {
            // The template is the resource's, so none with more expressions is tried.
            return Err(if route.operations.iter().any(takes_slash) {
                Violation { allow: Some(Arc::clone(&route.allow)), ..Violation::new(Rule::Method) }
            } else {
                ambiguous()
            });
        };
        if !takes_slash(declared) {
            return Err(ambiguous());
        }
        if declared.is_withdrawn {
            return Err(Violation::new(Rule::Deprecated));
        }
        if search.ambiguous > 0 && !self.takes_first_split {
            return Err(Violation::new(Rule::Segment));
        }
        // Last, so that who scans for paths is not excused by a wrong host.
        if !declared.hosts.allows(authority) {
            return Err(Violation::new(Rule::Misdirected));
        }
        let mut values = search.values;
        let path = route.spelt(path, &mut values);
        values.drain(..route.variables.min(values.len()));
        Ok(Routed { operation: declared.operation, path, values })
    }

    /// The route for the segments from `start`, the octet behind a slash.
    fn find(&self, at: usize, start: usize, search: &mut Search<'_>) -> Option<&Route> {
        let node = self.nodes.get(at)?;
        let path = search.path;
        let Some(rest) = path.get(start + 1..) else { return node.route.as_ref() };
        let start = start + 1;
        let end = rest.find('/').map_or(path.len(), |length| start + length);
        let encoded = path.get(start..end)?;
        let segment = if encoded.contains('%') {
            decode(encoded, Plus::Literal)?
        } else {
            Cow::Borrowed(encoded)
        };
        if let Ok(found) = node.literals.binary_search_by(|(known, _)| (**known).cmp(&segment)) {
            let child = node.literals.get(found).map(|(_, child)| *child)?;
            if let Some(route) = self.find(child, end, search) {
                return Some(route);
            }
        }
        // A path parameter is required: nothing is no value for it.
        if segment.is_empty() {
            return None;
        }
        let (count, ambiguous) = (search.values.len(), search.ambiguous);
        for (pattern, child) in &node.patterns {
            if let Some(split) = pattern.split(&segment, &mut search.values) {
                for (from, to) in search.values.get_mut(count..).unwrap_or_default() {
                    *from = start + encoded_octets(encoded, *from);
                    *to = start + encoded_octets(encoded, *to);
                }
                search.ambiguous += usize::from(split == Split::First);
                if let Some(route) = self.find(*child, end, search) {
                    return Some(route);
                }
            }
            search.values.truncate(count);
            search.ambiguous = ambiguous;
        }
        let child = node.expression?;
        search.values.push((start, end));
        let route = self.find(child, end, search);
        if route.is_none() {
            search.values.truncate(count);
        }
        route
    }
}

/// How many octets of `encoded` stand for the first `count` of what it decodes to.
fn encoded_octets(encoded: &str, count: usize) -> usize {
    let mut octets = encoded.bytes();
    let mut length = 0;
    for _ in 0..count {
        match octets.next() {
            Some(b'%') => {
                octets.nth(1);
                length += 3;
            }
            Some(_) => length += 1,
            None => break,
        }
    }
    length
}

impl Route {
    /// The path with the template's own spelling of its literals, so that whoever compares them
    /// undecoded, or is strict about a slash at the end, finds the template that was found here.
    fn spelt(&self, path: String, values: &mut [(usize, usize)]) -> String {
        let mut at = 0;
        let mut ends = values.iter();
        let is_spelt = self.literals.iter().all(|literal| {
            let (start, end) = ends.next().map_or((path.len(), path.len()), |value| *value);
            let found = path.get(at..start);
            at = end;
            found == Some(&**literal)
        });
        if is_spelt {
            return path;
        }
        let mut spelt = String::with_capacity(path.len());
        let mut values = values.iter_mut();
        for literal in &self.literals {
            spelt.push_str(literal);
            if let Some(value) = values.next() {
                let start = spelt.len();
                spelt.push_str(path.get(value.0..value.1).unwrap_or_default());
                *value = (start, spelt.len());
            }
        }
        spelt
    }
}

/// What stands before, between and behind the expressions.
fn literals<'s>(segments: impl Iterator<Item = &'s Segment>) -> Box<[Box<str>]> {
    let mut literals = Vec::new();
    let mut literal = String::new();
    for segment in segments {
        literal.push('/');
        for part in &segment.parts {
            match part {
                Part::Literal { spelling, .. } => literal.push_str(spelling),
                Part::Expression(_) => literals.push(std::mem::take(&mut literal).into()),
            }
        }
    }
    literals.push(literal.into());
    literals.into()
}

/// The value of `Allow`: what is declared and not withdrawn, and HEAD where it goes through GET.
fn allow(operations: &[Declared], has_head_through_get: bool) -> Arc<str> {
    let served = operations.iter().filter(|declared| !declared.is_withdrawn);
    let mut methods: Vec<&str> = served.map(|declared| declared.method.as_str()).collect();
    if has_head_through_get && methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ").into()
}
