//! How the program judges by interface, and whose counters are whose.

use std::collections::BTreeMap;

use aya::maps::{Array, MapData};
use firewall_common::maps::POLICIES;
use firewall_common::{Policy, SLOT_OTHERS, SLOTS, policy_index};

use super::{Source, failed};
use crate::kernel::KernelError;

/// The policies of all interfaces, those that nothing is attached to among them.
pub(super) struct Policies {
    map: Array<MapData, Policy>,
    default: Policy,
    /// By [`policy_index`]: the slot and the name of each interface that was admitted.
    admitted: BTreeMap<u32, (u32, String)>,
    /// Slots that an earlier daemon had given.
    earlier: BTreeMap<u32, u32>,
}

impl Policies {
    /// Every interface is judged by `default` until it is admitted. Slots that an earlier daemon gave
    /// are remembered, so that its counters keep their interface.
    pub(super) fn open(source: &mut Source<'_>, default: Policy) -> Result<Self, KernelError> {
        let mut map: Array<MapData, Policy> = source.open(POLICIES)?;
        let mut earlier = BTreeMap::new();
        for index in 0..firewall_common::POLICIES {
            let found = map.get(&index, 0).map_err(|source| failed(POLICIES, "read", source))?;
            if found.slot != SLOT_OTHERS && found.slot < SLOTS {
                earlier.insert(index, found.slot);
            }
            let policy = Policy { slot: found.slot, ..default };
            if policy != found {
                map.set(index, policy, 0)
                    .map_err(|source| failed(POLICIES, "take a value", source))?;
            }
        }
        Ok(Self { map, default, admitted: BTreeMap::new(), earlier })
    }

    /// Judges what comes in by an interface by this policy. Gives the slot if it is a new one, whose
    /// counters may hold what another interface left.
    pub(super) fn admit(
        &mut self,
        interface: u32,
        name: &str,
        policy: Policy,
    ) -> Result<Option<u32>, KernelError> {
        let index = policy_index(interface);
        let known = self.admitted.get(&index).map(|(slot, _)| *slot);
        let kept = known.or_else(|| self.earlier.remove(&index));
        let slot = kept.or_else(|| self.free_slot()).unwrap_or(SLOT_OTHERS);
        self.map
            .set(index, Policy { slot, ..policy }, 0)
            .map_err(|source| failed(POLICIES, "take a value", source))?;
        if slot != SLOT_OTHERS {
            self.admitted.insert(index, (slot, name.to_owned()));
        }
        Ok((kept.is_none() && slot != SLOT_OTHERS).then_some(slot))
    }

    /// Judges by another default, but for what was admitted.
    pub(super) fn set_default(&mut self, default: Policy) -> Result<(), KernelError> {
        if default == self.default {
            return Ok(());
        }
        self.default = default;
        for index in 0..firewall_common::POLICIES {
            if self.admitted.contains_key(&index) {
                continue;
            }
            let slot = self.earlier.get(&index).copied().unwrap_or(SLOT_OTHERS);
            self.map
                .set(index, Policy { slot, ..default }, 0)
                .map_err(|source| failed(POLICIES, "take a value", source))?;
        }
        Ok(())
    }

    /// Judges by the default again, and frees the slot.
    pub(super) fn dismiss(&mut self, interface: u32) -> Result<(), KernelError> {
        let index = policy_index(interface);
        self.admitted.remove(&index);
        self.map
            .set(index, self.default, 0)
            .map_err(|source| failed(POLICIES, "take a value", source))
    }

    fn free_slot(&self) -> Option<u32> {
        let is_taken = |slot: &u32| {
            self.admitted.values().any(|(taken, _)| taken == slot)
                || self.earlier.values().any(|taken| taken == slot)
        };
        (SLOT_OTHERS + 1..SLOTS).find(|slot| !is_taken(slot))
    }

    /// Each slot in use, with its interface's name; the first is all others'.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, Option<String>)> {
        let others = std::iter::once((SLOT_OTHERS, None));
        others.chain(self.admitted.values().map(|(slot, name)| (*slot, Some(name.clone()))))
    }
}
