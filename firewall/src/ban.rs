//! Who may not come back: offences become bans, and one table of bans is enforced by both planes.
//!
//! [`ledger`] decides, by the policy of [`threshold`], and knows no socket, no map and no clock.
//! [`keeper`] is the task around it: the only writer of the kernel's table, of the state file
//! ([`store`]) and of every worker's [`view`].

pub mod aggregate;
pub mod evidence;
pub mod exempt;
pub mod feed_set;
pub mod keeper;
pub mod ledger;
mod prefix;
pub mod record;
#[cfg(test)]
mod scratch;
pub mod shared;
#[cfg(test)]
mod simulation;
pub mod standing;
pub mod store;
pub mod suspicion;
pub mod threshold;
pub mod view;

pub use prefix::{canonical, is_too_wide};
