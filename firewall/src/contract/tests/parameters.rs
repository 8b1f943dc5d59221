//! Parameters of a request, whole: names, cookies, fields, and what the policy makes of them.

use serde_json::{Value, json};

use super::super::policy::{Policy, Verdict};
use super::super::*;
use super::documents::{load_with, loaded, minimal};
use super::{headers, told};

mod fields;
mod readers;

/// An operation with these parameters, under this policy.
fn with(policy: Policy, parameters: &Value) -> Contract {
    let options = LoadOptions { policy, ..LoadOptions::default() };
    match load_with(&minimal(json!({"parameters": parameters})), &options) {
        Ok(loaded) => loaded.contract,
        Err(errors) => panic!("{errors:#?}"),
    }
}

/// The verdict on a query and fields: what is forwarded of the query, or rule, place and keyword
/// without the word `parameter`.
fn verdict(contract: &Contract, query: &str, fields: &[(&str, &str)]) -> Result<String, String> {
    let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
    let query = Some(query).filter(|query| !query.is_empty());
    match matched.operation.check_parameters(&matched, query, &headers(fields)) {
        Ok(forwarded) => Ok(forwarded.unwrap_or_default()),
        Err(violation) => Err(told(&violation).replacen("parameter.", "", 1)),
    }
}

#[track_caller]
fn queries(contract: &Contract, cases: &[(&str, Result<&str, &str>)]) {
    for (query, expected) in cases {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(verdict(contract, query, &[]), expected, "{query}");
    }
}

#[track_caller]
fn cookies(contract: &Contract, cases: &[(&[&str], Result<(), &str>)]) {
    for (lines, expected) in cases {
        let fields: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        let expected = expected.map(|()| String::new()).map_err(str::to_owned);
        assert_eq!(verdict(contract, "", &fields), expected, "{lines:?}");
    }
}

fn object(properties: &Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

#[test]
fn deep_objects_are_of_one_level_and_apart_from_one_another() {
    let number = json!({"type": "integer", "maximum": 9});
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "p", "in": "query", "style": "deepObject", "schema": object(&json!({"a": number, "b": {"type": "string"}}))},
            // kin-openapi#946: two deep objects bled into each other.
            {"name": "pp", "in": "query", "style": "deepObject", "schema": {"type": "object", "additionalProperties": number}},
            {"name": "q[x]", "in": "query", "schema": number},
        ]),
    );
    queries(
        &contract,
        &[
            ("p[a]=1&p[b]=x", Ok("p%5Ba%5D=1&p%5Bb%5D=x")),
            ("p%5Ba%5D=1&p%5bb%5d=x", Ok("p%5Ba%5D=1&p%5Bb%5D=x")),
            ("p[b]=a%5Bb%5D&p[a]=1", Ok("p%5Bb%5D=a%5Bb%5D&p%5Ba%5D=1")),
            ("p[a]=10", Err("schema query:p maximum")),
            ("p[a]=1&p[a]=2", Err("repeated query:p")),
            ("p[a]=x", Err("type query:p")),
            // kin-openapi#1249: `additionalProperties` counts.
            ("p[c]=1", Err("schema query:p additionalProperties")),
            ("pp[c]=1&pp[d]=2&p[b]=c", Ok("pp%5Bc%5D=1&pp%5Bd%5D=2&p%5Bb%5D=c")),
            ("pp[c]=10", Err("schema query:pp maximum")),
            // GHSA by way of formancehq/ledger#1803: an index allocated as much as it said.
            ("pp[999999999]=1", Ok("pp%5B999999999%5D=1")),
            ("p[a][b]=1", Err("unknown query:*")),
            ("p[a][]=1", Err("unknown query:*")),
            ("p[]=1", Err("unknown query:*")),
            ("p[a=1", Err("unknown query:*")),
            ("p[a]x=1", Err("unknown query:*")),
            ("p]a[=1", Err("unknown query:*")),
            ("p.a=1", Err("unknown query:*")),
            ("p=1", Err("unknown query:*")),
            ("[a]=1", Err("unknown query:*")),
            // The brackets of a name are no syntax.
            ("q[x]=1", Ok("q%5Bx%5D=1")),
            ("q[y]=1", Err("unknown query:*")),
        ],
    );
}

#[test]
fn names_of_exploded_objects_are_names_of_the_query() {
    // openapi-backend#722: they were unknown; and `additionalProperties` swallowed others' names.
    let number = json!({"type": "integer"});
    let open = json!({"type": "object", "properties": {"a": number}, "additionalProperties": {"type": "boolean"}});
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "p", "in": "query", "schema": open},
            {"name": "other", "in": "query", "schema": number},
            {"name": "deep", "in": "query", "style": "deepObject", "schema": object(&json!({"x": number}))},
        ]),
    );
    queries(
        &contract,
        &[
            ("a=1&new=true&other=7&deep[x]=1", Ok("a=1&new=true&other=7&deep%5Bx%5D=1")),
            ("new=7", Err("type query:p")),
            ("other=true", Err("type query:other")),
            ("new=true&new=false", Err("repeated query:p")),
        ],
    );
    // What a document does not say of others, it does not open.
    let silent = json!([{"name": "p", "in": "query", "schema": {"type": "object", "properties": {"a": number}}}]);
    queries(
        &with(Policy::default(), &silent),
        &[("a=1", Ok("a=1")), ("a=1&b=1", Err("unknown query:*"))],
    );
    let both = minimal(json!({"parameters": [
        {"name": "p", "in": "query", "schema": {"type": "object"}},
        {"name": "q", "in": "query", "schema": {"type": "object"}},
    ]}));
    let errors = load_with(&both, &LoadOptions::default()).err().unwrap();
    assert!(errors[0].to_string().contains("both take every name"), "{errors:?}");
}

#[test]
fn undeclared_names_pass_where_the_policy_says_so() {
    let policy = Policy { undeclared_query: Verdict::Pass, ..Policy::default() };
    let contract = with(
        policy,
        &json!([
            {"name": "n", "in": "query", "schema": {"type": "integer"}},
            {"name": "p", "in": "query", "style": "deepObject", "schema": object(&json!({"a": {}}))},
        ]),
    );
    queries(
        &contract,
        &[
            ("new=%7e+x&n=1", Ok("new=~%20x&n=1")),
            ("n=x&new=1", Err("type query:n")),
            ("new=%zz", Err("encoding query:*")),
            ("new=%ff", Err("encoding query:*")),
            ("%ff=1", Err("encoding query:*")),
            // What many readers take for a declared one.
            ("n[]=x", Err("unknown query:*")),
            ("n[0]=x", Err("unknown query:*")),
            ("p=x", Err("unknown query:*")),
            ("p[a][b]=x", Err("unknown query:*")),
        ],
    );
}

// apikit#219, aas-specs-api#313: servers differ in which of two values they take.
#[test]
fn repeated_parameters_are_each_checked_where_they_may_be() {
    let parameters = json!([
        {"name": "n", "in": "query", "schema": {"type": "integer"}},
        {"name": "l", "in": "query", "explode": false, "schema": {"type": "array", "items": {"type": "integer"}}},
        {"name": "X-N", "in": "header", "schema": {"type": "integer"}},
        {"name": "c", "in": "cookie", "schema": {"type": "integer"}},
    ]);
    let repeated = [("n=1&n=2", "query:n"), ("l=1,2&l=3", "query:l"), ("n=1&n=1", "query:n")];
    let strict = with(Policy::default(), &parameters);
    let lenient = Policy { repeated_parameters: Verdict::Pass, ..Policy::default() };
    let lenient = with(lenient, &parameters);
    for (query, place) in repeated {
        assert_eq!(verdict(&strict, query, &[]), Err(format!("repeated {place}")));
        assert_eq!(verdict(&lenient, query, &[]), Ok(query.to_owned()));
    }
    queries(&lenient, &[("n=1&n=x", Err("type query:n")), ("l=1&l=x", Err("type query:l"))]);
    for (fields, place) in [
        ([("x-n", "1"), ("x-n", "2")], "header:X-N"),
        ([("cookie", "c=1"), ("cookie", "c=2")], "cookie:c"),
    ] {
        assert_eq!(verdict(&strict, "", &fields), Err(format!("repeated {place}")));
        assert_eq!(verdict(&lenient, "", &fields), Ok(String::new()));
        let broken = [fields[0], (fields[1].0, if place == "cookie:c" { "c=x" } else { "x" })];
        assert_eq!(verdict(&lenient, "", &broken), Err(format!("type {place}")));
    }
}

#[test]
fn reserved_characters_are_refused_where_the_policy_says_so() {
    let parameters = json!([
        {"name": "s", "in": "query", "schema": {"type": "string"}},
        {"name": "r", "in": "query", "allowReserved": true, "schema": {"type": "string"}},
        {"name": "l", "in": "query", "explode": false, "schema": {"type": "array", "items": {"type": "string"}}},
    ]);
    let policy = Policy { reserved_characters: Verdict::Refuse, ..Policy::default() };
    let strict = with(policy, &parameters);
    let default = with(Policy::default(), &parameters);
    // express-openapi-validator#917: by themselves they are no fault.
    for reserved in ":/?[]@!$'()*,;=".chars() {
        let query = format!("s={reserved}");
        assert!(verdict(&default, &query, &[]).is_ok(), "{query}");
        assert_eq!(verdict(&strict, &query, &[]), Err("encoding query:s".to_owned()), "{query}");
        assert!(verdict(&strict, &query.replace('s', "r"), &[]).is_ok(), "{query}");
        let escaped = format!("s=%{:02X}", u32::from(reserved));
        assert_eq!(verdict(&strict, &escaped, &[]), Ok(escaped));
    }
    queries(
        &strict,
        &[
            ("s=a+b", Ok("s=a%20b")),
            ("s=a-._~b", Ok("s=a-._~b")),
            // A style's own delimiter is none of the value's characters.
            ("l=a,b", Ok("l=a,b")),
            ("l=a,b:c", Err("encoding query:l")),
        ],
    );
}

#[test]
fn parameters_with_a_media_type_are_read_as_it_says() {
    let point = object(&json!({"x": {"type": "integer"}}));
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "j", "in": "query", "content": {"application/json": {"schema": point}}},
            {"name": "free", "in": "query", "content": {"application/geo+json": {}}},
            {"name": "t", "in": "query", "content": {"text/plain": {"schema": {"type": "string", "maxLength": 3}}}},
            {"name": "X-J", "in": "header", "content": {"application/json": {"schema": point}}},
            {"name": "c", "in": "cookie", "content": {"application/json": {"schema": point}}},
        ]),
    );
    queries(
        &contract,
        &[
            ("j=%7B%22x%22:1%7D", Ok("j=%7B%22x%22:1%7D")),
            ("j={\"x\":1}", Ok("j=%7B%22x%22:1%7D")),
            ("j=%7B%22x%22:+1%7D", Ok("j=%7B%22x%22:%201%7D")),
            ("j={\"x\":\"1\"}", Err("schema query:j type")),
            ("j={\"y\":1}", Err("schema query:j additionalProperties")),
            ("j={\"x\":1,\"x\":2}", Err("malformed query:j")),
            ("j={\"x\":1", Err("malformed query:j")),
            ("j=", Err("malformed query:j")),
            ("j=%zz", Err("encoding query:j")),
            ("j={}&j={}", Err("repeated query:j")),
            // GHSA-jpcw-4wr7-c3vq: a media type without a schema was a crash.
            ("free=[null]", Ok("free=%5Bnull%5D")),
            ("free=nul", Err("malformed query:free")),
            ("t=a,b", Ok("t=a,b")),
            ("t=abcd", Err("schema query:t maxLength")),
        ],
    );
    let deep = |levels: usize| format!("free={}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(verdict(&contract, &deep(64), &[]).is_ok());
    assert_eq!(verdict(&contract, &deep(65), &[]), Err("malformed query:free".to_owned()));
    for (field, value, expected) in [
        ("x-j", "{\"x\": 1}", Ok(String::new())),
        ("x-j", "%7B%7D", Err("malformed header:X-J".to_owned())),
        ("cookie", "c=%7B%22x%22:1%7D", Ok(String::new())),
        ("cookie", "c={\"x\":1}", Err("encoding cookie:c".to_owned())),
        ("cookie", "c=%7B", Err("malformed cookie:c".to_owned())),
    ] {
        assert_eq!(verdict(&contract, "", &[(field, value)]), expected, "{field}: {value}");
    }
}

#[test]
fn cookies_are_found_in_every_line_and_by_their_exact_name() {
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "n", "in": "cookie", "required": true, "schema": {"type": "integer"}},
            {"name": "l", "in": "cookie", "explode": false, "schema": {"type": "array", "items": {"type": "string", "enum": ["a", "b c", "d,e"]}}},
        ]),
    );
    cookies(
        &contract,
        &[
            (&["n=1"], Ok(())),
            (&[], Err("missing cookie:n")),
            (&["N=1"], Err("missing cookie:n")),
            (&["nn=1; n=2"], Ok(())),
            // Kong ignored cookies until 3.6; HTTP/2 splits them (RFC 9113 section 8.2.3).
            (&["a=b", "n=x"], Err("type cookie:n")),
            (&["n=1;a=b;", ";; c=d"], Ok(())),
            (&["n=1; n=1"], Err("repeated cookie:n")),
            (&["n=1", "n=1"], Err("repeated cookie:n")),
            (&["n"], Err("encoding cookie:n")),
            (&["n=1; n"], Err("encoding cookie:n")),
            (&["n =1"], Err("encoding cookie:n")),
            (&["n= 1"], Err("encoding cookie:n")),
            (&["n=%31"], Ok(())),
            (&["n=%3"], Err("encoding cookie:n")),
            (&["n=+1"], Err("type cookie:n")),
            (&["n=\"1\""], Err("type cookie:n")),
            (&["n=1\\"], Err("encoding cookie:n")),
            (&["n=é"], Err("encoding cookie:n")),
            (&["n=1; l=a,b%20c,d%2Ce"], Ok(())),
            (&["n=1; l=a,b+c"], Err("schema cookie:l enum")),
            // What others have set is no matter of the contract, unless it hides or shows a cookie.
            (&["theirs={\"a\": \"é\"}; n=1"], Ok(())),
            (&["=x; n=1; \u{e9}=2"], Ok(())),
            (&["a=\"x; n=1; b=y\""], Err("encoding cookie:*")),
            (&["a=\"x\"; n=1"], Ok(())),
            (&["a=\"; n=1"], Err("encoding cookie:*")),
            (&["a=\"x\"y; n=1"], Err("encoding cookie:*")),
        ],
    );
    let closed = Policy { undeclared_cookies: Verdict::Refuse, ..Policy::default() };
    let contract = with(
        closed.clone(),
        &json!([{"name": "n", "in": "cookie", "schema": {"type": "integer"}}]),
    );
    cookies(
        &contract,
        &[(&["n=1"], Ok(())), (&[], Ok(())), (&["n=1; m=1"], Err("unknown cookie:*"))],
    );
    cookies(&with(closed, &json!([])), &[(&["a=b"], Err("unknown cookie:*")), (&[""], Ok(()))]);
}

#[test]
fn empty_values_where_they_are_allowed() {
    // Kong 3.10: a query parameter without a value was an assertion failure.
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "e", "in": "query", "allowEmptyValue": true, "schema": {"type": "integer"}},
            {"name": "l", "in": "query", "allowEmptyValue": true, "schema": list},
            {"name": "n", "in": "query", "schema": {"type": "integer", "nullable": true}},
            {"name": "s", "in": "query", "schema": {"type": "string"}},
        ]),
    );
    queries(
        &contract,
        &[
            ("e", Ok("e")),
            ("e=", Ok("e=")),
            ("e=x", Err("type query:e")),
            ("l", Ok("l")),
            ("l=1&l=", Err("type query:l")),
            // Null has no form in a text.
            ("n=", Err("type query:n")),
            ("n=null", Err("type query:n")),
            ("s", Ok("s")),
            ("s=", Ok("s=")),
        ],
    );
}

// kin-openapi#624 and #631: a text is tried as each type that its schema allows.
#[test]
fn parts_that_may_be_of_several_types_are_chosen_each_for_itself() {
    let either =
        json!({"oneOf": [{"type": "integer", "maximum": 9}, {"type": "string", "minLength": 2}]});
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "l", "in": "query", "schema": {"type": "array", "items": either}},
            {"name": "o", "in": "query", "style": "deepObject", "schema": {"type": "object", "properties": {"a": either, "b": either}}},
            {"name": "m", "in": "query", "schema": {"oneOf": [{"type": "string", "enum": ["all"]}, {"type": "array", "minItems": 2, "items": {"type": "integer"}}]}},
        ]),
    );
    queries(
        &contract,
        &[
            ("l=9&l=10&l=ab", Ok("l=9&l=10&l=ab")),
            ("l=9&l=a", Err("schema query:l oneOf")),
            ("o[a]=9&o[b]=10", Ok("o%5Ba%5D=9&o%5Bb%5D=10")),
            ("o[a]=10&o[b]=9", Ok("o%5Ba%5D=10&o%5Bb%5D=9")),
            ("o[a]=a&o[b]=9", Err("schema query:o oneOf")),
            ("m=all", Ok("m=all")),
            ("m=1&m=2", Ok("m=1&m=2")),
            ("m=1", Err("schema query:m oneOf")),
            ("m=all&m=1", Err("type query:m")),
        ],
    );
}

#[test]
fn more_parameters_than_the_table_of_those_seen_holds() {
    let parameters: Vec<_> = (0..300)
        .map(|i| json!({"name": format!("p{i}"), "in": "query", "required": i == 299, "schema": {"type": "integer"}}))
        .collect();
    let contract = with(Policy::default(), &json!(parameters));
    let all: Vec<_> = (0..300).map(|i| format!("p{i}={i}")).collect();
    let all = all.join("&");
    queries(
        &contract,
        &[
            (&all, Ok(&all)),
            ("p0=1&p128=1&p256=1&p299=1", Ok("p0=1&p128=1&p256=1&p299=1")),
            ("p0=1", Err("missing query:p299")),
            ("p299=1&p200=1&p200=1", Err("repeated query:p200")),
            ("p299=1&p127=1&p127=1", Err("repeated query:p127")),
            ("p299=1&p300=1", Err("unknown query:*")),
        ],
    );
}

#[test]
fn what_is_accepted_unenforced_is_not_looked_at_and_nothing_else() {
    let nested = json!({"type": "object", "properties": {"a": {"type": "object"}}});
    let document = minimal(json!({"parameters": [
        {"name": "deep", "in": "query", "style": "deepObject", "required": true, "schema": nested},
        {"name": "list", "in": "query", "schema": {"type": "array", "items": {"type": "object"}}},
        {"name": "n", "in": "query", "schema": {"type": "integer"}},
    ]}));
    let unenforced = ["nested-parameters".to_owned()].into();
    let options = LoadOptions { unenforced, ..LoadOptions::default() };
    let loaded = load_with(&document, &options).ok().unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings[0].to_string().contains("the query parameter `deep`"));
    queries(
        &loaded.contract,
        &[
            (
                "deep[a][b][]=1&deep[a]=2&list=x&list=y",
                Ok("deep%5Ba%5D%5Bb%5D%5B%5D=1&deep%5Ba%5D=2&list=x&list=y"),
            ),
            ("list=x", Err("missing query:deep")),
            ("deep[a=1", Err("unknown query:*")),
            ("deep[a]=1&n=x", Err("type query:n")),
            ("deep[a]=1&m=x", Err("unknown query:*")),
        ],
    );
}

#[test]
fn parameters_that_nothing_refers_to_are_read_all_the_same() {
    let mut document = minimal(json!({}));
    document["components"] = json!({
        "parameters": {"P": {"name": "p", "in": "cookie", "style": "simple", "schema": {}}},
        "headers": {"H": {"schema": {"type": "array", "items": {"type": "array", "items": {}}}}},
    });
    let errors = load_with(&document, &LoadOptions::default()).err().unwrap();
    let told: Vec<_> =
        errors.iter().map(|error| format!("{} {}", error.pointer, error.problem)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .any(|t| t.starts_with("/components/parameters/P/style the cookie parameter `p`:")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|t| t.starts_with("/components/headers/H/schema the header `H`:")),
        "{told:?}"
    );
}

#[test]
fn credentials_are_declared_names_too() {
    let policy = Policy {
        undeclared_headers: Verdict::Refuse,
        undeclared_cookies: Verdict::Refuse,
        ..Policy::default()
    };
    let mut document = minimal(json!({"security": [{"field": []}, {"cookie": []}, {"query": []}]}));
    document["components"]["securitySchemes"] = json!({
        "field": {"type": "apiKey", "in": "header", "name": "X-Key"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "key"},
        "query": {"type": "apiKey", "in": "query", "name": "key"},
    });
    let loaded = load_with(&document, &LoadOptions { policy, ..LoadOptions::default() });
    let contract = loaded.ok().unwrap().contract;
    for (query, field, value, expected) in [
        ("", "x-key", "k", Ok("")),
        ("", "cookie", "key=k", Ok("")),
        ("key=k", "host", "a", Ok("key=k")),
        ("", "x-keys", "k", Err("unknown header:*")),
        ("", "cookie", "keys=k", Err("unknown cookie:*")),
        ("keys=k", "host", "a", Err("unknown query:*")),
    ] {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(
            verdict(&contract, query, &[(field, value)]),
            expected,
            "{query} {field}: {value}"
        );
    }
    let operation = &contract.operations()[0];
    assert!(operation.strips(&"x_key".parse().unwrap()), "a twin of a credential");
    assert!(operation.check_connection(&["x-key".parse().unwrap()]).is_err());
}

#[test]
fn later_versions_have_more_types_and_places() {
    let later = |version: &str, parameters: Value| {
        let mut document = minimal(json!({"parameters": parameters}));
        document["openapi"] = json!(version);
        loaded(&document)
    };
    // Kong 3.8: other scalars became strings in 3.1.
    let contract = later(
        "3.1.1",
        json!([
            {"name": "n", "in": "query", "schema": {"type": ["integer", "null"], "exclusiveMinimum": 0}},
            {"name": "e", "in": "query", "schema": {"type": ["integer", "string"], "pattern": "^[a-z]+$"}},
            {"name": "l", "in": "query", "explode": false, "schema": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false}},
        ]),
    );
    queries(
        &contract,
        &[
            ("n=1", Ok("n=1")),
            ("n=0", Err("schema query:n exclusiveMinimum")),
            ("n=", Err("type query:n")),
            ("n=null", Err("type query:n")),
            ("e=7", Ok("e=7")),
            ("e=x", Ok("e=x")),
            ("e=X7", Err("schema query:e pattern")),
            ("l=1,2", Ok("l=1,2")),
            ("l=x,2", Err("type query:l")),
            ("l=1,2,3", Err("schema query:l items")),
        ],
    );
    let contract = later(
        "3.2.0",
        json!([
            {"name": "q", "in": "querystring", "content": {"application/json": {"schema": {"type": "array", "items": {"type": "integer"}}}}},
            {"name": "c", "in": "cookie", "style": "cookie", "schema": {"type": "array", "items": {"type": "integer"}}},
        ]),
    );
    queries(&contract, &[("%5B1,2%5D", Ok("%5B1%2C2%5D")), ("%5Bx%5D", Err("malformed query:q"))]);
    cookies(&contract, &[(&["c=1; c=2", "c=3"], Ok(())), (&["c=1; c=x"], Err("type cookie:c"))]);
    let mut document = minimal(json!({"parameters": [
        {"name": "q", "in": "querystring", "content": {"application/json": {}}},
    ]}));
    document["openapi"] = json!("3.2.0");
    document["paths"]["/things"]["parameters"] =
        json!([{"name": "p", "in": "query", "schema": {"type": "string"}}]);
    let errors = load_with(&document, &LoadOptions::default()).err().unwrap();
    assert!(errors.iter().any(|error| error.to_string().contains("whole query")), "{errors:?}");
}
