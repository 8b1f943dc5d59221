//! Security requirements: which credentials a request must present, and in which form.
//!
//! Presence and form are checked here. Whether a credential is good is for whoever takes
//! [`Presented`] from here.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use super::cookie::{hides, is_open_quote};
use super::policy::Verdict;
use super::uri::{Plus, decode};
use crate::violation::{Rule, Violation};

/// Schemes that the requirements of one operation may name: each is a bit of a word.
pub(crate) const SCHEMES_LIMIT: usize = u64::BITS as usize;
/// Octets that a bearer token may have. Tokens of a few kibibytes exist, and nothing longer gets
/// through the usual limits of a head.
const TOKEN_LIMIT: usize = 8 << 10;

/// Where the key of an `apiKey` scheme stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header(HeaderName),
    /// In this case alone.
    Query(Box<str>),
    /// In this case alone.
    Cookie(Box<str>),
}

/// What a credential must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Key(Place),
    /// RFC 7617.
    Basic,
    /// RFC 6750.
    Bearer {
        /// A JSON Web Token in compact form (RFC 7519 section 3).
        is_jwt: bool,
    },
}

/// A security scheme that the requirements of an operation name.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    pub(crate) name: Arc<str>,
    pub(crate) form: Form,
}

/// One of the sets of schemes of which a request must satisfy one.
#[derive(Clone, Debug)]
pub(crate) struct Alternative {
    /// A bit for each scheme of the rule that belongs to it; none for anonymous access.
    pub(crate) schemes: u64,
    /// The scopes or roles that it asks of each scheme, in the order of the bits.
    pub(crate) scopes: Vec<Box<[Box<str>]>>,
}

/// What an operation demands of a request's credentials.
pub struct SecurityRule {
    schemes: Vec<Scheme>,
    alternatives: Vec<Alternative>,
    /// The value of `WWW-Authenticate`.
    challenge: Arc<str>,
    malformed_optional: Verdict,
}

/// The credentials of one alternative, all of them there and well-formed.
pub struct Presented<'m> {
    rule: &'m SecurityRule,
    alternative: &'m Alternative,
    query: Option<&'m str>,
    headers: &'m HeaderMap,
}

/// One credential as sent. Neither shown nor logged, hence without `Debug`.
#[derive(PartialEq, Eq)]
pub enum Credential<'m> {
    Key(Cow<'m, [u8]>),
    /// User and password in base64.
    Basic(&'m str),
    Bearer(&'m str),
}

enum Reading<'m> {
    Absent,
    Malformed,
    Present(Credential<'m>),
}

impl SecurityRule {
    pub(crate) fn new(
        schemes: Vec<Scheme>,
        alternatives: Vec<Alternative>,
        malformed_optional: Verdict,
    ) -> Self {
        let challenge = challenge(&schemes);
        Self { schemes, alternatives, challenge, malformed_optional }
    }

    /// Whether a request without credentials is let pass.
    pub fn allows_anonymous(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.schemes == 0)
    }

    /// Checks that the credentials of one alternative are there and well-formed. The refusal says no
    /// more: which of them are there is nobody's business.
    ///
    /// # Errors
    ///
    /// [`Rule::CredentialsMissing`], [`Rule::CredentialsMalformed`], each with its challenge. A
    /// malformed credential is refused even where another alternative holds, unless the policy
    /// lets it pass.
    pub fn check<'m>(
        &'m self,
        query: Option<&'m str>,
        headers: &'m HeaderMap,
    ) -> Result<Presented<'m>, Violation> {
        let (mut present, mut malformed) = (0u64, false);
        for (index, scheme) in self.schemes.iter().enumerate() {
            match scheme.form.read(query, headers) {
                Reading::Absent => {}
                Reading::Malformed => malformed = true,
                Reading::Present(_) => present |= 1 << index,
            }
        }
        let refused =
            |rule| Violation { challenge: Some(self.challenge.clone()), ..Violation::new(rule) };
        if malformed && self.malformed_optional == Verdict::Refuse {
            return Err(refused(Rule::CredentialsMalformed));
        }
        // The one that uses most of what was sent: what a client presents is to be verified, although
        // it might have come without.
        let satisfied = self
            .alternatives
            .iter()
            .filter(|alternative| alternative.schemes & present == alternative.schemes)
            .reduce(|best, other| {
                if other.schemes.count_ones() > best.schemes.count_ones() { other } else { best }
            });
        match satisfied {
            Some(alternative) => Ok(Presented { rule: self, alternative, query, headers }),
            None if malformed => Err(refused(Rule::CredentialsMalformed)),
            None => Err(refused(Rule::CredentialsMissing)),
        }
    }

    /// The header fields that may hold a credential.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.schemes.iter().filter_map(|scheme| match &scheme.form {
            Form::Key(Place::Header(name)) => Some(name),
            Form::Basic | Form::Bearer { .. } => Some(&AUTHORIZATION),
            Form::Key(_) => None,
        })
    }

    /// The query parameters that may hold a key.
    pub fn query_names(&self) -> impl Iterator<Item = &str> {
        self.schemes.iter().filter_map(|scheme| match &scheme.form {
            Form::Key(Place::Query(name)) => Some(&**name),
            _ => None,
        })
    }

    /// The cookies that may hold a key.
    pub fn cookie_names(&self) -> impl Iterator<Item = &str> {
        self.schemes.iter().filter_map(|scheme| match &scheme.form {
            Form::Key(Place::Cookie(name)) => Some(&**name),
            _ => None,
        })
    }
}

impl fmt::Debug for SecurityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityRule")
            .field("schemes", &self.schemes)
            .field("alternatives", &self.alternatives)
            .finish_non_exhaustive()
    }
}

impl<'m> Presented<'m> {
    /// Each credential with the name of its scheme and the scopes that are asked of it; none where
    /// the request is let pass without.
    pub fn credentials(
        &self,
    ) -> impl Iterator<Item = (&'m str, &'m [Box<str>], Credential<'m>)> + use<'m> {
        let Self { rule, alternative, query, headers } = *self;
        let schemes = rule.schemes.iter().enumerate();
        let used = schemes.filter(|(index, _)| alternative.schemes & (1 << index) != 0);
        used.zip(&alternative.scopes).filter_map(move |((_, scheme), scopes)| {
            match scheme.form.read(query, headers) {
                Reading::Present(credential) => Some((&*scheme.name, &**scopes, credential)),
                Reading::Absent | Reading::Malformed => None,
            }
        })
    }
}

/// A challenge for each way to answer (RFC 9110 section 11.6.1). An API key has no registered scheme;
/// `ApiKey` is told, since a 401 must hold a challenge.
fn challenge(schemes: &[Scheme]) -> Arc<str> {
    let mut challenges: Vec<&str> = Vec::new();
    for scheme in schemes {
        let challenge = match scheme.form {
            Form::Bearer { .. } => r#"Bearer realm="api""#,
            Form::Basic => r#"Basic realm="api", charset="UTF-8""#,
            Form::Key(_) => r#"ApiKey realm="api""#,
        };
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    challenges.join(", ").into()
}

impl Form {
    fn read<'m>(&self, query: Option<&'m str>, headers: &'m HeaderMap) -> Reading<'m> {
        match self {
            Self::Key(Place::Header(name)) => {
                only(headers.get_all(name).iter().map(|line| Some(line.as_bytes().into())))
            }
            Self::Key(Place::Query(name)) => only(query_values(query.unwrap_or_default(), name)),
            Self::Key(Place::Cookie(name)) => {
                only(cookie_values(headers, name).map(|value| Some(value.into())))
            }
            Self::Basic => authorization(headers, "basic", is_basic, Credential::Basic),
            Self::Bearer { is_jwt } => {
                let is_token = |text: &str| {
                    is_bearer(text) && text.len() <= TOKEN_LIMIT && (!is_jwt || self::is_jwt(text))
                };
                authorization(headers, "bearer", is_token, Credential::Bearer)
            }
        }
    }
}

/// A key that was sent exactly once: of several, each reader would take its own.
fn only<'m>(mut values: impl Iterator<Item = Option<Cow<'m, [u8]>>>) -> Reading<'m> {
    match (values.next(), values.next()) {
        (None, _) => Reading::Absent,
        (Some(Some(value)), None) if !value.is_empty() => Reading::Present(Credential::Key(value)),
        _ => Reading::Malformed,
    }
}

/// The values of a name in a query; none in place of one that is wrongly encoded.
fn query_values<'m>(query: &'m str, name: &str) -> impl Iterator<Item = Option<Cow<'m, [u8]>>> {
    query.split('&').filter_map(move |pair| {
        let (raw_name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_wanted = decode(raw_name, Plus::Space).is_some_and(|decoded| decoded == name);
        is_wanted.then(|| {
            Some(match decode(value, Plus::Space)? {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            })
        })
    })
}

/// The values of a cookie's name, empty in place of one that can be read in two ways; of every line: HTTP/2 may send one for each cookie (RFC 9113
/// section 8.2.3).
fn cookie_values<'m>(headers: &'m HeaderMap, name: &str) -> impl Iterator<Item = &'m [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let end = pair.iter().position(|octet| *octet == b'=').unwrap_or(pair.len());
        let (found, value) = pair.split_at_checked(end)?;
        let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        // To readers that honour quotes the next cookies belong to this value, and to readers that end
        // a cookie at a comma another one stands in it.
        if is_open_quote(value) || hides(value, |found| found == name.as_bytes()) {
            return Some(&b""[..]);
        }
        // White space before the equals sign belongs to the name for some readers, and not for others.
        let is_plain = found.len() == name.len();
        (found.trim_ascii() == name.as_bytes()).then_some(if is_plain { value } else { b"" })
    })
}

/// The credential of one scheme. Another scheme's is none; what no scheme could have written, and a
/// second line, is malformed.
fn authorization<'m>(
    headers: &'m HeaderMap,
    scheme: &str,
    is_well_formed: impl FnOnce(&str) -> bool,
    credential: impl FnOnce(&'m str) -> Credential<'m>,
) -> Reading<'m> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Reading::Absent,
        (Some(line), None) => line,
        _ => return Reading::Malformed,
    };
    let Ok(text) = line.to_str() else { return Reading::Malformed };
    let (found, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start_matches(' ');
    if !super::media_type::is_token(found) {
        Reading::Malformed
    } else if !found.eq_ignore_ascii_case(scheme) {
        Reading::Absent
    } else if is_well_formed(rest) {
        Reading::Present(credential(rest))
    } else {
        Reading::Malformed
    }
}

/// Base64 with its padding, of a user and a password with a colon between them and no control
/// character (RFC 7617 section 2).
fn is_basic(text: &str) -> bool {
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    let Some((last, _)) = groups.split_last().filter(|_| rest.is_empty()) else { return false };
    let padding = last.iter().rev().take_while(|octet| **octet == b'=').count();
    let (mut has_colon, count) = (false, groups.len());
    for (index, group) in groups.iter().enumerate() {
        let padding = if index + 1 == count { padding } else { 0 };
        let mut word = 0u32;
        for (place, octet) in group.iter().enumerate() {
            let sextet = if place + padding >= 4 { Some(0) } else { sextet(*octet) };
            let Some(sextet) = sextet else { return false };
            word = word << 6 | u32::from(sextet);
        }
        let [_, octets @ ..] = word.to_be_bytes();
        let (decoded, unused) = octets.split_at(3usize.saturating_sub(padding));
        // Bits that belong to no octet would give one password several spellings.
        if padding > 2
            || unused.iter().any(|octet| *octet != 0)
            || decoded.iter().any(u8::is_ascii_control)
        {
            return false;
        }
        has_colon |= decoded.contains(&b':');
    }
    has_colon
}

fn sextet(octet: u8) -> Option<u8> {
    Some(match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// `b64token` (RFC 6750 section 2.1).
fn is_bearer(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    !text.is_empty()
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet))
}

/// The compact form of a signed token (RFC 7515 section 7.1), or of an encrypted one, whose key may
/// be empty (RFC 7516 section 7.1). A signature may not: that would be `alg: none`.
fn is_jwt(text: &str) -> bool {
    let parts = text.split('.').count();
    let is_sound = |(index, part): (usize, &str)| {
        let may_be_empty = parts == 5 && index == 1;
        (may_be_empty || !part.is_empty())
            && part.len() % 4 != 1
            && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
    };
    matches!(parts, 3 | 5) && text.split('.').enumerate().all(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        // Aladdin:open sesame, :, a:b, a:bc, and what is none.
        for (text, expected) in [
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            ("Og==", true),
            ("YTpi", true),
            ("YTpiYw==", true),
            ("YTpiYw", false),
            ("YTpiYx==", false),
            ("YTpiY===", false),
            ("YTpi====", false),
            ("YWI=", false),
            ("Og==Og==", false),
            ("YTpi ", false),
            ("YT-i", false),
            ("=", false),
            ("====", false),
            ("", false),
            // a:\n, a:\x7f, a\0:
            ("YToK", false),
            ("YTp/", false),
            ("YQA6", false),
            // a:é in UTF-8.
            ("YTrDqQ==", true),
        ] {
            assert_eq!(is_basic(text), expected, "{text}");
        }
        for (text, expected) in [
            ("a", true),
            ("a-._~+/9==", true),
            ("", false),
            ("==", false),
            ("a=b", false),
            ("a b", false),
            ("a,b", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_bearer(text), expected, "{text}");
        }
        for (text, expected) in [
            ("eyJh.eyJz.c2ln", true),
            ("eyJh..iv00.Y2lw.dGFn", true),
            ("eyJh.a2V5.iv00.Y2lw.dGFn", true),
            ("eyJh.eyJz.", false),
            ("eyJh..c2ln", false),
            (".eyJz.c2ln", false),
            ("eyJh.eyJz", false),
            ("eyJh.eyJz.c2ln.", false),
            ("eyJh.eyJz.c2ln=", false),
            ("eyJh.eyJz.c2+n", false),
            ("eyJh.eyJz.c", false),
            ("eyJh..iv00.Y2lw.", false),
        ] {
            assert_eq!(is_jwt(text), expected, "{text}");
        }
    }

    #[test]
    fn tokens_at_their_limit() {
        let form = Form::Bearer { is_jwt: false };
        for (octets, expected) in [(TOKEN_LIMIT, true), (TOKEN_LIMIT + 1, false)] {
            let mut headers = HeaderMap::new();
            let line = format!("Bearer {}", "a".repeat(octets));
            headers.insert(AUTHORIZATION, line.parse().unwrap());
            let is_present = matches!(form.read(None, &headers), Reading::Present(_));
            assert_eq!(is_present, expected, "{octets}");
        }
    }
}
