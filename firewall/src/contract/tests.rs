//! From a request or an answer to its verdict, on the demonstration's document.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::violation::{Rule, Violation};

mod bodies;
mod descriptions;
mod differential;
pub(super) mod documents;
mod files;
mod grpc;
mod modern;
mod parameters;
mod responses;
mod routing;
mod schemas;

mod security;
mod upgrades;

fn shop() -> Contract {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop.yaml");
    let loaded =
        load(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.digest.len(), 64);
    loaded.contract
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    fields.iter().map(field).collect()
}

/// Rule, place and keyword, in one line.
pub(super) fn told(violation: &Violation) -> String {
    let keyword = violation.keyword.as_deref().unwrap_or_default();
    format!("{} {} {keyword}", violation.rule.id(), violation.at).trim_end().to_owned()
}

/// The operation that takes the request, with the target to forward; or why none does. The order is
/// the pipeline's.
fn judge(
    contract: &Contract,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<String, Violation> {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let headers = headers(fields);
    let matched = contract.route(&method.parse::<Method>().unwrap(), path, None)?;
    let query = matched.operation.check_parameters(&matched, query, &headers)?;
    match matched.operation.body() {
        None if !body.is_empty() => return Err(Violation::new(Rule::BodyUnexpected)),
        Some(rule) if body.is_empty() && rule.required() => {
            return Err(Violation::new(Rule::BodyMissing));
        }
        Some(rule) if !body.is_empty() => {
            rule.content(headers.get("content-type"))?.check(body)?;
        }
        _ => {}
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{} {}{query}", matched.operation.id(), matched.path))
}

#[track_caller]
fn check(result: Result<String, Violation>, expected: Result<&str, &str>, what: &str) {
    let result = result.map_err(|violation| told(&violation));
    let expected = expected.map(str::to_owned).map_err(str::to_owned);
    assert_eq!(result, expected, "{what}");
}

#[test]
fn the_operations_are_those_that_openapiv3_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop.yaml");
    let typed = structure::read(&document::Document::read(&path).unwrap().root).unwrap();
    let mut theirs: Vec<_> = typed
        .operations()
        .map(|(path, method, operation)| {
            (path.to_owned(), method.to_uppercase(), operation.operation_id.clone().unwrap())
        })
        .collect();
    let shop = shop();
    let mut ours: Vec<_> = shop
        .operations()
        .iter()
        .map(|one| (one.template().to_owned(), one.method().to_owned(), one.id().to_owned()))
        .collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 11);
}

#[test]
fn routes_and_parameters() {
    let shop = shop();
    for (method, target, expected) in [
        ("GET", "/products", Ok("listProducts /products")),
        ("GET", "/products?", Ok("listProducts /products")),
        ("HEAD", "/products", Ok("listProducts /products")),
        ("GET", "/products/featured", Ok("featuredProducts /products/featured")),
        ("GET", "/products/%66eatured", Ok("featuredProducts /products/featured")),
        ("GET", "/products/7", Ok("getProduct /products/7")),
        ("GET", "/products/9223372036854775807", Ok("getProduct /products/9223372036854775807")),
        ("GET", "/products/9223372036854775808", Err("parameter.schema path:productId maximum")),
        ("GET", "/products/18446744073709551616", Err("parameter.type path:productId")),
        ("GET", "/products/0", Err("parameter.schema path:productId minimum")),
        ("GET", "/products/x", Err("parameter.type path:productId")),
        ("GET", "/products/1.0", Err("parameter.type path:productId")),
        ("GET", "/products/1e3", Err("parameter.type path:productId")),
        ("GET", "/products/+1", Err("parameter.type path:productId")),
        ("GET", "/products/01", Err("parameter.type path:productId")),
        ("GET", "/products/0x1", Err("parameter.type path:productId")),
        ("GET", "/products/%201", Err("parameter.type path:productId")),
        ("GET", "/products/%31", Ok("getProduct /products/1")),
        ("GET", "/products/", Err("route.unknown-path")),
        ("GET", "/products//reviews", Err("route.path")),
        ("GET", "/products/../orders", Err("route.path")),
        ("GET", "/Products", Err("route.unknown-path")),
        ("GET", "/admin", Err("route.unknown-path")),
        ("DELETE", "/products/featured", Err("route.method")),
        ("PUT", "/products/7", Err("route.method")),
        ("OPTIONS", "/products", Err("route.method")),
        ("TRACE", "/products", Err("route.method")),
        // Values.
        ("GET", "/products?q=ab", Ok("listProducts /products?q=ab")),
        ("GET", "/products?q=a", Err("parameter.schema query:q minLength")),
        ("GET", "/products?q=", Err("parameter.schema query:q minLength")),
        ("GET", "/products?q", Err("parameter.schema query:q minLength")),
        ("GET", "/products?q=%C3%A9%C3%A9", Ok("listProducts /products?q=%C3%A9%C3%A9")),
        ("GET", "/products?q=%C3%A9", Err("parameter.schema query:q minLength")),
        ("GET", "/products?q=red+wine", Ok("listProducts /products?q=red%20wine")),
        ("GET", "/products?q=a%2Bb%26c%3D", Ok("listProducts /products?q=a%2Bb%26c%3D")),
        ("GET", "/products?q=a=b", Ok("listProducts /products?q=a=b")),
        ("GET", "/products?limit=100&q=ab", Ok("listProducts /products?limit=100&q=ab")),
        ("GET", "/products?limit=101", Err("parameter.schema query:limit maximum")),
        ("GET", "/products?limit=1.0", Err("parameter.type query:limit")),
        ("GET", "/products?limit=", Err("parameter.type query:limit")),
        ("GET", "/products?limit", Err("parameter.type query:limit")),
        ("GET", "/products?limit=null", Err("parameter.type query:limit")),
        ("GET", "/products?inStock=true", Ok("listProducts /products?inStock=true")),
        ("GET", "/products?inStock=True", Err("parameter.type query:inStock")),
        ("GET", "/products?inStock=1", Err("parameter.type query:inStock")),
        ("GET", "/products?maxPrice=1.5e2", Ok("listProducts /products?maxPrice=1.5e2")),
        ("GET", "/products?maxPrice=0", Err("parameter.schema query:maxPrice exclusiveMinimum")),
        ("GET", "/products?maxPrice=0.01", Ok("listProducts /products?maxPrice=0.01")),
        ("GET", "/products?maxPrice=NaN", Err("parameter.type query:maxPrice")),
        ("GET", "/products?maxPrice=1e999", Err("parameter.type query:maxPrice")),
        ("GET", "/products?maxPrice=.5", Err("parameter.type query:maxPrice")),
        ("GET", "/products?cursor=abc_-123", Ok("listProducts /products?cursor=abc_-123")),
        ("GET", "/products?cursor=abc_-123%0A", Err("parameter.schema query:cursor pattern")),
        ("GET", "/orders?since=2026-02-28", Ok("listOrders /orders?since=2026-02-28")),
        ("GET", "/orders?since=2026-02-30", Err("parameter.schema query:since format")),
        ("GET", "/orders?status=paid", Ok("listOrders /orders?status=paid")),
        ("GET", "/orders?status=Paid", Err("parameter.schema query:status enum")),
        // Lists: exploded, one occurrence an item; not exploded, one occurrence split by commas.
        (
            "GET",
            "/products?category=books&category=toys",
            Ok("listProducts /products?category=books&category=toys"),
        ),
        ("GET", "/products?category=books,toys", Err("parameter.schema query:category enum")),
        (
            "GET",
            "/products?category=toys&category=toys",
            Err("parameter.schema query:category uniqueItems"),
        ),
        (
            "GET",
            "/products?category=toys&category=books&category=music&category=garden",
            Err("parameter.schema query:category maxItems"),
        ),
        ("GET", "/products?tag=a,b-1", Ok("listProducts /products?tag=a,b-1")),
        ("GET", "/products?tag=a%2Cb", Err("parameter.schema query:tag pattern")),
        ("GET", "/products?tag=a&tag=b", Err("parameter.repeated query:tag")),
        ("GET", "/products?tag=a,,b", Err("parameter.schema query:tag pattern")),
        // Names.
        ("GET", "/products?limit=1&limit=2", Err("parameter.repeated query:limit")),
        ("GET", "/products?limit=1&%6Cimit=1", Err("parameter.repeated query:limit")),
        ("GET", "/products?%6Cimit=1", Ok("listProducts /products?limit=1")),
        ("GET", "/products?secret=1", Err("parameter.unknown query:*")),
        ("GET", "/products?Limit=1", Err("parameter.unknown query:*")),
        ("GET", "/products?limit[]=1", Err("parameter.unknown query:*")),
        ("GET", "/products?limit=1;q=ab", Err("parameter.type query:limit")),
        ("GET", "/products?=1", Err("parameter.unknown query:*")),
        ("GET", "/products?&limit=1&&", Ok("listProducts /products?limit=1")),
        ("GET", "/products/7?limit=1", Err("parameter.unknown query:*")),
        // Encoding.
        ("GET", "/products?q=%zz", Err("parameter.encoding query:q")),
        ("GET", "/products?q=%c0%af", Err("parameter.encoding query:q")),
        ("GET", "/products?q=ab%00", Err("parameter.encoding query:q")),
        ("GET", "/products?%zz=1", Err("parameter.encoding query:*")),
        ("GET", "/products?q=<b>|", Ok("listProducts /products?q=%3Cb%3E%7C")),
        ("GET", "/products?q=\u{e9}\u{e9}", Err("parameter.encoding query:q")),
    ] {
        check(judge(&shop, method, target, &[], b""), expected, &format!("{method} {target}"));
    }
}

#[test]
fn an_undeclared_method_names_those_that_are() {
    let shop = shop();
    for (path, allow) in [
        ("/products", "GET, HEAD, POST"),
        ("/products/7", "DELETE, GET, HEAD, PATCH"),
        ("/products/7/reviews", "POST"),
    ] {
        let violation = shop.route(&Method::PUT, path, None).err().unwrap();
        assert_eq!(violation.allow.as_deref(), Some(allow));
    }
}

const KEY: (&str, &str) = ("idempotency-key", "0d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn header_parameters() {
    let shop = shop();
    let order = order().to_string();
    let placed = Ok("placeOrder /orders");
    for (fields, expected) in [
        (vec![KEY, JSON], placed),
        (vec![KEY, JSON, ("x-anything", "1")], placed),
        (vec![("Idempotency-Key", "0D5B2A3C-7D6E-4F00-9A11-B2C3D4E5F607"), JSON], placed),
        (vec![JSON], Err("parameter.missing header:Idempotency-Key")),
        (
            vec![("idempotency-key", "1"), JSON],
            Err("parameter.schema header:Idempotency-Key format"),
        ),
        (
            vec![("idempotency-key", ""), JSON],
            Err("parameter.schema header:Idempotency-Key format"),
        ),
        (vec![KEY, KEY, JSON], Err("parameter.repeated header:Idempotency-Key")),
        (
            vec![("idempotency-key", "%30d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607"), JSON],
            Err("parameter.schema header:Idempotency-Key format"),
        ),
    ] {
        let result = judge(&shop, "POST", "/orders", &fields, order.as_bytes());
        check(result, expected, &format!("{fields:?}"));
    }
    let mut latin = headers(&[JSON]);
    latin.insert("idempotency-key", HeaderValue::from_bytes(b"\xe9").unwrap());
    let matched = shop.route(&Method::POST, "/orders", None).unwrap();
    let violation = matched.operation.check_parameters(&matched, None, &latin).unwrap_err();
    assert_eq!(told(&violation), "parameter.encoding header:Idempotency-Key");
}

fn order() -> Value {
    json!({
        "customer": {"email": "ada@example.org", "phone": "+4420794600"},
        "shipTo": {
            "name": "Ada Lovelace", "street": "12 St James's Square", "city": "London",
            "postcode": "SW1Y 4JH", "country": "GB"
        },
        "lines": [
            {"product": 7, "quantity": 2},
            {"quantity": 1, "note": null, "bundle": [
                {"product": 8, "quantity": 1},
                {"quantity": 3, "bundle": [{"product": 9, "quantity": 1}]}
            ]}
        ],
        "payment": {"method": "card", "token": "tok_0123456789abcdef"},
        "deliverOn": "2026-12-24"
    })
}

#[test]
fn media_types_of_bodies() {
    let shop = shop();
    let body = order().to_string();
    for (sent, expected) in [
        (Some("application/json"), Ok("placeOrder /orders")),
        (Some("Application/JSON; charset=UTF-8"), Ok("placeOrder /orders")),
        (Some("application/json;charset=\"utf-8\"; x=y"), Ok("placeOrder /orders")),
        (Some("application/json; charset=utf-16"), Err("body.encoding")),
        (Some("application/json; charset=latin1"), Err("body.encoding")),
        (Some("application/problem+json"), Err("body.media-type")),
        (Some("text/plain"), Err("body.media-type")),
        (Some("text/json"), Err("body.media-type")),
        (Some("application/x-www-form-urlencoded"), Err("body.media-type")),
        (Some("application/json, text/plain"), Err("body.media-type")),
        (Some("application/json;"), Ok("placeOrder /orders")),
        (Some("application"), Err("body.media-type")),
        (Some(""), Err("body.media-type")),
        (Some("*/*"), Err("body.media-type")),
        (None, Err("body.media-type")),
    ] {
        let fields: Vec<_> =
            [KEY].into_iter().chain(sent.map(|sent| ("content-type", sent))).collect();
        let result = judge(&shop, "POST", "/orders", &fields, body.as_bytes());
        check(result, expected, &format!("{sent:?}"));
    }
    let patch =
        |sent| judge(&shop, "PATCH", "/products/1", &[("content-type", sent)], b"{\"stock\":1}");
    check(patch("application/merge-patch+json"), Ok("changeProduct /products/1"), "suffix");
    check(patch("application/json"), Err("body.media-type"), "a suffix is not its base");
}

#[test]
fn bodies_and_their_absence() {
    let shop = shop();
    let json = |body: &'static [u8]| judge(&shop, "POST", "/products/7/reviews", &[JSON], body);
    check(json(b"{\"stars\":5}"), Ok("addReview /products/7/reviews"), "good");
    check(json(b""), Err("body.missing"), "required");
    check(json(b"null"), Err("body.schema body: type"), "null is a body");
    check(json(b"{\"stars\":5"), Err("body.malformed"), "cut");
    check(json(b"{\"stars\":5}{}"), Err("body.malformed"), "trailing");
    check(json(b"\xef\xbb\xbf{\"stars\":5}"), Err("body.malformed"), "byte-order mark");
    check(json(b"{\"stars\":1,\"stars\":5}"), Err("body.duplicate-member"), "twice");
    check(json(b"{\"stars\":9007199254740993}"), Err("body.schema body:/stars maximum"), "exact");
    check(json(b"{\"stars\":5.0}"), Ok("addReview /products/7/reviews"), "5.0 is an integer");
    check(json(b"{\"stars\":\"5\"}"), Err("body.schema body:/stars type"), "a body is not coerced");
    let unasked = judge(&shop, "GET", "/products", &[JSON], b"{}");
    check(unasked, Err("body.unexpected"), "a body that is not declared");
    let deep = format!("{{\"stars\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let deep = judge(&shop, "POST", "/products/7/reviews", &[JSON], deep.as_bytes());
    check(deep, Err("body.too-deep"), "65 levels");
}

#[test]
fn size_at_the_limit_and_beyond() {
    let limits = LoadOptions { body_limit: 20, response_limit: 60, ..LoadOptions::default() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop.yaml");
    let shop = load(&path, &limits).ok().unwrap().contract;
    let post = |body: &str| judge(&shop, "POST", "/products/7/reviews", &[JSON], body.as_bytes());
    assert!(post(&format!("{:<20}", "{\"stars\":5}")).is_ok());
    check(post(&format!("{:<21}", "{\"stars\":5}")), Err("body.too-large"), "one more");
    let matched = shop.route(&Method::GET, "/products/7", None).unwrap();
    let response = matched.operation.response(StatusCode::NOT_FOUND).unwrap();
    let problem = HeaderValue::from_static("application/problem+json");
    let content = response.content(Some(&problem)).unwrap().unwrap();
    assert_eq!(content.limit(), 60);
    let body = "{\"title\":\"Not found\",\"status\":404}";
    assert_eq!(content.check(format!("{body:<60}").as_bytes()), Ok(()));
    assert_eq!(
        content.check(format!("{body:<61}").as_bytes()).unwrap_err().rule,
        Rule::ResponseTooLarge
    );
}

/// The order with the member at `pointer` replaced, or removed where `value` is none.
fn changed(pointer: &str, value: Option<Value>) -> String {
    let mut order = order();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = order.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(members), Some(value)) => {
            members.insert(name.to_owned(), value);
        }
        (Value::Object(members), None) => {
            members.remove(name).unwrap();
        }
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer} has no parent"),
    }
    order.to_string()
}

#[test]
fn nested_bodies_are_checked_and_told_by_pointer() {
    let shop = shop();
    let placed = Ok("placeOrder /orders");
    for (pointer, value, expected) in [
        ("/deliverOn", None, placed),
        ("/lines/0/quantity", Some(json!(999)), placed),
        ("/lines/0/quantity", Some(json!(1000)), Err("body.schema body:/lines/0/quantity maximum")),
        ("/lines/0/quantity", Some(json!(1.5)), Err("body.schema body:/lines/0/quantity type")),
        ("/lines/0/quantity", None, Err("body.schema body:/lines/0 required")),
        ("/lines", Some(json!([])), Err("body.schema body:/lines minItems")),
        (
            "/lines/1/bundle/1/bundle/0/quantity",
            Some(json!(0)),
            Err("body.schema body:/lines/1/bundle/1/bundle/0/quantity minimum"),
        ),
        (
            "/lines/1/bundle/1/bundle/0/extra",
            Some(json!(0)),
            Err("body.schema body:/lines/1/bundle/1/bundle/0 additionalProperties"),
        ),
        ("/lines/1/note", Some(json!("gift")), placed),
        ("/customer/email", Some(json!("ada")), Err("body.schema body:/customer/email format")),
        (
            "/customer/isAdmin",
            Some(json!(true)),
            Err("body.schema body:/customer additionalProperties"),
        ),
        (
            "/customer/phone",
            Some(json!("+442079460000\n")),
            Err("body.schema body:/customer/phone pattern"),
        ),
        ("/customer", Some(json!(null)), Err("body.schema body:/customer type")),
        ("/shipTo/country", Some(json!("gb")), Err("body.schema body:/shipTo/country pattern")),
        ("/shipTo", None, Err("body.schema body: required")),
        ("/isAdmin", Some(json!(true)), Err("body.schema body: additionalProperties")),
        ("/deliverOn", Some(json!("2026-13-01")), Err("body.schema body:/deliverOn format")),
        ("/payment", Some(json!({"method": "voucher", "code": "Zm9vYmFy"})), placed),
        (
            "/payment",
            Some(json!({"method": "voucher", "code": "Zm9vYmF"})),
            Err("body.schema body:/payment/code minLength"),
        ),
        ("/payment", Some(json!({"method": "cash"})), Err("body.schema body:/payment oneOf")),
        // What only a response may carry.
        (
            "/id",
            Some(json!("0d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607")),
            Err("body.schema body:/id readOnly"),
        ),
        ("/status", Some(json!("paid")), Err("body.schema body:/status readOnly")),
        (
            "/total",
            Some(json!({"amount": 0, "currency": "EUR"})),
            Err("body.schema body:/total readOnly"),
        ),
    ] {
        let body = changed(pointer, value);
        check(judge(&shop, "POST", "/orders", &[KEY, JSON], body.as_bytes()), expected, &body);
    }
}

#[test]
fn nothing_that_the_client_chose_is_told() {
    let shop = shop();
    let product = |attributes: Value| {
        let body = json!({"name": "x", "category": "toys", "price": {"amount": 1, "currency": "EUR"}, "attributes": attributes});
        judge(&shop, "POST", "/products", &[JSON], body.to_string().as_bytes())
    };
    assert!(product(json!({"<script>": "a"})).is_ok());
    check(
        product(json!({"<script>": 1})),
        Err("body.schema body:/attributes/* type"),
        "a chosen name",
    );
    let many: serde_json::Map<_, _> = (0..31).map(|i| (i.to_string(), json!(""))).collect();
    check(product(Value::Object(many)), Err("body.schema body:/attributes maxProperties"), "31");
}

// kin-openapi#733: decimals are compared as they are written, not as doubles.
#[test]
fn prices_are_exact() {
    let shop = shop();
    for (amount, expected) in [
        ("19.99", Ok(())),
        ("0.07", Ok(())),
        ("1000000", Ok(())),
        ("999999.99", Ok(())),
        ("1e2", Ok(())),
        ("0.075", Err("body.schema body:/price/amount multipleOf")),
        ("1000000.01", Err("body.schema body:/price/amount maximum")),
        ("-0.01", Err("body.schema body:/price/amount minimum")),
        ("-0", Ok(())),
        ("\"1\"", Err("body.schema body:/price/amount type")),
    ] {
        let body = format!(
            r#"{{"name":"x","category":"toys","price":{{"amount":{amount},"currency":"EUR"}}}}"#
        );
        let result = judge(&shop, "POST", "/products", &[JSON], body.as_bytes());
        check(result, expected.map(|()| "createProduct /products"), amount);
    }
}
