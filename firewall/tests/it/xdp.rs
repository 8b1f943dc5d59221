//! The XDP program in a real kernel: the packet path's table of cases, and its loader.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics where it stands"
)]

mod attach;
mod bonds;
mod budgets;
mod cookies;
mod evidence;
pub(crate) mod flood;
mod ladder;
mod layout;
mod life;
pub(crate) mod net;
mod portable;
mod replaced;
mod verdict;

use firewall::kernel::{Kernel, KernelError, Options};
use xtask::skip::skipped;

/// What the kernel gives; none, said aloud, where the capability is missing.
#[track_caller]
fn permitted<T>(test: &str, result: Result<T, KernelError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.is_not_permitted() => {
            skipped(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

fn start(test: &str, options: &Options) -> Option<Kernel> {
    permitted(test, Kernel::start(options))
}
