//! What becomes of the fields of answers where nobody has said otherwise, and where somebody has.

use http::header::{REFERRER_POLICY, SERVER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue};

use crate::control::config::Headers;
use crate::pipeline::answer_fields::{AnswerRules, FieldRule};
use crate::pipeline::set_cookie::{CookieAttributes, HttpOnly, SameSite, Secure};

/// Set where the API does not set it: what no API that browsers read has a use for.
const ABSENT: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "strict-origin-when-cross-origin"),
];

/// By which servers and frameworks say what they are, and of which version.
const BANNERS: [HeaderName; 5] = [
    SERVER,
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-aspnet-version"),
    HeaderName::from_static("x-aspnetmvc-version"),
    HeaderName::from_static("x-generator"),
];

/// The API's own word counts, then that for all, then the default: for each field and each attribute.
pub(in crate::control) fn rules(all: &Headers, api: &Headers) -> AnswerRules {
    let absent = |(name, value)| (name, FieldRule::Absent(HeaderValue::from_static(value)));
    let banners = BANNERS.map(|name| (name, FieldRule::Remove));
    let mut fields: Vec<_> = ABSENT.map(absent).into_iter().chain(banners).collect();
    for (name, rule) in all.fields.0.iter().chain(&api.fields.0) {
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(rule),
            None => fields.push((name.clone(), rule.clone())),
        }
    }
    let (one, other) = (&api.cookies, &all.cookies);
    let http_only = one.http_only.as_ref().or(other.http_only.as_ref());
    let cookies = CookieAttributes {
        secure: one.secure.or(other.secure).unwrap_or(Secure::OverTls),
        http_only: http_only.cloned().unwrap_or(HttpOnly::Credentials),
        same_site: one.same_site.or(other.same_site).unwrap_or(SameSite::Lax),
    };
    AnswerRules { fields, cookies }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::config::{ConfigFile, Cookies, EXAMPLE, FieldRules};

    fn headers(fields: &[(&'static str, FieldRule)], same_site: Option<SameSite>) -> Headers {
        let field = |(name, rule): &(&'static str, FieldRule)| {
            (HeaderName::from_static(name), rule.clone())
        };
        let fields = FieldRules(fields.iter().map(field).collect());
        Headers { fields, cookies: Cookies { same_site, ..Cookies::default() } }
    }

    #[test]
    fn the_nearest_word_counts() {
        let value = |text| FieldRule::Absent(HeaderValue::from_static(text));
        let always = |text| FieldRule::Always(HeaderValue::from_static(text));
        let all = [
            ("x-frame-options", always("SAMEORIGIN")),
            ("server", FieldRule::Pass),
            ("x-own", value("1")),
        ];
        let api = [("x-frame-options", FieldRule::Pass), ("x-other", FieldRule::Remove)];
        let rules =
            rules(&headers(&all, Some(SameSite::Pass)), &headers(&api, Some(SameSite::Strict)));
        for (name, expected) in [
            ("x-content-type-options", Some(value("nosniff"))),
            ("x-frame-options", Some(FieldRule::Pass)),
            ("server", Some(FieldRule::Pass)),
            ("x-powered-by", Some(FieldRule::Remove)),
            ("x-own", Some(value("1"))),
            ("x-other", Some(FieldRule::Remove)),
            ("strict-transport-security", None),
        ] {
            let mut found = rules.fields.iter().filter(|(known, _)| *known == name);
            assert_eq!(found.next().map(|(_, rule)| rule.clone()), expected, "{name}");
            assert_eq!(found.next(), None, "{name} is there once");
        }
        assert_eq!(rules.cookies.same_site, SameSite::Strict);
        assert_eq!(rules.cookies.secure, Secure::OverTls);
        let none = || headers(&[], None);
        let of_all = super::rules(&headers(&[], Some(SameSite::Pass)), &none());
        assert_eq!(of_all.cookies.same_site, SameSite::Pass);
    }

    #[test]
    fn example_says_the_defaults() {
        let example = ConfigFile::parse(Path::new("firewall.toml"), EXAMPLE).unwrap().headers;
        let defaults = rules(&Headers::default(), &Headers::default());
        assert_eq!(rules(&example, &Headers::default()), defaults);
        for (name, rule) in &defaults.fields {
            assert!(example.fields.0.contains(&(name.clone(), rule.clone())), "{name}");
        }
        assert_eq!(example.fields.0.len(), defaults.fields.len());
        let Cookies { secure, http_only, same_site } = example.cookies;
        assert!(secure.is_some() && http_only.is_some() && same_site.is_some());
    }
}
