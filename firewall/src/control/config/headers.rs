//! The fields of answers as written: what becomes of each, by its name.

use std::fmt;

use http::HeaderName;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::pipeline::answer_fields::FieldRule;
use crate::pipeline::set_cookie::{HttpOnly, SameSite, Secure};

/// `[headers]`, and `[api.headers]`, in which everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    pub fields: FieldRules,
    pub cookies: Cookies,
}

/// The attributes that are added to cookies.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cookies {
    pub secure: Option<Secure>,
    pub http_only: Option<HttpOnly>,
    pub same_site: Option<SameSite>,
}

/// What becomes of the fields that are named; no name is there twice, whatever its case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldRules(pub Vec<(HeaderName, FieldRule)>);

impl<'de> Deserialize<'de> for FieldRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = FieldRules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of header fields, as Server = \"remove\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldRules, A::Error> {
                let mut rules: Vec<(HeaderName, FieldRule)> = Vec::new();
                while let Some(Field(name)) = map.next_key()? {
                    if rules.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(de::Error::custom(format_args!("{name} is there twice")));
                    }
                    rules.push((name, map.next_value()?));
                }
                Ok(FieldRules(rules))
            }
        }
        deserializer.deserialize_map(Table)
    }
}

/// The name of a field that may be set or removed.
struct Field(HeaderName);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_invalid| {
            de::Error::custom(format_args!("{text:?} cannot be the name of a header field"))
        })?;
        match why_not(name.as_str()) {
            None => Ok(Self(name)),
            Some(reason) => Err(de::Error::custom(format_args!("{name}: {reason}"))),
        }
    }
}

/// Why a field, by its name in small letters, is not to be set or removed.
fn why_not(name: &str) -> Option<&'static str> {
    match name {
        // Caches must tell the answers to one origin from those to another.
        "vary" => Some("CORS is the API's own"),
        _ if name.starts_with("access-control-") => Some("CORS is the API's own"),
        "set-cookie" => Some("[headers.cookies] says what becomes of cookies"),
        "connection" | "content-encoding" | "content-length" | "content-range" | "content-type"
        | "date" | "expect" | "http2-settings" | "keep-alive" | "proxy-connection" | "te"
        | "trailer" | "transfer-encoding" | "upgrade" => {
            Some("the field tells how to read the message")
        }
        "allow" | "location" | "proxy-authenticate" | "retry-after" | "www-authenticate" => {
            Some("the field is part of what the answer says")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;

    use super::super::{ConfigError, ConfigFile};
    use super::*;

    const SOUND: &str = "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\n\
                         spec = \"a.yaml\"\nupstream = \"http://127.0.0.1:1\"\n";

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(Path::new("f.toml"), &format!("{SOUND}{text}"))
    }

    #[test]
    fn every_form_is_read() {
        let text = "[headers.fields]\nSERVER = \"remove\"\nX-A = \"pass\"\n\
                    X-B = { absent = \"1; b=\\\"2\\\"\" }\nX-C = { always = \"2\" }\n\
                    [headers.cookies]\nhttp_only = [\"sid\"]\n\
                    [api.headers.cookies]\nsecure = \"over-tls\"\nsame_site = \"strict\"\n";
        let found = parse(text).unwrap();
        let value = HeaderValue::from_static;
        let expected = [
            ("server", FieldRule::Remove),
            ("x-a", FieldRule::Pass),
            ("x-b", FieldRule::Absent(value("1; b=\"2\""))),
            ("x-c", FieldRule::Always(value("2"))),
        ];
        let expected = expected.map(|(name, rule)| (HeaderName::from_static(name), rule));
        assert_eq!(found.headers.fields.0, expected);
        let named = Some(HttpOnly::Named(vec!["sid".into()]));
        assert_eq!(found.headers.cookies, Cookies { http_only: named, ..Cookies::default() });
        let (secure, same_site) = (Some(Secure::OverTls), Some(SameSite::Strict));
        let cookies = Cookies { secure, same_site, http_only: None };
        assert_eq!(found.api[0].headers, Headers { cookies, ..Headers::default() });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (line, part) in [
            ("Vary = \"remove\"", "CORS"),
            ("Access-Control-Allow-Origin = { always = \"*\" }", "CORS"),
            ("access-control-max-age = \"remove\"", "CORS"),
            ("Set-Cookie = \"remove\"", "[headers.cookies]"),
            ("Content-Length = \"remove\"", "how to read"),
            ("Transfer-Encoding = { always = \"chunked\" }", "how to read"),
            ("WWW-Authenticate = \"remove\"", "what the answer says"),
            ("\"X A\" = \"remove\"", "name of a header field"),
            ("\"\" = \"remove\"", "name of a header field"),
            ("X-A = \"removed\"", "unknown variant `removed`"),
            ("X-A = { sometimes = \"1\" }", "unknown variant `sometimes`"),
            ("X-A = { absent = \"\" }", "white space"),
            ("X-A = { absent = \" 1\" }", "white space"),
            ("X-A = { always = \"1\\r\\nX-B: 2\" }", "printable"),
            ("X-A = { always = \"é\" }", "printable"),
            ("X-A = \"pass\"\nx-a = \"remove\"", "x-a is there twice"),
        ] {
            for table in ["headers.fields", "api.headers.fields"] {
                match parse(&format!("[{table}]\n{line}\n")) {
                    Err(ConfigError::Invalid { line: Some(found), message, .. }) => {
                        assert!(message.contains(part), "{line}: {message}");
                        assert!((7..=9).contains(&found), "{line}: line {found}");
                    }
                    other => panic!("{line}: {other:?}"),
                }
            }
        }
        for text in ["[headers]\ncors = true\n", "[headers.cookies]\nsecure = \"maybe\"\n"] {
            assert!(
                matches!(parse(text), Err(ConfigError::Invalid { line: Some(_), .. })),
                "{text}"
            );
        }
    }
}
