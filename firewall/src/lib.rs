//! An eBPF/XDP edge firewall that enforces OpenAPI contracts.
//!
//! In the order in which a packet, then a request, passes:
//! [`kernel`], [`listen`], [`pipeline`] by the rules of [`contract`], [`upstream`]; [`ban`] is who may
//! not come back, [`feeds`] whom others warn of, [`control`] is who tells it all what to do.

pub mod access_log;
pub mod address;
pub mod audit_log;
pub mod ban;
pub mod causes;
pub mod clock;
pub mod contract;
pub mod control;
pub mod feeds;
pub mod http2;
pub mod json;
pub mod kernel;
pub mod listen;
pub mod log_lines;
pub mod metrics;
pub mod pipeline;
pub mod state_file;
pub mod tls;
pub mod upstream;
pub mod violation;
