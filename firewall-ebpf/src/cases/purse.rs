//! What the maps of the budgets are to the kernel's program, for the host.

use std::collections::HashMap;
use std::vec::Vec;

use firewall_common::{BucketSet, Budget, Budgeted, Budgets, Payer, Tally};

use crate::budget::Purse;

/// Budgets, and what was spent of them; the clock and the dice are the test's to set.
#[derive(Clone, Debug, Default)]
pub struct HostPurse {
    pub budgets: Budgets,
    pub now_ns: u64,
    pub random: u32,
    pub multipliers: Vec<(Payer, u32)>,
    pub standing: Vec<Payer>,
    pub sets: HashMap<u32, BucketSet>,
    pub tally: Tally,
}

impl Purse for HostPurse {
    fn budget(&self, budgeted: Budgeted) -> Budget {
        self.budgets.of(budgeted)
    }

    fn seeds(&self) -> [u64; 2] {
        self.budgets.seeds
    }

    fn shedding(&self) -> (u64, u32) {
        (self.budgets.shed_until_mono_ns, self.budgets.shed)
    }

    fn has_multipliers(&self) -> bool {
        self.budgets.has_multipliers != 0
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn multiplier(&self, payer: Payer) -> u32 {
        self.multipliers.iter().find(|(found, _)| *found == payer).map_or(1, |(_, times)| *times)
    }

    fn is_in_standing(&self, payer: Payer) -> bool {
        self.standing.contains(&payer)
    }

    fn set(&mut self, index: u32) -> Option<&mut BucketSet> {
        Some(self.sets.entry(index).or_default())
    }

    fn tally(&mut self) -> Option<&mut Tally> {
        Some(&mut self.tally)
    }
}
