//! Default styles of path, query and header parameters, by type and by `explode`.

use serde_json::{Value, json};

use super::super::tests::documents::{loaded, minimal};
use super::super::tests::told;

/// How the values of a parameter `p` in `location` are judged, each by its verdict: `ok`, or rule and
/// keyword. For a query the whole of it is given, for a header its lines, separated by `\n`.
#[track_caller]
fn check(location: &str, explode: bool, schema: &Value, cases: &[(&str, &str)]) {
    let path = if location == "path" { "/things/{p}" } else { "/things" };
    let mut document = minimal(json!({}));
    let parameter = json!({
        "name": "p", "in": location, "required": location == "path", "explode": explode, "schema": schema,
    });
    document["paths"] = json!({path: {"get": {
        "parameters": [parameter, {"name": "other", "in": "query", "schema": {}}],
        "responses": {"200": {"description": "ok"}},
    }}});
    let contract = loaded(&document);
    for (value, expected) in cases {
        let mut headers = http::HeaderMap::new();
        let (path, query) = match location {
            "path" => (format!("/things/{value}"), None),
            "query" => ("/things".to_owned(), Some(*value)),
            _ => {
                for line in value.split('\n') {
                    headers.append("p", line.parse().unwrap());
                }
                ("/things".to_owned(), None)
            }
        };
        let verdict = contract
            .route(&http::Method::GET, &path, None)
            .and_then(|matched| matched.operation.check_parameters(&matched, query, &headers));
        let verdict = verdict.map_or_else(|violation| told(&violation), |_| "ok".to_owned());
        let verdict = verdict.strip_prefix("parameter.").unwrap_or(&verdict);
        let verdict = verdict.replace(&format!(" {location}:p"), "");
        assert_eq!(verdict, *expected, "{location} {explode} {schema} of {value:?}");
    }
}

const INTEGERS: [(&str, &str); 15] = [
    ("0", "ok"),
    ("-7", "ok"),
    ("-0", "ok"),
    ("18446744073709551615", "ok"),
    ("-9223372036854775808", "ok"),
    ("18446744073709551616", "type"),
    ("-9223372036854775809", "type"),
    ("1.0", "type"),
    ("1e3", "type"),
    ("00", "type"),
    ("-", "type"),
    ("0x10", "type"),
    ("1_000", "type"),
    ("true", "type"),
    ("null", "type"),
];

#[test]
fn primitives_in_every_place() {
    let query = |cases: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
        cases.iter().map(|(value, expected)| (format!("p={value}"), *expected)).collect()
    };
    let numbers = [
        ("1", "ok"),
        ("1.5", "ok"),
        ("-1.5e-3", "ok"),
        ("1E2", "ok"),
        ("1.", "type"),
        (".5", "type"),
        ("1e", "type"),
        ("1e+", "type"),
        ("1.e1", "type"),
        ("01.5", "type"),
        ("1e400", "type"),
        ("Infinity", "type"),
        ("NaN", "type"),
        ("1,5", "type"),
    ];
    let booleans =
        [("true", "ok"), ("false", "ok"), ("True", "type"), ("1", "type"), ("yes", "type")];
    let enumerated = [("a", "ok"), ("A", "schema enum"), ("null", "schema enum")];
    for (schema, cases) in [
        (json!({"type": "integer"}), &INTEGERS[..]),
        (json!({"type": "integer", "nullable": true}), &INTEGERS[..]),
        (json!({"type": "number"}), &numbers[..]),
        (json!({"type": "boolean"}), &booleans[..]),
        (json!({"type": "string", "enum": ["a"]}), &enumerated[..]),
        (
            json!({"allOf": [{"type": "integer"}, {"minimum": -1_000_000_000_000_000_000_000.0}]}),
            &INTEGERS[..],
        ),
    ] {
        for explode in [false, true] {
            check("path", explode, &schema, cases);
            check("header", explode, &schema, cases);
            let query = query(cases);
            let query: Vec<_> =
                query.iter().map(|(value, expected)| (&**value, *expected)).collect();
            check("query", explode, &schema, &query);
        }
    }
}

#[test]
fn the_place_decides_what_is_decoded() {
    let schema = json!({"type": "string", "enum": ["a b", "a+b", "a%20b", "é"]});
    check(
        "path",
        false,
        &schema,
        &[("a%20b", "ok"), ("a+b", "ok"), ("a%2Bb", "ok"), ("a%2520b", "ok"), ("%C3%A9", "ok")],
    );
    check(
        "query",
        true,
        &schema,
        &[
            ("p=a%20b", "ok"),
            ("p=a+b", "ok"),
            ("p=a%2Bb", "ok"),
            ("p=a%2520b", "ok"),
            ("p=%c3%a9", "ok"),
        ],
    );
    check(
        "header",
        false,
        &schema,
        &[
            ("a b", "ok"),
            ("a+b", "ok"),
            ("a%20b", "ok"),
            ("  a b\t", "ok"),
            ("a%2Bb", "schema enum"),
        ],
    );
    // echo-middleware#17: the length is that of the decoded value.
    let one = json!({"type": "string", "maxLength": 1});
    check("path", false, &one, &[("%F0%9F%98%80", "ok"), ("%61b", "schema maxLength")]);
    check("query", true, &one, &[("p=%F0%9F%98%80", "ok"), ("p=%61b", "schema maxLength")]);
}

#[test]
fn a_value_that_may_be_of_several_types() {
    let schema =
        json!({"oneOf": [{"type": "integer", "maximum": 9}, {"type": "string", "minLength": 2}]});
    check(
        "query",
        true,
        &schema,
        &[("p=9", "ok"), ("p=10", "ok"), ("p=a", "schema oneOf"), ("p=ab", "ok")],
    );
    check(
        "query",
        true,
        &json!({"enum": [1, true, "x"]}),
        &[("p=1", "ok"), ("p=true", "ok"), ("p=x", "ok"), ("p=2", "schema enum")],
    );
    check("query", true, &json!({}), &[("p=anything", "ok"), ("p=", "ok"), ("", "ok")]);
}

// express-openapi-validator#1064, oas-tools#248: lists that are not exploded are split at commas.
#[test]
fn arrays() {
    let schema =
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2});
    for explode in [false, true] {
        check(
            "path",
            explode,
            &schema,
            &[
                ("1,2", "ok"),
                ("1", "ok"),
                ("1,2,3", "schema maxItems"),
                ("1%2C2", "type"),
                ("1,,2", "type"),
                ("1,", "type"),
                ("1;2", "type"),
            ],
        );
        check(
            "header",
            explode,
            &schema,
            &[
                ("1,2", "ok"),
                ("1 , 2", "ok"),
                ("1\n2", "ok"),
                ("1,2\n3", "schema maxItems"),
                ("", "type"),
                ("1%2C2", "type"),
            ],
        );
    }
    check(
        "query",
        true,
        &schema,
        &[
            ("p=1&p=2", "ok"),
            ("p=1", "ok"),
            ("p=1&other=x&p=2", "ok"),
            ("p=1&p=2&p=3", "schema maxItems"),
            ("p=1,2", "type"),
            ("p=", "type"),
            ("p[]=1", "unknown query:*"),
        ],
    );
    check(
        "query",
        false,
        &schema,
        &[
            ("p=1,2", "ok"),
            ("p=1", "ok"),
            ("p=1,2,3", "schema maxItems"),
            ("p=1%2C2", "type"),
            ("p=1&p=2", "repeated"),
            ("p=", "type"),
        ],
    );
    // A comma within an item is data, if escaped.
    let words = json!({"type": "array", "items": {"type": "string", "enum": ["a,b", "c d"]}});
    check("query", false, &words, &[("p=a%2Cb,c+d", "ok"), ("p=a,b", "schema enum")]);
    check("query", true, &words, &[("p=a,b&p=c%20d", "ok"), ("p=a%2Cb", "ok")]);
    check("path", false, &words, &[("a%2Cb,c%20d", "ok"), ("c+d", "schema enum")]);
    let unique = json!({"type": "array", "uniqueItems": true, "items": {"type": "number"}});
    check("query", true, &unique, &[("p=1&p=2", "ok"), ("p=1&p=1.0", "schema uniqueItems")]);
}

#[test]
fn objects() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["R"], "properties": {
        "R": {"type": "integer", "maximum": 255}, "G": {"type": "string"},
    }});
    for place in ["path", "header"] {
        check(
            place,
            false,
            &schema,
            &[
                ("R,100,G,200", "ok"),
                ("G,,R,1", "ok"),
                ("R,100,G", "type"),
                ("R,x", "type"),
                ("R,256", "schema maximum"),
                ("G,1", "schema required"),
                ("R,1,B,2", "schema additionalProperties"),
                ("R,1,R,2", "repeated"),
                ("R=100", "type"),
            ],
        );
        check(
            place,
            true,
            &schema,
            &[
                ("R=100,G=200", "ok"),
                ("R=100,G", "type"),
                ("R=100,G=a=b", "ok"),
                ("R=1,R=2", "repeated"),
                ("R,100", "type"),
            ],
        );
    }
    check(
        "query",
        false,
        &schema,
        &[("p=R,100,G,200", "ok"), ("p=R,100&p=G,200", "repeated"), ("R=100", "unknown query:*")],
    );
    // openapi-backend#722: an exploded object's members are the names in the query.
    check(
        "query",
        true,
        &schema,
        &[
            ("R=100&G=200", "ok"),
            ("G=1&other=x&R=1", "ok"),
            ("G=1", "schema required"),
            ("", "ok"),
            ("R=1&R=2", "repeated"),
            ("R=256", "schema maximum"),
            ("p=1", "unknown query:*"),
            ("R=1&B=2", "unknown query:*"),
        ],
    );
}

#[test]
fn required_and_empty() {
    let parameter = |fields: Value| {
        let mut parameter = json!({"name": "p", "in": "query", "schema": {"type": "integer"}});
        parameter.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        loaded(&minimal(json!({"parameters": [parameter]})))
    };
    for (fields, query, expected) in [
        (json!({}), None, Ok(None)),
        (json!({}), Some(""), Ok(None)),
        (json!({}), Some("&"), Ok(None)),
        (json!({"required": true}), None, Err("parameter.missing query:p")),
        (json!({"required": true}), Some("p"), Err("parameter.type query:p")),
        (json!({"required": true, "allowEmptyValue": true}), Some("p"), Ok(Some("p"))),
        (json!({"allowEmptyValue": true}), Some("p="), Ok(Some("p="))),
        (json!({"allowEmptyValue": true}), Some("p=x"), Err("parameter.type query:p")),
        (json!({"allowEmptyValue": true}), Some("p&p"), Err("parameter.repeated query:p")),
    ] {
        let contract = parameter(fields.clone());
        let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
        let result = matched.operation.check_parameters(&matched, query, &http::HeaderMap::new());
        let result = result.map_err(|violation| told(&violation));
        let expected =
            expected.map(|query: Option<&str>| query.map(str::to_owned)).map_err(str::to_owned);
        assert_eq!(result, expected, "{fields} {query:?}");
    }
}

#[test]
fn definitions_of_three_header_fields_are_ignored() {
    let define = |name: &str| json!({"name": name, "in": "header", "required": true, "schema": {"type": "integer"}});
    let contract = loaded(&minimal(json!({
        "parameters": [define("Accept"), define("content-type"), define("AUTHORIZATION")],
    })));
    let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
    let none = http::HeaderMap::new();
    assert_eq!(matched.operation.check_parameters(&matched, None, &none), Ok(None));
}
