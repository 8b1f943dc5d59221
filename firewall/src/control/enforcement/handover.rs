//! The kernel's half in other hands: let go of for the process that takes this one's place, and taken
//! back from one that failed. What is pinned goes on dropping meanwhile.

use super::{Enforcement, options, tell_of_interface};
use crate::causes::Causes;
use crate::control::settings::Settings;
use crate::kernel::{Kernel, KernelError, Options};
use crate::metrics::Metrics;

impl Enforcement {
    /// Lets go of program, tables and pins, of which one process alone may have the keeping. Those
    /// who follow its events must have ended.
    pub fn let_go(&mut self) {
        self.kept = self.kernel.take().map(|kernel| kernel.options().clone());
        self.counted.take();
    }

    /// Takes them back. Where that fails, the proxy goes on without, as it says.
    pub fn take_back(&mut self, settings: &Settings, metrics: &Metrics) {
        // What a loader has pinned is opened by whoever follows the loader.
        let Some(kept) = self.kept.take().filter(|_| self.opening.is_none()) else { return };
        let limits = self.limits.clone().unwrap_or(kept.limits);
        // The checks as they are, those set by hand among them; the rest never changes.
        let options = Options { checks: kept.checks, limits, ..options(settings) };
        match self.open(&options) {
            Ok(kernel) => {
                kernel.interfaces().iter().for_each(tell_of_interface);
                self.kernel = Some(kernel);
                self.returns += 1;
                self.refresh_own();
                self.measure(metrics);
            }
            Err(error) => {
                let reason = Causes(&error).to_string();
                tracing::error!(reason, "no kernel program any more");
                self.reasons.push(reason);
            }
        }
    }

    /// Loads and attaches the program, and tells it all that an earlier one was told.
    pub(super) fn open(&mut self, options: &Options) -> Result<Kernel, KernelError> {
        let mut kernel = Kernel::load(options)?;
        kernel.serve(&self.ports, false)?;
        if let Some(until) = self.passes_until {
            kernel.pass_until(until)?;
        }
        kernel.capture(&self.captures.wanted())?;
        kernel.attach()?;
        Ok(kernel)
    }
}
