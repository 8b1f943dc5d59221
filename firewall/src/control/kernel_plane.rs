//! The kernel's ban table, as its two writers see it: the keeper of the bans and that of the feeds.
//!
//! Both share one table, so that an address costs one look-up. An entry that a feed alone wants has a
//! deadline that no ban has; a ban of the same target lies over it, and leaves it when it ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ipnet::IpNet;

use crate::ban::keeper::{Held, Plane};
use crate::clock::Monotonic;
use crate::control::enforcement::Enforcement;
use crate::feeds::FeedPlane;
use crate::kernel::{self, Kernel, KernelError};

/// The deadline of what a feed lists: it never comes, and is none that a ban has.
const LISTED: Monotonic = Monotonic::from_ns(Monotonic::NEVER.ns() - 1);

/// Who wants what in the table.
#[derive(Debug, Default)]
struct Wanted {
    /// Each listed target, with the lists that it is on as bits.
    listed: BTreeMap<IpNet, u32>,
    banned: BTreeSet<IpNet>,
}

/// The kernel's ban table.
#[derive(Clone)]
pub struct KernelPlane {
    enforcement: Rc<RefCell<Enforcement>>,
    wanted: Rc<RefCell<Wanted>>,
}

impl KernelPlane {
    /// The way to the table; none without kernel program.
    pub fn new(enforcement: &Rc<RefCell<Enforcement>>) -> Option<Self> {
        let kernel = enforcement.borrow();
        kernel.kernel().map(|_| Self { enforcement: Rc::clone(enforcement), wanted: Rc::default() })
    }

    /// Only made where there is a kernel, which stays; without one a write is a no-op.
    fn with<T: Default>(
        &self,
        work: impl FnOnce(&mut Kernel) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        self.enforcement.borrow_mut().kernel_mut().map_or_else(|| Ok(T::default()), work)
    }
}

impl Plane for KernelPlane {
    type Error = KernelError;

    fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), KernelError> {
        self.with(|kernel| kernel.ban(target, until))?;
        self.wanted.borrow_mut().banned.insert(target);
        Ok(())
    }

    fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        let is_listed = self.wanted.borrow().listed.contains_key(&target);
        let was_there = if is_listed {
            let was_banned = self.wanted.borrow().banned.contains(&target);
            self.with(|kernel| kernel.ban(target, LISTED))?;
            was_banned
        } else {
            self.with(|kernel| kernel.unban(target))?
        };
        self.wanted.borrow_mut().banned.remove(&target);
        Ok(was_there)
    }

    fn drops(&self, target: IpNet) -> Result<Option<u64>, KernelError> {
        self.with(|kernel| kernel.drops(target))
    }

    /// The bans. What feeds of an earlier process listed is let go: they list it anew.
    fn held(&self) -> Result<Vec<Held>, KernelError> {
        let entries = self.with(|kernel| kernel.bans())?;
        let held = |(target, ban): (IpNet, kernel::Ban)| {
            let until = Monotonic::from_ns(ban.until_mono_ns);
            Held { target, until, drops: ban.drops }
        };
        let (listed, banned): (Vec<Held>, Vec<Held>) =
            entries.into_iter().map(held).partition(|held| held.until == LISTED);
        for held in listed {
            self.with(|kernel| kernel.unban(held.target))?;
        }
        self.wanted.borrow_mut().banned.extend(banned.iter().map(|held| held.target));
        Ok(banned)
    }
}

impl FeedPlane for KernelPlane {
    type Error = KernelError;

    fn replace(&mut self, list: u8, prefixes: &[IpNet]) -> Result<(), KernelError> {
        let bit = 1_u32 << (list % 32);
        let wanted = &mut *self.wanted.borrow_mut();
        let present: BTreeSet<IpNet> = prefixes.iter().copied().collect();
        let on_list = wanted.listed.iter().filter(|(_, lists)| **lists & bit != 0);
        let gone: Vec<IpNet> =
            on_list.map(|(target, _)| *target).filter(|target| !present.contains(target)).collect();
        for target in gone {
            let lists = wanted.listed.get(&target).copied().unwrap_or(0) & !bit;
            if lists != 0 {
                wanted.listed.insert(target, lists);
                continue;
            }
            if !wanted.banned.contains(&target) {
                self.with(|kernel| kernel.unban(target))?;
            }
            wanted.listed.remove(&target);
        }
        for target in present {
            let lists = wanted.listed.get(&target).copied().unwrap_or(0);
            if lists == 0 && !wanted.banned.contains(&target) {
                self.with(|kernel| kernel.ban(target, LISTED))?;
            }
            wanted.listed.insert(target, lists | bit);
        }
        Ok(())
    }
}
