//! Templates that the order of precedence does not tell apart, found before the first request.
//!
//! Two templates of the same hierarchy meet in one node, and are found there. Beyond that, patterns
//! of one place and one rank may match the same segment (`/{a}-{b}` and `/{c}.{d}`), and a server's
//! variable may take for a base path what another template takes for its own (OAI/OpenAPI-Specification
//! issue 2387): the specification orders templates among themselves, not servers among templates.

use std::sync::Arc;

use super::template::Pattern;
use super::{PathTable, Route};

/// One way on from a node.
#[derive(Clone, Copy)]
enum Edge<'t> {
    Literal(&'t str),
    Pattern(&'t Pattern),
    Expression,
}

impl Edge<'_> {
    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Edge::Literal(text), Edge::Literal(other)) => text == other,
            (Edge::Literal(text), Edge::Pattern(pattern))
            | (Edge::Pattern(pattern), Edge::Literal(text)) => {
                pattern.split(text, &mut Vec::new()).is_some()
            }
            (Edge::Literal(text), Edge::Expression) | (Edge::Expression, Edge::Literal(text)) => {
                !text.is_empty()
            }
            (Edge::Pattern(pattern), Edge::Pattern(other)) => pattern.overlaps(other),
            (Edge::Expression, Edge::Expression | Edge::Pattern(_))
            | (Edge::Pattern(_), Edge::Expression) => true,
        }
    }

    /// Whether precedence says nothing of the two.
    fn is_equal(self, other: Self) -> bool {
        matches!((self, other), (Edge::Pattern(one), Edge::Pattern(other)) if one.rank() == other.rank())
    }
}

impl PathTable {
    /// The pairs of templates that match the same request with nothing to choose one by, at most one
    /// pair for each two branches of the tree.
    pub(crate) fn overlaps(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut routes = self.nodes.iter().filter_map(|node| node.route.as_ref());
        let has_variables = routes.any(|route| route.variables > 0);
        let mut found = Vec::new();
        let mut open = vec![(0, 0)];
        while let Some((at, depth)) = open.pop() {
            let edges = self.edges(at);
            for (index, (edge, child)) in edges.iter().enumerate() {
                open.push((*child, depth + 1));
                if let Edge::Literal(_) = edge {
                    continue;
                }
                for (other, beside) in edges.iter().skip(index + 1) {
                    let is_equal = edge.is_equal(*other);
                    if (is_equal || has_variables) && edge.overlaps(*other) {
                        let collide =
                            |one: &Route, other: &Route| is_equal || one.is_mistaken(other, depth);
                        found.extend(self.meeting(*child, *beside, &collide));
                    }
                }
            }
        }
        found
    }

    /// Two templates, one below each node, that match the same rest of a path and `collide`.
    fn meeting(
        &self,
        left: usize,
        right: usize,
        collide: &impl Fn(&Route, &Route) -> bool,
    ) -> Option<(Arc<str>, Arc<str>)> {
        let mut open = vec![(left, right)];
        while let Some((at, beside)) = open.pop() {
            let route = |at: usize| self.nodes.get(at).and_then(|node| node.route.as_ref());
            if let (Some(one), Some(other)) = (route(at), route(beside))
                && collide(one, other)
                && !is_same(one, other)
            {
                return Some((Arc::clone(&one.template), Arc::clone(&other.template)));
            }
            let there = self.edges(beside);
            for (edge, child) in self.edges(at) {
                if let Edge::Literal(text) = edge {
                    let literals = self.nodes.get(beside).map(|node| &*node.literals);
                    let literals = literals.unwrap_or_default();
                    let same = literals.binary_search_by(|(known, _)| (**known).cmp(text)).ok();
                    let same = same.and_then(|found| literals.get(found));
                    open.extend(same.map(|(_, beside)| (child, *beside)));
                }
                for (other, beside) in &there {
                    let are_literals =
                        matches!((edge, other), (Edge::Literal(_), Edge::Literal(_)));
                    if !are_literals && edge.overlaps(*other) {
                        open.push((child, *beside));
                    }
                }
            }
        }
        None
    }

    fn edges(&self, at: usize) -> Vec<(Edge<'_>, usize)> {
        let Some(node) = self.nodes.get(at) else { return Vec::new() };
        let patterns = node.patterns.iter().map(|(p, child)| (Edge::Pattern(p), *child));
        let expression = node.expression.iter().map(|child| (Edge::Expression, *child));
        let literals = node.literals.iter().map(|(text, child)| (Edge::Literal(text), *child));
        // Literals come last: nothing overlaps among them.
        patterns.chain(expression).chain(literals).collect()
    }
}

impl Route {
    /// Whether a server's variable may take for its base path what the other takes for its own, the
    /// two being the same before `depth`.
    fn is_mistaken(&self, other: &Self, depth: usize) -> bool {
        let servers = || self.operations.iter().chain(&other.operations).map(|one| one.servers);
        let has_variables = self.variables > 0 || other.variables > 0;
        // Where the base paths are equally long, what stands behind them is told apart by precedence,
        // if below each of them stands the same.
        let is_told_apart =
            self.base == other.base && (depth >= self.base || servers().min() == servers().max());
        has_variables && !is_told_apart
    }
}

/// Whether it is the same operations that both lead to, below two base paths.
fn is_same(one: &Route, other: &Route) -> bool {
    one.template == other.template
        && one.operations.len() == other.operations.len()
        && one.operations.iter().all(|declared| {
            other.operations.iter().any(|known| known.operation == declared.operation)
        })
}
