//! Bounds-checked reads of a frame: the only way in which the packet path sees bytes.

/// A frame as received, from its Ethernet header on.
///
/// One header, one read: what is read is a copy, and fields are taken from the copy. Reading one
/// header twice lets the compiler drop the second bounds check as implied by the first, which the
/// kernel's verifier cannot follow.
pub trait Packet {
    /// Octets of the whole frame, those outside the linear buffer included.
    fn length(&self) -> usize;

    /// The `N` octets from `offset` on; none if the frame ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// The same behind headers of unbounded variety: slower, but the verifier does not have to
    /// follow the offset through each of them.
    fn read_far<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.read(offset)
    }
}

impl Packet for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

/// The field at `offset` of a header that was read. Its offset is known at compile time, and so that
/// it lies within: the zeros are never seen.
#[inline(always)]
pub(crate) fn field<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    header.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}
