//! The attributes that keep a cookie from those whom it is not meant for (RFC 6265 section 4.1.2, and
//! `SameSite` of its successor), added to `Set-Cookie` where they are missing.

use http::header::{Entry, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

/// To which cookies `Secure` is added: it keeps them out of plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secure {
    /// To those of answers that travel over TLS: from an answer in plain text a browser would not
    /// take such a cookie.
    OverTls,
    Always,
    Pass,
}

/// To which cookies `HttpOnly` is added: it keeps them from scripts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpOnly {
    /// To those that a security scheme of the contract names.
    Credentials,
    All,
    Pass,
    /// To these, in this case alone.
    #[serde(untagged)]
    Named(Vec<String>),
}

/// Which `SameSite` is added: it keeps cookies from requests that other sites cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameSite {
    Strict,
    Lax,
    Pass,
}

/// What is added, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    pub secure: Secure,
    pub http_only: HttpOnly,
    pub same_site: SameSite,
}

impl CookieAttributes {
    /// The same with the names of the contract's credentials, which `names` gives.
    pub(super) fn for_credentials(&self, names: impl FnOnce() -> Vec<Box<str>>) -> CookieRules {
        let hidden = match &self.http_only {
            HttpOnly::Credentials => Hidden::Named(names()),
            HttpOnly::Named(names) => {
                Hidden::Named(names.iter().map(|name| name.as_str().into()).collect())
            }
            HttpOnly::All => Hidden::All,
            HttpOnly::Pass => Hidden::Named(Vec::new()),
        };
        let same_site = match self.same_site {
            SameSite::Strict => Some(&b"; SameSite=Strict"[..]),
            SameSite::Lax => Some(&b"; SameSite=Lax"[..]),
            SameSite::Pass => None,
        };
        CookieRules { secure: self.secure, hidden, same_site }
    }
}

/// The same, ready to be applied.
#[derive(Clone, Debug)]
pub(super) struct CookieRules {
    secure: Secure,
    hidden: Hidden,
    /// The attribute as it is added.
    same_site: Option<&'static [u8]>,
}

/// Which cookies no script is to read.
#[derive(Clone, Debug)]
enum Hidden {
    All,
    Named(Vec<Box<str>>),
}

const SECURE: &[u8] = b"; Secure";
const HTTP_ONLY: &[u8] = b"; HttpOnly";
/// Octets that all attributes together add, at most.
const ADDED_MAX: usize = 40;

impl CookieRules {
    /// Adds what is missing, to each cookie; an attribute that is there stays as it is.
    pub(super) fn complete(&self, headers: &mut HeaderMap, is_over_tls: bool) {
        // An entry may make room for itself.
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        if let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                if let Some(completed) = self.completed(cookie.as_bytes(), is_over_tls) {
                    *cookie = completed;
                }
            }
        }
    }

    /// The cookie with what it lacks; none where it lacks nothing.
    fn completed(&self, cookie: &[u8], is_over_tls: bool) -> Option<HeaderValue> {
        let mut parts = cookie.split(|octet| *octet == b';');
        let name = name(parts.next()?);
        let is_secure = match self.secure {
            Secure::OverTls => is_over_tls,
            Secure::Always => true,
            Secure::Pass => false,
        };
        let is_hidden = match &self.hidden {
            Hidden::All => true,
            Hidden::Named(names) => names.iter().any(|hidden| hidden.as_bytes() == name),
        };
        let mut secure = is_secure.then_some(SECURE);
        let mut http_only = is_hidden.then_some(HTTP_ONLY);
        let mut same_site = self.same_site;
        for attribute in parts.map(self::name) {
            if attribute.eq_ignore_ascii_case(b"secure") {
                secure = None;
            } else if attribute.eq_ignore_ascii_case(b"httponly") {
                http_only = None;
            } else if attribute.eq_ignore_ascii_case(b"samesite") {
                same_site = None;
            }
        }
        if secure.is_none() && http_only.is_none() && same_site.is_none() {
            return None;
        }
        let mut octets = Vec::with_capacity(cookie.len() + ADDED_MAX);
        octets.extend_from_slice(cookie);
        for attribute in [secure, http_only, same_site].into_iter().flatten() {
            octets.extend_from_slice(attribute);
        }
        HeaderValue::try_from(octets).ok()
    }
}

/// What stands before the first `=` of a cookie or an attribute, as browsers read it (RFC 6265 section
/// 5.2): without the white space around it.
fn name(pair: &[u8]) -> &[u8] {
    pair.split(|octet| *octet == b'=').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(secure: Secure, http_only: HttpOnly, same_site: SameSite) -> CookieRules {
        CookieAttributes { secure, http_only, same_site }.for_credentials(|| vec!["sid".into()])
    }

    #[track_caller]
    fn check(rules: &CookieRules, is_over_tls: bool, cookie: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
        rules.complete(&mut headers, is_over_tls);
        assert_eq!(headers[SET_COOKIE], expected, "{rules:?} {is_over_tls}");
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_there_stays() {
        let all = rules(Secure::Always, HttpOnly::All, SameSite::Lax);
        for (cookie, expected) in [
            ("a=1", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a", "a; Secure; HttpOnly; SameSite=Lax"),
            ("", "; Secure; HttpOnly; SameSite=Lax"),
            ("a=1;", "a=1;; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; Secure", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1;secure;HTTPONLY", "a=1;secure;HTTPONLY; SameSite=Lax"),
            (
                "a=1;\tSecure ; HttpOnly=x; SameSite = None",
                "a=1;\tSecure ; HttpOnly=x; SameSite = None",
            ),
            ("a=1; SameSite", "a=1; SameSite; Secure; HttpOnly"),
            ("a=1; Max-Age=0; Path=/", "a=1; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"),
            // Names of cookies, values and longer words are no attributes.
            ("Secure=HttpOnly", "Secure=HttpOnly; Secure; HttpOnly; SameSite=Lax"),
            ("a=Secure; x=HttpOnly", "a=Secure; x=HttpOnly; Secure; HttpOnly; SameSite=Lax"),
            (
                "a=1; Secured; NotHttpOnly",
                "a=1; Secured; NotHttpOnly; Secure; HttpOnly; SameSite=Lax",
            ),
        ] {
            check(&all, false, cookie, expected);
        }
    }

    #[test]
    fn each_attribute_is_added_where_it_is_asked_for() {
        let (none, cookie) = (HttpOnly::Pass, "sid=1");
        let cases = [
            (rules(Secure::Pass, none.clone(), SameSite::Pass), "sid=1", "sid=1"),
            (rules(Secure::OverTls, none.clone(), SameSite::Pass), "sid=1", "sid=1; Secure"),
            (rules(Secure::Always, none.clone(), SameSite::Pass), "sid=1; Secure", "sid=1; Secure"),
            (
                rules(Secure::Pass, none, SameSite::Strict),
                "sid=1; SameSite=Strict",
                "sid=1; SameSite=Strict",
            ),
            (
                rules(Secure::Pass, HttpOnly::All, SameSite::Pass),
                "sid=1; HttpOnly",
                "sid=1; HttpOnly",
            ),
        ];
        for (rules, in_plain_text, over_tls) in cases {
            check(&rules, false, cookie, in_plain_text);
            check(&rules, true, cookie, over_tls);
        }
    }

    #[test]
    fn credentials_are_hidden_from_scripts_and_others_are_not() {
        let credentials = rules(Secure::Pass, HttpOnly::Credentials, SameSite::Pass);
        let named = HttpOnly::Named(vec!["token".into()]);
        let named = rules(Secure::Pass, named, SameSite::Pass);
        for (cookie, by_contract, by_name) in [
            ("sid=1", "sid=1; HttpOnly", "sid=1"),
            (" sid =1", " sid =1; HttpOnly", " sid =1"),
            ("SID=1", "SID=1", "SID=1"),
            ("sids=1", "sids=1", "sids=1"),
            ("token=sid", "token=sid", "token=sid; HttpOnly"),
        ] {
            check(&credentials, false, cookie, by_contract);
            check(&named, false, cookie, by_name);
        }
    }

    #[test]
    fn each_cookie_is_looked_at_and_their_order_kept() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; Secure", "c=\u{e9}"] {
            headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        rules(Secure::Always, HttpOnly::Pass, SameSite::Pass).complete(&mut headers, false);
        let found: Vec<_> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let expected = ["a=1; Secure", "b=2; Secure", "c=\u{e9}; Secure"];
        assert_eq!(found, expected.map(str::as_bytes));
    }

    #[test]
    fn what_is_added_fits_the_room_that_is_made_for_it() {
        let longest = SECURE.len() + HTTP_ONLY.len() + b"; SameSite=Strict".len();
        assert!(longest <= ADDED_MAX, "{longest}");
    }
}
