//! Random sources through the loaded programs, one look-up after the other: what the tables cost.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Session;
use super::filters::Firewall;
use super::frame::acknowledgement;
use super::outcome::{Case, Part, Peer, Sample};
use super::probes::{Probes, Table};
use super::same_key::nanoseconds;
use super::sources::{Ranges, Singles};

/// One kind of entries, and whom packets come from.
struct Bans {
    part: Part,
    networks: Vec<Ipv4Net>,
    hits: Vec<[u8; 4]>,
    misses: Vec<[u8; 4]>,
}

/// Single addresses in our program, in a HASH and in a trie.
pub(super) fn singles(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let singles = Singles::random(entries, &mut session.order);
    let bans = Bans {
        part: Part::Singles,
        networks: singles.addresses.iter().map(|address| Ipv4Net::from(*address)).collect(),
        hits: singles.hits(&mut session.order),
        misses: singles.misses(&mut session.order),
    };
    measure(session, entries, &bans, &[Peer::Hash, Peer::Lpm])
}

/// Ranges in our program and in a trie.
pub(super) fn ranges(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let ranges = Ranges::random(entries, &mut session.order);
    let bans = Bans {
        part: Part::Ranges,
        hits: ranges.hits(&mut session.order),
        misses: ranges.misses(&mut session.order),
        networks: ranges.networks,
    };
    measure(session, entries, &bans, &[Peer::Lpm])
}

fn measure(
    session: &mut Session,
    entries: usize,
    bans: &Bans,
    tables: &[Peer],
) -> anyhow::Result<()> {
    let mut probes = Probes::load(entries)?;
    if tables.contains(&Peer::Lpm) {
        probes.fill_lpm(bans.networks.iter().copied())?;
    }
    if tables.contains(&Peer::Hash) {
        let addresses: Vec<Ipv4Addr> = bans.networks.iter().map(Ipv4Net::addr).collect();
        probes.fill_hash(&addresses)?;
    }
    let mut ours = match Firewall::ban(None, bans.networks.iter().copied())? {
        Ok(firewall) => Some(firewall),
        Err(reason) => {
            let kind = format!("{:?}", bans.part).to_lowercase();
            session.remark(format!("firewall: not with {entries} {kind}: {reason}"));
            None
        }
    };
    let mut peers = vec![Peer::Parse];
    peers.extend(tables);
    peers.extend(ours.iter().map(|_| Peer::Firewall));
    let frame = acknowledgement(Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 78, 0, 2));
    let runs = session.plan.look_ups;
    for case in [Case::Banned, Case::Clean] {
        probes.set_keys(if case == Case::Banned { &bans.hits } else { &bans.misses })?;
        for round in 0..=session.plan.structure_rounds {
            for index in session.order.permutation(peers.len()) {
                let Some(&peer) = peers.get(index) else { continue };
                let before = dropped(&probes, ours.as_ref(), peer)?;
                match (peer, &mut ours) {
                    (Peer::Firewall, Some(ours)) => probes.aim_at_id(ours.kernel.program_id()?)?,
                    (Peer::Lpm, _) => probes.aim(Table::Lpm)?,
                    (Peer::Hash, _) => probes.aim(Table::Hash)?,
                    _ => probes.aim(Table::None)?,
                }
                let duration = probes.draw(&frame, runs)?;
                let dropped = dropped(&probes, ours.as_ref(), peer)? - before;
                let expected = if case == Case::Banned { u64::from(runs) } else { 0 };
                anyhow::ensure!(
                    peer == Peer::Parse || dropped == expected,
                    "{} dropped {dropped} of {runs} packets, expected {expected}",
                    peer.name()
                );
                let (part, ns, packets) = (bans.part, nanoseconds(duration), runs.into());
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
            }
        }
    }
    Ok(())
}

fn dropped(probes: &Probes, ours: Option<&Firewall>, peer: Peer) -> anyhow::Result<u64> {
    match (peer, ours) {
        (Peer::Firewall, Some(ours)) => ours.banned_packets(),
        _ => probes.hits(),
    }
}
