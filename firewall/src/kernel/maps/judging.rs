//! How packets are judged and counted by interface, as whoever attaches the program writes it.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{Map, MapData, PerCpuArray};
use firewall_common::maps::COUNTERS;
use firewall_common::{Counter, Policy};

use super::policies::Policies;
use super::{Counters, Source, counters, failed};
use crate::kernel::KernelError;

/// Counters of one interface, or of all those without any of their own.
pub(in crate::kernel) type Slot = (u32, Option<String>);

/// The policies of the interfaces, and their counters.
pub(in crate::kernel) struct Judging {
    policies: Policies,
    counters: PerCpuArray<MapData, Counter>,
    /// Of the map of counters.
    counting: OwnedFd,
}

impl Judging {
    /// Judges by `default` whatever comes in by interfaces of which nothing was told.
    pub(in crate::kernel) fn open(
        source: &mut Source<'_>,
        default: Policy,
    ) -> Result<Self, KernelError> {
        let policies = Policies::open(source, default)?;
        let told = |source| failed(COUNTERS, "open", source);
        let Map::PerCpuArray(counters) = source.take(COUNTERS)? else {
            return Err(KernelError::NoMap { map: COUNTERS.name });
        };
        let counting = counters.fd().as_fd().try_clone_to_owned();
        let counting = counting.map_err(|error| told(error.into()))?;
        let counters = Map::PerCpuArray(counters).try_into().map_err(told)?;
        Ok(Self { policies, counters, counting })
    }

    /// The counters for somebody else to read, also while this one is busy.
    pub(in crate::kernel) fn reader(&self) -> Result<PerCpuArray<MapData, Counter>, KernelError> {
        let told = |source| failed(COUNTERS, "open", source);
        let counting = self.counting.try_clone().map_err(|error| told(error.into()))?;
        let counters = MapData::from_fd(counting).map_err(told)?;
        Map::PerCpuArray(counters).try_into().map_err(told)
    }

    /// Tells the program how to judge what comes in by an interface, and gives it counters of its own
    /// while there are any left.
    pub(in crate::kernel) fn admit(
        &mut self,
        interface: u32,
        name: &str,
        policy: Policy,
    ) -> Result<(), KernelError> {
        if let Some(slot) = self.policies.admit(interface, name, policy)? {
            counters::clear(&mut self.counters, slot)?;
        }
        Ok(())
    }

    /// Takes back what was told of an interface that is gone.
    pub(in crate::kernel) fn dismiss(&mut self, interface: u32) -> Result<(), KernelError> {
        self.policies.dismiss(interface)
    }

    pub(in crate::kernel) fn set_default(&mut self, default: Policy) -> Result<(), KernelError> {
        self.policies.set_default(default)
    }

    /// Whose counters are whose.
    pub(in crate::kernel) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.policies.slots()
    }

    pub(in crate::kernel) fn counters(&self) -> Result<Counters, KernelError> {
        Counters::read(&self.counters, self.slots())
    }
}
