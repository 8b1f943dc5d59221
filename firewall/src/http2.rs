//! HTTP/2 as it is watched on either side of the firewall: frames as they pass, and how often something
//! may happen.

pub(crate) mod allowance;
pub(crate) mod frames;

pub use allowance::Rate;
