//! A program that does wrong, and how one that can go no further says so.

use aya_ebpf::bindings::{
    xdp_action::{XDP_ABORTED, XDP_DROP},
    xdp_md,
};
use firewall_common::{Reason, SLOT_OTHERS, counter, fault, given_up, policy_index};

use super::{COUNTERS, POLICIES, add};

/// What every packet suffers: a number of [`fault`]. Written when the program is loaded, by tests
/// alone: where it is zero the verifier removes what it leads to.
#[unsafe(no_mangle)]
static FAULT: u8 = fault::NONE;

#[inline(always)]
pub(super) fn ordered() -> u8 {
    // SAFETY: a static of this program; volatile, for the compiler must not take it for what it is
    // now.
    unsafe { (&raw const FAULT).read_volatile() }
}

#[inline(always)]
pub(super) fn obey(context: *mut xdp_md, ordered: u8) -> u32 {
    // SAFETY: the kernel calls the program with a valid context, and an array's value stays valid
    // while the program runs.
    let slot = unsafe {
        let policy = POLICIES.get_ptr(policy_index((*context).ingress_ifindex));
        policy.map_or(SLOT_OTHERS, |policy| (*policy).slot)
    };
    if ordered == fault::ABORT {
        return give_up(slot);
    }
    if let Some(dropped) = COUNTERS.get_ptr_mut(counter(slot, Reason::E1 as u32, false, false)) {
        // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
        unsafe { add(dropped, 0) };
    }
    XDP_DROP
}

/// The only way to end without a verdict: the daemon goes by this count.
#[inline(always)]
fn give_up(slot: u32) -> u32 {
    if let Some(given_up) = COUNTERS.get_ptr_mut(given_up(slot)) {
        // SAFETY: as above.
        unsafe { add(given_up, 0) };
    }
    XDP_ABORTED
}
