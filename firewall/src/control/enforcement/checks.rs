//! The kernel's checks of packets: their modes, what they count, and what they must know of the host.

use std::net::SocketAddr;

use super::Enforcement;
use crate::causes::Causes;
use crate::control::management::own_addresses;
use crate::kernel::{Check, CheckSetting, Count, Reason, Role};

/// How a check judges what comes in by one interface, and what it has counted there.
#[derive(Clone, Debug)]
pub struct Judged {
    /// None for all interfaces of which nothing is told.
    pub interface: Option<String>,
    pub role: Role,
    pub mode: Check,
    /// Of IPv4 and whatever is no IP, then of IPv6.
    pub acted: [Count; 2],
    pub observed: [Count; 2],
}

impl Enforcement {
    /// How a check judges, by interface; nothing without kernel program.
    pub fn judged(&self, reason: Reason) -> Vec<Judged> {
        let (Some(kernel), Some(counters)) = (&self.kernel, self.counted()) else {
            return Vec::new();
        };
        let others = (None, Role::default());
        let named = kernel.judged().into_iter().map(|(name, role)| (Some(name.to_owned()), role));
        let judged = |(interface, role): (Option<String>, Role)| {
            let counted = counters.interfaces().iter().find(|counted| counted.name == interface);
            let both = |of: &dyn Fn(bool) -> Option<Count>| {
                [false, true].map(|is_ipv6| of(is_ipv6).unwrap_or_default())
            };
            Judged {
                mode: kernel.check(reason, role, interface.as_deref()),
                acted: both(&|is_ipv6| Some(counted?.acted(reason, is_ipv6))),
                observed: both(&|is_ipv6| Some(counted?.observed(reason, is_ipv6))),
                interface,
                role,
            }
        };
        std::iter::once(others).chain(named).map(judged).collect()
    }

    /// Sets the mode of a check until the configured modes change, or the daemon ends.
    ///
    /// # Errors
    ///
    /// Where there is no kernel program, or it does not take the mode.
    pub fn set_check(&mut self, setting: CheckSetting) -> Result<(), String> {
        let Some(kernel) = &mut self.kernel else {
            return Err("there is no kernel program whose checks could be set".into());
        };
        kernel.set_check(setting).map_err(|error| Causes(&error).to_string())
    }

    /// Sets the modes that are configured now, if they are others than before: what was set by hand
    /// stays while only a document changes.
    pub fn configure_checks(&mut self, configured: &[CheckSetting]) -> Result<(), String> {
        if self.configured == configured {
            return Ok(());
        }
        if let Some(kernel) = &mut self.kernel {
            let set = kernel.set_checks(configured.to_vec());
            set.map_err(|error| Causes(&error).to_string())?;
        }
        self.configured = configured.to_vec();
        self.note_checks(configured);
        Ok(())
    }

    /// Tells the kernel program where the proxy listens: checks that ask for it find nothing served
    /// until then. A proxy on loopback serves nothing that comes in by an interface.
    pub fn serve(&mut self, listening: &[SocketAddr]) {
        let reachable = listening.iter().filter(|address| !address.ip().is_loopback());
        let ports: Vec<u16> = reachable.map(SocketAddr::port).collect();
        let told = self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.serve(&ports, false));
        if let Err(error) = told {
            tracing::error!(reason = %Causes(&error), "checks of the proxy's ports do not work");
        }
        self.ports = ports;
    }

    /// Tells the kernel program the host's own addresses, as they are now.
    pub(super) fn refresh_own(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        let own = match own_addresses() {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "the host's own addresses cannot be read");
                return;
            }
        };
        let reachable = own.into_iter().filter(|address| !address.is_loopback());
        if let Err(error) = kernel.set_own(&reachable.collect::<Vec<_>>()) {
            tracing::error!(reason = %Causes(&error), "checks of own addresses do not work");
        }
    }
}
