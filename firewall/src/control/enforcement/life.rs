//! The kernel program's own life: that it hears of us, and whether it does well.

use serde_json::{Value, json};

use super::Enforcement;
use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::kernel::Trial;
use crate::metrics::Metrics;

impl Enforcement {
    /// Tells the kernel program that we are there.
    pub fn beat(&mut self, now: Monotonic) {
        if let Some(Err(error)) = self.kernel.as_mut().map(|kernel| kernel.beat(now)) {
            tracing::error!(reason = %Causes(&error), "the kernel program takes us for gone");
        }
    }

    /// Looks after a program that has taken another's place; to be called a few times a second.
    pub fn tend_program(&mut self, now: Monotonic, metrics: &Metrics) {
        let Some(kernel) = &mut self.kernel else { return };
        match kernel.tend(now) {
            Ok(None | Some(Trial::OnProbation { .. })) => {}
            Ok(Some(Trial::Settled)) => tracing::info!("the kernel program is off probation"),
            Ok(Some(Trial::RolledBack { reason })) => {
                metrics.rolled_back.set(1);
                tracing::error!(reason, "the kernel program does wrong: the one before it is back");
                let said = format!("the kernel program before this one is back: {reason}");
                self.reasons.push(said);
            }
            Err(error) => {
                let reason = Causes(&error).to_string();
                tracing::error!(reason, "the kernel program cannot be looked after");
            }
        }
    }

    /// Where the kernel program stands, for `status`.
    pub fn trial(&self) -> Option<Value> {
        Some(match self.kernel.as_ref()?.trial() {
            Trial::Settled => json!({ "state": "settled" }),
            Trial::OnProbation { until } => {
                let left = until.since(Monotonic::coarse()).as_secs();
                json!({ "state": "probation", "remaining_seconds": left })
            }
            Trial::RolledBack { reason } => json!({ "state": "rolled-back", "reason": reason }),
        })
    }

    /// Packets that passed because no daemon was there, since the maps were made.
    pub fn unattended(&self) -> u64 {
        self.counted().map_or(0, |counters| counters.unattended().packets)
    }
}
