//! HTTP/2: where it is spoken, and what one connection of it may take.

use crate::control::config::{self, Rate};
use crate::listen::http2::{self, Http2, Http2Limits};

/// Where HTTP/2 is spoken.
pub(super) fn spoken(written: config::Http2) -> Http2 {
    match written {
        config::Http2::Off => Http2::Off,
        config::Http2::Tls => Http2::Tls,
        config::Http2::PriorKnowledge => Http2::PriorKnowledge,
    }
}

/// The limits as connections keep them.
pub(in crate::control) fn limits(written: &config::Http2Limits) -> Http2Limits {
    let rate = |Rate { rate, burst }| http2::Rate { per_second: rate, burst };
    Http2Limits {
        streams: written.streams,
        stream_window: written.stream_window,
        connection_window: written.connection_window,
        continuations: written.continuations,
        resets: rate(written.resets),
        errors: rate(written.errors),
        control: rate(written.control),
    }
}

type Bound = (&'static str, &'static str, usize, usize, usize);

/// The numbers with their bounds.
pub(super) fn bounds(limits: &config::Http2Limits) -> impl Iterator<Item = Bound> {
    // RFC 9113 sections 5.2.1 and 6.9.2: a connection's window is not made smaller than it begins.
    const WINDOW_MAX: usize = (1 << 31) - 1;
    let rates = [
        ("limits.http2.resets", limits.resets),
        ("limits.http2.errors", limits.errors),
        ("limits.http2.control", limits.control),
    ];
    let rates = rates.into_iter().flat_map(|(key, Rate { rate, burst })| {
        let bound =
            |found: u32| (key, "rate and burst from 1 to 1000000", found as usize, 1, 1_000_000);
        [bound(rate), bound(burst)]
    });
    let (stream, connection) = (limits.stream_window as usize, limits.connection_window as usize);
    let continuations = limits.continuations as usize;
    [
        ("limits.http2.streams", "1 to 10000", limits.streams as usize, 1, 10_000),
        ("limits.http2.stream_window", "1024 to 2147483647", stream, 1024, WINDOW_MAX),
        ("limits.http2.connection_window", "65535 to 2147483647", connection, 65_535, WINDOW_MAX),
        ("limits.http2.continuations", "at most 64", continuations, 0, 64),
    ]
    .into_iter()
    .chain(rates)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{SOUND, problems};
    use super::*;
    use crate::control::config::ConfigFile;
    use crate::control::settings::Settings;

    fn settings(listen: &str, limits: &str) -> Settings {
        let text = SOUND.replace("[listen]", &format!("[listen]\n{listen}"))
            + &format!("[limits.http2]\n{limits}\n");
        Settings::of(ConfigFile::parse(Path::new("f.toml"), &text).unwrap()).unwrap()
    }

    #[test]
    fn defaults_are_those_of_connections() {
        assert_eq!(limits(&config::Http2Limits::default()), Http2Limits::default());
        assert_eq!(settings("", "").http2, Http2::default());
        assert_eq!(settings("http2 = \"off\"", "").http2, Http2::Off);
        let plain = settings("http2 = \"prior-knowledge\"", "");
        assert_eq!(plain.http2, Http2::PriorKnowledge);
    }

    #[test]
    fn limits_at_their_bounds() {
        for (key, accepted, refused) in [
            ("streams", ["1", "10000"], ["0", "10001"]),
            ("stream_window", ["1024", "2147483647"], ["1023", "2147483648"]),
            ("connection_window", ["65535", "2147483647"], ["65534", "2147483648"]),
            ("continuations", ["0", "64"], ["65", "66"]),
            (
                "resets",
                ["{ rate = 1, burst = 1 }", "{ rate = 1000000, burst = 1000000 }"],
                ["{ rate = 0, burst = 1 }", "{ rate = 1, burst = 1000001 }"],
            ),
            (
                "control",
                ["{ rate = 1, burst = 1 }", "{ rate = 1000000, burst = 1000000 }"],
                ["{ rate = 1, burst = 0 }", "{ rate = 1000001, burst = 1 }"],
            ),
        ] {
            let text = |value| format!("{SOUND}[limits.http2]\n{key} = {value}\n");
            for value in accepted {
                assert_eq!(problems(&text(value)), Vec::<String>::new(), "{key} = {value}");
            }
            for value in refused {
                let found = problems(&text(value));
                assert!(found.iter().any(|problem| problem.contains(key)), "{key} = {value}");
            }
        }
    }

    #[test]
    fn a_reload_changes_them_but_not_where_it_is_spoken() {
        let none = settings("", "");
        for (other, keys) in [
            (settings("http2 = \"off\"", ""), &["listen.http2"][..]),
            (settings("", "streams = 7"), &[]),
            (settings("", "resets = { rate = 1, burst = 2 }"), &[]),
            (settings("", ""), &[]),
        ] {
            assert_eq!(none.fixed_differences(&other), keys);
        }
    }
}
