//! A packet generator, and the kernel's own tables as packet filters: what the firewall is measured
//! with and against. Nothing of it is part of the firewall.
#![expect(unsafe_code, reason = "packet memory and map values are raw pointers of the kernel's")]
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    reason = "what the verifier and aya ask for"
)]

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::bpf_redirect,
    macros::{map, xdp},
    maps::lpm_trie::{Key, LpmTrie},
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use firewall_common::lines::Found;

use crate::bans::{ban4, ban6};

/// Keys in one element of the maps of keys.
const KEYS_PER_PAGE: u32 = 1024;
/// Elements of those maps.
const PAGES: u32 = 1024;

const ETHERNET_LENGTH: usize = 14;
const ETHERTYPE: usize = 12;
const IPV4_LENGTH: usize = 20;
const IPV4_SOURCE: usize = ETHERNET_LENGTH + 12;
const IPV6_LENGTH: usize = 40;
const IPV6_SOURCE: usize = ETHERNET_LENGTH + 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// What a run is to do, and how far it is. Layout shared with the bench by hand.
#[repr(C)]
struct Run {
    /// The number of the next key; every run takes one.
    next: u64,
    /// Where [`generate`] sends its frames; nowhere if 0.
    interface: u32,
    /// Which program [`draw4`] and [`draw6`] call.
    program: u32,
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[map]
static RUN: Array<Run> = Array::with_max_entries(1, 0);
/// The sources, in the order in which they are sent.
#[map]
static KEYS4: Array<[[u8; 4]; KEYS_PER_PAGE as usize]> = Array::with_max_entries(PAGES, 0);
#[map]
static KEYS6: Array<[[u8; 16]; KEYS_PER_PAGE as usize]> = Array::with_max_entries(PAGES, 0);
/// The programs that are measured.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(16, 0);
/// Packets that the filters of this file found a source of.
#[map]
static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[map]
static LPM4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
static LPM6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
static HASH4: HashMap<[u8; 4], u64> = HashMap::with_max_entries(1, 0);
#[map]
static HASH6: HashMap<[u8; 16], u64> = HashMap::with_max_entries(1, 0);

/// Sends the frame on, from the next source. Its octets are those of the frame before: whatever
/// differs is written each time.
#[xdp]
fn generate(context: XdpContext) -> u32 {
    let Some(run) = RUN.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: a map's value stays valid while the program runs; one CPU generates.
    let (number, interface) = unsafe { ((*run).next, (*run).interface) };
    // SAFETY: as above.
    unsafe { (*run).next = number + 1 };
    let Some(source) = key4(number) else { return XDP_ABORTED };
    let Some(header) = at::<IPV4_LENGTH>(&context, ETHERNET_LENGTH) else { return XDP_ABORTED };
    let address = source.as_ptr().cast::<u32>();
    // SAFETY: the header's octets were checked to lie within the frame, and a key has four.
    unsafe {
        let (before, after) = ((*header).as_ptr().add(12).cast::<u32>(), address.read_unaligned());
        let checksum = (*header).as_mut_ptr().add(10).cast::<u16>();
        let sum = replaced(checksum.read_unaligned(), before.read_unaligned(), after);
        checksum.write_unaligned(sum);
        (*header).as_mut_ptr().add(12).cast::<u32>().write_unaligned(after);
        if interface == 0 { XDP_DROP } else { bpf_redirect(interface, 0) as u32 }
    }
}

/// The checksum with one address in place of another (RFC 1624, equation 3).
#[inline(always)]
fn replaced(checksum: u16, before: u32, after: u32) -> u16 {
    let mut sum = u32::from(!checksum);
    sum += (!before & 0xffff) + (!before >> 16) + (after & 0xffff) + (after >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Writes the next IPv4 source into the frame and calls the program that is measured.
#[xdp(frags)]
fn draw4(context: XdpContext) -> u32 {
    let Some((number, program)) = next() else { return XDP_ABORTED };
    let Some(source) = key4(number) else { return XDP_ABORTED };
    let Some(field) = at::<4>(&context, IPV4_SOURCE) else { return XDP_ABORTED };
    // SAFETY: both are four octets long.
    unsafe { *field = *source };
    call(&context, program)
}

/// The same with IPv6.
#[xdp(frags)]
fn draw6(context: XdpContext) -> u32 {
    let Some((number, program)) = next() else { return XDP_ABORTED };
    let Some(source) = key6(number) else { return XDP_ABORTED };
    let Some(field) = at::<16>(&context, IPV6_SOURCE) else { return XDP_ABORTED };
    // SAFETY: both are sixteen octets long.
    unsafe { *field = *source };
    call(&context, program)
}

/// The number of the next key, and the program to call. Its atomic addition waits for all reads
/// before it: two runs never overlap in the processor, as two packets off the wire would not.
#[inline(always)]
fn next() -> Option<(u64, u32)> {
    let run = RUN.get_ptr_mut(0)?;
    // SAFETY: a map's value stays valid while the program runs; one CPU draws.
    unsafe {
        let number = (*run).next;
        asm!(
            "lock *(u64 *)({next} + 0) += {one}",
            next = in(reg) &raw mut (*run).next,
            one = in(reg) 1_u64,
            options(nostack),
        );
        Some((number, (*run).program))
    }
}

#[inline(always)]
fn call(context: &XdpContext, program: u32) -> u32 {
    // SAFETY: the context is the one that this program was called with. It returns on failure only.
    unsafe { PROGRAMS.tail_call(context, program) };
    XDP_ABORTED
}

#[inline(always)]
fn key4(number: u64) -> Option<&'static [u8; 4]> {
    let page = KEYS4.get(number as u32 / KEYS_PER_PAGE % PAGES)?;
    page.get(number as usize % KEYS_PER_PAGE as usize)
}

#[inline(always)]
fn key6(number: u64) -> Option<&'static [u8; 16]> {
    let page = KEYS6.get(number as u32 / KEYS_PER_PAGE % PAGES)?;
    page.get(number as usize % KEYS_PER_PAGE as usize)
}

/// Reads nothing and passes: what drawing a source and calling a program cost by themselves.
#[xdp(frags)]
fn nothing(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops what an LPM trie holds.
#[xdp(frags)]
fn lpm(context: XdpContext) -> u32 {
    match source(&context) {
        Some(Source::V4(source)) => judge(LPM4.get(&Key::new(32, source)).is_some()),
        Some(Source::V6(source)) => judge(LPM6.get(&Key::new(128, source)).is_some()),
        None => XDP_PASS,
    }
}

/// Drops what a hash map holds.
#[xdp(frags)]
fn hash(context: XdpContext) -> u32 {
    match source(&context) {
        Some(Source::V4(source)) => judge(HASH4.get_ptr(&source).is_some()),
        Some(Source::V6(source)) => judge(HASH6.get_ptr(&source).is_some()),
        None => XDP_PASS,
    }
}

/// Drops what the firewall's tables hold.
#[xdp(frags)]
fn table(context: XdpContext) -> u32 {
    let found = match source(&context) {
        Some(Source::V4(source)) => ban4(u32::from_be_bytes(source)),
        Some(Source::V6(source)) => {
            let [high, low] = [half(&source, 0), half(&source, 8)];
            ban6(high, low)
        }
        None => return XDP_PASS,
    };
    judge(Found::from_bits(found).is_banned())
}

/// Eight octets of an address as a number.
#[inline(always)]
fn half(source: &[u8; 16], offset: usize) -> u64 {
    // SAFETY: the offset is 0 or 8.
    u64::from_be(unsafe { source.as_ptr().add(offset).cast::<u64>().read_unaligned() })
}

/// Drops everything that is IP: a filter without a table.
#[xdp(frags)]
fn parse(context: XdpContext) -> u32 {
    judge(source(&context).is_some())
}

enum Source {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// The source of an IP packet right behind the Ethernet header: the least that a filter can read.
#[inline(always)]
fn source(context: &XdpContext) -> Option<Source> {
    let ethertype = at::<2>(context, ETHERTYPE)?;
    // SAFETY: the pointers are to octets of the frame that were checked to be there.
    unsafe {
        if *ethertype == ETHERTYPE_IPV4 {
            at::<IPV4_LENGTH>(context, ETHERNET_LENGTH)?;
            Some(Source::V4(*at::<4>(context, IPV4_SOURCE)?))
        } else if *ethertype == ETHERTYPE_IPV6 {
            at::<IPV6_LENGTH>(context, ETHERNET_LENGTH)?;
            Some(Source::V6(*at::<16>(context, IPV6_SOURCE)?))
        } else {
            None
        }
    }
}

#[inline(always)]
fn judge(is_hit: bool) -> u32 {
    if !is_hit {
        return XDP_PASS;
    }
    if let Some(hits) = HITS.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself.
        unsafe { *hits += 1 };
    }
    XDP_DROP
}

/// The `N` octets from `offset` on, if the frame's linear buffer has them.
#[inline(always)]
fn at<const N: usize>(context: &XdpContext, offset: usize) -> Option<*mut [u8; N]> {
    let start = context.data() + offset;
    if start + N <= context.data_end() { Some(start as *mut [u8; N]) } else { None }
}

/// No path of the programs panics; were one to, the verifier would refuse the loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
