//! The frame of a packet, and what is made of it by functions of their own.
#![expect(unsafe_code, reason = "packet memory and map values are raw pointers of the kernel's")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use firewall_common::{Policy, Reasons};
use firewall_ebpf::findings::Findings;
use firewall_ebpf::link::Link;
use firewall_ebpf::packet::{Packet, ROOM};
use firewall_ebpf::{awaited, chain, checksum, inspect, options};

use super::{Maps, ROOMS};

/// The frame that the program was called with.
pub(super) struct Frame {
    pub(super) context: *mut xdp_md,
    pub(super) length: usize,
}

impl Frame {
    #[inline(always)]
    pub(super) fn new(context: *mut xdp_md) -> Self {
        // SAFETY: the kernel calls the program with a valid context.
        unsafe { Self { context, length: bpf_xdp_get_buff_len(context) as usize } }
    }

    #[inline(always)]
    pub(super) fn interface(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { (*self.context).ingress_ifindex }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn length(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // Read anew for each header: the verifier remembers of a pointer how far it was compared, and
        // would walk what is behind a header once for each way in which it may have been read.
        // SAFETY: as in `new`. A frame of several buffers goes on beyond the end of the linear one.
        let (data, linear_end) = unsafe {
            let context = self.context;
            let (data, end) = (&raw const (*context).data, &raw const (*context).data_end);
            (data.read_volatile() as usize, end.read_volatile() as usize)
        };
        let start = data + offset;
        if start + N <= linear_end {
            // SAFETY: the octets lie within the linear buffer, which the verifier checks again.
            return Some(unsafe { (start as *const [u8; N]).read_unaligned() });
        }
        // Some drivers put headers outside of the linear buffer; to give up would be to pass.
        self.read_far(offset)
    }

    #[inline(always)]
    fn read_far<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset + N > self.length {
            return None;
        }
        let room = ROOMS.get_ptr_mut(1)?;
        // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself. The helper
        // writes `N` octets, fewer than there is room for, or fails.
        unsafe {
            let read = bpf_xdp_load_bytes(self.context, offset as u32, room.cast(), N as u32);
            if read == 0 { Some(room.cast::<[u8; N]>().read_unaligned()) } else { None }
        }
    }

    #[inline(always)]
    fn with_room<R>(
        &self,
        offset: usize,
        length: usize,
        work: impl FnOnce(&[u8; ROOM]) -> R,
    ) -> Option<R> {
        // The mask tells the verifier a bound that it would not find in what the header said.
        let length = length & core::hint::black_box(ROOM - 1);
        let room = ROOMS.get_ptr_mut(0)?;
        // By order, as in `send`, and by nothing else: LLVM makes one comparison of two, of a difference
        // from which verifiers before Linux 6.8 learn nothing. What is walked has at least a word; that
        // it has no more than there is room for, the mask says.
        if length < 4 {
            return None;
        }
        // SAFETY: the pointer is to this CPU's value; the program does not interrupt itself. The helper
        // writes `length` octets, fewer than there is room for, or fails.
        unsafe {
            let written =
                bpf_xdp_load_bytes(self.context, offset as u32, room.cast(), length as u32);
            if written == 0 { Some(work(&*room)) } else { None }
        }
    }

    #[inline(always)]
    fn options(&self, offset: usize, length: usize) -> u32 {
        scan_options(self.context, offset as u32, length as u32)
    }

    #[inline(always)]
    fn chain(&self, protocol: u8, start: usize, end: usize) -> u64 {
        walk_chain(self.context, u32::from(protocol), start as u32, end as u32)
    }

    #[inline(always)]
    fn is_sound(&self, offset: usize, length: usize) -> bool {
        check_sum(self.context, offset as u32, length as u32) != 0
    }
}

/// [`options::scan`] by itself: its room is not on the stack of those packets that have no options,
/// and the verifier walks it once, not once for each header that has some.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_options(context: *mut xdp_md, offset: u32, length: u32) -> u32 {
    options::scan(&Frame::new(context), offset as usize, length as usize)
}

/// [`chain::walk`] by itself, for the same reasons.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_chain(context: *mut xdp_md, protocol: u32, start: u32, end: u32) -> u64 {
    chain::walk(&Frame::new(context), protocol as u8, start as usize, end as usize)
}

/// [`checksum::is_sound`] by itself, for the same reasons; one if it is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_sum(context: *mut xdp_md, offset: u32, length: u32) -> u32 {
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
