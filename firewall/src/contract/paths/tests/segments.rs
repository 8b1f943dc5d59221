//! Segments of literals and several expressions: what they match, how they are split and spelt.

use super::*;

const MIXED: &[(&str, &str)] = &[
    ("GET", "/f/{name}.{extension}"),
    ("GET", "/f/{name}.json"),
    ("GET", "/f/report-{name}"),
    ("GET", "/f/{name}"),
    ("GET", "/f/index.json"),
    ("GET", "/v{n}/things"),
    ("GET", "/orders(OrderID='{x}')"),
    ("GET", "/orders(OrderID='{x}')/lines(No={n})"),
    ("GET", "/r/{from}-{to}-{step}"),
    ("GET", "/r/{from}-{to}"),
    ("GET", "/u/{a}é{b}"),
];

/// `pb33f/libopenapi-validator`#126: `OData`'s keys stand among literals.
#[test]
fn segments_of_several_parts() {
    let forward = table(MIXED);
    let mut reversed = MIXED.to_vec();
    reversed.reverse();
    let reversed = table(&reversed);
    for (path, expected, values) in [
        ("/f/a.txt", 0, vec!["a", "txt"]),
        ("/f/a.json", 1, vec!["a"]),
        ("/f/index.json", 4, vec![]),
        ("/f/index%2Ejson", 4, vec![]),
        ("/f/report-a", 2, vec!["a"]),
        // The longer literal at the start, then the longer one at the end.
        ("/f/report-a.json", 2, vec!["a.json"]),
        ("/f/report-", 3, vec!["report-"]),
        ("/f/.json", 3, vec![".json"]),
        ("/f/a.", 3, vec!["a."]),
        ("/f/.a", 3, vec![".a"]),
        ("/f/a", 3, vec!["a"]),
        ("/v1/things", 5, vec!["1"]),
        ("/v10/things", 5, vec!["10"]),
        ("/orders(OrderID='7')", 6, vec!["7"]),
        ("/orders(OrderID=%277%27)", 6, vec!["7"]),
        ("/orders(OrderID='a%2Cb%25')", 6, vec!["a%2Cb%25"]),
        ("/orders(OrderID=''')", 6, vec!["'"]),
        ("/orders(OrderID='7')/lines(No=2)", 7, vec!["7", "2"]),
        ("/r/1-2-3", 8, vec!["1", "2", "3"]),
        ("/r/1-2", 9, vec!["1", "2"]),
        ("/r/%C3%A9-%c3%a8", 9, vec!["%C3%A9", "%C3%A8"]),
        ("/u/a%C3%A9b", 10, vec!["a", "b"]),
        ("/u/%C3%A8%c3%a9%C3%AA", 10, vec!["%C3%A8", "%C3%AA"]),
    ] {
        check(&forward, "GET", path, Ok((expected, &values)));
        let last = u32::try_from(MIXED.len()).unwrap() - 1;
        check(&reversed, "GET", path, Ok((last - expected, &values)));
    }
    for path in
        ["/v/things", "/vv", "/orders(OrderID='')", "/orders(OrderID='7'", "/r/1", "/r/-1", "/r/1-"]
    {
        check(&forward, "GET", path, Err(Rule::UnknownPath));
    }
}

/// Frameworks differ in where they split such a segment: from the left (Express) or from the right
/// (ASP.NET), so that the upstream may read other values than those that were checked.
#[test]
fn segments_that_can_be_split_in_two_ways() {
    let policy = Policy { ambiguous_segments: Verdict::Pass, ..Policy::default() };
    let (strict, first) = (table(MIXED), table_by(&policy, MIXED));
    for (path, expected, values) in [
        ("/f/a.b.c", 0, vec!["a", "b.c"]),
        ("/f/a..b", 0, vec!["a", ".b"]),
        ("/r/1-2-3-4", 8, vec!["1", "2", "3-4"]),
        ("/u/a%C3%A9b%C3%A9c", 10, vec!["a", "b%C3%A9c"]),
    ] {
        check(&first, "GET", path, Ok((expected, &values)));
        check(&strict, "GET", path, Err(Rule::Segment));
    }
    // The literal stands there twice, but an expression matches no empty text.
    for (path, values) in [("/r/--1", vec!["-", "1"]), ("/r/1--", vec!["1", "-"])] {
        check(&first, "GET", path, Ok((9, &values)));
        check(&strict, "GET", path, Ok((9, &values)));
    }
}

#[test]
fn what_is_tried_in_vain_leaves_no_trace() {
    let table = table(&[("GET", "/{a}.{b}/x"), ("GET", "/{c}/y"), ("GET", "/{d}/{e}-{f}/z")]);
    check(&table, "GET", "/a.b.c/y", Ok((1, &["a.b.c"])));
    check(&table, "GET", "/a.b.c/x", Err(Rule::Segment));
    check(&table, "GET", "/a.b.c/d-e/z", Ok((2, &["a.b.c", "d", "e"])));
}

#[test]
fn literals_are_forwarded_as_they_are_declared() {
    let table = table(&[
        ("GET", "/users/@me"),
        ("GET", "/users/{id}"),
        ("GET", "/users/{id}/a%40b/{x}"),
        ("GET", "/sp ce/é"),
        ("GET", "/k(id='{x}')"),
    ]);
    for (path, forwarded, values) in [
        ("/users/@me", "/users/@me", vec![]),
        ("/users/%40me", "/users/@me", vec![]),
        ("/users/%40you", "/users/%40you", vec!["%40you"]),
        ("/users/%3B/a@b/%2C", "/users/%3B/a%40b/%2C", vec!["%3B", "%2C"]),
        ("/sp%20ce/%c3%a9", "/sp%20ce/%C3%A9", vec![]),
        ("/k(id=%27%27%27)", "/k(id='%27')", vec!["%27"]),
    ] {
        let routed = table.route(&Method::GET, path, None).ok().unwrap();
        let found: Vec<_> =
            routed.values.iter().map(|(from, to)| &routed.path[*from..*to]).collect();
        assert_eq!((&*routed.path, found), (forwarded, values), "{path}");
    }
}

#[test]
fn templates_that_cannot_be_matched_are_refused() {
    for (template, reason) in [
        ("orders", "begin with a slash"),
        ("", "begin with a slash"),
        ("/{a}{b}", "nothing tells where {a} ends"),
        ("/x{a}{b}y", "nothing tells where {a} ends"),
        ("/{}", "not `{name}`"),
        ("/{a", "not `{name}`"),
        ("/{{a}}", "not `{name}`"),
        ("/a}", "closes no expression"),
        ("/a?b", "no query"),
        ("/a#b", "no query"),
        ("/a/../b", "no request"),
        ("/a/./b", "no request"),
        ("/a/%2e", "no request"),
        ("/a//b", "no request"),
        ("//", "no request"),
        ("/a%2fb", "no request"),
        ("/a%5cb", "no request"),
        ("/a%0ab", "no request"),
        ("/%zz", "wrongly encoded"),
        ("/%ff", "wrongly encoded"),
    ] {
        let found = segments(template).unwrap_err();
        assert!(found.contains(reason), "{template}: {found}");
    }
    let names = |template: &str| {
        let segments = segments(template).unwrap();
        segments.iter().flat_map(Segment::expressions).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("/{a-b.$}/é/{ä/ö?#}"), ["a-b.$", "ä/ö?#"]);
    assert_eq!(names("/a{b}c{d}"), ["b", "d"]);
    assert_eq!(segments(&"/a".repeat(64)).unwrap().len(), 64);
    assert!(segments(&"/a".repeat(65)).unwrap_err().contains("at most 64 segments"));
}
