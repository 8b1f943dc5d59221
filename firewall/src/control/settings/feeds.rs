//! The lists that others keep, as meant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::SettingsError;
use crate::ban::keeper::BanMode;
use crate::control::config::{Feed, FeedAction, PrivateAddresses};
use crate::feeds::origin::HttpOrigin;
use crate::feeds::{self, FEEDS_MAX, FeedSettings, Origin};

/// The feeds as meant. While bans are not enforced, neither is what feeds list.
pub(super) fn feeds(feeds: Vec<Feed>, bans: BanMode) -> Result<Arc<[FeedSettings]>, SettingsError> {
    if feeds.len() > FEEDS_MAX {
        return Err(SettingsError::Feeds { found: feeds.len() });
    }
    let mut names = BTreeSet::new();
    let feed = |feed: Feed| {
        if !feeds::is_name(&feed.name) || !names.insert(feed.name.clone()) {
            return Err(SettingsError::FeedName { found: feed.name });
        }
        let name = feed.name;
        let origin = match (feed.path, feed.url) {
            (Some(path), None) if feed.ca.is_none() && !feed.insecure => Origin::File(path),
            (None, Some(url)) => match HttpOrigin::parse(&url, feed.ca, feed.insecure) {
                Ok(origin) => Origin::Http(origin),
                Err(source) => return Err(SettingsError::FeedUrl { name, source }),
            },
            _ => return Err(SettingsError::FeedOrigin { name }),
        };
        let bounds = [
            ("refresh", "at least 1m", feed.refresh.0 >= Duration::from_mins(1)),
            ("max_entries", "1 to 2000000", (1..=2_000_000).contains(&feed.max_entries)),
            ("max_octets", "1 to 134217728", (1..=128 << 20).contains(&feed.max_octets)),
        ];
        if let Some((key, expected, _)) = bounds.into_iter().find(|(.., is_within)| !is_within) {
            return Err(SettingsError::FeedBound { name, key, expected });
        }
        Ok(FeedSettings {
            name: name.into(),
            origin,
            format: feed.format,
            refresh: feed.refresh.0,
            is_observed: feed.action == FeedAction::Observe || bans != BanMode::Enforce,
            entries_max: feed.max_entries,
            octets_max: feed.max_octets,
            lists_private: feed.private_addresses == PrivateAddresses::List,
        })
    };
    feeds.into_iter().map(feed).collect()
}

#[cfg(test)]
mod tests {
    use crate::control::settings::tests::{SOUND, problems};

    #[test]
    fn feeds_that_cannot_be_meant() {
        let feed = |keys: &str| format!("{SOUND}[[feed]]\n{keys}\n");
        for keys in [
            "name = \"a\"\npath = \"a\"",
            "name = \"a\"\nurl = \"http://127.0.0.1/a\"",
            "name = \"a\"\nurl = \"http://192.0.2.1/a\"\ninsecure = true",
            "name = \"a\"\nurl = \"https://192.0.2.1/a\"",
            "name = \"a\"\nurl = \"https://a.test/a\"\nca = \"ca.pem\"",
            "name = \"a\"\npath = \"a\"\nrefresh = \"1m\"\nmax_entries = 2000000",
        ] {
            assert_eq!(problems(&feed(keys)), Vec::<String>::new(), "{keys}");
        }
        for (keys, part) in [
            ("name = \"a b\"\npath = \"a\"", "a b"),
            ("name = \"a\"\npath = \"a\"\n[[feed]]\nname = \"a\"\npath = \"b\"", "given once"),
            ("name = \"a\"", "either path or url"),
            ("name = \"a\"\npath = \"a\"\nurl = \"http://127.0.0.1/\"", "either path or url"),
            ("name = \"a\"\npath = \"a\"\nca = \"ca.pem\"", "either path or url"),
            ("name = \"a\"\npath = \"a\"\ninsecure = true", "either path or url"),
            ("name = \"a\"\nurl = \"http://127.0.0.1/\"\nca = \"ca.pem\"", "`ca` says nothing"),
            (
                "name = \"a\"\nurl = \"https://127.0.0.1/\"\ninsecure = true",
                "`insecure` says nothing",
            ),
            ("name = \"a\"\nurl = \"http://192.0.2.1/\"", "insecure = true"),
            ("name = \"a\"\npath = \"a\"\nrefresh = \"59s\"", "at least 1m"),
            ("name = \"a\"\npath = \"a\"\nmax_entries = 0", "max_entries"),
            ("name = \"a\"\npath = \"a\"\nmax_entries = 2000001", "max_entries"),
            ("name = \"a\"\npath = \"a\"\nmax_octets = 134217729", "max_octets"),
        ] {
            let found = problems(&feed(keys));
            assert!(found.iter().any(|problem| problem.contains(part)), "{keys}: {found:?}");
        }
        let many = (0..17).fold(SOUND.to_owned(), |text, n| {
            text + &format!("[[feed]]\nname = \"f{n}\"\npath = \"a\"\n")
        });
        assert!(problems(&many)[0].contains("at most 16"));
    }
}
