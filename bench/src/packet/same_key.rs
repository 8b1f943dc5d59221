//! One packet again and again through the loaded programs: ours and `xdp-filter`.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use aya::programs::Xdp;
use aya::{TestRun as _, TestRunOptions};

use super::Session;
use super::filters::{Filter as _, Firewall, Kept, XdpFilter, networks};
use super::frame::acknowledgement;
use super::outcome::{Case, Part, Peer, Sample};
use super::probes::DROP;
use super::sources::Singles;

/// A source that neither filter holds.
const CLEAN: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// Measures both with so many banned addresses.
pub(super) fn run(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let singles = Singles::random(entries, &mut session.order);
    let lane = session.source.lane()?;
    let addresses = &singles.addresses;
    let mut ours = match Firewall::ban(Kept::Bans, None, &networks(addresses))? {
        Ok(firewall) => firewall,
        Err(reason) => {
            session.remark(format!("firewall: not with {entries} addresses: {reason}"));
            return Ok(());
        }
    };
    let mut other = if session.peers.contains(&Peer::XdpFilter) {
        Some(XdpFilter::load(&lane.namespace, addresses, &session.commands)?)
    } else {
        None
    };
    let banned = *addresses.first().context("no address")?;
    let to = Ipv4Addr::new(10, 78, 0, 2);
    let runs = session.plan.runs;
    session.commands.note(format!("BPF_PROG_TEST_RUN repeat {runs}, of each program"));
    let mut samples = Vec::new();
    // The first round warms up.
    for round in 0..=session.plan.same_key_rounds {
        for (case, source) in [(Case::Banned, banned), (Case::Clean, CLEAN)] {
            let frame = acknowledgement(source, to);
            let is_banned = case == Case::Banned;
            let mut sample = |peer, ns: f64, is_dropped, dropped| -> anyhow::Result<()> {
                anyhow::ensure!(is_dropped == is_banned, "{peer:?}: wrong verdict, {case:?}");
                let part = Part::SameKey;
                let packets = runs.into();
                samples.extend(round.checked_sub(1).map(|round| Sample {
                    part,
                    peer,
                    case,
                    entries,
                    round,
                    ns,
                    packets,
                    dropped,
                }));
                Ok(())
            };
            let before = ours.dropped()?;
            let probe = ours.kernel.probe(&frame, runs)?;
            let dropped = ours.dropped()? - before;
            sample(Peer::Firewall, nanoseconds(probe.duration), probe.is_dropped, dropped)
                .with_context(|| format!("{:?}", ours.reasons()))?;
            if let Some(other) = &mut other {
                let before = other.dropped()?;
                let (returned, duration) = test_run(&other.program, &frame, runs)?;
                let dropped = other.dropped()? - before;
                sample(Peer::XdpFilter, nanoseconds(duration), returned == DROP, dropped)?;
            }
        }
    }
    drop(other);
    session.samples.extend(samples);
    Ok(())
}

fn test_run(program: &Xdp, frame: &[u8], runs: u32) -> anyhow::Result<(u32, std::time::Duration)> {
    let options = TestRunOptions { data_in: Some(frame), repeat: runs, ..Default::default() };
    let result = program.test_run(options)?;
    Ok((result.return_value, result.duration))
}

pub(super) fn nanoseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}
