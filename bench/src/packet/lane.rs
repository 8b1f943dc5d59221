//! Cables between the generator and the filters, one for each, and what a packet costs on them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use rustix::time::{ClockId, clock_gettime};
use xtask::lab::{NetNs, Port, cable};

use super::commands::Commands;
use super::frame::datagram;
use super::probes::Probes;

/// The filter's end of every cable.
pub(crate) const INTERFACE: &str = "filter0";

/// The namespace that floods come from, and the CPU that they are kept on.
pub(crate) struct Source {
    pub(crate) namespace: NetNs,
    cpu: usize,
    lanes: u8,
}

/// A cable whose other end is watched by one filter.
pub(crate) struct Lane {
    pub(crate) namespace: NetNs,
    /// The generator's end.
    pub(crate) sender: String,
    sender_index: u32,
    frame: Vec<u8>,
}

/// What a burst of packets used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    /// CPU time of the generator and of its CPU's ksoftirqd, in which the filters run.
    pub(crate) cpu: Duration,
}

impl Source {
    pub(crate) fn new(cpu: usize) -> anyhow::Result<Self> {
        Ok(Self { namespace: NetNs::new()?, cpu, lanes: 0 })
    }

    /// Lays a new cable.
    pub(crate) fn lane(&mut self) -> anyhow::Result<Lane> {
        let number = self.lanes;
        self.lanes = number.checked_add(1).context("more than 255 lanes")?;
        let namespace = NetNs::new()?;
        let sender = format!("lane{number}");
        let address = |host| Ipv4Addr::new(10, 78, number, host);
        cable(
            port(&self.namespace, &sender, &[(address(1).into(), 24)]),
            port(&namespace, INTERFACE, &[(address(2).into(), 24)]),
        )?;
        let sender_index = self.namespace.run(|| if_nametoindex(sender.as_str()))??;
        let to = namespace.run(|| hardware_address(INTERFACE))??;
        let frame = datagram(to, Ipv4Addr::UNSPECIFIED, address(2));
        // Random sources have no way back: that is no reason to drop them.
        namespace.run(|| {
            for name in ["all", INTERFACE] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0")?;
            }
            anyhow::Ok(())
        })??;
        Ok(Lane { namespace, sender, sender_index, frame })
    }

    /// Sends packets down a lane, or makes them only if there is none.
    pub(crate) fn burst(
        &self,
        probes: &mut Probes,
        lane: Option<&Lane>,
        frames: u32,
    ) -> anyhow::Result<Burst> {
        let made_only = datagram([2; 6], Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 78, 0, 2));
        let (frame, index) = lane.map_or((&made_only, 0), |lane| (&lane.frame, lane.sender_index));
        self.namespace.run(|| {
            crate::pin::this_thread(self.cpu)?;
            let before = (thread_cpu(), ksoftirqd(self.cpu)?);
            probes.generate(frame, frames, index)?;
            let generator = thread_cpu().saturating_sub(before.0);
            // What is still queued is worked off by then.
            std::thread::sleep(Duration::from_millis(5));
            let ksoftirqd = ksoftirqd(self.cpu)?.saturating_sub(before.1);
            Ok(Burst { cpu: generator + ksoftirqd })
        })?
    }
}

impl Lane {
    /// Makes the filter's end take frames from XDP although no program is attached to it.
    pub(crate) fn receive_without_xdp(&self, commands: &Commands) -> anyhow::Result<()> {
        commands.run(Some(&self.namespace), "ethtool", &["-K", INTERFACE, "gro", "on"], "")?;
        Ok(())
    }
}

fn port<'a>(namespace: &'a NetNs, interface: &'a str, addresses: &'a [(IpAddr, u8)]) -> Port<'a> {
    Port { namespace, interface, addresses, gateways: &[] }
}

/// The Ethernet address of an interface of the namespace that the thread is in.
pub(crate) fn hardware_address(interface: &str) -> anyhow::Result<[u8; 6]> {
    getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr()?.addr())
        .with_context(|| format!("{interface} has no Ethernet address"))
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// CPU time of the thread that does what interrupts have left over on this CPU.
fn ksoftirqd(cpu: usize) -> anyhow::Result<Duration> {
    let name = format!("ksoftirqd/{cpu}");
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        if is_it {
            let text = fs::read_to_string(path.join("schedstat"))?;
            let ns = text.split(' ').next().and_then(|field| field.parse().ok());
            return ns.map(Duration::from_nanos).context("reading schedstat");
        }
    }
    anyhow::bail!("no {name}: not in the first process namespace?")
}
