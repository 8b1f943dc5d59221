//! What the checks object to, gathered without asking of each what becomes of the packet.

use firewall_common::{Policy, Reason, Reasons};

/// The checks that objected to one packet, of those that are not off.
///
/// A packet is judged once, by the whole set: were each check to ask its mode as it objects, the
/// verifier would walk everything behind it once for each answer.
pub struct Findings {
    enabled: Reasons,
    found: Reasons,
    /// Always zero, which neither the compiler nor the verifier knows.
    zero: u64,
}

/// A flag that the verifier does not know. A `bool` is known where it was made by a comparison, and
/// everything up to where it is asked would be walked once for each value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hidden(u64);

impl Hidden {
    #[inline(always)]
    pub(crate) const fn is_set(self) -> bool {
        self.0 != 0
    }
}

impl Findings {
    #[inline(always)]
    pub fn new(policy: &Policy) -> Self {
        // No reason is in both sets: this is empty. But nobody but us knows, and so it is unknown from
        // the beginning, and ways through the program that differ by it alone are walked once.
        let found = policy.drop.and(policy.observe);
        Self { enabled: policy.drop.or(policy.observe), found, zero: found.bits() }
    }

    #[inline(always)]
    pub(crate) const fn note(&mut self, reason: Reason) {
        self.found = self.found.or(self.enabled.and(Reasons::NONE.with(reason)));
    }

    #[inline(always)]
    pub(crate) const fn note_all(&mut self, reasons: Reasons) {
        self.found = self.found.or(self.enabled.and(reasons));
    }

    /// The same number, or flag, unknown to the verifier: it does not follow what is decided by it
    /// for each value anew.
    #[inline(always)]
    pub(crate) const fn hide(&self, value: u64) -> u64 {
        value.wrapping_add(self.zero)
    }

    /// The same for a flag.
    #[inline(always)]
    pub(crate) const fn hidden(&self, flag: bool) -> Hidden {
        Hidden(self.hide(flag as u64))
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
