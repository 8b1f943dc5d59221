//! `PathTable`: from a raw path to the templates that match it, literals before expressions from
//! left to right, whatever the order of the document.

use std::sync::Arc;

use http::Method;

use super::operation::OperationIndex;
use super::uri::{Part, Plus, decode, normalize};
use crate::violation::{Rule, Violation};

/// A tree of path segments. A request visits each node at most once.
pub(crate) struct PathTable {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Decoded, sorted.
    literals: Vec<(Box<str>, usize)>,
    expression: Option<usize>,
    route: Option<Route>,
}

/// What is declared for one template.
struct Route {
    /// As the document writes it.
    template: Arc<str>,
    operations: Vec<(Method, OperationIndex)>,
    allow: Arc<str>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(Box<str>),
    Expression(Box<str>),
}

/// A path that a template matches.
pub(crate) struct Routed {
    pub(crate) operation: OperationIndex,
    /// To forward: one spelling of what was matched.
    pub(crate) path: String,
    /// Where in `path` the expressions' values stand, still encoded.
    pub(crate) values: Vec<(usize, usize)>,
}

impl PathTable {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a method of a template, whose `segments` begin with the base path.
    ///
    /// # Errors
    ///
    /// The template that matches the same requests.
    pub(crate) fn insert(
        &mut self,
        segments: &[Segment],
        template: &Arc<str>,
        method: &Method,
        operation: OperationIndex,
    ) -> Result<(), Arc<str>> {
        let mut at = 0;
        for segment in segments {
            at = self.child(at, segment);
        }
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let route = node.route.get_or_insert_with(|| Route {
            template: Arc::clone(template),
            operations: Vec::new(),
            allow: "".into(),
        });
        let is_declared = route.operations.iter().any(|(known, _)| known == method);
        if route.template != *template || is_declared {
            return Err(Arc::clone(&route.template));
        }
        route.operations.push((method.clone(), operation));
        route.allow = allow(&route.operations);
        Ok(())
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = match segment {
            Segment::Expression(_) => *node.expression.get_or_insert(next),
            Segment::Literal(text) => {
                match node.literals.binary_search_by(|(known, _)| known.cmp(text)) {
                    Ok(found) => node.literals.get(found).map_or(next, |(_, child)| *child),
                    Err(place) => {
                        node.literals.insert(place, (text.clone(), next));
                        next
                    }
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
    /// [`Rule::Method`].
    pub(crate) fn route(&self, method: &Method, path: &str) -> Result<Routed, Violation> {
        let path = canonical(path).ok_or_else(|| Violation::new(Rule::Path))?;
        let mut values = Vec::new();
        let route =
            self.find(0, &path, 0, &mut values).ok_or_else(|| Violation::new(Rule::UnknownPath))?;
        let declared = |wanted: &Method| {
            route.operations.iter().find(|(known, _)| known == wanted).map(|(_, index)| *index)
        };
        // RFC 9110 section 9.3.2: HEAD is GET without the content.
        let operation =
            declared(method).or_else(|| declared(&Method::GET).filter(|_| *method == Method::HEAD));
        match operation {
            Some(operation) => Ok(Routed { operation, path, values }),
            // The template is the resource's, so none with more expressions is tried.
            None => Err(Violation {
                allow: Some(Arc::clone(&route.allow)),
                ..Violation::new(Rule::Method)
            }),
        }
    }

    /// The route for the segments of `path` from `start`, the octet behind a slash.
    fn find(
        &self,
        at: usize,
        path: &str,
        start: usize,
        values: &mut Vec<(usize, usize)>,
    ) -> Option<&Route> {
        let node = self.nodes.get(at)?;
        let Some(rest) = path.get(start + 1..) else { return node.route.as_ref() };
        let start = start + 1;
        let end = rest.find('/').map_or(path.len(), |length| start + length);
        let segment = decode(path.get(start..end)?, Plus::Literal)?;
        if let Ok(found) = node.literals.binary_search_by(|(known, _)| (**known).cmp(&segment)) {
            let child = node.literals.get(found).map(|(_, child)| *child)?;
            if let Some(route) = self.find(child, path, end, values) {
                return Some(route);
            }
        }
        // A path parameter is required: nothing is no value for it.
        let child = node.expression.filter(|_| !segment.is_empty())?;
        let count = values.len();
        values.push((start, end));
        let route = self.find(child, path, end, values);
        if route.is_none() {
            values.truncate(count);
        }
        route
    }
}

/// The value of `Allow`: what is declared, and HEAD through GET.
fn allow(operations: &[(Method, OperationIndex)]) -> Arc<str> {
    let mut methods: Vec<&str> = operations.iter().map(|(method, _)| method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ").into()
}

/// The one spelling of a path; none where it is ambiguous: empty and dot segments, encoded slashes,
/// backslashes and control characters, whatever is not UTF-8.
fn canonical(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').peekable();
    if !segments.next()?.is_empty() {
        return None;
    }
    while let Some(segment) = segments.next() {
        // Only the last may be empty: a trailing slash.
        if segment.is_empty() && segments.peek().is_some() {
            return None;
        }
        out.push('/');
        let start = out.len();
        normalize(segment, Part::Segment, &mut out)?;
        let decoded = decode(out.get(start..)?, Plus::Literal)?;
        let is_ambiguous = matches!(&*decoded, "." | "..")
            || decoded.contains(|c: char| matches!(c, '/' | '\\') || c.is_control());
        if is_ambiguous {
            return None;
        }
    }
    Some(out).filter(|path| !path.is_empty())
}

/// The segments of a template, or of a server's base path.
///
/// # Errors
///
/// What cannot be matched, in words.
pub(crate) fn segments(template: &str) -> Result<Vec<Segment>, String> {
    let rest = template
        .strip_prefix('/')
        .ok_or_else(|| format!("the path {template} does not begin with a slash"))?;
    rest.split('/').map(|text| segment(template, text)).collect()
}

fn segment(template: &str, text: &str) -> Result<Segment, String> {
    let whole = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    match whole {
        Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
            Ok(Segment::Expression(name.into()))
        }
        _ if text.contains(['{', '}']) => {
            Err(format!("{template}: an expression that is not a whole segment is not supported"))
        }
        _ if text.contains(['?', '#']) => {
            Err(format!("{template}: a path holds no query and no fragment"))
        }
        _ => match decode(text, Plus::Literal) {
            Some(literal) if matches!(&*literal, "." | "..") || literal.contains('/') => {
                Err(format!("{template}: no request that is accepted can match this path"))
            }
            Some(literal) => Ok(Segment::Literal((*literal).into())),
            None => Err(format!("{template}: the path is wrongly encoded")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str)]) -> PathTable {
        let mut table = PathTable::new();
        for (index, (method, template)) in routes.iter().enumerate() {
            let index = OperationIndex(u32::try_from(index).unwrap());
            let template: Arc<str> = (*template).into();
            let parts = segments(&template).unwrap();
            table.insert(&parts, &template, &method.parse().unwrap(), index).unwrap();
        }
        table
    }

    #[track_caller]
    fn check(table: &PathTable, method: &str, path: &str, expected: Result<(u32, &[&str]), Rule>) {
        let result = table.route(&method.parse().unwrap(), path);
        let result = result.as_ref().map_err(|violation| violation.rule).map(|routed| {
            let values = routed.values.iter().map(|(start, end)| &routed.path[*start..*end]);
            (routed.operation.0, values.collect::<Vec<_>>())
        });
        let expected = expected.map(|(index, values)| (index, values.to_vec()));
        assert_eq!(result, expected, "{method} {path}");
    }

    const ROUTES: &[(&str, &str)] = &[
        ("GET", "/{entity}/{id}"),
        ("GET", "/{entity}/me"),
        ("GET", "/books/{id}"),
        ("GET", "/books/new"),
        ("POST", "/books"),
        ("GET", "/a/b/c"),
        ("GET", "/a/{x}/d"),
        ("GET", "/{y}/b/e"),
        ("GET", "/"),
        ("GET", "/slash/"),
        ("GET", "/sp%20ce/é"),
        ("HEAD", "/heads"),
        ("PUT", "/heads"),
    ];

    #[test]
    fn literals_come_first_from_left_to_right_in_any_order() {
        let forward = table(ROUTES);
        let mut reversed = ROUTES.to_vec();
        reversed.reverse();
        let reversed = table(&reversed);
        for (path, expected, values) in [
            ("/users/7", 0, vec!["users", "7"]),
            ("/users/me", 1, vec!["users"]),
            ("/books/me", 2, vec!["me"]),
            ("/books/new", 3, vec![]),
            ("/a/b/c", 5, vec![]),
            ("/a/b/d", 6, vec!["b"]),
            ("/a/x/d", 6, vec!["x"]),
            ("/a/b/e", 7, vec!["a"]),
            ("/z/b/e", 7, vec!["z"]),
            ("/", 8, vec![]),
            ("/slash/", 9, vec![]),
            ("/sp%20ce/%c3%a9", 10, vec![]),
            ("/%62ooks/ne%77", 3, vec![]),
        ] {
            check(&forward, "GET", path, Ok((expected, &values)));
            let last = u32::try_from(ROUTES.len()).unwrap() - 1;
            check(&reversed, "GET", path, Ok((last - expected, &values)));
        }
    }

    #[test]
    fn paths_outside_the_contract_are_unknown() {
        let table = table(ROUTES);
        for path in ["/books/1/2", "/slash", "/a/b/c/", "/Books", "/books/", "/a/x/e", "/a/b/c/d"] {
            check(&table, "GET", path, Err(Rule::UnknownPath));
        }
    }

    #[test]
    fn an_undeclared_method_is_refused_without_falling_through() {
        let table = table(ROUTES);
        check(&table, "GET", "/books", Err(Rule::Method));
        // `GET /{entity}/{id}` would take it, but the path is that of a concrete resource.
        check(&table, "DELETE", "/books/new", Err(Rule::Method));
        check(&table, "get", "/books/new", Err(Rule::Method));
        check(&table, "OPTIONS", "/books", Err(Rule::Method));
        for (path, allow) in
            [("/books", "POST"), ("/books/new", "GET, HEAD"), ("/heads", "HEAD, PUT")]
        {
            let violation = table.route(&Method::PATCH, path).err().unwrap();
            assert_eq!(violation.allow.as_deref(), Some(allow), "{path}");
        }
    }

    #[test]
    fn head_goes_through_get() {
        let table = table(ROUTES);
        check(&table, "HEAD", "/books/new", Ok((3, &[])));
        check(&table, "HEAD", "/heads", Ok((11, &[])));
        check(&table, "HEAD", "/books", Err(Rule::Method));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        let table = table(ROUTES);
        for path in [
            "",
            "books",
            "*",
            "//books",
            "/books//1",
            "//",
            "/books/..",
            "/books/.",
            "/./books",
            "/../books",
            "/books/%2e%2e",
            "/books/%2E",
            "/books/.%2e",
            "/books/%2e./x",
            "/books/a%2fb",
            "/books/a%5Cb",
            "/books/a\\b",
            "/books/%00",
            "/books/a%0d%0ab",
            "/books/%7f",
            "/books/%c2%85",
            "/books/%",
            "/books/%1",
            "/books/%zz",
            "/books/%c0%ae",
            "/books/%ff",
            "/books/%c3",
            "/books/é",
            "/books/a b",
            "/books/<a>",
            "/books/a|b",
            "/books/\"",
        ] {
            check(&table, "GET", path, Err(Rule::Path));
        }
    }

    #[test]
    fn what_matched_is_what_is_forwarded() {
        let table = table(ROUTES);
        for (path, forwarded) in [
            ("/books/%7Ea%2d%c3%a9", "/books/~a-%C3%A9"),
            ("/books/a;b=c", "/books/a;b=c"),
            ("/books/a%3Bb%25", "/books/a%3Bb%25"),
            ("/books/%252e%252e", "/books/%252e%252e"),
            ("/books/...", "/books/..."),
        ] {
            let routed = table.route(&Method::GET, path).ok().unwrap();
            assert_eq!(routed.path, forwarded);
        }
    }

    #[test]
    fn templates_that_match_the_same_requests_collide() {
        let mut table = table(&[("GET", "/orders/{id}"), ("GET", "/orders/new")]);
        for (method, template, expected) in [
            ("POST", "/orders/{id}", None),
            ("POST", "/orders/{key}", Some("/orders/{id}")),
            ("POST", "/orders/{id}/items", None),
            ("POST", "/orders/%6eew", Some("/orders/new")),
        ] {
            let parts = segments(template).unwrap();
            let result =
                table.insert(&parts, &template.into(), &method.parse().unwrap(), OperationIndex(9));
            assert_eq!(result.err().as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn templates_that_cannot_be_matched_are_refused() {
        for template in [
            "orders", "/{a}.{b}", "/v{n}", "/{a}{b}", "/{}", "/{a", "/a}", "/a?b", "/a#b",
            "/a/../b", "/%zz", "/a%2fb",
        ] {
            assert!(segments(template).is_err(), "{template}");
        }
        assert_eq!(
            segments("/{a-b.$}/é").unwrap(),
            [Segment::Expression("a-b.$".into()), Segment::Literal("é".into())]
        );
    }
}
