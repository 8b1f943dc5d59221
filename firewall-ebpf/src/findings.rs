//! What the checks object to, gathered without asking of each what becomes of the packet.

use firewall_common::{Policy, Reason, Reasons};

/// The checks that objected to one packet, of those that are not off.
///
/// A packet is judged once, by the whole set: were each check to ask its mode as it objects, the
/// verifier would walk everything behind it once for each answer.
pub(crate) struct Findings {
    enabled: Reasons,
    found: Reasons,
}

impl Findings {
    #[inline(always)]
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            enabled: policy.drop.or(policy.observe),
            // No reason is in both sets, which is to say: none. But neither the compiler nor the
            // verifier knows, and so the set is unknown to them from the beginning, and ways through
            // the program that differ by it alone are walked once.
            found: policy.drop.and(policy.observe),
        }
    }

    #[inline(always)]
    pub(crate) const fn note(&mut self, reason: Reason) {
        self.found = self.found.or(self.enabled.and(Reasons::NONE.with(reason)));
    }

    /// Takes an objection back.
    #[inline(always)]
    pub(crate) const fn withdraw(&mut self, reason: Reason) {
        self.found = self.found.without(reason);
    }

    /// Whether any of `reasons` is not off: asked before what costs more than a comparison.
    #[inline(always)]
    pub(crate) const fn wants(&self, reasons: Reasons) -> bool {
        !self.enabled.and(reasons).is_empty()
    }

    #[inline(always)]
    pub(crate) const fn found(&self) -> Reasons {
        self.found
    }
}
