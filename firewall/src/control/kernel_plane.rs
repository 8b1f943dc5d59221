//! The kernel's tables of bans, as their two writers see them: the keeper of the bans and that of the
//! feeds.
//!
//! A feed is a list of its own, so that a ban of what it lists comes and goes without it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use crate::ban::keeper::{Held, Plane};
use crate::clock::Monotonic;
use crate::control::enforcement::Enforcement;
use crate::feeds::FeedPlane;
use crate::kernel::{self, Kernel, KernelError, ListId};

/// The kernel's ban table.
#[derive(Clone)]
pub struct KernelPlane {
    enforcement: Rc<RefCell<Enforcement>>,
}

impl KernelPlane {
    /// The way to the table; none where there is no kernel program, and will be none.
    pub fn new(enforcement: &Rc<RefCell<Enforcement>>) -> Option<Self> {
        let may_have = enforcement.borrow().may_have_kernel();
        may_have.then(|| Self { enforcement: Rc::clone(enforcement) })
    }

    /// Without a kernel, which may come later, a write is a no-op.
    fn with<T: Default>(
        &self,
        work: impl FnOnce(&mut Kernel) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        self.enforcement.borrow_mut().kernel_mut().map_or_else(|| Ok(T::default()), work)
    }
}

impl Plane for KernelPlane {
    type Error = KernelError;

    fn epoch(&self) -> Option<u64> {
        let enforcement = self.enforcement.borrow();
        enforcement.kernel().map(|_| enforcement.epoch())
    }

    fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), KernelError> {
        self.with(|kernel| kernel.ban(target, until))
    }

    fn ban_all(&mut self, bans: &[(IpNet, Monotonic)]) -> Result<(), KernelError> {
        self.with(|kernel| kernel.ban_all(bans))
    }

    fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        self.with(|kernel| kernel.unban(target))
    }

    fn drops(&self, target: IpNet) -> Result<Option<u64>, KernelError> {
        self.with(|kernel| kernel.drops(target))
    }

    fn stand(&mut self, source: IpAddr) -> Result<(), KernelError> {
        self.with(|kernel| kernel.stand(source))
    }

    fn fall(&mut self, source: IpAddr) -> Result<(), KernelError> {
        self.with(|kernel| kernel.fall(source).map(drop))
    }

    fn held(&self) -> Result<Vec<Held>, KernelError> {
        let bans = self.with(|kernel| kernel.bans())?;
        let held = |(target, ban): (IpNet, kernel::Ban)| {
            let until = Monotonic::from_ns(ban.until_mono_ns);
            Held { target, until, drops: ban.drops }
        };
        Ok(bans.into_iter().map(held).collect())
    }
}

impl FeedPlane for KernelPlane {
    type Error = KernelError;

    fn epoch(&self) -> Option<u64> {
        Plane::epoch(self)
    }

    /// Feeds count from 0, the kernel's lists from 1.
    fn replace(&mut self, list: u8, prefixes: &[IpNet]) -> Result<(), KernelError> {
        let Some(list) = list.checked_add(1).and_then(ListId::new) else { return Ok(()) };
        let report = self.with(|kernel| kernel.replace_list(list, prefixes))?;
        if report.refused > 0 {
            let (list, refused) = (list.number(), report.refused);
            tracing::warn!(
                list,
                refused,
                "prefixes of too many lengths: the proxy alone refuses them"
            );
        }
        Ok(())
    }
}
