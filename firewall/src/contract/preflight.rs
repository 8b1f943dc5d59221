//! Which requests are genuine CORS preflights (Fetch standard, section 4.8), and what they ask for.

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, AsHeaderName,
    COOKIE, ORIGIN, PROXY_AUTHORIZATION,
};
use http::{HeaderMap, HeaderName, Method};

/// The method that a request with these fields asks about; none if it is no preflight: each of its
/// fields stands once, `Origin` is the serialisation of an origin, the field names asked for are a
/// list, and there are no credentials, which a browser never sends with one.
pub(super) fn asked(headers: &HeaderMap) -> Option<Method> {
    let method = only(headers, ACCESS_CONTROL_REQUEST_METHOD)?;
    let is_list = !headers.contains_key(ACCESS_CONTROL_REQUEST_HEADERS)
        || only(headers, ACCESS_CONTROL_REQUEST_HEADERS).is_some_and(is_list_of_names);
    let has_credentials =
        [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].iter().any(|name| headers.contains_key(name));
    if has_credentials || !is_list || !only(headers, ORIGIN).is_some_and(is_origin) {
        return None;
    }
    Method::from_bytes(method.as_bytes()).ok()
}

/// The value of a field that stands there once, in visible ASCII.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Field names with commas between them, at least one.
fn is_list_of_names(list: &str) -> bool {
    list.split(',')
        .all(|name| HeaderName::from_bytes(name.trim_matches([' ', '\t']).as_bytes()).is_ok())
}

/// `null`, or scheme, host and port (RFC 6454 section 6.1).
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return origin == "null" };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'+' | b'-' | b'.'));
    let is_authority = |octet: u8| {
        octet.is_ascii_alphanumeric()
            || matches!(octet, b'.' | b'-' | b'_' | b'~' | b':' | b'[' | b']')
    };
    is_scheme && !authority.is_empty() && authority.bytes().all(is_authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genuine_preflights_alone() {
        const ORIGIN: (&str, &str) = ("origin", "https://app.example");
        const METHOD: (&str, &str) = ("access-control-request-method", "PUT");
        const HEADERS: &str = "access-control-request-headers";
        for (fields, expected) in [
            (vec![ORIGIN, METHOD], Some("PUT")),
            (vec![("origin", "null"), METHOD], Some("PUT")),
            (vec![("origin", "http://[::1]:8080"), METHOD], Some("PUT")),
            (vec![ORIGIN, METHOD, (HEADERS, "content-type,x-a")], Some("PUT")),
            (vec![ORIGIN, METHOD, (HEADERS, "content-type, x-a")], Some("PUT")),
            (vec![ORIGIN, ("access-control-request-method", "put")], Some("put")),
            (vec![ORIGIN, METHOD, ("authorization", "Bearer t")], None),
            (vec![ORIGIN, METHOD, ("proxy-authorization", "Basic t")], None),
            (vec![ORIGIN, METHOD, ("cookie", "a=b")], None),
            (vec![ORIGIN], None),
            (vec![METHOD], None),
            (vec![ORIGIN, ORIGIN, METHOD], None),
            (vec![ORIGIN, METHOD, METHOD], None),
            (vec![("origin", ""), METHOD], None),
            (vec![("origin", "app.example"), METHOD], None),
            (vec![("origin", "https://"), METHOD], None),
            (vec![("origin", "https://app.example/"), METHOD], None),
            (vec![("origin", "1s://a"), METHOD], None),
            (vec![ORIGIN, ("access-control-request-method", "")], None),
            (vec![ORIGIN, ("access-control-request-method", "PUT, GET")], None),
            (vec![ORIGIN, METHOD, (HEADERS, "")], None),
            (vec![ORIGIN, METHOD, (HEADERS, "a,,b")], None),
            (vec![ORIGIN, METHOD, (HEADERS, "a b")], None),
            (vec![ORIGIN, METHOD, (HEADERS, "a"), (HEADERS, "b")], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(*name, value.parse().unwrap());
            }
            let found = asked(&headers);
            assert_eq!(found.as_ref().map(Method::as_str), expected, "{fields:?}");
        }
    }
}
