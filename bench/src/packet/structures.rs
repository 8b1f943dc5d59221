//! Random sources through the loaded programs, one look-up after the other: what the tables cost.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;

use super::Session;
use super::filters::{Firewall, Kept, networks};
use super::frame::{acknowledgement, acknowledgement6};
use super::outcome::{Case, Part, Peer, Sample};
use super::probes::{BANS, DROP, PASS, Probes, Table};
use super::same_key::nanoseconds;
use super::sources::{KEYS, Keys, Ranges, Ranges6, Singles};

/// One kind of entries, and whom packets come from.
struct Bans {
    part: Part,
    networks: Vec<IpNet>,
    hits: Keys,
    misses: Keys,
}

/// Single addresses in our program, in a HASH and in a trie.
pub(super) fn singles(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let singles = Singles::random(entries, &mut session.order);
    let bans = Bans {
        part: Part::Singles,
        networks: networks(&singles.addresses),
        hits: Keys::V4(singles.hits(KEYS, &mut session.order)),
        misses: Keys::V4(singles.misses(KEYS, &mut session.order)),
    };
    measure(session, entries, &bans, &[Peer::Hash, Peer::Lpm])
}

/// Ranges in our program and in a trie.
pub(super) fn ranges(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let ranges = Ranges::random(entries, &mut session.order);
    let bans = Bans {
        part: Part::Ranges,
        networks: ranges.networks.iter().copied().map(IpNet::V4).collect(),
        hits: Keys::V4(ranges.hits(KEYS, &mut session.order)),
        misses: Keys::V4(ranges.misses(KEYS, &mut session.order)),
    };
    measure(session, entries, &bans, &[Peer::Lpm])
}

/// The same with IPv6.
pub(super) fn ranges6(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    let ranges = Ranges6::random(entries, &mut session.order);
    let bans = Bans {
        part: Part::Ranges6,
        networks: ranges.networks.iter().copied().map(IpNet::V6).collect(),
        hits: Keys::V6(ranges.hits(KEYS, &mut session.order)),
        misses: Keys::V6(ranges.misses(KEYS, &mut session.order)),
    };
    measure(session, entries, &bans, &[Peer::Lpm])
}

/// The programs that are measured, with the same bans.
struct Setup {
    probes: Probes,
    ours: BTreeMap<Peer, Firewall>,
    peers: Vec<Peer>,
}

impl Setup {
    fn new(
        session: &mut Session,
        entries: usize,
        bans: &Bans,
        tables: &[Peer],
    ) -> anyhow::Result<Self> {
        let mut peers = vec![Peer::Parse];
        peers.extend(tables);
        let mut ours = BTreeMap::new();
        for peer in [Peer::Firewall, Peer::FirewallList] {
            match Firewall::ban(Kept::by(peer), None, &bans.networks)? {
                Ok(firewall) => {
                    ours.insert(peer, firewall);
                    peers.push(peer);
                }
                Err(reason) => {
                    let kind = format!("{:?}", bans.part).to_lowercase();
                    session.remark(format!("{}: not {entries} {kind}: {reason}", peer.name()));
                }
            }
        }
        // Our table by itself is the one that the whole program reads.
        let pin = Path::new("/sys/fs/bpf/bench-bans");
        let shared = ours.get_mut(&Peer::FirewallList).map(|firewall| firewall.pin(BANS, pin));
        let shared = shared.transpose()?.map(|()| pin);
        peers.extend(shared.map(|_| Peer::Table));
        let is_v6 = matches!(bans.hits, Keys::V6(_));
        let (entries4, entries6) = if is_v6 { (0, entries) } else { (entries, 0) };
        let mut probes = Probes::load(entries4, entries6, shared)?;
        if shared.is_some() {
            std::fs::remove_file(pin)?;
        }
        if tables.contains(&Peer::Lpm) {
            probes.fill_lpm(bans.networks.iter().copied())?;
        }
        if tables.contains(&Peer::Hash) {
            probes.fill_hash(bans.networks.iter().map(IpNet::addr))?;
        }
        Ok(Self { probes, ours, peers })
    }
}

fn measure(
    session: &mut Session,
    entries: usize,
    bans: &Bans,
    tables: &[Peer],
) -> anyhow::Result<()> {
    let Setup { mut probes, mut ours, peers } = Setup::new(session, entries, bans, tables)?;
    let frame = if matches!(bans.hits, Keys::V6(_)) {
        acknowledgement6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2))
    } else {
        acknowledgement(Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 78, 0, 2))
    };
    let runs = session.plan.look_ups;
    for case in [Case::Banned, Case::Clean] {
        probes.set_keys(if case == Case::Banned { &bans.hits } else { &bans.misses })?;
        for round in 0..=session.plan.structure_rounds {
            for index in session.order.permutation(peers.len()) {
                let Some(&peer) = peers.get(index) else { continue };
                let before = dropped(&probes, &ours, peer)?;
                match (peer, ours.get_mut(&peer)) {
                    (_, Some(ours)) => probes.aim_at_id(ours.kernel.program_id()?)?,
                    (Peer::Lpm, None) => probes.aim(Table::Lpm)?,
                    (Peer::Hash, None) => probes.aim(Table::Hash)?,
                    (Peer::Table, None) => probes.aim(Table::Ours)?,
                    (_, None) => probes.aim(Table::None)?,
                }
                let (duration, returned) = probes.draw(&frame, runs)?;
                let dropped = dropped(&probes, &ours, peer)? - before;
                let is_banned = case == Case::Banned || peer == Peer::Parse;
                anyhow::ensure!(
                    returned == if is_banned { DROP } else { PASS },
                    "{} returned {returned} for a {case:?} source: {:?}",
                    peer.name(),
                    ours.get(&peer).map(Firewall::reasons)
                );
                let expected = if is_banned { u64::from(runs) } else { 0 };
                anyhow::ensure!(
                    dropped == expected,
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

fn dropped(probes: &Probes, ours: &BTreeMap<Peer, Firewall>, peer: Peer) -> anyhow::Result<u64> {
    ours.get(&peer).map_or_else(|| probes.hits(), Firewall::banned_packets)
}
