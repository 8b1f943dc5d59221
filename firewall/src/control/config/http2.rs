//! HTTP/2 as written: where it is spoken, and what a connection of it may take.

use super::Rate;

/// Where HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Http2 {
    Off,
    #[default]
    Tls,
    PriorKnowledge,
}

/// `[limits.http2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Limits {
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub continuations: u32,
    pub resets: Rate,
    pub errors: Rate,
    pub control: Rate,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 128 << 10,
            connection_window: 512 << 10,
            continuations: 4,
            resets: Rate { rate: 20, burst: 200 },
            errors: Rate { rate: 5, burst: 50 },
            control: Rate { rate: 50, burst: 1_000 },
        }
    }
}
