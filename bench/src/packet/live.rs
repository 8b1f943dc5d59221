//! Live packets from random banned addresses, at every filter: what one costs from end to end.

use super::Session;
use super::filters::{Filter, set_up};
use super::lane::{Lane, Priority};
use super::outcome::{Case, Part, Peer, Sample};
use super::same_key::nanoseconds;
use super::sources::{KEYS, Keys, Singles};

/// Measures every filter that can hold so many banned addresses, in rounds.
pub(super) fn run(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let singles = Singles::random(entries, &mut session.order);
    session.source.generator.set_keys(&Keys::V4(singles.hits(KEYS, &mut session.order)))?;
    let peers: Vec<Peer> =
        session.peers.iter().copied().filter(|peer| *peer != Peer::Generator).collect();
    let mut lanes = Vec::new();
    for peer in peers {
        lanes.push((peer, session.source.lane()?));
    }
    let mut filters: Vec<(Peer, &Lane, Box<dyn Filter + '_>)> = Vec::new();
    for (peer, lane) in &lanes {
        match set_up(*peer, lane, &singles.addresses, &session.commands)? {
            Ok(filter) => filters.push((*peer, lane, filter)),
            Err(reason) => {
                let remark = format!("{}: not with {entries} addresses: {reason}", peer.name());
                session.remarks.push(remark);
            }
        }
    }
    let frames = session.plan.frames;
    session.commands.note(format!(
        "BPF_PROG_TEST_RUN of the generator with BPF_F_TEST_XDP_LIVE_FRAMES, repeat {frames}"
    ));
    // What is first after the attachment is cold: the first round is thrown away.
    for round in 0..=session.plan.live_rounds {
        let alone = session.source.burst(None, frames, Priority::Normal)?;
        let mut sample = |peer, cpu, dropped| {
            let (part, case, ns) = (Part::Live, Case::Banned, nanoseconds(cpu) / f64::from(frames));
            let packets = frames.into();
            session.samples.extend(round.checked_sub(1).map(|round| Sample {
                part,
                peer,
                case,
                entries,
                round,
                ns,
                packets,
                dropped,
            }));
        };
        sample(Peer::Generator, alone.cpu, 0);
        for index in session.order.permutation(filters.len()) {
            let Some((peer, lane, filter)) = filters.get_mut(index) else { continue };
            let before = filter.dropped()?;
            let burst = session.source.burst(Some(lane), frames, Priority::Normal)?;
            let dropped = filter.dropped()? - before;
            // A few are left in rings when the CPU is taken away; more is a filter that does not
            // do what it is measured for.
            anyhow::ensure!(
                dropped >= u64::from(frames) / 10 * 9,
                "{} with {entries} addresses dropped {dropped} of {frames} packets",
                peer.name()
            );
            sample(*peer, burst.cpu, dropped);
        }
    }
    Ok(())
}
