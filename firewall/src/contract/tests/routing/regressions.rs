//! Mistakes of other implementations in finding the operation, each by its public thread.

use super::*;

/// pb33f/libopenapi-validator#181, stoplightio/prism#2068, openapi-library/OpenAPIValidators#92 and
/// #57: the first template of the document won.
#[test]
fn concrete_paths_come_first_whatever_the_order() {
    let paths = |concrete_first: bool| {
        let concrete = ("/pets/mine".to_owned(), json!({"get": operation("mine", &[])}));
        let templated = ("/pets/{id}".to_owned(), json!({"get": operation("pet", &["id"])}));
        let nested = ("/pets/{id}/toys/new".to_owned(), json!({"get": operation("new", &["id"])}));
        let toys =
            ("/pets/{id}/toys/{toy}".to_owned(), json!({"get": operation("toy", &["id", "toy"])}));
        let mut members = vec![concrete, nested, templated, toys];
        if !concrete_first {
            members.reverse();
        }
        Value::Object(members.into_iter().collect())
    };
    for order in [true, false] {
        let contract = contract(&document("3.0.3", paths(order)), Policy::default());
        for (path, expected) in [
            ("/pets/mine", "mine /pets/mine"),
            ("/pets/7", "pet /pets/7"),
            ("/pets/mine/toys/new", "new /pets/mine/toys/new"),
            ("/pets/7/toys/new", "new /pets/7/toys/new"),
            ("/pets/7/toys/8", "toy /pets/7/toys/8"),
        ] {
            assert_eq!(routed(&contract, "GET", path, None), expected);
        }
    }
}

/// OAI/OpenAPI-Specification#2343: implementations differ in whether a concrete path without the
/// method falls through to a template that has it. It does not.
#[test]
fn a_concrete_path_without_the_method_is_not_looked_for_elsewhere() {
    let paths = json!({
        "/pet/findByStatus": {"get": operation("find", &[])},
        "/pet/{petId}": {"post": operation("update", &["petId"])},
    });
    let contract = contract(&document("3.0.3", paths), Policy::default());
    assert_eq!(routed(&contract, "POST", "/pet/7", None), "update /pet/7");
    let refusal = contract.route(&Method::POST, "/pet/findByStatus", None).err().unwrap();
    assert_eq!((refusal.rule, refusal.allow.as_deref()), (Rule::Method, Some("GET, HEAD")));
}

/// `Kong/kong`: hyphens (until 3.8), `$` (3.12) and letters beyond ASCII (3.5) in the names of path
/// parameters.
#[test]
fn names_of_expressions_hold_any_character() {
    for name in ["user-id", "$filter", "größe", "a.b", "a b", "名前", "x/y", "[0]", "a?b#c", "%"]
    {
        let paths = json!({format!("/t/{{{name}}}"): {"get": operation("t", &[name])}});
        let contract = contract(&document("3.0.3", paths), Policy::default());
        let matched = contract.route(&Method::GET, "/t/v%20w", None).unwrap();
        assert_eq!(matched.value(0), Some("v%20w"), "{name}");
        assert_eq!(matched.operation.check_target(&matched, None), Ok(None), "{name}");
    }
}

/// An operation on `/t/{x}` whose parameter has this schema.
fn of_schema(schema: &Value) -> Contract {
    let mut operation = operation("t", &["x"]);
    operation["parameters"][0]["schema"] = schema.clone();
    contract(&document("3.0.3", json!({"/t/{x}": {"get": operation}})), Policy::default())
}

/// The verdict on the path, with the path that is forwarded.
fn judged(contract: &Contract, path: &str) -> String {
    let checked = contract.route(&Method::GET, path, None).and_then(|matched| {
        matched.operation.check_target(&matched, None).map(|_| matched.path.clone())
    });
    checked.unwrap_or_else(|violation| told(&violation))
}

/// getkin/kin-openapi#397, pb33f/libopenapi-validator#157, deepmap's echo-middleware#17 and
/// apache/apisix#13626: the value was checked before it was decoded, or decoded before it was split.
#[test]
fn values_are_split_first_decoded_once_and_then_checked() {
    for (schema, path, expected) in [
        (json!({"type": "string", "enum": ["a b"]}), "/t/a%20b", "/t/a%20b"),
        (json!({"type": "string", "enum": ["a b"]}), "/t/a%2520b", "parameter.schema path:x enum"),
        (json!({"type": "string", "enum": ["a+b"]}), "/t/a+b", "/t/a+b"),
        (json!({"type": "string", "maxLength": 2}), "/t/%C3%A9%C3%A9", "/t/%C3%A9%C3%A9"),
        (
            json!({"type": "string", "maxLength": 2}),
            "/t/%C3%A9%C3%A9%C3%A9",
            "parameter.schema path:x maxLength",
        ),
        (json!({"type": "string", "maxLength": 1}), "/t/%F0%9F%98%80", "/t/%F0%9F%98%80"),
        (json!({"type": "string", "pattern": "^a;b=c$"}), "/t/a;b=c", "/t/a%3Bb=c"),
        (json!({"type": "string"}), "/t/a%2Fb", "route.path"),
        (json!({"type": "string"}), "/t/a%2f..%2fadmin", "route.path"),
        (json!({"type": "string"}), "/t/%2e%2e", "route.path"),
        (json!({"type": "string"}), "/t/a/b", "route.unknown-path"),
    ] {
        assert_eq!(judged(&of_schema(&schema), path), expected, "{schema} {path}");
    }
}

/// `MockForge`#775: an empty segment was taken for a value.
#[test]
fn an_empty_segment_is_no_value() {
    let contract = of_schema(&json!({"type": "string"}));
    for (path, expected) in
        [("/t/", "route.unknown-path"), ("/t", "route.unknown-path"), ("/t//", "route.path")]
    {
        assert_eq!(judged(&contract, path), expected, "{path}");
    }
    let paths = json!({"/a/{x}/b": {"get": operation("b", &["x"])}, "/{x}": {"get": operation("x", &["x"])}});
    let mut document = document("3.0.3", paths);
    for (url, path) in [("/", "/a//b"), ("/", "//"), ("/v1", "/v1//")] {
        document["servers"] = json!([{"url": url}]);
        let contract = super::contract(&document, Policy::default());
        assert_eq!(judged(&contract, path), "route.path", "{path}");
    }
    document["servers"] = json!([{"url": "/v1"}]);
    assert_eq!(
        judged(&super::contract(&document, Policy::default()), "/v1/"),
        "route.unknown-path"
    );
}

/// `Kong/kong` 3.9 and 3.11: the base path was ignored where several servers were named, and `/` as a
/// base path left two slashes.
#[test]
fn base_paths_of_several_servers_and_of_one_slash() {
    let mut document = document(
        "3.0.3",
        json!({"/a": {"get": operation("a", &[])}, "/": {"get": operation("root", &[])}}),
    );
    document["servers"] =
        json!([{"url": "https://a.example/one"}, {"url": "https://b.example/two/"}]);
    let several = contract(&document, Policy::default());
    for (path, expected) in [
        ("/one/a", "a /one/a"),
        ("/two/a", "a /two/a"),
        ("/one/", "root /one/"),
        ("/a", "route.unknown-path"),
        ("/one", "route.unknown-path"),
    ] {
        assert_eq!(routed(&several, "GET", path, None), expected, "{path}");
    }
    for url in ["/", "https://a.example/", "https://a.example"] {
        document["servers"] = json!([{"url": url}]);
        let root = contract(&document, Policy::default());
        assert_eq!(routed(&root, "GET", "/a", None), "a /a");
        assert_eq!(routed(&root, "GET", "/", None), "root /");
        assert_eq!(routed(&root, "GET", "//a", None), "route.path");
    }
}

/// OAI/OpenAPI-Specification#2387, by the document.
#[test]
fn a_base_path_that_takes_a_path_s_segment_is_refused() {
    let mut document = document(
        "3.0.1",
        json!({
            "/France/{Region}": {"get": operation("region", &["Region"])},
            "/Bourgogne": {"get": operation("bourgogne", &[])},
        }),
    );
    document["servers"] = json!([
        {"url": "//example.com"},
        {"url": "//example.com/{Country}", "variables": {"Country": {"default": "France"}}},
    ]);
    let problems = problems(&document, Policy::default());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("/paths/~1"), "{problems:?}");
    assert!(problems[0].ends_with("match the same requests"), "{problems:?}");
    // Without the variable the path is concrete, and comes first.
    document["servers"][1] = json!({"url": "//example.com/France"});
    let concrete = contract(&document, Policy::default());
    assert_eq!(routed(&concrete, "GET", "/France/Bourgogne", None), "bourgogne /France/Bourgogne");
    assert_eq!(routed(&concrete, "GET", "/France/Alsace", None), "region /France/Alsace");
    document["servers"][1]["url"] = "//example.com/{Country}".into();
    document["servers"][1]["variables"]["Country"] = json!({"default": "Spain", "enum": ["Spain"]});
    let contract = contract(&document, Policy::default());
    assert_eq!(routed(&contract, "GET", "/France/Bourgogne", None), "region /France/Bourgogne");
    assert_eq!(routed(&contract, "GET", "/Spain/Bourgogne", None), "bourgogne /Spain/Bourgogne");
}

/// Servlet containers cut `;…` off a segment, and so would route `/t/admin;x` to `/t/admin`, or read
/// another value than was checked.
#[test]
fn a_semicolon_in_a_value_is_forwarded_as_data() {
    let free = of_schema(&json!({"type": "string"}));
    for (path, expected) in [
        ("/t/admin;x", "/t/admin%3Bx"),
        ("/t/;", "/t/%3B"),
        ("/t/a;b;c%3Bd", "/t/a%3Bb%3Bc%3Bd"),
        ("/t/ab", "/t/ab"),
    ] {
        assert_eq!(judged(&free, path), expected, "{path}");
    }
    let mut document = minimal(json!({}));
    let parameter = |name: &str, style: &str| json!({"name": name, "in": "path", "required": true, "style": style, "schema": {"type": "string"}});
    document["paths"] = json!({"/t/{a}-{b}/{m}/{c}": {
        "get": {"responses": {"200": {"description": "ok"}}},
        "parameters": [parameter("a", "simple"), parameter("b", "simple"), parameter("m", "matrix"), parameter("c", "label")],
    }});
    let contract = super::super::documents::loaded(&document);
    let matched = contract.route(&Method::GET, "/t/1;x-2;y/;m=3;z/.4;", None).unwrap();
    assert_eq!(matched.path, "/t/1%3Bx-2%3By/;m=3;z/.4%3B");
    let values: Vec<_> = (0..4).map(|index| matched.value(index).unwrap()).collect();
    assert_eq!(values, ["1%3Bx", "2%3By", ";m=3;z", ".4%3B"]);
}
