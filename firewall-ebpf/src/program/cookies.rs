//! SYNs turned into their answers, by the kernel's own cookies.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    macros::map,
    maps::PerCpuArray,
};
use firewall_common::maps;
use firewall_ebpf::cookie::{
    self, ANSWER4, ANSWER4_WORDS, ANSWER6, ANSWER6_WORDS, Cookie, ETHERNET_WORDS, IPV4_WORDS,
    IPV6_WORDS, TCP_HEADER_WORDS,
};

use super::frame::Frame;

/// Whether a new connection that is shed is answered with a cookie. Written when the program is
/// loaded: where it is zero the verifier removes what it leads to.
#[unsafe(no_mangle)]
static COOKIES: u8 = 0;

#[inline(always)]
pub(super) fn answers_with_cookies() -> bool {
    // SAFETY: a static of this program; volatile, for the compiler must not take it for what it
    // is now.
    unsafe { (&raw const COOKIES).read_volatile() != 0 }
}

/// Turns a SYN into its answer, with the kernel's cookie in it; 1 if it did. It does so for what it
/// need not look for: no tag, no options of IPv4, no extension header, a socket that listens.
///
/// Exported like [`charge`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn answer(context: *mut xdp_md) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the value is this CPU's own, and nobody else's while the program runs.
    let scratch = unsafe { &mut *scratch };
    let frame = Frame::new(context);
    if load(&frame, 0, 14, &mut scratch.ethernet).is_none() {
        return 0;
    }
    let is_done = match cookie::pair(&scratch.ethernet, 12) {
        0x0800 => answer4(&frame, scratch),
        0x86dd => answer6(&frame, scratch),
        _ => None,
    };
    u32::from(is_done.is_some())
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(maps::SCRATCH.entries, 0);

/// What an answer is put together from.
#[repr(C)]
struct Scratch {
    ethernet: [u64; ETHERNET_WORDS],
    ip4: [u64; IPV4_WORDS],
    ip6: [u64; IPV6_WORDS],
    tcp: [u64; TCP_HEADER_WORDS],
    /// `struct bpf_sock_tuple`.
    tuple: [u64; 5],
    answer4: [u64; ANSWER4_WORDS],
    answer6: [u64; ANSWER6_WORDS],
}

const TCP: u16 = 6;

#[inline(always)]
fn answer4(frame: &Frame, scratch: &mut Scratch) -> Option<()> {
    let Scratch { ethernet, ip4: ip, tcp, tuple, answer4, .. } = scratch;
    load(frame, 14, 20, ip)?;
    let (version, fragment) = (cookie::pair(ip, 0) >> 8, cookie::pair(ip, 6));
    let protocol = cookie::pair(ip, 8) & 0xff;
    if version != 0x45 || fragment & 0x3fff != 0 || protocol != TCP {
        return None;
    }
    let length = header(frame, 34, tcp)?;
    // Both addresses, over the second and the third word.
    let [_, from, to] = *ip;
    *tuple = [from >> 32 | to << 32, ports(tcp), 0, 0, 0];
    let cookie = cookie(frame, (tuple, 12), (ip, 20), (tcp, length))?;
    cookie::answer4(ethernet, ip, tcp, cookie, answer4);
    frame.answer(answer4, ANSWER4)
}

#[inline(always)]
fn answer6(frame: &Frame, scratch: &mut Scratch) -> Option<()> {
    let Scratch { ethernet, ip6: ip, tcp, tuple, answer6, .. } = scratch;
    load(frame, 14, 40, ip)?;
    let (version, next) = (cookie::pair(ip, 0) >> 12, cookie::pair(ip, 6) >> 8);
    if version != 6 || next != TCP {
        return None;
    }
    let length = header(frame, 54, tcp)?;
    let [_, from, from_low, to, to_low] = *ip;
    *tuple = [from, from_low, to, to_low, ports(tcp)];
    let cookie = cookie(frame, (tuple, 36), (ip, 40), (tcp, length))?;
    cookie::answer6(ethernet, ip, tcp, cookie, answer6);
    frame.answer(answer6, ANSWER6)
}

/// Reads `length` octets at `offset`, no more than the words hold; none if the frame ends before.
#[inline(always)]
fn load<const N: usize>(
    frame: &Frame,
    offset: usize,
    length: usize,
    words: &mut [u64; N],
) -> Option<()> {
    // SAFETY: the helper writes `length` octets, for which the callers make room, or fails.
    let result = unsafe {
        let to = words.as_mut_ptr().cast();
        bpf_xdp_load_bytes(frame.context, offset as u32, to, length as u32)
    };
    (result == 0).then_some(())
}

/// Reads a TCP header, options included, and gives its length.
#[inline(always)]
fn header(frame: &Frame, offset: usize, tcp: &mut [u64; TCP_HEADER_WORDS]) -> Option<usize> {
    load(frame, offset, 20, tcp)?;
    let length = bounded(usize::from(cookie::pair(tcp, 12) >> 12) * 4)?;
    load(frame, offset, length, tcp)?;
    Some(length)
}

/// The mask tells the verifier a bound that it would not find in what the header said.
#[inline(always)]
fn bounded(length: usize) -> Option<usize> {
    let length = core::hint::black_box(length) & 63;
    (length >= 20).then_some(length)
}

#[inline(always)]
const fn ports(tcp: &[u64; TCP_HEADER_WORDS]) -> u64 {
    let [ports, ..] = tcp;
    *ports & 0xffff_ffff
}

/// The cookie of the socket that listens at these addresses and ports, each of which is given with
/// the number of its octets. None too where `net.ipv4.tcp_syncookies` is not 2 and the socket's queue
/// has room: then it wants no cookies.
#[inline(always)]
fn cookie(
    frame: &Frame,
    (tuple, tuple_length): (&mut [u64; 5], u32),
    (ip, ip_length): (&[u64], u32),
    (tcp, length): (&[u64; TCP_HEADER_WORDS], usize),
) -> Option<Cookie> {
    /// `BPF_F_CURRENT_NETNS`: the interface's own namespace.
    const HERE: u64 = u64::MAX;
    let length = bounded(length)?;
    // SAFETY: the helpers read so many octets, which there are; a socket that is found stays until
    // it is released.
    let given = unsafe {
        let (context, tuple) = (frame.context.cast(), tuple.as_mut_ptr().cast());
        let socket = bpf_skc_lookup_tcp(context, tuple, tuple_length, HERE, 0);
        if socket.is_null() {
            return None;
        }
        let (ip, tcp) = (ip.as_ptr().cast_mut().cast(), tcp.as_ptr().cast_mut().cast());
        let given = bpf_tcp_gen_syncookie(socket.cast(), ip, ip_length, tcp, length as u32);
        bpf_sk_release(socket.cast());
        given
    };
    Cookie::from_helper(given)
}

impl Frame {
    /// Makes the frame the first `length` octets of these.
    #[inline(always)]
    fn answer<const N: usize>(&self, words: &[u64; N], length: usize) -> Option<()> {
        let change = length as i32 - self.length as i32;
        // SAFETY: the helpers change the frame, none of which is read behind them, and read no more
        // than the words hold.
        let result = unsafe {
            if bpf_xdp_adjust_tail(self.context, change) != 0 {
                return None;
            }
            let from = words.as_ptr().cast_mut().cast();
            bpf_xdp_store_bytes(self.context, 0, from, length as u32)
        };
        (result == 0).then_some(())
    }
}
