//! From a request's line to its template, and what is refused when templates are compiled.

use super::*;

mod naive;
mod overlap;
mod segments;

fn declared(method: &str, index: usize) -> Declared {
    Declared {
        method: method.parse().unwrap(),
        operation: OperationIndex(u32::try_from(index).unwrap()),
        hosts: Arc::new(HostRule::Any),
        servers: 0,
        takes_encoded_slash: false,
        is_withdrawn: false,
    }
}

fn table_by(policy: &Policy, routes: &[(&str, &str)]) -> PathTable {
    let mut table = PathTable::new(policy);
    for (index, (method, template)) in routes.iter().enumerate() {
        let template: Arc<str> = (*template).into();
        let parts = segments(&template).unwrap();
        table.insert(&[], &parts, &template, declared(method, index)).unwrap();
    }
    assert_eq!(table.overlaps(), []);
    table
}

fn table(routes: &[(&str, &str)]) -> PathTable {
    table_by(&Policy::default(), routes)
}

#[track_caller]
fn check(table: &PathTable, method: &str, path: &str, expected: Result<(u32, &[&str]), Rule>) {
    let result = table.route(&method.parse().unwrap(), path, None);
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

// mockforge#775: an empty segment is no value of an expression.
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
    for (path, allow) in [("/books", "POST"), ("/books/new", "GET, HEAD"), ("/heads", "HEAD, PUT")]
    {
        let violation = table.route(&Method::PATCH, path, None).err().unwrap();
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
        let routed = table.route(&Method::GET, path, None).ok().unwrap();
        assert_eq!(routed.path, forwarded);
    }
}

#[test]
fn templates_of_one_hierarchy_collide() {
    let mut table =
        table(&[("GET", "/orders/{id}"), ("GET", "/orders/new"), ("GET", "/files/{a}-{b}")]);
    for (method, template, expected) in [
        ("POST", "/orders/{id}", None),
        ("POST", "/orders/{key}", Some("/orders/{id}")),
        ("POST", "/orders/{id}/items", None),
        ("POST", "/orders/%6eew", Some("beside /orders/new")),
        ("POST", "/files/{a}-{b}", None),
        ("POST", "/files/{c}-{d}", Some("/files/{a}-{b}")),
        ("POST", "/files/{c}%2D{d}", Some("/files/{a}-{b}")),
        ("POST", "/files/{c}_{d}", None),
        // GitHub's document: no request is for both, and it is told all the same.
        ("PUT", "/orders/{key}", Some("beside /orders/{id}")),
    ] {
        let parts = segments(template).unwrap();
        let told = match table.insert(&[], &parts, &template.into(), declared(method, 9)) {
            Ok(other) => other.map(|other| format!("beside {other}")),
            Err(other) => Some(other.to_string()),
        };
        assert_eq!(told.as_deref(), expected, "{template}");
    }
}

#[test]
fn a_slash_at_the_end_is_ignored_where_the_policy_says_so() {
    let routes =
        [("GET", "/"), ("GET", "/a"), ("GET", "/b/"), ("GET", "/c/{x}"), ("GET", "/d/{x}/")];
    let exact = table(&routes);
    let policy = Policy { trailing_slash: TrailingSlash::Ignore, ..Policy::default() };
    let mut ignored = table_by(&policy, &routes);
    for (path, is_declared, forwarded) in [
        ("/", true, Some("/")),
        ("/a", true, Some("/a")),
        ("/a/", false, Some("/a")),
        ("/b", false, Some("/b/")),
        ("/b/", true, Some("/b/")),
        ("/c/1", true, Some("/c/1")),
        ("/c/1/", false, Some("/c/1")),
        ("/d/1", false, Some("/d/1/")),
        ("/d/1/", true, Some("/d/1/")),
        ("/c/", false, None),
        ("/c", false, None),
        ("/d//", false, None),
        ("/a//", false, None),
    ] {
        assert_eq!(exact.route(&Method::GET, path, None).is_ok(), is_declared, "{path}");
        let found = ignored.route(&Method::GET, path, None).ok();
        assert_eq!(found.map(|found| found.path).as_deref(), forwarded, "{path}");
    }
    let collides =
        ignored.insert(&[], &segments("/a/").unwrap(), &"/a/".into(), declared("PUT", 9));
    assert_eq!(collides.err().as_deref(), Some("/a"));
}

#[test]
fn head_needs_to_be_declared_where_the_policy_says_so() {
    let policy = Policy { head_through_get: Verdict::Refuse, ..Policy::default() };
    let table = table_by(&policy, ROUTES);
    check(&table, "HEAD", "/books/new", Err(Rule::Method));
    check(&table, "HEAD", "/heads", Ok((11, &[])));
    let violation = table.route(&Method::HEAD, "/books/new", None).err().unwrap();
    assert_eq!(violation.allow.as_deref(), Some("GET"));
}

#[test]
fn encoded_slashes_where_the_operation_takes_them() {
    let mut table = PathTable::new(&Policy::default());
    let base = segments("/{tenant}").unwrap();
    for (index, (method, template, takes_encoded_slash)) in [
        ("GET", "/files/{path}", true),
        ("PUT", "/files/{path}", false),
        ("GET", "/plain/{x}", false),
    ]
    .into_iter()
    .enumerate()
    {
        let one = Declared { takes_encoded_slash, ..declared(method, index) };
        table.insert(&base, &segments(template).unwrap(), &template.into(), one).unwrap();
    }
    for (method, path, expected) in [
        ("GET", "/t/files/a%2Fb", Ok((0, &["a%2Fb"][..]))),
        ("GET", "/t/files/a%2fb%2fc", Ok((0, &["a%2Fb%2Fc"][..]))),
        ("HEAD", "/t/files/a%2Fb", Ok((0, &["a%2Fb"][..]))),
        ("PUT", "/t/files/a%2Fb", Err(Rule::Path)),
        ("PUT", "/t/files/a", Ok((1, &["a"][..]))),
        ("DELETE", "/t/files/a%2Fb", Err(Rule::Method)),
        ("DELETE", "/t/plain/a%2Fb", Err(Rule::Path)),
        ("GET", "/t/plain/a%2Fb", Err(Rule::Path)),
        ("GET", "/t/other/a%2Fb", Err(Rule::Path)),
        // A server's variable is never one.
        ("GET", "/t%2Fu/files/a", Err(Rule::Path)),
        ("GET", "/t%2Fu/files/a%2Fb", Err(Rule::Path)),
        // What decodes it first must find neither a way up nor an empty segment.
        ("GET", "/t/files/a%2F..%2Fb", Err(Rule::Path)),
        ("GET", "/t/files/a%2F%2e%2e", Err(Rule::Path)),
        ("GET", "/t/files/%2E%2Fa", Err(Rule::Path)),
        ("GET", "/t/files/%2Fetc", Err(Rule::Path)),
        ("GET", "/t/files/a%2F", Err(Rule::Path)),
        ("GET", "/t/files/a%2F%2Fb", Err(Rule::Path)),
        ("GET", "/t/files/a%5Cb", Err(Rule::Path)),
        ("GET", "/t/files/a%2F%00", Err(Rule::Path)),
        ("GET", "/t/files/a%0D%0Ab", Err(Rule::Path)),
        // Encoded twice, it is data.
        ("GET", "/t/plain/a%252Fb", Ok((2, &["a%252Fb"][..]))),
    ] {
        check(&table, method, path, expected);
    }
}

#[test]
fn withdrawn_operations_are_gone() {
    let mut table = table(&[("PUT", "/a")]);
    let gone = Declared { is_withdrawn: true, ..declared("GET", 9) };
    table.insert(&[], &segments("/a").unwrap(), &"/a".into(), gone).unwrap();
    check(&table, "GET", "/a", Err(Rule::Deprecated));
    check(&table, "HEAD", "/a", Err(Rule::Deprecated));
    check(&table, "PUT", "/a", Ok((0, &[])));
    let violation = table.route(&Method::DELETE, "/a", None).err().unwrap();
    assert_eq!(violation.allow.as_deref(), Some("PUT"));
}

/// A request visits a node once at most, however often its path could be matched.
#[test]
fn the_cost_of_matching_is_bounded() {
    let mut table = PathTable::new(&Policy::default());
    for bits in 0..256 {
        let choice = |bit: u32| if bits >> bit & 1 == 1 { "/a" } else { "/{x}" };
        let template = (0..8).map(choice).collect::<String>() + "/end";
        let parts = segments(&template).unwrap();
        table.insert(&[], &parts, &template.into(), declared("GET", bits)).unwrap();
    }
    check(&table, "GET", &"/a".repeat(8), Err(Rule::UnknownPath));
    check(&table, "GET", &("/a".repeat(8) + "/end"), Ok((255, &[])));
    let dashes = format!("/{}", "-".repeat(8000));
    let template = "/{a}-{b}-{c}-{d}-{e}-{f}-{g}-{h}x";
    let parts = segments(template).unwrap();
    table.insert(&[], &parts, &template.into(), declared("GET", 999)).unwrap();
    check(&table, "GET", &dashes, Err(Rule::UnknownPath));
    check(&table, "GET", &(dashes + "x"), Err(Rule::Segment));
}
