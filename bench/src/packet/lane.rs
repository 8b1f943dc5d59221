//! Cables between the generator and the filters, one for each, and what a packet costs on them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use xtask::lab::{NetNs, Port, cable};

use super::commands::Commands;
use super::frame::datagram;
use super::probes::Probes;
use crate::pin;

/// The filter's end of every cable.
pub(crate) const INTERFACE: &str = "filter0";

/// The namespace that floods come from, and the CPU that they are kept on.
pub(crate) struct Source {
    pub(crate) namespace: NetNs,
    pub(crate) generator: Probes,
    cpu: usize,
    lanes: u8,
}

/// How the generator is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Priority {
    Normal,
    /// `SCHED_FIFO`: before every other process of its CPU, and before ksoftirqd.
    Fifo,
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
        let mut source =
            Self { namespace: NetNs::new()?, generator: Probes::load(0, 0, None)?, cpu, lanes: 0 };
        let spare = source.lane()?;
        source.generator.keep_generator(spare.namespace, INTERFACE)?;
        Ok(source)
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
        &mut self,
        lane: Option<&Lane>,
        frames: u32,
        priority: Priority,
    ) -> anyhow::Result<Burst> {
        let made_only = datagram([2; 6], Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 78, 0, 2));
        let (frame, index) = lane.map_or((&made_only, 0), |lane| (&lane.frame, lane.sender_index));
        let Self { namespace, generator, cpu, .. } = self;
        namespace.run(|| {
            pin::this_thread(*cpu)?;
            priority.take()?;
            let before = (thread_cpu(), ksoftirqd(*cpu)?);
            generator.generate(frame, frames, index)?;
            let generator = thread_cpu().saturating_sub(before.0);
            // What is still queued is worked off by then.
            std::thread::sleep(Duration::from_millis(5));
            let ksoftirqd = ksoftirqd(*cpu)?.saturating_sub(before.1);
            Ok(Burst { cpu: generator + ksoftirqd })
        })?
    }
}

impl Priority {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal priority",
            Self::Fifo => "SCHED_FIFO",
        }
    }

    /// Schedules the calling thread so. Its end ends it.
    pub(crate) fn take(self) -> anyhow::Result<()> {
        if self == Self::Normal {
            return Ok(());
        }
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let status = Command::new("chrt").args(["--fifo", "--pid", "50", &thread]).status();
        let status = status.context("starting chrt")?;
        anyhow::ensure!(status.success(), "chrt: {status}");
        Ok(())
    }
}

/// What an interface of the calling thread's namespace has counted by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkCounters {
    /// Frames that a program sent by it, and that its other end's ring had no room for.
    pub(crate) xmit_errors: u64,
    /// Frames that the program attached to it dropped.
    pub(crate) xdp_drops: u64,
    /// What it could not send on in all: those frames, and packets of the kernel's own.
    pub(crate) tx_dropped: u64,
}

impl LinkCounters {
    pub(crate) fn of(
        namespace: &NetNs,
        interface: &str,
        commands: &Commands,
    ) -> anyhow::Result<Self> {
        let statistics = commands.run(Some(namespace), "ethtool", &["-S", interface], "")?;
        let sum = |suffix: &str| {
            let of_queues = statistics.lines().filter_map(|line| {
                let (name, count) = line.trim().split_once(": ")?;
                name.ends_with(suffix).then(|| count.parse::<u64>().ok())?
            });
            of_queues.sum()
        };
        let devices = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let line =
            devices.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        // proc_net(5): eight columns received, then octets, packets, errors, drops sent.
        let tx_dropped = line.and_then(|line| line.split_whitespace().nth(11)?.parse().ok());
        Ok(Self {
            xmit_errors: sum("_xdp_xmit_errors"),
            xdp_drops: sum("_xdp_drops"),
            tx_dropped: tx_dropped.with_context(|| format!("no {interface} in {devices}"))?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            xmit_errors: self.xmit_errors.saturating_sub(before.xmit_errors),
            xdp_drops: self.xdp_drops.saturating_sub(before.xdp_drops),
            tx_dropped: self.tx_dropped.saturating_sub(before.tx_dropped),
        }
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
