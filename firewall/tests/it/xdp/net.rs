//! Two network namespaces, a cable between them, and a BPF file system of their own.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A network namespace.
pub(super) struct NetNs(File);

impl NetNs {
    fn new() -> std::io::Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?))
        })
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A gateway with an interface `gw0`, and a client behind the cable at it.
pub(super) struct Network {
    pub(super) gateway: NetNs,
    pub(super) client: NetNs,
    pub(super) pins: BpfFs,
}

impl Network {
    /// The network; the error is that of the first system call that is not permitted.
    pub(super) fn new() -> std::io::Result<Self> {
        let (gateway, client, pins) = (NetNs::new()?, NetNs::new()?, BpfFs::new()?);
        let network = Self { gateway, client, pins };
        network.plug();
        Ok(network)
    }

    /// Lays the cable.
    pub(super) fn plug(&self) {
        let other_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name("cl0")
            .setns_by_fd(self.client.0.as_raw_fd())
            .build();
        let pair = LinkVeth::new("gw0", "cl0")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)))
            .build();
        self.gateway
            .run(|| netlink(async |handle| handle.link().add(pair).execute().await.unwrap()));
        for (namespace, name, address) in
            [(&self.gateway, "gw0", GATEWAY), (&self.client, "cl0", CLIENT)]
        {
            namespace.run(|| {
                netlink(async |handle| {
                    let up = LinkUnspec::new_with_name(name).up().build();
                    handle.link().set(up).execute().await.unwrap();
                    let index = nix::net::if_::if_nametoindex(name).unwrap();
                    let request = handle.address().add(index, IpAddr::V4(address), 24);
                    request.execute().await.unwrap();
                });
            });
        }
    }

    /// Deletes the cable.
    pub(super) fn unplug(&self) {
        self.gateway.run(|| {
            let index = nix::net::if_::if_nametoindex("gw0").unwrap();
            netlink(async |handle| handle.link().del(index).execute().await.unwrap());
        });
    }
}

fn netlink(talk: impl AsyncFnOnce(&Handle)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _messages) = rtnetlink::new_connection().unwrap();
        let connection = tokio::spawn(connection);
        talk(&handle).await;
        connection.abort();
    });
}

/// A BPF file system, unmounted when dropped: what is pinned on it is gone then.
pub(super) struct BpfFs(PathBuf);

impl BpfFs {
    fn new() -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("firewall-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        if let Err(error) = mount("bpf", &path, "bpf", MountFlags::empty(), None) {
            std::fs::remove_dir(&path)?;
            return Err(error.into());
        }
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
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
