//! From security schemes and requirements to the verdict on a request's credentials.

use serde_json::{Value, json};

use super::super::security::Credential;
use super::super::*;
use super::documents::{Temporary, load_value, loaded_under, minimal};
use super::{headers, told};
use policy::Verdict;

/// `GET /things` with these requirements, in a document with the usual schemes.
fn document(version: &str, requirements: &Value) -> Value {
    let mut document = minimal(json!({"security": requirements}));
    document["openapi"] = version.into();
    document["components"] = json!({"securitySchemes": {
        "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        "query": {"type": "apiKey", "in": "query", "name": "api_key"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "session"},
        "basic": {"type": "http", "scheme": "Basic"},
        "bearer": {"type": "http", "scheme": "bearer"},
        "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "oauth": {"type": "oauth2", "flows": {"clientCredentials":
            {"tokenUrl": "https://login.example.org/token", "scopes": {"read": "r", "write": "w"}}}},
    }});
    document
}

fn contract_of(document: &Value) -> Contract {
    match load_value(document, &[]) {
        Ok(loaded) => loaded.contract,
        Err(errors) => panic!("{errors:#?}"),
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

/// `ok` and the schemes whose credentials are taken, or the rule.
fn verdict(contract: &Contract, query: Option<&str>, fields: Fields<'_>) -> String {
    let headers = headers(fields);
    match contract.operations()[0].check_credentials(query, &headers) {
        Ok(None) => "none asked".to_owned(),
        Ok(Some(presented)) => {
            let names: Vec<_> = presented.credentials().map(|(name, ..)| name).collect();
            format!("ok {}", names.join(" ")).trim_end().to_owned()
        }
        Err(violation) => told(&violation),
    }
}

#[track_caller]
fn check(requirements: &Value, cases: &[(Option<&str>, Fields<'_>, &str)]) {
    let contract = contract_of(&document("3.0.4", requirements));
    for (query, fields, expected) in cases {
        let found = verdict(&contract, *query, fields);
        assert_eq!(found, *expected, "{requirements} {query:?} {fields:?}");
    }
}

const KEY: (&str, &str) = ("x-api-key", "k");
const BASIC: (&str, &str) = ("authorization", "Basic YTpi");
const BEARER: (&str, &str) = ("authorization", "Bearer t");
const MISSING: &str = "auth.missing";
const MALFORMED: &str = "auth.malformed";

#[test]
fn members_are_and_ed_and_list_items_or_ed() {
    // libopenapi-validator#136 read AND as OR, psr7-validator#235 OR as AND.
    check(
        &json!([{"header": [], "query": []}, {"bearer": []}]),
        &[
            (None, &[], MISSING),
            (None, &[KEY], MISSING),
            (Some("api_key=k"), &[], MISSING),
            (Some("api_key=k"), &[KEY], "ok header query"),
            (None, &[BEARER], "ok bearer"),
            (Some("api_key=k"), &[KEY, BEARER], "ok header query"),
        ],
    );
    check(
        &json!([{"header": []}, {"header": [], "cookie": []}]),
        &[
            (None, &[KEY], "ok header"),
            // What is sent is what is to be verified.
            (None, &[KEY, ("cookie", "session=s")], "ok header cookie"),
            (None, &[("cookie", "session=s")], MISSING),
        ],
    );
}

#[test]
fn requirements_are_inherited_replaced_and_removed() {
    // libopenapi-validator#97: an empty list of the operation's own removes the root's.
    for (own, expected) in [
        (None, "auth.missing"),
        (Some(json!([])), "none asked"),
        (Some(json!([{}])), "none asked"),
        (Some(json!([{"cookie": []}])), "auth.missing"),
    ] {
        let mut document = document("3.0.4", &json!([]));
        document["security"] = json!([{"header": []}]);
        let operation = document.pointer_mut("/paths/~1things/get").unwrap();
        match own.clone() {
            Some(own) => operation["security"] = own,
            None => drop(operation.as_object_mut().unwrap().remove("security")),
        }
        let contract = contract_of(&document);
        assert_eq!(verdict(&contract, None, &[]), expected, "{own:?}");
        let with_key = if own.is_none() { "ok header" } else { expected };
        assert_eq!(verdict(&contract, None, &[KEY]), with_key, "{own:?}");
    }
}

#[test]
fn an_optional_credential_must_be_well_formed_all_the_same() {
    // OAI/OpenAPI-Specification#3426 leaves it open.
    let requirements = json!([{}, {"bearer": []}, {"header": []}]);
    let cases: [(Fields<'_>, &str, &str); 6] = [
        (&[], "ok", "ok"),
        (&[BEARER], "ok bearer", "ok bearer"),
        (&[("authorization", "Bearer ")], MALFORMED, "ok"),
        (&[("authorization", "Bearer a b")], MALFORMED, "ok"),
        (&[BEARER, ("x-api-key", "")], MALFORMED, "ok bearer"),
        // Another scheme's credential is none of those that are declared.
        (&[BASIC], "ok", "ok"),
    ];
    for policy in [Verdict::Refuse, Verdict::Pass] {
        let mut options = LoadOptions::default();
        options.policy.malformed_optional_credentials = policy;
        let file = Temporary::new(&document("3.0.4", &requirements).to_string(), "json");
        let contract = load(&file.0, &options).unwrap().contract;
        for (fields, refusing, passing) in cases {
            let expected = if policy == Verdict::Refuse { refusing } else { passing };
            assert_eq!(verdict(&contract, None, fields), expected, "{policy:?} {fields:?}");
        }
        assert!(contract.operations()[0].security().unwrap().allows_anonymous());
    }
}

#[test]
fn keys_in_header_query_and_cookie() {
    check(
        &json!([{"header": []}]),
        &[
            (None, &[("X-API-KEY", "any value, at all; \u{e9}")], "ok header"),
            (None, &[("x-api-key", "")], MALFORMED),
            (None, &[KEY, KEY], MALFORMED),
            (None, &[("x_api_key", "k")], MISSING),
            (Some("X-Api-Key=k"), &[], MISSING),
        ],
    );
    check(
        &json!([{"query": []}]),
        &[
            (Some("api_key=k"), &[], "ok query"),
            (Some("a=b&api%5Fkey=%6b&c"), &[], "ok query"),
            (Some("API_KEY=k"), &[], MISSING),
            (Some("api_key"), &[], MALFORMED),
            (Some("api_key="), &[], MALFORMED),
            (Some("api_key=k&api_key=k"), &[], MALFORMED),
            (Some("api_key=%zz"), &[], MALFORMED),
            (Some("api_key=%00"), &[], MALFORMED),
            (Some(""), &[], MISSING),
            (None, &[], MISSING),
        ],
    );
    check(
        &json!([{"cookie": []}]),
        &[
            (None, &[("cookie", "a=b; session=s; c")], "ok cookie"),
            (None, &[("cookie", "a=b"), ("cookie", "session=s")], "ok cookie"),
            (None, &[("cookie", "session = s")], MALFORMED),
            (None, &[("cookie", "session")], MALFORMED),
            (None, &[("cookie", "a=\"b; session=s\"")], MALFORMED),
            (None, &[("cookie", "a=\"b\"; session= s ")], "ok cookie"),
            (None, &[("cookie", "session=s=t")], "ok cookie"),
            (None, &[("cookie", "a=b,c=d; session=s,t=u")], "ok cookie"),
            (None, &[("cookie", "session=s; a=b,session=t")], MALFORMED),
            (None, &[("cookie", "Session=s")], MISSING),
            (None, &[("cookie", "xsession=s; x")], MISSING),
            (None, &[("cookie", "session=")], MALFORMED),
            (None, &[("cookie", "session=s;session=t")], MALFORMED),
            (None, &[("cookie", "session=s"), ("cookie", "session=t")], MALFORMED),
        ],
    );
}

#[test]
fn a_key_in_the_query_is_a_declared_name() {
    let contract = contract_of(&document("3.0.4", &json!([{"query": []}])));
    let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
    let query = |query| {
        let checked = matched.operation.check_parameters(&matched, Some(query), &headers(&[]));
        checked.map_err(|violation| told(&violation))
    };
    assert_eq!(query("api_key=a%62"), Ok(Some("api_key=ab".to_owned())));
    assert_eq!(query("api_kei=1"), Err("parameter.unknown query:*".to_owned()));
}

#[test]
fn names_of_keys_are_declared_in_headers_and_cookies_too() {
    let requirements = json!([{"header": [], "cookie": [], "bearer": []}]);
    let strict = Policy {
        undeclared_headers: Verdict::Refuse,
        undeclared_cookies: Verdict::Refuse,
        ..Policy::default()
    };
    let contract = loaded_under(&document("3.0.4", &requirements), strict);
    let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
    let operation = matched.operation;
    let checked = |fields| {
        let checked = operation.check_parameters(&matched, None, &headers(fields));
        checked.map(drop).map_err(|violation| told(&violation))
    };
    assert_eq!(checked(&[KEY, BEARER, ("cookie", "session=s")]), Ok(()));
    assert_eq!(checked(&[("x-api-kei", "k")]), Err("parameter.unknown header:*".to_owned()));
    assert_eq!(checked(&[("cookie", "season=s")]), Err("parameter.unknown cookie:*".to_owned()));
    // A twin that some upstreams read as the key does not reach them.
    let twin = http::HeaderName::from_static("x_api_key");
    assert!(operation.strips(&twin));
    let named = [http::HeaderName::from_static("x-api-key")];
    assert!(operation.check_connection(&named).is_err());
}

#[test]
fn a_key_has_no_place_in_a_query_that_is_one_parameter() {
    let mut document = document("3.2.0", &json!([{"query": []}]));
    document["paths"]["/things"]["get"]["parameters"] = json!([
        {"name": "q", "in": "querystring", "content": {"application/json": {"schema": {}}}}
    ]);
    let (errors, _) = problems(&document, &[]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("the key `api_key` has no place"), "{errors:?}");
}

#[test]
fn credentials_in_the_authorization_field() {
    let field = |value| [("authorization", value)];
    for (scheme, value, expected) in [
        ("basic", "Basic YTpi", "ok basic"),
        ("basic", "bAsIc   YTpi", "ok basic"),
        ("basic", "Basic", MALFORMED),
        ("basic", "Basic YWI=", MALFORMED),
        ("basic", "Basic YTpi, Bearer t", MALFORMED),
        ("basic", "Basic\tYTpi", MALFORMED),
        ("basic", "Basic:YTpi", MALFORMED),
        ("basic", "Bearer t", MISSING),
        ("basic", "", MALFORMED),
        ("bearer", "BEARER t", "ok bearer"),
        ("bearer", "Bearer", MALFORMED),
        ("bearer", "Bearer a.b.c==", "ok bearer"),
        ("bearer", "Bearer a b", MALFORMED),
        ("bearer", "Digest username=\"a\"", MISSING),
        ("bearer", "Bearer \u{e9}", MALFORMED),
        ("jwt", "Bearer eyJh.eyJz.c2ln", "ok jwt"),
        ("jwt", "Bearer eyJh.eyJz.", MALFORMED),
        ("jwt", "Bearer opaque", MALFORMED),
        ("oauth", "Bearer opaque", "ok oauth"),
        ("oauth", "Basic YTpi", MISSING),
    ] {
        check(&json!([{scheme: []}]), &[(None, &field(value), expected)]);
    }
    let twice: Fields<'_> = &[BEARER, BEARER];
    check(&json!([{"bearer": []}, {"basic": []}]), &[(None, twice, MALFORMED)]);
    check(
        &json!([{"bearer": []}, {"basic": []}]),
        &[(None, &[BASIC], "ok basic"), (None, &[BEARER], "ok bearer")],
    );
}

#[test]
fn what_was_presented_is_handed_on_with_its_scopes() {
    let requirements = json!([{"oauth": ["read", "write"], "header": []}]);
    let contract = contract_of(&document("3.0.4", &requirements));
    let headers = headers(&[KEY, BEARER]);
    let presented = contract.operations()[0].check_credentials(None, &headers).unwrap().unwrap();
    let found: Vec<_> = presented.credentials().collect();
    let [(first, scopes, token), (second, no_scopes, key)] = &*found else { panic!("two") };
    assert_eq!((*first, *second), ("oauth", "header"));
    assert!(no_scopes.is_empty());
    assert_eq!(scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["read", "write"]);
    assert!(*key == Credential::Key(b"k"[..].into()));
    assert!(*token == Credential::Bearer("t"));
}

#[test]
fn refusals_carry_a_challenge_for_each_way_to_answer() {
    for (requirements, expected) in [
        (json!([{"bearer": []}]), r#"Bearer realm="api""#),
        (json!([{"basic": []}]), r#"Basic realm="api", charset="UTF-8""#),
        (json!([{"header": []}, {"cookie": []}]), r#"ApiKey realm="api""#),
        (
            json!([{"jwt": []}, {"oauth": ["read"]}, {"basic": []}]),
            r#"Bearer realm="api", Basic realm="api", charset="UTF-8""#,
        ),
    ] {
        let contract = contract_of(&document("3.0.4", &requirements));
        for fields in [&[][..], &[("authorization", "?")], &[("cookie", "session=")]] {
            let headers = headers(fields);
            let found = contract.operations()[0].check_credentials(None, &headers);
            let Err(violation) = found else { panic!("{requirements}") };
            assert_eq!(violation.challenge.as_deref(), Some(expected), "{requirements}");
            assert_eq!(violation.rule.status(), 401);
        }
    }
}

/// The problems of a document, and its warnings.
fn problems(document: &Value, unenforced: &[&str]) -> (Vec<String>, Vec<String>) {
    let told = |errors: Vec<ContractError>| {
        errors.iter().map(|error| format!("{} {}", error.pointer, error.problem)).collect()
    };
    match load_value(document, unenforced) {
        Ok(loaded) => (Vec::new(), told(loaded.warnings)),
        Err(errors) => (told(errors), Vec::new()),
    }
}

#[test]
fn that_nothing_is_verified_is_told_once() {
    let mut twice = document("3.0.4", &json!([{"header": []}]));
    twice["security"] = json!([{"bearer": []}]);
    let (errors, warnings) = problems(&twice, &[]);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        warnings,
        [
            "/security credentials are checked for presence and form; verifying them is left to the API"
        ]
    );
    assert_eq!(problems(&document("3.0.4", &json!([{}])), &[]).1, Vec::<String>::new());
}

#[test]
fn the_whole_stage_can_be_named_unenforced() {
    let document = document("3.0.4", &json!([{"header": []}]));
    let loaded = load_value(&document, &["security"]).unwrap();
    assert_eq!(verdict(&loaded.contract, None, &[]), "none asked");
    let named: Vec<_> = loaded.warnings.iter().filter_map(|w| w.problem.unenforced()).collect();
    assert_eq!(named, ["security"]);
}

#[test]
fn schemes_that_are_not_enforced_are_refused_by_name_where_they_are_demanded() {
    for (version, scheme, name) in [
        ("3.0.4", json!({"type": "http", "scheme": "Digest"}), "security:digest"),
        ("3.0.4", json!({"type": "http", "scheme": "negotiate"}), "security:negotiate"),
        ("3.1.1", json!({"type": "http", "scheme": "DPoP"}), "security:dpop"),
        ("3.1.1", json!({"type": "mutualTLS"}), "security:mutualTLS"),
    ] {
        let mut document = document(version, &json!([{"other": [], "header": []}]));
        document["components"]["securitySchemes"]["other"] = scheme.clone();
        let (errors, _) = problems(&document, &[]);
        let message = format!("`{name}` is not enforced; accept that by naming it in `unenforced`");
        assert_eq!(errors, [format!("/components/securitySchemes/other {message}")], "{scheme}");
        // What stands beside it still is.
        let contract = load_value(&document, &[name]).unwrap().contract;
        assert_eq!(verdict(&contract, None, &[]), MISSING);
        assert_eq!(verdict(&contract, None, &[KEY]), "ok header");
        document["paths"]["/things"]["get"]["security"] = json!([{"header": []}]);
        assert_eq!(problems(&document, &[]).0, Vec::<String>::new(), "nobody demands {scheme}");
    }
}

#[test]
fn broken_requirements() {
    for (version, requirements, expected) in [
        ("3.0.4", json!({}), "/security expected a list of security requirements, found an object"),
        ("3.0.4", json!(["header"]), "/security/0 expected an object, found"),
        ("3.0.4", json!([{"heather": []}]), "/security/0/heather `heather` is no security scheme"),
        ("3.0.4", json!([{"header": {}}]), "/security/0/header expected a list of scopes"),
        ("3.0.4", json!([{"header": ["read"]}]), "/security/0/header only OAuth2 and OpenID"),
        ("3.0.4", json!([{"oauth": [1]}]), "/security/0/oauth/0 expected a string"),
        // A name that leads somewhere as a URI is none before 3.2.
        (
            "3.1.1",
            json!([{"#/components/securitySchemes/header": []}]),
            "is no security scheme of this document",
        ),
        ("3.2.0", json!([{"#/components/securitySchemes/heather": []}]), "is no security scheme"),
    ] {
        let (errors, _) = problems(&document(version, &requirements), &[]);
        assert!(errors.iter().any(|error| error.contains(expected)), "{requirements} {errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    // Roles of any scheme, from 3.1 on.
    let roles = document("3.1.1", &json!([{"header": ["admin"]}]));
    assert_eq!(problems(&roles, &[]).0, Vec::<String>::new());
}

#[test]
fn a_scheme_may_be_named_by_its_uri_and_a_component_wins() {
    let uri = "#/components/securitySchemes/header";
    let mut document = document("3.2.0", &json!([{uri: []}]));
    let contract = contract_of(&document);
    assert_eq!(verdict(&contract, None, &[]), MISSING);
    assert_eq!(verdict(&contract, None, &[KEY]), format!("ok {uri}"));
    // 3.2.0, section 6.5: otherwise whoever controls the URI would choose the scheme.
    document["components"]["securitySchemes"][uri] =
        json!({"type": "apiKey", "in": "cookie", "name": "session"});
    let contract = contract_of(&document);
    assert_eq!(verdict(&contract, None, &[KEY]), MISSING);
    assert_eq!(verdict(&contract, None, &[("cookie", "session=s")]), format!("ok {uri}"));
}

#[test]
fn scheme_objects_are_read_whole_although_nothing_names_them() {
    let flow = |flow: Value| json!({"type": "oauth2", "flows": flow});
    let (url, scopes) = ("https://login.example.org/x", json!({}));
    for (version, scheme, expected) in [
        ("3.0.4", json!({}), "`type` is missing"),
        ("3.0.4", json!({"type": "basic"}), "`basic` is no type of security scheme"),
        ("3.0.4", json!({"type": "mutualTLS"}), "`mutualTLS` is no type of security scheme"),
        ("3.0.4", json!({"type": "apiKey", "in": "header"}), "`name` is missing"),
        ("3.0.4", json!({"type": "apiKey", "name": "a"}), "`in` is missing"),
        ("3.0.4", json!({"type": "apiKey", "name": "a", "in": "body"}), "expected query, header"),
        ("3.0.4", json!({"type": "apiKey", "name": "a b", "in": "header"}), "cannot be sent as"),
        ("3.0.4", json!({"type": "apiKey", "name": "Host", "in": "header"}), "cannot be sent as"),
        ("3.0.4", json!({"type": "apiKey", "name": "a;b", "in": "cookie"}), "cannot be sent as"),
        ("3.0.4", json!({"type": "apiKey", "name": "", "in": "query"}), "cannot be sent as"),
        (
            "3.0.4",
            json!({"type": "apiKey", "name": "a", "in": "query", "nmae": 1}),
            "`nmae` is not",
        ),
        ("3.0.4", json!({"type": "http"}), "`scheme` is missing"),
        ("3.0.4", json!({"type": "http", "scheme": "a b"}), "`a b` is no authentication scheme"),
        (
            "3.0.4",
            json!({"type": "http", "scheme": "bearer", "bearerFormat": 1}),
            "expected a string",
        ),
        ("3.0.4", json!({"type": "oauth2"}), "`flows` is missing"),
        ("3.0.4", flow(json!({"implicit": {"scopes": scopes}})), "`authorizationUrl` is missing"),
        ("3.0.4", flow(json!({"password": {"scopes": scopes}})), "`tokenUrl` is missing"),
        ("3.0.4", flow(json!({"clientCredentials": {"tokenUrl": url}})), "`scopes` is missing"),
        (
            "3.0.4",
            flow(json!({"authorizationCode": {"tokenUrl": url, "scopes": scopes}})),
            "`authorizationUrl` is missing",
        ),
        ("3.0.4", flow(json!({"password": {"tokenUrl": "a b", "scopes": scopes}})), "is no URL"),
        (
            "3.0.4",
            flow(json!({"password": {"tokenUrl": url, "scopes": {"a": 1}}})),
            "expected a string",
        ),
        ("3.1.1", flow(json!({"deviceAuthorization": {}})), "`deviceAuthorization` is not a field"),
        (
            "3.2.0",
            flow(json!({"deviceAuthorization": {"tokenUrl": url, "scopes": scopes}})),
            "`deviceAuthorizationUrl` is missing",
        ),
        ("3.0.4", json!({"type": "openIdConnect"}), "`openIdConnectUrl` is missing"),
        (
            "3.1.1",
            json!({"type": "http", "scheme": "basic", "deprecated": true}),
            "`deprecated` is not a field",
        ),
        (
            "3.2.0",
            json!({"type": "http", "scheme": "basic", "deprecated": 1}),
            "expected a boolean",
        ),
    ] {
        let mut document = document(version, &json!([]));
        document["components"]["securitySchemes"]["odd"] = scheme.clone();
        let (errors, _) = problems(&document, &[]);
        assert!(errors.iter().any(|error| error.contains(expected)), "{scheme} {errors:?}");
    }
    for (version, scheme, warning) in [
        (
            "3.0.4",
            json!({"type": "http", "scheme": "bearer", "in": "header"}),
            "`in` of a scheme of this type has no effect",
        ),
        (
            "3.0.4",
            json!({"type": "http", "scheme": "basic", "bearerFormat": "x"}),
            "`bearerFormat` of another scheme has no effect",
        ),
        ("3.0.4", json!({"type": "openIdConnect", "openIdConnectUrl": url, "x-a": 1}), ""),
        (
            "3.2.0",
            json!({"type": "oauth2", "deprecated": true, "oauth2MetadataUrl": url, "flows": {
                "deviceAuthorization": {"deviceAuthorizationUrl": "/d", "tokenUrl": "/t", "refreshUrl": "/r", "scopes": {"a": "b"}}}}),
            "",
        ),
    ] {
        let mut document = document(version, &json!([]));
        document["components"]["securitySchemes"]["odd"] = scheme.clone();
        let (errors, warnings) = problems(&document, &[]);
        assert_eq!(errors, Vec::<String>::new(), "{scheme}");
        assert!(
            warnings.iter().all(|told| !warning.is_empty() && told.contains(warning)),
            "{warnings:?}"
        );
        assert_eq!(warnings.is_empty(), warning.is_empty(), "{scheme} {warnings:?}");
    }
}

#[test]
fn a_genuine_preflight_needs_no_credentials() {
    let genuine: Fields<'_> =
        &[("origin", "https://app.example"), ("access-control-request-method", "PUT")];
    let body = json!({"content": {"application/json": {}}});
    for (method, body, preflight, fields, expected) in [
        ("options", None, Verdict::Pass, genuine, "none asked"),
        ("options", None, Verdict::Refuse, genuine, MISSING),
        ("options", None, Verdict::Pass, &genuine[..1], MISSING),
        // What carries a body, or asks for anything else, is none.
        ("options", Some(body), Verdict::Pass, genuine, MISSING),
        ("get", None, Verdict::Pass, genuine, MISSING),
    ] {
        let mut document = document("3.0.4", &json!([{"header": []}]));
        let mut operation = document["paths"]["/things"]["get"].take();
        if let Some(body) = body {
            operation["requestBody"] = body;
        }
        document["paths"]["/things"] = json!({method: operation});
        let contract = loaded_under(&document, Policy { preflight, ..Policy::default() });
        assert_eq!(verdict(&contract, None, fields), expected, "{method} {preflight:?} {fields:?}");
    }
}

#[test]
fn schemes_at_their_limit() {
    for (count, expected) in [(64, 0), (65, 1)] {
        let mut document = document("3.0.4", &json!([]));
        let mut requirement = json!({});
        for index in 0..count {
            let name = format!("k{index}");
            document["components"]["securitySchemes"][&name] =
                json!({"type": "apiKey", "in": "query", "name": name});
            requirement[&name] = json!([]);
        }
        document["paths"]["/things"]["get"]["security"] = json!([requirement]);
        let (errors, _) = problems(&document, &[]);
        assert_eq!(errors.len(), expected, "{count} {errors:?}");
        if expected == 0 {
            let contract = contract_of(&document);
            let all: Vec<_> = (0..count).map(|index| format!("k{index}=v")).collect();
            assert!(verdict(&contract, Some(&all.join("&")), &[]).starts_with("ok k0 k1 "));
            assert_eq!(verdict(&contract, Some(&all[..63].join("&")), &[]), MISSING);
        }
    }
}
