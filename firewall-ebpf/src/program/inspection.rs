//! What is inspected of a packet that is not ordinary, in functions that the verifier walks once.

use aya_ebpf::bindings::xdp_md;
use firewall_common::{Policy, Reasons};
use firewall_ebpf::findings::Findings;
use firewall_ebpf::link::Link;
use firewall_ebpf::packet::{Packet, ROOM};
use firewall_ebpf::{awaited, chain, checksum, inspect, options};

use super::{Frame, Maps};

/// [`options::scan`] by itself: its room is not on the stack of those packets that have no options,
/// and the verifier walks it once, not once for each header that has some.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn scan_options(context: *mut xdp_md, offset: u32, length: u32) -> u32 {
    options::scan(&Frame::new(context), offset as usize, length as usize)
}

/// [`chain::walk`] by itself, for the same reasons.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn walk_chain(
    context: *mut xdp_md,
    protocol: u32,
    start: u32,
    end: u32,
) -> u64 {
    chain::walk(&Frame::new(context), protocol as u8, start as usize, end as usize)
}

/// [`checksum::is_sound`] by itself, for the same reasons; one if it is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn check_sum(context: *mut xdp_md, offset: u32, length: u32) -> u32 {
    u32::from(checksum::is_sound(&Frame::new(context), offset as usize, length as usize))
}

/// A frame of which everything is read by the helper: what is read so leaves no trace in the verifier's
/// memory of the frame.
pub(super) struct Far(pub(super) Frame);

impl Packet for Far {
    #[inline(always)]
    fn length(&self) -> usize {
        self.0.length
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.read_far(offset)
    }

    #[inline(always)]
    fn with_room<R>(
        &self,
        offset: usize,
        length: usize,
        work: impl FnOnce(&[u8; ROOM]) -> R,
    ) -> Option<R> {
        self.0.with_room(offset, length, work)
    }

    #[inline(always)]
    fn options(&self, offset: usize, length: usize) -> u32 {
        self.0.options(offset, length)
    }

    #[inline(always)]
    fn chain(&self, protocol: u8, start: usize, end: usize) -> u64 {
        self.0.chain(protocol, start, end)
    }

    #[inline(always)]
    fn is_sound(&self, offset: usize, length: usize) -> bool {
        self.0.is_sound(offset, length)
    }
}

/// [`inspect::inspect`] by itself: what is ordinary does not pay for its stack, and the verifier walks
/// it once, not once for each way that a packet takes to it. `link` is a [`Link`]'s number.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn inspect_packet(
    context: *mut xdp_md,
    link: u32,
    drop: u64,
    observe: u64,
) -> u64 {
    let (drop, observe) = (Reasons::from_bits(drop), Reasons::from_bits(observe));
    let findings = Findings::new(&Policy { drop, observe, slot: 0, reserved: 0 });
    let (frame, maps) = (Far(Frame::new(context)), Maps { context });
    inspect::inspect(&frame, &maps, Link::from_bits(link), findings).bits()
}

/// [`awaited::unawaited`] by itself, for the same reasons.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn find_unawaited(context: *mut xdp_md, link: u32) -> u64 {
    let (frame, maps) = (Far(Frame::new(context)), Maps { context });
    awaited::unawaited(&frame, &maps, Link::from_bits(link)).bits()
}
