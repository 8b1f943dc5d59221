//! Templates and base paths that nothing tells apart.

use super::*;

/// The pairs that overlap, of templates below base paths. A number before a base path tells the list
/// of servers that it is from.
fn overlaps(routes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut table = PathTable::new(&Policy::default());
    for (base, template) in routes {
        let (servers, base) =
            base.split_once(':').map_or((0, *base), |(n, base)| (n.parse().unwrap(), base));
        let base = if base.is_empty() { Vec::new() } else { segments(base).unwrap() };
        let template: Arc<str> = (*template).into();
        let parts = segments(&template).unwrap();
        // One operation for each template.
        let index = routes.iter().position(|(_, other)| *other == &*template).unwrap();
        let one = Declared { servers, ..declared("GET", index) };
        assert_eq!(table.insert(&base, &parts, &template, one), Ok(None));
    }
    let sorted = |(one, other): (Arc<str>, Arc<str>)| {
        let (one, other) = (one.to_string(), other.to_string());
        if one < other { (one, other) } else { (other, one) }
    };
    let mut found: Vec<_> = table.overlaps().into_iter().map(sorted).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn templates_without_precedence_collide_where_they_meet() {
    for (one, other, meet) in [
        ("/{a}-{b}", "/{c}.{d}", true),
        ("/{a}-{b}/x", "/{c}.{d}/x", true),
        ("/{a}-{b}/x", "/{c}.{d}/{y}", true),
        ("/{a}-{b}/x/1", "/{c}.{d}/{y}/{z}", true),
        // What follows tells them apart.
        ("/{a}-{b}/x", "/{c}.{d}/y", false),
        ("/{a}-{b}/x", "/{c}.{d}", false),
        ("/{a}-{b}/v{n}", "/{c}.{d}/w{n}", false),
        ("/{a}-{b}/{x}", "/{c}.{d}/", false),
        // No text is both.
        ("/a{x}", "/b{x}", false),
        ("/{x}a", "/{x}b", false),
        ("/a{x}z", "/b{x}z", false),
        ("/ab{x}", "/ac{x}", false),
        // Precedence tells them apart.
        ("/{a}-{b}", "/{c}", false),
        ("/{a}-{b}", "/x-y", false),
        ("/{a}.json", "/{a}.{ext}", false),
        ("/report-{b}", "/{a}.json", false),
        ("/{a}-{b}", "/{a}-{b}-{c}", false),
        // `x---y` is both.
        ("/{a}--{b}", "/{a}-{b}-{c}", true),
        ("/a{x}b{y}c", "/a{x}d{y}c", true),
        ("/{a}é{b}", "/{a}ü{b}", true),
    ] {
        for routes in [[("", one), ("", other)], [("", other), ("", one)]] {
            assert_eq!(!overlaps(&routes).is_empty(), meet, "{one} {other}");
        }
    }
}

/// OAI/OpenAPI-Specification#2387: a variable in a base path may make one path of two.
#[test]
fn base_paths_with_variables_collide_with_paths() {
    let pair = |one: &str, other: &str| vec![(one.to_owned(), other.to_owned())];
    for (routes, expected) in [
        // The issue's own document.
        (
            vec![
                ("", "/France/{Region}"),
                ("", "/Bourgogne"),
                ("/{Country}", "/France/{Region}"),
                ("/{Country}", "/Bourgogne"),
            ],
            pair("/Bourgogne", "/France/{Region}"),
        ),
        (vec![("", "/{x}/a"), ("/{v}", "/{y}")], pair("/{x}/a", "/{y}")),
        (vec![("", "/x/a"), ("/{v}", "/a")], pair("/a", "/x/a")),
        (vec![("", "/x/a"), ("/v{n}", "/a")], vec![]),
        (vec![("", "/v1/a"), ("/v{n}", "/a")], pair("/a", "/v1/a")),
        (vec![("", "/x/b"), ("/{v}", "/a")], vec![]),
        // One base path: precedence is the templates' own.
        (vec![("/{v}", "/{id}"), ("/{v}", "/new")], vec![]),
        // Two that are equally long with the same below them.
        (vec![("/{v}", "/{id}"), ("/{v}", "/new"), ("/v1", "/{id}"), ("/v1", "/new")], vec![]),
        // Two that are equally long, each with something else: the concrete path would have to win.
        (vec![("1:/{v}", "/new"), ("2:/v1", "/{id}")], pair("/new", "/{id}")),
        (vec![("1:/{v}", "/new"), ("2:/v1", "/old")], vec![]),
        // Without variables there is nothing to mistake.
        (vec![("", "/v1/a"), ("/v1", "/{x}")], vec![]),
    ] {
        assert_eq!(overlaps(&routes), expected, "{routes:?}");
    }
}

/// Siblings are compared, not all pairs of templates: this would not end otherwise.
#[test]
fn fifteen_thousand_templates_below_a_variable_are_compared_in_time() {
    let mut table = PathTable::new(&Policy::default());
    let base = segments("/{tenant}/v{n}").unwrap();
    for group in 0..100 {
        for index in 0..50 {
            for (place, template) in [
                format!("/g{group}/r{index}"),
                format!("/g{group}/r{index}/{{id}}"),
                format!("/g{group}/{{x}}/a{index}"),
            ]
            .into_iter()
            .enumerate()
            {
                let parts = segments(&template).unwrap();
                let one = declared("GET", place);
                assert_eq!(table.insert(&base, &parts, &template.as_str().into(), one), Ok(None));
            }
        }
    }
    assert_eq!(table.overlaps(), []);
}

/// Each pattern is compared with each below a server's variable: that is seldom more than a look at
/// how both begin and end.
#[test]
fn many_patterns_below_a_variable_are_told_apart_quickly() {
    let templates: Vec<_> =
        (0..400)
            .map(|i| {
                if i % 2 == 0 { format!("/x{i}/{{a}}-{{b}}") } else { format!("/{{z}}/q{i}-{{b}}") }
            })
            .collect();
    let mut routes = Vec::new();
    for template in &templates {
        routes.extend([("/{v}", &**template), ("/api", &**template)]);
    }
    assert_eq!(overlaps(&routes), []);
}
