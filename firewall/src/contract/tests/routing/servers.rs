//! Base paths and hosts, by the servers of a document.

use super::*;

fn served(servers: Value) -> Value {
    let mut document = document("3.0.3", json!({"/things": {"get": operation("things", &[])}}));
    document["servers"] = servers;
    document
}

#[test]
fn base_paths() {
    for (servers, accepted, unknown) in [
        (json!([]), vec!["/things"], vec!["/v1/things"]),
        (json!([{"url": "/"}]), vec!["/things"], vec!["/v1/things"]),
        (json!([{"url": "https://a.example"}]), vec!["/things"], vec![]),
        (json!([{"url": "https://a.example/"}]), vec!["/things"], vec![]),
        (json!([{"url": "//a.example/v1"}]), vec!["/v1/things"], vec!["/things"]),
        (json!([{"url": "/v1"}]), vec!["/v1/things"], vec!["/things", "/V1/things"]),
        (json!([{"url": "/v1/"}]), vec!["/v1/things"], vec!["/things"]),
        (json!([{"url": "/a/b%20c"}]), vec!["/a/b%20c/things"], vec!["/a/b/things"]),
        (
            json!([{"url": "http://a/v1"}, {"url": "/v2"}, {"url": "https://b/v1/"}, {"url": "/"}]),
            vec!["/v1/things", "/v2/things", "/things"],
            vec!["/v3/things"],
        ),
        (
            json!([{"url": "/{v}", "variables": {"v": {"default": "v1", "enum": ["v1", "v2/x", ""]}}}]),
            vec!["/v1/things", "/v2/x/things", "/things"],
            vec!["/v3/things", "/x/things"],
        ),
        (
            json!([{"url": "/{v}/a", "variables": {"v": {"default": "v1"}}}]),
            vec!["/v1/a/things", "/x%20y/a/things"],
            vec!["/a/things", "/v1/x/a/things", "/v1/things"],
        ),
        (
            json!([{"url": "/v{n}.{m}", "variables": {"n": {"default": "1"}, "m": {"default": "0"}}}]),
            vec!["/v1.0/things", "/v22.33/things"],
            vec!["/v1/things", "/v1./things"],
        ),
        // A default that no segment can be is the only value.
        (
            json!([{"url": "https://api.example{base}", "variables": {"base": {"default": "/sell/v1"}}}]),
            vec!["/sell/v1/things"],
            vec!["/things", "/v1/things"],
        ),
        (
            json!([{"url": "{root}/qod", "variables": {"root": {"default": "http://localhost:9091"}}}]),
            vec!["/qod/things"],
            vec!["/things"],
        ),
    ] {
        let contract = contract(&served(servers.clone()), Policy::default());
        for path in accepted {
            assert_eq!(routed(&contract, "GET", path, None), format!("things {path}"), "{servers}");
        }
        for path in unknown {
            assert_eq!(routed(&contract, "GET", path, None), "route.unknown-path", "{servers}");
        }
    }
}

#[test]
fn lower_lists_of_servers_override() {
    let mut document = served(json!([{"url": "/top"}]));
    let mut put = operation("put", &[]);
    put["servers"] = json!([{"url": "/operation"}]);
    let mut delete = operation("delete", &[]);
    delete["servers"] = json!([]);
    document["paths"]["/item"] = json!({
        "servers": [{"url": "/item"}], "get": operation("get", &[]), "put": put, "delete": delete,
    });
    let contract = contract(&document, Policy::default());
    for (method, path, expected) in [
        ("GET", "/top/things", "things /top/things"),
        ("GET", "/item/item", "get /item/item"),
        ("GET", "/top/item", "route.unknown-path"),
        ("GET", "/operation/item", "route.method"),
        ("PUT", "/operation/item", "put /operation/item"),
        ("PUT", "/item/item", "route.method"),
        ("DELETE", "/item/item", "delete /item/item"),
    ] {
        assert_eq!(routed(&contract, method, path, None), expected, "{method} {path}");
    }
}

#[test]
fn variables_of_a_base_path_are_no_parameters() {
    let mut document = document("3.0.3", json!({"/t/{id}": {"get": operation("t", &["id"])}}));
    document["paths"]["/t/{id}"]["get"]["parameters"][0]["schema"] = json!({"type": "integer"});
    document["servers"] =
        json!([{"url": "/{a}/x-{b}", "variables": {"a": {"default": "a"}, "b": {"default": "b"}}}]);
    let contract = contract(&document, Policy::default());
    for (path, expected) in
        [("/p/x-q/t/7", Ok(None)), ("/1/x-2/t/p", Err("parameter.type path:id"))]
    {
        let matched = contract.route(&Method::GET, path, None).unwrap();
        let checked = matched.operation.check_target(&matched, None);
        assert_eq!(checked.map_err(|v| told(&v)), expected.map_err(str::to_owned), "{path}");
    }
}

#[test]
fn servers_that_cannot_be_matched_are_refused() {
    let variables = |url: &str, variables: Value| json!([{"url": url, "variables": variables}]);
    let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
    let many = json!({"default": "0", "enum": many});
    for (servers, pointer, reason) in [
        (json!({}), "/servers", "expected a list of servers"),
        (json!([1]), "/servers/0", "expected an object"),
        (json!([{}]), "/servers/0", "`url` is missing"),
        (json!([{"url": "/", "name": "n"}]), "/servers/0/name", "is not a field"),
        (json!([{"url": "v1"}]), "/servers/0", "a place beside the document"),
        (json!([{"url": "./v1"}]), "/servers/0", "a place beside the document"),
        (json!([{"url": "../v1"}]), "/servers/0", "a place beside the document"),
        (json!([{"url": ""}]), "/servers/0", "a place beside the document"),
        (json!([{"url": "/v1?x"}]), "/servers/0", "no query"),
        (json!([{"url": "/v1#x"}]), "/servers/0", "no query"),
        (json!([{"url": "/a/../b"}]), "/servers/0", "no request"),
        (json!([{"url": "/a//b"}]), "/servers/0", "no request"),
        (json!([{"url": "ftp://a/b"}]), "/servers/0", "ftp is not HTTP"),
        (json!([{"url": "https://a b/c"}]), "/servers/0", "a b is no host"),
        (json!([{"url": "https:///c"}]), "/servers/0", " is no host"),
        (json!([{"url": "https://u@a/c"}]), "/servers/0", "u@a is no host"),
        (json!([{"url": "https://a:x/c"}]), "/servers/0", "x is no port"),
        (json!([{"url": "https://a:65536/c"}]), "/servers/0", "65536 is no port"),
        (json!([{"url": "https://a:/c"}]), "/servers/0", " is no port"),
        (json!([{"url": "https://[::g]/c"}]), "/servers/0", "is no host"),
        (json!([{"url": "/{v}"}]), "/servers/0", "the variable {v} is not declared"),
        (variables("/", json!({"v": {"default": "1"}})), "/servers/0", "`v` does not stand there"),
        (
            variables("/{v}/{v}", json!({"v": {"default": "1"}})),
            "/servers/0",
            "{v} stands there twice",
        ),
        (variables("/{v", json!({"v": {"default": "1"}})), "/servers/0", "is not `{name}`"),
        (variables("/v}", json!({})), "/servers/0", "closes no variable"),
        (variables("/a}/{v}", json!({"v": {"default": "1"}})), "/servers/0", "closes no variable"),
        (
            variables("/{v}{w}", json!({"v": {"default": "1"}, "w": {"default": "1"}})),
            "/servers/0",
            "nothing tells where {v} ends",
        ),
        (
            variables("//{v}{w}/", json!({"v": {"default": "1"}, "w": {"default": "1"}})),
            "/servers/0",
            "is no host",
        ),
        (variables("/{v}", json!({"v": {}})), "/servers/0/variables/v", "`default` is missing"),
        (
            variables("/{v}", json!({"v": {"default": 1}})),
            "/servers/0/variables/v/default",
            "expected a string",
        ),
        (
            variables("/{v}", json!({"v": {"default": "1", "enum": []}})),
            "/servers/0/variables/v/enum",
            "at least one",
        ),
        (
            variables("/{v}", json!({"v": {"default": "1", "enum": ["1", 2]}})),
            "/servers/0/variables/v/enum",
            "at least one",
        ),
        (
            variables("/{v}", json!({"v": {"default": "1", "enum": "1"}})),
            "/servers/0/variables/v/enum",
            "at least one",
        ),
        (
            variables("/{v}", json!({"v": {"default": "1", "enum": ["2"]}})),
            "/servers/0/variables/v",
            "`1` is not in the variable's `enum`",
        ),
        (
            variables("/{v}", json!({"v": {"default": "{w}", "enum": ["{w}"]}})),
            "/servers/0",
            "holds a brace",
        ),
        (variables("/{v}", json!([])), "/servers/0/variables", "expected an object"),
        (variables("/{v}-{w}", json!({"v": many, "w": many})), "/servers/0", "more than 1024 URLs"),
    ] {
        let problems = problems(&served(servers.clone()), Policy::default());
        let is_told = |problem: &String| {
            problem.split_once(' ').is_some_and(|(at, text)| at == pointer && text.contains(reason))
        };
        assert!(problems.iter().any(is_told), "{servers}: {problems:?}");
    }
    let mut named = served(json!([{"url": "/", "name": "n"}]));
    named["openapi"] = "3.2.0".into();
    assert_eq!(
        routed(&contract(&named, Policy::default()), "GET", "/things", None),
        "things /things"
    );
}

#[test]
fn base_paths_may_be_ignored() {
    let policy = || Policy { base_path: BasePath::Ignore, ..Policy::default() };
    for url in ["/v1", "https://a.example/v1/", "v1", "./v1", "../v1", "", "/"] {
        let contract = contract(&served(json!([{"url": url}])), policy());
        assert_eq!(routed(&contract, "GET", "/things", None), "things /things", "{url}");
        assert_eq!(routed(&contract, "GET", "/v1/things", None), "route.unknown-path", "{url}");
    }
    let problems = problems(&served(json!([{"url": "/{v}"}])), policy());
    assert!(problems[0].contains("not declared"), "{problems:?}");
}

#[test]
fn hosts_of_the_document() {
    let by_document = || Policy { hosts: Hosts::Document, ..Policy::default() };
    let variable = |default: &str| json!({"default": default});
    for (server, served_hosts, others) in [
        (
            json!({"url": "https://api.example/"}),
            vec!["api.example", "API.Example", "api.example:443"],
            vec![
                "api.example:80",
                "api.example:8443",
                "other.example",
                "api.example.",
                "x.api.example",
            ],
        ),
        (json!({"url": "http://api.example"}), vec!["api.example:80"], vec!["api.example:443"]),
        (
            json!({"url": "https://api.example:8443"}),
            vec!["api.example:8443"],
            vec!["api.example", "api.example:443"],
        ),
        (
            json!({"url": "https://api.example:443"}),
            vec!["api.example:443", "api.example"],
            vec!["api.example:80"],
        ),
        (
            json!({"url": "//api.example"}),
            vec!["api.example", "api.example:80", "api.example:443"],
            vec!["api.example:8080"],
        ),
        (
            json!({"url": "http://[::1]:8080"}),
            vec!["[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"],
            vec!["[::1]", "[::2]:8080", "::1:8080", "localhost:8080"],
        ),
        (
            json!({"url": "https://[2001:DB8::1]"}),
            vec!["[2001:db8::1]", "[2001:db8::1]:443"],
            vec![],
        ),
        (json!({"url": "https://api.example."}), vec!["api.example."], vec!["api.example"]),
        (
            json!({"url": "https://{t}.api.example", "variables": {"t": variable("a")}}),
            vec!["a.api.example", "B.API.example:443", "a.b.api.example"],
            vec!["api.example", ".api.example", "a.api.example.org", "a.api.example:8443"],
        ),
        (
            json!({"url": "https://{t}.example", "variables": {"t": {"default": "a", "enum": ["a", "b"]}}}),
            vec!["a.example", "b.example"],
            vec!["c.example"],
        ),
        (
            json!({"url": "{s}://a.example", "variables": {"s": {"default": "http", "enum": ["http", "https"]}}}),
            vec!["a.example", "a.example:80", "a.example:443"],
            vec!["a.example:81"],
        ),
        (
            json!({"url": "https://a.example:{p}", "variables": {"p": variable("443")}}),
            vec!["a.example", "a.example:1", "a.example:443"],
            vec!["b.example:443"],
        ),
        (
            json!({"url": "https://a.example:{p}", "variables": {"p": {"default": "8443", "enum": ["8443"]}}}),
            vec!["a.example:8443"],
            vec!["a.example", "a.example:443"],
        ),
        (
            json!({"url": "https://{host}", "variables": {"host": variable("a.example")}}),
            vec!["a.example", "b.example:8080"],
            vec![],
        ),
        (json!({"url": "/"}), vec!["a.example", "b.example:8080"], vec![]),
    ] {
        let contract = contract(&served(json!([server])), by_document());
        for host in served_hosts {
            assert_eq!(
                routed(&contract, "GET", "/things", Some(host)),
                "things /things",
                "{server} {host}"
            );
        }
        for host in others {
            assert_eq!(
                routed(&contract, "GET", "/things", Some(host)),
                "route.host",
                "{server} {host}"
            );
        }
    }
    assert_eq!(Rule::Misdirected.status(), 421);
    assert_eq!(Rule::Misdirected.offence(), None);
}

#[test]
fn each_host_has_its_own_base_paths() {
    let mut document = served(json!([
        {"url": "https://a.example/v1"}, {"url": "https://b.example/v1"},
        {"url": "https://b.example/v2"}, {"url": "/v3"}, {"url": "https://c.example/v3"},
    ]));
    let mut put = operation("put", &[]);
    put["servers"] = json!([{"url": "https://put.example/v1"}]);
    document["paths"]["/things"]["put"] = put;
    let by_document = Policy { hosts: Hosts::Document, ..Policy::default() };
    let (strict, any) = (contract(&document, by_document), contract(&document, Policy::default()));
    for (method, host, path, expected) in [
        ("GET", "a.example", "/v1/things", "things /v1/things"),
        ("GET", "b.example", "/v1/things", "things /v1/things"),
        ("GET", "a.example", "/v2/things", "route.host"),
        ("GET", "b.example", "/v2/things", "things /v2/things"),
        ("GET", "x.example", "/v3/things", "things /v3/things"),
        ("PUT", "a.example", "/v1/things", "route.host"),
        ("PUT", "put.example", "/v1/things", "put /v1/things"),
        // Who looks for paths under a wrong host is told of the path first, and scored for it.
        ("GET", "x.example", "/v4/things", "route.unknown-path"),
        ("POST", "x.example", "/v1/things", "route.method"),
    ] {
        assert_eq!(routed(&strict, method, path, Some(host)), expected, "{method} {host} {path}");
        let lenient = routed(&any, method, path, Some(host));
        assert_ne!(lenient, "route.host", "{method} {host} {path}");
    }
    assert_eq!(routed(&strict, "GET", "/v1/things", None), "route.host");
    assert_eq!(routed(&any, "GET", "/v1/things", None), "things /v1/things");
}

#[test]
fn hosts_that_the_configuration_names() {
    let named = |hosts: &[&str]| Policy {
        hosts: Hosts::Named(hosts.iter().map(|host| (*host).to_owned()).collect()),
        ..Policy::default()
    };
    let document = served(json!([{"url": "https://api.example/"}]));
    let contract =
        contract(&document, named(&["Edge.example", "b.example:8443", "[::1]", "c.example:443"]));
    for (host, expected) in [
        (Some("edge.example"), true),
        (Some("EDGE.EXAMPLE:8080"), true),
        (Some("b.example:8443"), true),
        (Some("b.example"), false),
        (Some("c.example"), true),
        (Some("c.example:80"), false),
        (Some("[0::1]:99"), true),
        (Some("api.example"), false),
        (Some("edge.example."), false),
        (None, false),
    ] {
        let expected = if expected { "things /things" } else { "route.host" };
        assert_eq!(routed(&contract, "GET", "/things", host), expected, "{host:?}");
    }
    for (hosts, reason) in [
        (&[][..], "`hosts` names no host"),
        (&["a.example", "https://a.example"], "https://a.example, which is no host"),
        (&["a b"], "a b, which is no host"),
        (&[""], "which is no host"),
        (&["[::g]"], "which is no host"),
        (&["a:x"], "which is no host"),
        (&["*.example"], "which is no host"),
    ] {
        let problems = problems(&document, named(hosts));
        assert!(problems.iter().any(|problem| problem.contains(reason)), "{hosts:?}: {problems:?}");
    }
}
