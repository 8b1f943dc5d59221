//! Two network namespaces, a cable between them, and a BPF file system of their own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use xtask::lab::{LabError, NetNs, Port, cable, unplug};

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The gateway's interface.
pub(super) const INTERFACE: &str = "gw0";

/// A gateway with an interface, and a client behind the cable at it.
pub(super) struct Network {
    pub(super) gateway: NetNs,
    pub(super) client: NetNs,
    pub(super) pins: BpfFs,
}

impl Network {
    /// The network, with the cable laid.
    pub(super) fn new() -> Result<Self, LabError> {
        let (gateway, client) = (NetNs::new()?, NetNs::new()?);
        let network = Self { gateway, client, pins: BpfFs::new() };
        network.plug();
        Ok(network)
    }

    /// Lays the cable.
    pub(super) fn plug(&self) {
        let port = |namespace, interface, addresses| Port {
            namespace,
            interface,
            addresses,
            gateways: &[],
        };
        cable(
            port(&self.gateway, INTERFACE, &[(GATEWAY.into(), 24)]),
            port(&self.client, "cl0", &[(CLIENT.into(), 24)]),
        )
        .unwrap();
    }

    /// Deletes the cable.
    pub(super) fn unplug(&self) {
        unplug(&self.gateway, INTERFACE).unwrap();
    }
}

/// A BPF file system, unmounted when dropped: what is pinned on it is gone then.
pub(crate) struct BpfFs(PathBuf);

impl BpfFs {
    /// Whoever may make network namespaces may mount.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("firewall-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        mount("bpf", &path, "bpf", MountFlags::empty(), None).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let unmounted = unmount(&self.0, UnmountFlags::DETACH);
        let removed = std::fs::remove_dir(&self.0);
        if !std::thread::panicking() {
            unmounted.unwrap();
            removed.unwrap();
        }
    }
}
