//! What an accusation rests on, and what it may lead to.

use crate::kernel::Evidence;

/// Whether evidence may ban: only what proves that its source receives our answers. Anybody can send
/// packets in anybody's name; were they to ban, whoever wants a client out would only have to.
pub const fn may_ban(evidence: Evidence) -> bool {
    match evidence {
        Evidence::Routable => true,
        Evidence::Spoofable => false,
    }
}
