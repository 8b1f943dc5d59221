//! What the checks of the network layer hand to those of the transport layer.

use firewall_common::{Reason, Reasons, own_bit};

use crate::findings::{Findings, Hidden};
use crate::packet::Packet;
use crate::source::Source;
use crate::verdict::Tables;

pub(crate) const ICMP: u8 = 1;
pub(crate) const IGMP: u8 = 2;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// A datagram that begins with a transport header: not a later fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) protocol: u8,
    /// Where the transport header begins.
    pub(crate) offset: usize,
    /// The end of the datagram: octets beyond it are the link's padding, not the sender's words.
    pub(crate) end: usize,
    /// The first fragment of several: what of the header is missing here may be in the next.
    pub(crate) is_fragment: Hidden,
    /// The header does not tell the length: a jumbogram's (RFC 2675), or a coalescing interface's.
    pub(crate) is_unsized: Hidden,
    pub(crate) source: Source,
    pub(crate) destination: Source,
    /// The destination is a multicast group, or the broadcast address.
    pub(crate) is_to_many: Hidden,
}

impl Datagram {
    /// Octets from the transport header on.
    #[inline(always)]
    pub(crate) const fn available(&self) -> usize {
        self.end.saturating_sub(self.offset)
    }

    /// `N` octets of the datagram, from `at` octets behind the transport header's begin on.
    #[inline(always)]
    pub(crate) fn read<const N: usize, P: Packet + ?Sized>(
        &self,
        packet: &P,
        at: usize,
    ) -> Option<[u8; N]> {
        if self.available() < at + N { None } else { packet.read_far::<N>(self.offset + at) }
    }
}

/// The checks of both addresses together.
#[inline(always)]
pub(crate) fn addresses<T: Tables>(tables: &T, datagram: &Datagram, findings: &mut Findings) {
    const OWN: Reasons = Reasons::NONE.with(Reason::I13).with(Reason::I15);
    let (source, destination) = (datagram.source.words(), datagram.destination.words());
    if source == destination {
        findings.note(Reason::I11);
    }
    let filter = tables.config().own;
    // Of a host whose addresses are not known, nothing is said.
    if filter == 0 || !findings.wants(OWN) {
        return;
    }
    if filter & own_bit(source) != 0 && tables.is_own(datagram.source) {
        findings.note(Reason::I15);
    }
    if findings.wants(Reasons::NONE.with(Reason::I13)) && !datagram.is_to_many.is_set() {
        let is_ours = filter & own_bit(destination) != 0 && tables.is_own(datagram.destination);
        if !is_ours {
            findings.note(Reason::I13);
        }
    }
}
