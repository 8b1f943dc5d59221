//! Where the frames of a flood end that the program at its end never counts.

use std::net::IpAddr;

use super::Session;
use super::filters::Filter as _;
use super::lane::{INTERFACE, LinkCounters, Priority};
use super::outcome::{Fate, Loss};
use super::probes::{Probes, Table};
use super::sources::{KEYS, Keys, Singles};

/// Floods a filter that drops everything, at both priorities, and follows every frame.
pub(super) fn run(session: &mut Session) -> anyhow::Result<()> {
    let singles = Singles::random(65_536, &mut session.order);
    session.source.generator.set_keys(&Keys::V4(singles.hits(KEYS, &mut session.order)))?;
    let lane = session.source.lane()?;
    let mut probes = Probes::load(singles.addresses.len(), 0, None)?;
    probes.fill_hash(singles.addresses.iter().copied().map(IpAddr::V4))?;
    probes.attach(Table::Hash, &lane.namespace, INTERFACE)?;
    let frames = session.plan.frames;
    for priority in [Priority::Normal, Priority::Fifo] {
        let counters = |session: &Session| {
            LinkCounters::of(&session.source.namespace, &lane.sender, &session.commands)
        };
        let before = (counters(session)?, probes.dropped()?);
        session.source.burst(Some(&lane), frames, priority)?;
        let link = counters(session)?.since(before.0);
        let fate = Fate {
            sent: frames.into(),
            dropped: probes.dropped()? - before.1,
            ring_full: link.xmit_errors,
            others_lost: link.tx_dropped.saturating_sub(link.xmit_errors),
        };
        session.losses.push(Loss { flood: "as fast as it goes, alone", priority, fate });
    }
    Ok(())
}
