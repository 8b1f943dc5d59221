//! The kernel's end of the packet path: the maps, the single exit, and in `frame` the frame. All the
//! `unsafe` of the program is here.
#![expect(unsafe_code, reason = "packet memory and map values are raw pointers of the kernel's")]
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    clippy::needless_borrows_for_generic_args,
    reason = "what the verifier and aya ask for; lengths are below 2^32"
)]

mod bans;
mod cookies;
mod fault;
mod frame;
mod purse;

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    bindings::xdp_md,
    helpers::{
        bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_sk_lookup_udp, bpf_sk_release,
        bpf_skc_lookup_tcp, bpf_xdp_load_bytes,
    },
    macros::{map, xdp},
    maps::lpm_trie::{Key, LpmTrie},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use firewall_common::lines::{Found, LISTS, Lines, record};
use firewall_common::{
    Budgeted, COUNTER_LOST, Config, Counter, DropEvent, Policy, Reason, Reasons, SAMPLE_OCTETS,
    counter, maps, policy_index,
};
use firewall_ebpf::budget::{self, Class, Purse as _};
use firewall_ebpf::link::{ETHERNET_LENGTH, Link};
use firewall_ebpf::packet::{Packet, ROOM};
use firewall_ebpf::source::{Family, Source};
use firewall_ebpf::verdict::{Flow, Socket, Tables, Verdict, judge};

use bans::{LineMap, ban4, ban6};
use cookies::{answer, answers_with_cookies};
use frame::{Frame, find_unawaited, inspect_packet};
use purse::{PurseMaps, charge, kind_of};

/// The kernel gives its GPL-only helpers to programs that declare one of the licences it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[map]
static SPILL4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(maps::SPILL4.entries, 0);
#[map]
static SPILL6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(maps::SPILL6.entries, 0);
#[map]
static LIST_DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(maps::LIST_DROPS.entries, 0);
#[map]
static ALLOW4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(maps::ALLOW4.entries, 0);
#[map]
static ALLOW6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(maps::ALLOW6.entries, 0);
#[map]
static OWN: HashMap<[u8; 16], u32> = HashMap::with_max_entries(maps::OWN.entries, 0);
/// Where headers are copied to that are not in the linear buffer, or are walked octet by octet: the
/// stack has no room for them, and is read at words' boundaries only.
#[map]
static ROOMS: PerCpuArray<[u8; ROOM]> = PerCpuArray::with_max_entries(2, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(maps::CONFIG.entries, 0);
#[map]
static POLICIES: Array<Policy> = Array::with_max_entries(maps::POLICIES.entries, 0);
#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(maps::COUNTERS.entries, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(maps::EVENTS.entries, 0);

#[xdp(frags)]
fn firewall(context: XdpContext) -> u32 {
    let ordered = fault::ordered();
    if ordered != firewall_common::fault::NONE {
        return fault::obey(context.ctx, ordered);
    }
    let frame = Frame::new(context.ctx);
    let verdict = judge(&frame, &Maps { context: frame.context });
    let is_ipv6 = matches!(verdict.source.family, Family::V6);
    let is_clean = verdict.acted.is_empty() && verdict.observed.is_empty();
    if is_clean && pays_its_way(&verdict) {
        if let Some(passed) =
            COUNTERS.get_ptr_mut(counter(verdict.slot, Reason::Passed as u32, is_ipv6, false))
        {
            // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
            unsafe { add(passed, frame.length as u64) };
        }
        return XDP_PASS;
    }
    let mut objection = Objection {
        length: frame.length as u64,
        source: verdict.source.words(),
        observed: verdict.observed.bits(),
        acted: verdict.acted.bits(),
        interface: frame.interface(),
        family: verdict.source.family as u32,
        slot: verdict.slot,
        link: verdict.link.to_bits(),
    };
    if verdict.is_due {
        let kind = if verdict.is_odd { kind_of(context.ctx, objection.link) } else { 0 };
        charge(context.ctx, &raw mut objection, kind);
        let is_shed = objection.acted == Reasons::NONE.with(Reason::S1).bits();
        if is_shed && answers_with_cookies() && answer(context.ctx) != 0 {
            objection.acted = Reasons::NONE.with(Reason::T16).bits();
            settle(&raw const objection);
            return XDP_TX;
        }
    }
    let due = if objection.observed == 0 {
        count(&raw const objection, least(objection.acted), 0)
    } else {
        settle(&raw const objection)
    };
    if due != 0 {
        send(context.ctx, &raw const objection, due);
    }
    let drops = objection.acted & !Reasons::NONE.with(Reason::Allowed).bits() != 0;
    if drops { XDP_DROP } else { XDP_PASS }
}

/// Whether the budgets need not be asked about a packet: it has none, or has that of its source's packets
/// alone, and pays.
#[inline(always)]
fn pays_its_way(verdict: &Verdict) -> bool {
    let payer = budget::payer(verdict.source);
    !verdict.is_due
        || !verdict.is_odd && payer.is_some_and(|payer| PurseMaps.pays(payer, Budgeted::Packets))
}

/// A packet that something objected to, or that may have a budget.
#[repr(C)]
struct Objection {
    length: u64,
    source: [u64; 2],
    acted: u64,
    observed: u64,
    interface: u32,
    family: u32,
    slot: u32,
    /// A [`Link`]'s number.
    link: u32,
}

/// The number of the least reason of a set; an empty one has none, and passed.
#[inline(always)]
const fn least(reasons: u64) -> u32 {
    reasons.trailing_zeros() & (Reasons::BITS - 1)
}

/// The exit of a packet to which something objected that is observed: counts it once by what became of
/// it, and once for each check that only observed. Gives what [`count`] gives of the first that is due.
///
/// Exported like [`charge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(objection: *const Objection) -> u32 {
    // SAFETY: the only caller passes a reference.
    let Some(objection) = (unsafe { objection.as_ref() }) else {
        return 0;
    };
    let mut due = count(objection, least(objection.acted), 0);
    // One bit of the set after the other, the least first.
    let mut rest = objection.observed;
    for _ in 0..Reasons::BITS {
        if rest == 0 {
            break;
        }
        let found = count(objection, rest.trailing_zeros(), 1);
        if due == 0 {
            due = found;
        }
        rest &= rest - 1;
    }
    due
}

/// Counts a packet under the reason with this number. Gives 0, or where an event of it is due
/// `reason * 2 + observed`, which is never 0 since what passed is no event.
///
/// Exported like [`settle`], whose loop would else multiply it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count(objection: *const Objection, reason: u32, observed: u32) -> u32 {
    // SAFETY: the only callers pass a reference.
    let Some(objection) = (unsafe { objection.as_ref() }) else {
        return 0;
    };
    let is_ipv6 = objection.family == Family::V6 as u32;
    let index = counter(objection.slot, reason, is_ipv6, observed != 0);
    let Some(counter) = COUNTERS.get_ptr_mut(index) else {
        return 0;
    };
    let length = objection.length;
    // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
    unsafe { add(counter, length) };
    let [high, low] = objection.source.map(u64::to_be);
    if is_ipv6 {
        let words = [high, low].map(u64::to_be_bytes);
        debug!(objection, "reason {}: {} octets from {:i}", reason, length, octets(words));
    } else {
        debug!(objection, "reason {}: {} octets from {:i}", reason, length, (high >> 32) as u32);
    }
    // SAFETY: as above; the helper takes nothing and gives a number.
    unsafe {
        // The clock below stands still between two ticks, and asking for their number costs less.
        let tick = bpf_jiffies64();
        if (*counter).asked_tick == tick {
            return 0;
        }
        (*counter).asked_tick = tick;
    }
    let Some(config) = CONFIG.get_ptr(0) else {
        return 0;
    };
    let now_ns = now_ns();
    // SAFETY: as above, and a map's value stays valid while the program runs.
    unsafe {
        if now_ns < (*counter).event_mono_ns {
            return 0;
        }
        let is_captured = (*config).captured.bits() & (1 << (reason & (Reasons::BITS - 1))) != 0;
        let interval_ns =
            if is_captured { (*config).capture_interval_ns } else { (*config).event_interval_ns };
        (*counter).event_mono_ns = now_ns + interval_ns;
        if interval_ns == 0 {
            (*counter).asked_tick = 0;
        }
    }
    if reason == Reason::Passed as u32 { 0 } else { reason * 2 + u32::from(observed != 0) }
}

/// Sends a sample of the frame up, `due` being what [`count`] gave. Exported like [`settle`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send(context: *mut xdp_md, objection: *const Objection, due: u32) -> u32 {
    // SAFETY: the only caller passes a reference.
    let Some(objection) = (unsafe { objection.as_ref() }) else {
        return 0;
    };
    let Some(mut entry) = EVENTS.reserve::<DropEvent>(0) else {
        if let Some(lost) = COUNTERS.get_ptr_mut(COUNTER_LOST) {
            // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
            unsafe { (*lost).packets += 1 };
        }
        return 0;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: the record is reserved, as large as an event, and written field by field; the helper
    // writes at most the octets that the frame's field has, or fails.
    unsafe {
        (*event).mono_ns = now_ns();
        (*event).source = octets(objection.source.map(u64::to_ne_bytes));
        (*event).length = objection.length as u32;
        (*event).interface = objection.interface;
        (*event).reason = due / 2;
        (*event).family = objection.family as u16;
        (*event).observed = (due & 1) as u16;
        let sampled = (objection.length as usize).min(SAMPLE_OCTETS);
        (*event).sampled = 0;
        // Verifiers before Linux 6.8 learn a lower bound from an order alone, and nothing from "not 0";
        // no frame is shorter than its Ethernet header.
        if sampled >= ETHERNET_LENGTH {
            let target = (&raw mut (*event).frame).cast();
            if bpf_xdp_load_bytes(context, 0, target, sampled as u32) == 0 {
                (*event).sampled = sampled as u32;
            }
        }
    }
    entry.submit(0);
    0
}

#[inline(always)]
fn octets([high, low]: [[u8; 8]; 2]) -> [u8; 16] {
    let mut octets = [0; 16];
    for (octet, from) in octets.iter_mut().zip(high.into_iter().chain(low)) {
        *octet = from;
    }
    octets
}

/// # Safety
///
/// `counter` points to a value of this CPU's.
#[inline(always)]
unsafe fn add(counter: *mut Counter, octets: u64) {
    // SAFETY: promised by the caller.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += octets;
    }
}

/// The key of a trie: the length of the prefix, and the address. Words, because the kernel's stack
/// is written at their boundaries only.
#[repr(C)]
struct RangeKey {
    reserved: u32,
    prefix_length: u32,
    words: [u64; 2],
}

impl RangeKey {
    #[inline(always)]
    fn new(source: Source) -> Self {
        let prefix_length = if matches!(source.family, Family::V4) { 32 } else { 128 };
        Self { reserved: 0, prefix_length, words: source.words() }
    }

    #[inline(always)]
    fn v4(&self) -> &Key<[u8; 4]> {
        // SAFETY: `prefix_length` and the octets of the address lie one after the other.
        unsafe { &*(&raw const self.prefix_length).cast() }
    }

    #[inline(always)]
    fn v6(&self) -> &Key<[u8; 16]> {
        // SAFETY: as above.
        unsafe { &*(&raw const self.prefix_length).cast() }
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and gives a number.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Who speaks to whom, laid out as `struct bpf_sock_tuple`: the octets of both addresses, then of
/// both ports.
#[repr(C)]
struct SocketTuple {
    words: [u64; 5],
    length: u32,
}

impl SocketTuple {
    #[inline(always)]
    fn new(flow: &Flow) -> Self {
        let ports = u64::from(u32::from_ne_bytes(flow.ports));
        let ([from, from_low], [to, to_low]) = (flow.source.words(), flow.destination.words());
        if matches!(flow.source.family, Family::V4) {
            // An IPv4 address is the low half of its word, on these little-endian machines.
            Self { words: [from | to << 32, ports, 0, 0, 0], length: 12 }
        } else {
            Self { words: [from, from_low, to, to_low, ports], length: 36 }
        }
    }
}

/// The program's maps as tables, for the packet of a context.
struct Maps {
    context: *mut xdp_md,
}

impl Tables for Maps {
    type Hit = Found;

    const NO_HIT: Found = Found::NONE;

    #[inline(always)]
    fn config(&self) -> Config {
        match CONFIG.get_ptr(0) {
            // SAFETY: a map's value stays valid while the program runs; its words are read once.
            Some(config) => unsafe { *config },
            // An array map has all its entries: the verifier alone wants to hear of this.
            None => Config::default(),
        }
    }

    #[inline(always)]
    fn policy(&self) -> Policy {
        // SAFETY: the kernel calls the program with a valid context.
        let interface = unsafe { (*self.context).ingress_ifindex };
        match POLICIES.get_ptr(policy_index(interface)) {
            // SAFETY: as above.
            Some(policy) => unsafe { *policy },
            None => Policy::default(),
        }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    #[inline(always)]
    fn ban(&self, source: Source) -> Option<Found> {
        let [high, low] = source.words().map(u64::to_be);
        let found = match source.family {
            Family::V4 => Found::from_bits(ban4((high >> 32) as u32)),
            Family::V6 => Found::from_bits(ban6(high, low)),
            Family::None => Found::NONE,
        };
        if found.is_banned() { Some(found) } else { None }
    }

    #[inline(always)]
    fn spilled(&self, source: Source) -> Option<Found> {
        let key = RangeKey::new(source);
        let found = match source.family {
            Family::V4 => SPILL4.get(key.v4()),
            Family::V6 => SPILL6.get(key.v6()),
            Family::None => None,
        };
        found.map(|bits| Found::from_bits(*bits as u32))
    }

    #[inline(always)]
    fn is_range(&self, hit: Found) -> bool {
        hit.is_range()
    }

    #[inline(always)]
    fn allows(&self, source: Source) -> bool {
        let key = RangeKey::new(source);
        match source.family {
            Family::V4 => ALLOW4.get(key.v4()).is_some(),
            Family::V6 => ALLOW6.get(key.v6()).is_some(),
            Family::None => false,
        }
    }

    #[inline(always)]
    fn is_own(&self, address: Source) -> bool {
        let words = address.words();
        // SAFETY: the key is the octets of the words; nothing is read of the value.
        unsafe { OWN.get_ptr(&*words.as_ptr().cast::<[u8; 16]>()).is_some() }
    }

    #[inline(always)]
    fn socket(&self, flow: &Flow) -> Socket {
        const TCP: u8 = 6;
        const LISTEN: u32 = 10;
        /// `BPF_F_CURRENT_NETNS`: the interface's own namespace.
        const HERE: u64 = u64::MAX;
        let mut tuple = SocketTuple::new(flow);
        let (words, length) = ((&raw mut tuple.words).cast(), tuple.length);
        let context = self.context.cast();
        // SAFETY: the helpers read `length` octets of the tuple; a socket that is found stays until
        // it is released.
        unsafe {
            let socket = if flow.protocol == TCP {
                bpf_skc_lookup_tcp(context, words, length, HERE, 0)
            } else {
                bpf_sk_lookup_udp(context, words, length, HERE, 0)
            };
            if socket.is_null() {
                return Socket::None;
            }
            let is_bound = flow.protocol == TCP && (*socket).state == LISTEN;
            bpf_sk_release(socket.cast());
            if is_bound { Socket::Bound } else { Socket::Connected }
        }
    }

    #[inline(always)]
    fn inspect<P: Packet + ?Sized>(&self, _: &P, policy: &Policy, link: Link) -> Reasons {
        let Policy { drop, observe, .. } = *policy;
        let found = inspect_packet(self.context, link.to_bits(), drop.bits(), observe.bits());
        Reasons::from_bits(found)
    }

    #[inline(always)]
    fn unawaited<P: Packet + ?Sized>(&self, _: &P, link: Link) -> Reasons {
        if link.is_ip() {
            Reasons::from_bits(find_unawaited(self.context, link.to_bits()))
        } else {
            Reasons::NONE
        }
    }

    fn count_drop(&self, hit: Found) {
        let owner = hit.owner();
        if owner < LISTS {
            if let Some(drops) = LIST_DROPS.get_ptr_mut(owner) {
                // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
                unsafe { *drops += 1 };
            }
            return;
        }
        let Some(records) = LineMap::of(maps::bans::RECORDS) else {
            return;
        };
        let (line, word) = record::drops(owner);
        let Some(drops) = records.line(line) else {
            return;
        };
        // SAFETY: a map's value stays valid while the program runs, and words are aligned.
        unsafe {
            let drops = drops.as_ptr().cast::<u64>().add(word as usize);
            if hit.is_range() {
                // The target has no compare-and-swap, for which reason `AtomicU64` cannot add.
                asm!(
                    "lock *(u64 *)({drops} + 0) += {one}",
                    drops = in(reg) drops,
                    one = in(reg) 1_u64,
                    options(nostack),
                );
            } else {
                // Of one address nearly every packet comes to one CPU, and nothing is decided by what
                // two may miss: a locked addition would hold up all that follows it for as long as
                // this line takes to come.
                drops.write_volatile(drops.read_volatile() + 1);
            }
        }
    }

    #[inline(always)]
    fn charge(&self, class: Class, source: Source, asked: Reasons) -> Reasons {
        let charge = |payer| budget::charge(&mut PurseMaps, class, payer, asked);
        budget::payer(source).map_or(Reasons::NONE, charge)
    }
}

/// No path of the program panics; were one to, the verifier would refuse the loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
