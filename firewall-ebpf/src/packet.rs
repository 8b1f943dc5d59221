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

    /// Shows the `length` octets from `offset` on to `work`, which finds anything behind them. None if
    /// the frame ends before, and none of a length that is zero or above [`HEADER_MAX`].
    fn with_room<R>(
        &self,
        offset: usize,
        length: usize,
        work: impl FnOnce(&[u8; ROOM]) -> R,
    ) -> Option<R>;

    /// What [`options::scan`](crate::options::scan) finds.
    fn options(&self, offset: usize, length: usize) -> u32 {
        crate::options::scan(self, offset, length)
    }

    /// What [`chain::walk`](crate::chain::walk) finds.
    fn chain(&self, protocol: u8, start: usize, end: usize) -> u64 {
        crate::chain::walk(self, protocol, start, end)
    }

    /// What [`checksum::is_sound`](crate::checksum::is_sound) finds.
    fn is_sound(&self, offset: usize, length: usize) -> bool {
        crate::checksum::is_sound(self, offset, length)
    }
}

/// The longest IPv4 or TCP header: fifteen words.
pub const HEADER_MAX: usize = 60;
/// Room for it that every six-bit index lies in.
pub const ROOM: usize = 64;

impl Packet for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn with_room<R>(
        &self,
        offset: usize,
        length: usize,
        work: impl FnOnce(&[u8; ROOM]) -> R,
    ) -> Option<R> {
        // What was there before: no check may be misled by it.
        let mut room = [131; ROOM];
        let octets = self.get(offset..)?.get(..length)?;
        if octets.is_empty() || length > HEADER_MAX {
            return None;
        }
        room.get_mut(..length)?.copy_from_slice(octets);
        Some(work(&room))
    }
}

/// The field at `offset` of a header that was read. Its offset is known at compile time, and so that
/// it lies within: the zeros are never seen.
#[inline(always)]
pub(crate) fn field<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    header.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}
