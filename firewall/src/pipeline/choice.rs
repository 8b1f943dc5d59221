//! Whose a request is, where one process serves several APIs: the host first, then the longest base
//! path. Decided once for each request, before anything of it is judged by a contract.

use std::cmp::Reverse;

use crate::contract::{Claim, Contract};
use crate::violation::Rule;

/// What each API claims, the closest first.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// None where there is but one API: it gets everything, and refuses what is not its own.
    claims: Vec<(Claim, usize)>,
}

/// Two APIs claim the same requests, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rivals(pub usize, pub usize);

impl Choice {
    /// A choice among the APIs with these contracts, in this order.
    ///
    /// # Errors
    ///
    /// Two that claim the same host and base path.
    pub fn among(contracts: &[&Contract]) -> Result<Self, Rivals> {
        if contracts.len() < 2 {
            return Ok(Self::default());
        }
        let claims = contracts.iter().enumerate().flat_map(|(api, contract)| {
            contract.claims().iter().map(move |claim| (claim.clone(), api))
        });
        let mut claims: Vec<_> = claims.collect();
        for (place, (claim, api)) in claims.iter().enumerate() {
            let others = claims.iter().skip(place + 1);
            if let Some((_, other)) =
                others.filter(|(_, other)| other != api).find(|(other, _)| claim.rivals(other))
            {
                return Err(Rivals(*api, *other));
            }
        }
        claims.sort_by_cached_key(|(claim, _)| Reverse(claim.rank()));
        Ok(Self { claims })
    }

    /// The API that a request is for, by its number.
    ///
    /// # Errors
    ///
    /// [`Rule::Misdirected`] where no API is there for the host, [`Rule::UnknownPath`] where none that
    /// is has the path.
    pub fn of(&self, authority: Option<&str>, path: &str) -> Result<usize, Rule> {
        if self.claims.is_empty() {
            return Ok(0);
        }
        let mut is_host_known = false;
        for (claim, api) in &self.claims {
            if claim.allows(authority) {
                is_host_known = true;
                if claim.covers(path) {
                    return Ok(*api);
                }
            }
        }
        Err(if is_host_known { Rule::UnknownPath } else { Rule::Misdirected })
    }
}

#[cfg(test)]
mod tests;
