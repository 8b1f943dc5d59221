//! The maps of the budgets, and the charge to them.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::bpf_get_prandom_u32,
    macros::map,
    maps::lpm_trie::LpmTrie,
    maps::{Array, HashMap, PerCpuArray},
};
use firewall_common::{BucketSet, Budgets, Payer, Reasons, Tally, maps};
use firewall_ebpf::budget::{Kind, Purse};
use firewall_ebpf::link::Link;
use firewall_ebpf::source::{Family, Source};
use firewall_ebpf::verdict::{Verdict, budgets};

use super::frame::{Far, Frame};
use super::{Maps, Objection, RangeKey, now_ns};

#[map]
static BUDGETS: Array<Budgets> = Array::with_max_entries(maps::BUDGETS.entries, 0);
#[map]
static BUCKETS: PerCpuArray<BucketSet> = PerCpuArray::with_max_entries(maps::BUCKETS.entries, 0);
#[map]
static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(maps::TALLY.entries, 0);
#[map]
static MULTIPLIERS: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(maps::MULTIPLIERS.entries, 0);
#[map]
static STANDING: HashMap<Payer, u32> = HashMap::with_max_entries(maps::STANDING.entries, 0);

/// [`Kind::of`] by itself: what it takes of the stack is given back before the charge.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn kind_of(context: *mut xdp_md, link: u32) -> u32 {
    Kind::of(&Far(Frame::new(context)), Link::from_bits(link)).bits()
}

/// Asks the budgets about a packet of this kind that passed so far, and notes what they say.
///
/// Exported, because the verifier walks a global function once, and not again for each way that
/// leads here; it wants to see the null check.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn charge(context: *mut xdp_md, objection: *mut Objection, kind: u32) -> u32 {
    // SAFETY: the only caller passes a reference.
    let Some(objection) = (unsafe { objection.as_mut() }) else {
        return 0;
    };
    let family = match objection.family {
        4 => Family::V4,
        6 => Family::V6,
        _ => return 0,
    };
    let passed = Verdict {
        acted: Reasons::NONE,
        observed: Reasons::from_bits(objection.observed),
        source: Source::from_words(family, objection.source),
        slot: objection.slot,
        is_due: true,
        link: Link::from_bits(objection.link),
    };
    let verdict = budgets(Kind::from_bits(kind), passed, &Maps { context });
    objection.acted = verdict.acted.bits();
    objection.observed = verdict.observed.bits();
    0
}

/// The program's maps as purse: of this CPU, on which nothing interrupts the program.
pub(super) struct PurseMaps;

impl Purse for PurseMaps {
    #[inline(always)]
    fn budgets(&self) -> Budgets {
        match BUDGETS.get_ptr(0) {
            // SAFETY: a map's value stays valid while the program runs; what is written meanwhile
            // is seen in parts, each of which is a budget.
            Some(budgets) => unsafe { *budgets },
            None => Budgets::default(),
        }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing and gives a number.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn multiplier(&self, payer: Payer) -> u32 {
        let key = RangeKey { reserved: 0, prefix_length: 128, words: payer.mapped() };
        MULTIPLIERS.get(key.v6()).copied().unwrap_or(1)
    }

    #[inline(always)]
    fn is_in_standing(&self, payer: Payer) -> bool {
        STANDING.get_ptr(&payer).is_some()
    }

    #[inline(always)]
    fn set(&mut self, index: u32) -> Option<&mut BucketSet> {
        // SAFETY: the value is this CPU's own, and nobody else's while the program runs.
        BUCKETS.get_ptr_mut(index).map(|set| unsafe { &mut *set })
    }

    #[inline(always)]
    fn tally(&mut self) -> Option<&mut Tally> {
        // SAFETY: as above.
        TALLY.get_ptr_mut(0).map(|tally| unsafe { &mut *tally })
    }
}
