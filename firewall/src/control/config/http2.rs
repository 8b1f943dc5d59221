//! HTTP/2 as written: where it is spoken, and what a connection of it may take.

use super::Rate;
use crate::listen::http2;

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
        let http2::Http2Limits {
            streams,
            stream_window,
            connection_window,
            continuations,
            resets,
            errors,
            control,
        } = http2::Http2Limits::default();
        let rate = |http2::Rate { per_second, burst }| Rate { rate: per_second, burst };
        Self {
            streams,
            stream_window,
            connection_window,
            continuations,
            resets: rate(resets),
            errors: rate(errors),
            control: rate(control),
        }
    }
}
