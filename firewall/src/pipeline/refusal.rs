//! A violation as an HTTP answer: problem details (RFC 9457) that name the rule and the place, and
//! echo nothing of the request.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::pipeline::exchange::RequestId;
use crate::upstream::UpstreamError;
use crate::upstream::body::Body;
use crate::violation::{Location, Rule, Violation};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Whether the connection may serve another request after this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    KeepAlive,
    /// The rest of the request is unread, or the client is banned.
    Close,
}

/// Problem details with our extension members (RFC 9457 sections 3.1 and 3.2).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyword: Option<&'a str>,
    request_id: String,
}

/// The answer to a message that broke a rule.
pub fn refusal(violation: &Violation, id: RequestId, after: After) -> Response<Body> {
    let rule = violation.rule;
    let (pointer, parameter) = match &violation.at {
        Location::Message => (None, None),
        Location::Body(pointer) => (Some(&**pointer), None),
        at => (None, Some(at.to_string())),
    };
    let problem = Problem {
        r#type: format!("urn:firewall:rule:{}", rule.id()),
        title: rule.title(),
        status: rule.status(),
        rule: Some(rule.id()),
        pointer,
        parameter,
        keyword: violation.keyword.as_deref(),
        request_id: id.to_string(),
    };
    let mut response = answer(&problem, after);
    for (name, text) in [(ALLOW, &violation.allow), (WWW_AUTHENTICATE, &violation.challenge)] {
        if let Some(Ok(value)) = text.as_deref().map(HeaderValue::from_str) {
            response.headers_mut().insert(name, value);
        }
    }
    match rule {
        Rule::WebSocketVersion => {
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            offer_websocket(response.headers_mut());
        }
        Rule::UpgradeRequired => offer_websocket(response.headers_mut()),
        _ => {}
    }
    response
}

/// Says what to upgrade to, as a 426 must (RFC 9110 section 15.5.22); HTTP/2 knows no such fields, and
/// loses them on the way.
fn offer_websocket(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// The answer where the upstream failed; tells the client nothing of the upstream.
pub fn failure(error: &UpstreamError, id: RequestId) -> Response<Body> {
    let problem = Problem {
        r#type: format!("urn:firewall:upstream:{}", error.id()),
        title: error.title(),
        status: error.status(),
        rule: None,
        pointer: None,
        parameter: None,
        keyword: None,
        request_id: id.to_string(),
    };
    answer(&problem, After::KeepAlive)
}

fn answer(problem: &Problem<'_>, after: After) -> Response<Body> {
    // Strings and numbers alone: nothing that could not be written.
    let octets = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = Response::new(Body::full(Bytes::from(octets)));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    if after == After::Close {
        headers.insert(CONNECTION, CLOSE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(response: Response<Body>) -> serde_json::Value {
        serde_json::from_slice(&response.into_body().into_bytes().unwrap()).unwrap()
    }

    #[test]
    fn names_rule_place_and_keyword() {
        let violation = Violation {
            keyword: Some("maxLength".into()),
            ..Violation::at(Rule::BodySchema, Location::Body("/lines/0/sku".into()))
        };
        let response = refusal(&violation, RequestId::new(7), After::KeepAlive);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(!response.headers().contains_key(CONNECTION));
        let problem = members(response);
        assert_eq!(problem["rule"], "body.schema");
        assert_eq!(problem["type"], "urn:firewall:rule:body.schema");
        assert_eq!(problem["pointer"], "/lines/0/sku");
        assert_eq!(problem["keyword"], "maxLength");
        assert_eq!(problem["status"], 400);
    }

    #[test]
    fn method_not_allowed_says_what_is() {
        let violation =
            Violation { allow: Some("GET, POST".into()), ..Violation::new(Rule::Method) };
        let response = refusal(&violation, RequestId::new(7), After::Close);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, POST");
        assert_eq!(response.headers()[CONNECTION], "close");
    }

    #[test]
    fn parameters_are_named_with_their_place() {
        let violation = Violation::at(Rule::ParameterMissing, Location::Query("limit".into()));
        let problem = members(refusal(&violation, RequestId::new(7), After::KeepAlive));
        assert_eq!(problem["parameter"], "query:limit");
        assert_eq!(problem.get("pointer"), None);
    }

    #[test]
    fn upstream_failures_name_no_address() {
        let response = failure(&UpstreamError::ConnectTimeout, RequestId::new(7));
        assert_eq!(response.status(), 504);
        let problem = members(response);
        assert_eq!(problem["type"], "urn:firewall:upstream:connect-timeout");
    }
}
