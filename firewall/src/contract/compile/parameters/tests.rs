//! Parameters of every version of the specification, read by themselves: which are refused at load,
//! and what the others take.

use http::HeaderMap;
use http::header::COOKIE;
use serde_json::{Value, json};

use super::super::super::LoadOptions;
use super::super::super::cookie::CookieRules;
use super::super::super::dialect::Schemas;
use super::super::super::documents::Documents;
use super::super::super::pairs::Conflict;
use super::super::super::parameter::ParameterRule;
use super::super::super::paths::PathTable;
use super::super::super::policy::{Policy, Verdict};
use super::super::super::problem::Problem;
use super::super::super::query::QueryRules;
use super::super::super::tests::documents::Temporary;
use super::super::reader::At;
use super::super::security::Security;
use super::super::shape::{self, Nesting};
use super::super::{Compiler, Version};

mod matrix;
mod typing;

/// Reads `object` as a document of this version.
fn compile<T>(
    version: Version,
    policy: Policy,
    object: &Value,
    read: impl for<'d> FnOnce(&mut Compiler<'d>, &At<'d>) -> T,
) -> (T, Vec<Problem>) {
    let file = Temporary::new(&object.to_string(), "json");
    let options = LoadOptions { policy, ..LoadOptions::default() };
    let documents = Documents::read(&file.0, &options.references).unwrap().0;
    let at = documents.start();
    let mut compiler = Compiler {
        documents: &documents,
        version,
        options: &options,
        schemas: Schemas::new(&documents, &options, version),
        problems: Vec::new(),
        operations: Vec::new(),
        paths: PathTable::new(&options.policy),
        ids: std::collections::HashSet::new(),
        server_lists: 0,
        claims: Vec::new(),
        security: Security::default(),
        is_grpc: false,
    };
    let found = read(&mut compiler, &at);
    let all = compiler.problems.into_iter().chain(compiler.schemas.build());
    (found, all.map(|(_, problem)| problem).collect())
}

/// The rule of a parameter named `p`, or what is wrong with it.
fn rule(
    version: Version,
    policy: Policy,
    location: &str,
    fields: &Value,
) -> Result<ParameterRule, Vec<Problem>> {
    let mut parameter = json!({"name": "p", "in": location});
    parameter.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (rule, problems) = compile(version, policy, &parameter, |compiler, at| {
        let seat = compiler.seat(location, at)?;
        compiler.parameter_rule("p", at, seat)
    });
    match rule {
        Some(rule) if problems.is_empty() => Ok(rule),
        _ => Err(problems),
    }
}

/// The kinds by which what is wrong can be accepted; `error` for what cannot be, `ok` for nothing.
#[track_caller]
fn told(version: Version, location: &str, fields: &Value) -> String {
    match rule(version, Policy::default(), location, fields) {
        Ok(_) => "ok".to_owned(),
        Err(problems) => {
            let kinds = problems.iter().map(|problem| match problem {
                Problem::Ineffective(_) => "no effect",
                other => other.unenforced().unwrap_or("error"),
            });
            kinds.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn which_styles_are_defined_where_and_for_what() {
    let scalar = json!({"type": "integer"});
    let array = json!({"type": "array", "items": {"type": "integer"}});
    let object = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let values = [&scalar, &array, &object];
    // Scalar, array, object; not exploded, exploded. `+` is defined, `-` is not.
    for (location, style, version, plain, exploded) in [
        ("path", "simple", Version::V3_0, "+++", "+++"),
        ("path", "label", Version::V3_0, "+++", "+++"),
        ("path", "matrix", Version::V3_0, "+++", "+++"),
        ("path", "form", Version::V3_2, "---", "---"),
        ("path", "cookie", Version::V3_2, "---", "---"),
        ("query", "form", Version::V3_0, "+++", "+++"),
        ("query", "spaceDelimited", Version::V3_0, "-++", "---"),
        ("query", "pipeDelimited", Version::V3_0, "-++", "---"),
        ("query", "deepObject", Version::V3_0, "--+", "--+"),
        ("query", "simple", Version::V3_2, "---", "---"),
        ("query", "cookie", Version::V3_2, "---", "---"),
        ("header", "simple", Version::V3_0, "+++", "+++"),
        ("header", "form", Version::V3_0, "---", "---"),
        ("cookie", "form", Version::V3_0, "+++", "+--"),
        ("cookie", "form", Version::V3_2, "+++", "+--"),
        ("cookie", "cookie", Version::V3_0, "---", "---"),
        ("cookie", "cookie", Version::V3_1, "---", "---"),
        ("cookie", "cookie", Version::V3_2, "+++", "+++"),
        ("cookie", "simple", Version::V3_2, "---", "---"),
        ("query", "nonsense", Version::V3_0, "---", "---"),
    ] {
        for (explode, expected) in [(false, plain), (true, exploded)] {
            for (schema, expected) in values.iter().zip(expected.chars()) {
                let fields =
                    json!({"required": true, "style": style, "explode": explode, "schema": schema});
                let expected =
                    if expected == '+' { "ok".to_owned() } else { format!("style:{style}") };
                let told = told(version, location, &fields);
                assert_eq!(told, expected, "{location} {style} {explode} {schema} {version:?}");
            }
        }
    }
    // OAI/OpenAPI-Specification#1528: `form` explodes by default, in cookies too.
    assert_eq!(told(Version::V3_0, "cookie", &json!({"schema": array})), "style:form");
    assert_eq!(told(Version::V3_0, "cookie", &json!({"schema": scalar})), "ok");
    let by_default = json!({"style": "cookie", "schema": array});
    let rule = rule(Version::V3_2, Policy::default(), "cookie", &by_default).ok().unwrap();
    assert!(rule.is_gathered(), "`cookie` explodes by default");
}

#[track_caller]
fn refusals(cases: &[(Version, &str, Value, &str)]) {
    for (version, location, fields, expected) in cases {
        assert_eq!(told(*version, location, fields), *expected, "{location} {fields}");
    }
}

#[test]
fn what_else_is_refused_at_load() {
    let text = json!({"type": "string"});
    let nested = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}});
    let form = "application/x-www-form-urlencoded";
    refusals(&[
        (Version::V3_0, "query", json!({"schema": text, "content": {}}), "error"),
        (Version::V3_0, "query", json!({}), "error"),
        (Version::V3_0, "query", json!({"schema": text, "example": 1, "examples": {}}), "error"),
        (Version::V3_0, "query", json!({"schema": text, "examples": {}}), "ok"),
        (Version::V3_0, "query", json!({"schema": text, "deprecated": true}), "ok"),
        (Version::V3_0, "query", json!({"schema": text, "deprecated": 1}), "error"),
        (Version::V3_0, "query", json!({"schema": text, "style": 1}), "error"),
        (Version::V3_0, "body", json!({"schema": text}), "error"),
        (Version::V3_1, "querystring", json!({"content": {form: {}}}), "error"),
        // deepObject: kin-openapi#294, what is nested is not defined.
        (
            Version::V3_0,
            "query",
            json!({"style": "deepObject", "schema": nested}),
            "nested-parameters",
        ),
        (Version::V3_0, "query", json!({"schema": nested}), "nested-parameters"),
        (Version::V3_0, "path", json!({"schema": nested}), "nested-parameters"),
        (
            Version::V3_0,
            "query",
            json!({"schema": {"type": "array", "items": {"type": "object"}}}),
            "nested-parameters",
        ),
        (
            Version::V3_0,
            "query",
            json!({"style": "deepObject", "schema": {"type": "object", "properties": {"a[b]": {}}}}),
            "style:deepObject",
        ),
        (
            Version::V3_0,
            "query",
            json!({"schema": {"oneOf": [text, {"type": "object", "properties": {"a": text}}]}}),
            "style:form",
        ),
        (
            Version::V3_2,
            "cookie",
            json!({"style": "cookie", "schema": {"type": "object", "additionalProperties": text}}),
            "style:cookie",
        ),
    ]);
}

#[test]
fn media_types_of_parameters() {
    let text = json!({"type": "string"});
    let nested = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}});
    let form = "application/x-www-form-urlencoded";
    refusals(&[
        // `content`.
        (Version::V3_0, "query", json!({"content": {}}), "error"),
        (
            Version::V3_0,
            "query",
            json!({"content": {"text/plain": {}, "application/json": {}}}),
            "error",
        ),
        (Version::V3_0, "query", json!({"content": {"application/json": {}}}), "ok"),
        (
            Version::V3_0,
            "query",
            json!({"content": {"application/geo+json": {"schema": text}}}),
            "ok",
        ),
        (
            Version::V3_0,
            "query",
            json!({"content": {"application/xml": {}}}),
            "media-type:application/xml",
        ),
        (Version::V3_0, "query", json!({"content": {"*/*": {}}}), "media-type:*/*"),
        (
            Version::V3_0,
            "query",
            json!({"content": {form: {}}}),
            "media-type:application/x-www-form-urlencoded",
        ),
        (
            Version::V3_0,
            "header",
            json!({"content": {"text/plain": {"schema": nested}}}),
            "media-type:text/plain",
        ),
        (
            Version::V3_0,
            "query",
            json!({"style": "form", "content": {"application/json": {}}}),
            "no effect",
        ),
    ]);
}

#[test]
fn what_has_a_meaning_only_in_some_places() {
    let text = json!({"type": "string"});
    refusals(&[
        // What has a meaning only in some places.
        (Version::V3_0, "header", json!({"allowEmptyValue": true, "schema": text}), "no effect"),
        (Version::V3_0, "query", json!({"allowReserved": true, "schema": text}), "ok"),
        (Version::V3_1, "cookie", json!({"allowReserved": true, "schema": text}), "no effect"),
        (Version::V3_2, "cookie", json!({"allowReserved": true, "schema": text}), "ok"),
        (
            Version::V3_2,
            "cookie",
            json!({"style": "cookie", "allowReserved": true, "schema": text}),
            "no effect",
        ),
        (Version::V3_2, "header", json!({"allowReserved": true, "schema": text}), "no effect"),
    ]);
}

#[test]
fn what_the_query_as_one_value_may_be() {
    let text = json!({"type": "string"});
    let nested = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}});
    let form = "application/x-www-form-urlencoded";
    refusals(&[
        // `in: querystring`.
        (Version::V3_2, "querystring", json!({"schema": text}), "error"),
        (Version::V3_2, "querystring", json!({"content": {"application/json": {}}}), "ok"),
        (
            Version::V3_2,
            "querystring",
            json!({"content": {"text/plain": {}}}),
            "media-type:text/plain",
        ),
        (Version::V3_2, "querystring", json!({"content": {form: {"schema": nested}}}), "ok"),
        (
            Version::V3_2,
            "querystring",
            json!({"content": {form: {"schema": {"type": "object", "properties": {"a": {"type": "object"}}}}}}),
            "nested-parameters",
        ),
        (
            Version::V3_2,
            "querystring",
            json!({"content": {form: {"schema": text}}}),
            "media-type:application/x-www-form-urlencoded",
        ),
        (
            Version::V3_2,
            "querystring",
            json!({"content": {form: {"schema": nested, "encoding": {}}}}),
            "media-type:application/x-www-form-urlencoded",
        ),
    ]);
}

/// A query rule with the parameter for the query whole.
fn whole(fields: &Value) -> QueryRules {
    let rule = rule(Version::V3_2, Policy::default(), "querystring", fields).ok().unwrap();
    let mut rules = QueryRules::new(Verdict::Refuse);
    rules.push_whole(rule).unwrap();
    rules
}

#[test]
fn the_query_as_one_value() {
    let object = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "integer"}, "l": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}},
    }});
    let form = whole(
        &json!({"required": true, "content": {"application/x-www-form-urlencoded": {"schema": object}}}),
    );
    let json =
        whole(&json!({"required": true, "content": {"application/json": {"schema": object}}}));
    let optional = whole(&json!({"content": {"application/json": {"schema": object}}}));
    for (rules, query, expected) in [
        (&form, "a=1&l=true&l=false", Ok("a=1&l=true&l=false")),
        (&form, "a=+1", Err("parameter.type")),
        (&form, "l=true", Err("parameter.schema")),
        (&form, "a=1&a=2", Err("parameter.repeated")),
        (&form, "a=1&l=true&l=true&l=true", Err("parameter.schema")),
        (&form, "a=1&b=2", Err("parameter.unknown")),
        (&form, "", Err("parameter.missing")),
        (&json, "%7B%22a%22%3A1%7D", Ok("%7B%22a%22%3A1%7D")),
        (&json, "{\"a\":1}", Ok("%7B%22a%22%3A1%7D")),
        // A plus sign is itself there, and stays it.
        (&json, "{\"a\":1,\"+\":2e+0}", Ok("%7B%22a%22%3A1%2C%22%2B%22%3A2e%2B0%7D")),
        (&json, "{\"a\":\"1\"}", Err("parameter.schema")),
        (&json, "{\"a\":1}&a=1", Err("parameter.malformed")),
        (&json, "a=1", Err("parameter.malformed")),
        (&json, "%2", Err("parameter.encoding")),
        (&json, "", Err("parameter.missing")),
        (&optional, "", Ok("")),
    ] {
        let found = rules.check(Some(query)).map(Option::unwrap_or_default);
        let found = found.as_deref().map_err(|violation| violation.rule.id());
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn the_query_as_one_value_stands_alone() {
    let fields =
        json!({"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}});
    let whole_rule =
        || rule(Version::V3_2, Policy::default(), "querystring", &fields).ok().unwrap();
    let plain = json!({"schema": {"type": "string"}});
    let plain_rule = || rule(Version::V3_2, Policy::default(), "query", &plain).ok().unwrap();
    let mut rules = QueryRules::new(Verdict::Refuse);
    rules.push_whole(whole_rule()).unwrap();
    assert_eq!(rules.push(plain_rule()), Err(Conflict::Whole));
    assert_eq!(rules.push_whole(whole_rule()), Err(Conflict::Whole));
    let mut rules = QueryRules::new(Verdict::Refuse);
    rules.push(plain_rule()).unwrap();
    assert_eq!(rules.push_whole(whole_rule()), Err(Conflict::Whole));
}

#[test]
fn cookies_of_3_2_are_never_decoded() {
    let text = json!({"type": "string", "enum": ["a%20b", "c"]});
    let number = json!({"type": "integer"});
    let object =
        json!({"type": "object", "required": ["R"], "properties": {"R": number, "G": number}});
    for (fields, cookie, expected) in [
        (json!({"style": "cookie", "schema": text}), "p=a%20b", Ok(())),
        (json!({"style": "cookie", "schema": text}), "p=%63", Err("parameter.schema")),
        (
            json!({"style": "cookie", "schema": {"type": "array", "items": text}}),
            "p=c; x=1; p=a%20b",
            Ok(()),
        ),
        (
            json!({"style": "cookie", "schema": {"type": "array", "items": text}}),
            "p=c,c",
            Err("parameter.schema"),
        ),
        (
            json!({"style": "cookie", "explode": false, "schema": {"type": "array", "items": text}}),
            "p=c,a%20b",
            Ok(()),
        ),
        (json!({"style": "cookie", "schema": object}), "R=100; G=200", Ok(())),
        (json!({"style": "cookie", "schema": object}), "G=200; session=x", Err("parameter.schema")),
        (json!({"style": "cookie", "explode": false, "schema": object}), "p=R,100,G,200", Ok(())),
        (json!({"style": "cookie", "schema": object}), "R=1; R=2", Err("parameter.repeated")),
    ] {
        let rule = rule(Version::V3_2, Policy::default(), "cookie", &fields).ok().unwrap();
        let mut rules = CookieRules::new(Verdict::Pass);
        rules.push(rule).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        let found = rules.check(&headers).map_err(|violation| violation.rule.id());
        assert_eq!(found, expected, "{fields} {cookie}");
    }
}

#[test]
fn reserved_characters_beyond_queries_from_3_2_on() {
    let policy = Policy { reserved_characters: Verdict::Refuse, ..Policy::default() };
    for (version, fields, is_ok) in [
        (Version::V3_1, json!({"required": true, "schema": {"type": "string"}}), true),
        (Version::V3_2, json!({"required": true, "schema": {"type": "string"}}), false),
        (Version::V3_2, json!({"allowReserved": true, "schema": {"type": "string"}}), true),
    ] {
        for location in ["path", "cookie"] {
            let rule = rule(version, policy.clone(), location, &fields).ok().unwrap();
            assert_eq!(rule.check("a@b").is_ok(), is_ok, "{location} {version:?} {fields}");
            assert_eq!(rule.check("a%40b"), Ok(()), "{location} {version:?} {fields}");
        }
    }
}
