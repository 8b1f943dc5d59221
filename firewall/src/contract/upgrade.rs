//! What an operation that is left for a WebSocket lets through: `x-firewall-upgrade`.

use http::HeaderValue;

/// The bounds of the WebSockets that an operation opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRule {
    /// None: any page may open one.
    pub(crate) origins: Option<Vec<Box<str>>>,
    pub(crate) client_message_octets: u64,
    pub(crate) upstream_message_octets: u64,
    pub(crate) compresses: bool,
    pub(crate) answers_otherwise: bool,
}

impl UpgradeRule {
    /// Whether a page of this origin may open one. Who names none is no browser, and has no user's
    /// cookies to misuse; several are read differently by different servers.
    pub fn admits<'a>(&self, mut origins: impl Iterator<Item = &'a HeaderValue>) -> bool {
        let Some(known) = &self.origins else { return true };
        match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => known.iter().any(|known| known.as_bytes() == origin.as_bytes()),
            (Some(_), Some(_)) => false,
        }
    }

    /// Octets that one message of the client may have, as they are sent.
    pub fn client_message_octets(&self) -> u64 {
        self.client_message_octets
    }

    /// The same for one of the upstream's.
    pub fn upstream_message_octets(&self) -> u64 {
        self.upstream_message_octets
    }

    /// Whether messages may be compressed (RFC 7692), which hides their size.
    pub fn compresses(&self) -> bool {
        self.compresses
    }

    /// Whether the operation has an answer for who asks for no upgrade.
    pub fn answers_otherwise(&self) -> bool {
        self.answers_otherwise
    }
}

/// Whether this is an origin as browsers write it (RFC 6454 section 6.2).
pub(crate) fn is_origin(text: &str) -> bool {
    let is_host = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let is_scheme = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    text == "null"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            let is_port_needless = matches!(
                (scheme, host.rsplit_once(':').map(|(_, port)| port)),
                ("http", Some("80")) | ("https", Some("443"))
            );
            scheme.starts_with(|first: char| first.is_ascii_lowercase())
                && scheme.bytes().all(is_scheme)
                && !host.is_empty()
                && host.bytes().all(is_host)
                && !is_port_needless
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_they_are_written() {
        let rule = |origins: Option<&[&str]>| UpgradeRule {
            origins: origins.map(|origins| origins.iter().map(|&origin| origin.into()).collect()),
            client_message_octets: 1,
            upstream_message_octets: 1,
            compresses: false,
            answers_otherwise: false,
        };
        let listed = &["https://app.test", "https://app.test:8443"][..];
        for (origins, sent, expected) in [
            (None, &["https://evil.test"][..], true),
            (None, &["a", "b"], true),
            (Some(listed), &[], true),
            (Some(listed), &["https://app.test"], true),
            (Some(listed), &["https://app.test:8443"], true),
            (Some(listed), &["http://app.test"], false),
            (Some(listed), &["https://app.test."], false),
            (Some(listed), &["https://app.test.evil.test"], false),
            (Some(listed), &["https://app.test, https://evil.test"], false),
            (Some(listed), &["https://app.test", "https://app.test"], false),
            (Some(listed), &["null"], false),
            (Some(listed), &[""], false),
        ] {
            let sent: Vec<_> = sent.iter().map(|origin| HeaderValue::from_static(origin)).collect();
            assert_eq!(rule(origins).admits(sent.iter()), expected, "{sent:?}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        for (text, expected) in [
            ("https://app.test", true),
            ("http://localhost:3000", true),
            ("https://[2001:db8::1]:8443", true),
            ("chrome-extension://abcdef", true),
            ("null", true),
            ("https://app.test/", false),
            ("https://App.test", false),
            ("HTTPS://app.test", false),
            ("https://app.test:443", false),
            ("http://app.test:80", false),
            ("https://app.test:80", true),
            ("https://*.test", false),
            ("app.test", false),
            ("://app.test", false),
            ("https://", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }
}
