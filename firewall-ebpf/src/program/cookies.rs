//! SYNs turned into their answers, by the kernel's own cookies.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
};
use firewall_ebpf::cookie::{self, Cookie};
use firewall_ebpf::packet::Packet as _;

use super::{Frame, Words};

/// Turns a SYN into its answer, with the kernel's cookie in it; 1 if it did. It does so for what it
/// need not look for: no tag, no options of IPv4, no extension header, a socket that listens.
///
/// Exported like [`charge`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn answer(context: *mut xdp_md) -> u32 {
    let frame = Frame::new(context);
    let Some(ethernet) = frame.read_far::<14>(0) else {
        return 0;
    };
    let is_done = match ethernet {
        [.., 0x08, 0x00] => answer4(&frame, &ethernet),
        [.., 0x86, 0xdd] => answer6(&frame, &ethernet),
        _ => None,
    };
    u32::from(is_done.is_some())
}

#[inline(always)]
fn answer4(frame: &Frame, ethernet: &[u8; 14]) -> Option<()> {
    let ip = frame.read_far::<20>(14)?;
    let [version, _, _, _, _, _, flags, offset, _, protocol, _, _, addresses @ ..] = ip;
    if version != 0x45 || flags & 0x3f != 0 || offset != 0 || protocol != 6 {
        return None;
    }
    let syn = Syn::read(frame, 34)?;
    let [from_to, ports] = [u64::from_ne_bytes(addresses), u64::from(syn.ports())];
    let cookie = syn.cookie(frame.context, [from_to, ports, 0, 0, 0], 12, &Words(ip))?;
    let reply = cookie::answer4(ethernet, &ip, &syn.fixed(), cookie);
    frame.become_frame(&Words(reply))
}

#[inline(always)]
fn answer6(frame: &Frame, ethernet: &[u8; 14]) -> Option<()> {
    let ip = frame.read_far::<40>(14)?;
    let [version, _, _, _, _, _, next, _, addresses @ ..] = ip;
    if version >> 4 != 6 || next != 6 {
        return None;
    }
    let syn = Syn::read(frame, 54)?;
    let mut words = [0; 5];
    for (word, octets) in words.iter_mut().zip(addresses.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*octets);
    }
    let [.., ports] = &mut words;
    *ports = u64::from(syn.ports());
    let cookie = syn.cookie(frame.context, words, 36, &Words(ip))?;
    let reply = cookie::answer6(ethernet, &ip, &syn.fixed(), cookie);
    frame.become_frame(&Words(reply))
}

/// A SYN's header, options included.
struct Syn {
    octets: Words<64>,
    length: usize,
}

impl Syn {
    #[inline(always)]
    fn read(frame: &Frame, offset: usize) -> Option<Self> {
        let [words] = frame.read_far::<1>(offset + 12)?;
        let length = core::hint::black_box(usize::from(words >> 4) * 4) & 63;
        if length < 20 || length > 60 {
            return None;
        }
        let mut octets = Words([0; 64]);
        // SAFETY: the helper writes `length` octets, fewer than there is room for, or fails.
        let result = unsafe {
            let to = octets.0.as_mut_ptr().cast();
            bpf_xdp_load_bytes(frame.context, offset as u32, to, length as u32)
        };
        (result == 0).then_some(Self { octets, length })
    }

    #[inline(always)]
    fn fixed(&self) -> [u8; 20] {
        self.octets.0.first_chunk().copied().unwrap_or([0; 20])
    }

    #[inline(always)]
    fn ports(&self) -> u32 {
        u32::from_ne_bytes(self.octets.0.first_chunk().copied().unwrap_or([0; 4]))
    }

    /// The cookie of the socket that listens at the addresses and ports of `tuple`, of which
    /// `tuple_length` octets count. None too where `net.ipv4.tcp_syncookies` is not 2 and the
    /// socket's queue has room: then it wants no cookies.
    #[inline(always)]
    fn cookie<const N: usize>(
        &self,
        context: *mut xdp_md,
        mut tuple: [u64; 5],
        tuple_length: u32,
        ip: &Words<N>,
    ) -> Option<Cookie> {
        /// `BPF_F_CURRENT_NETNS`: the interface's own namespace.
        const HERE: u64 = u64::MAX;
        let length = core::hint::black_box(self.length) & 63;
        if length < 20 {
            return None;
        }
        // SAFETY: the helpers read so many octets of what lies on the stack; a socket that is found
        // stays until it is released.
        let given = unsafe {
            let tuple = (&raw mut tuple).cast();
            let socket = bpf_skc_lookup_tcp(context.cast(), tuple, tuple_length, HERE, 0);
            if socket.is_null() {
                return None;
            }
            let (ip, tcp) = (ip.0.as_ptr().cast_mut(), self.octets.0.as_ptr().cast_mut());
            let (ip_length, length) = (N as u32, length as u32);
            let given =
                bpf_tcp_gen_syncookie(socket.cast(), ip.cast(), ip_length, tcp.cast(), length);
            bpf_sk_release(socket.cast());
            given
        };
        Cookie::from_helper(given)
    }
}

impl Frame {
    /// Makes the frame this one.
    #[inline(always)]
    fn become_frame<const N: usize>(&self, octets: &Words<N>) -> Option<()> {
        let change = N as i32 - self.length as i32;
        // SAFETY: the helpers change the frame, none of which is read behind them.
        let result = unsafe {
            if bpf_xdp_adjust_tail(self.context, change) != 0 {
                return None;
            }
            bpf_xdp_store_bytes(self.context, 0, octets.0.as_ptr().cast_mut().cast(), N as u32)
        };
        (result == 0).then_some(())
    }
}
