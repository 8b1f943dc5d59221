//! Modes of checks that a reload changes, seen by who receives the packets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use xtask::lab::Topology;

use super::{Family, NEIGHBOUR, Site};
use crate::contract::NOTES;
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};

/// Datagrams to the served port, of which the check U6 judges.
struct Datagrams<'a> {
    site: &'a Site,
    receiver: UdpSocket,
    sender: UdpSocket,
    sent: u8,
}

impl<'a> Datagrams<'a> {
    fn new(site: &'a Site) -> Self {
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        let from = SocketAddr::new(Family::V4.client(NEIGHBOUR), 0);
        let receiver = site.topology.gateway.run(|| UdpSocket::bind(to).unwrap()).unwrap();
        let sender = site.topology.client.run(|| UdpSocket::bind(from).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        sender.connect(to).unwrap();
        Self { site, receiver, sender, sent: 0 }
    }

    fn counted(&self, counter: &str) -> u64 {
        self.site.gateway.status()["packets"]["U6"][counter].as_u64().unwrap()
    }

    /// Sends one; gives whether it arrived. What did not was counted as a drop.
    fn passes(&mut self) -> bool {
        self.sent += 1;
        let before = self.counted("packets");
        self.sender.send(&[self.sent]).unwrap();
        let mut octets = [0; 8];
        eventually("a datagram passes or is counted", || {
            if let Ok(length) = self.receiver.recv(&mut octets) {
                assert_eq!(&octets[..length], [self.sent]);
                return Some(true);
            }
            (self.counted("packets") > before).then_some(false)
        })
    }
}

fn rewrite(gateway: &Gateway, from: &str, to: &str) {
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    std::fs::write(&gateway.config, text.replace(from, to)).unwrap();
}

#[test]
fn a_reload_sets_what_is_dropped_both_ways() {
    let test = "kernel_loop::reload::a_reload_sets_what_is_dropped_both_ways";
    let kernel = "\n[kernel.checks]\nU6 = \"off\"\n".into();
    let Some(site) = Site::start(test, &Setup { kernel, ..Setup::of(NOTES) }) else { return };
    let mut datagrams = Datagrams::new(&site);
    assert!(datagrams.passes(), "the check is off");
    let reload = |from: &str, to: &str| {
        rewrite(&site.gateway, from, to);
        site.gateway.cli(&["reload"])
    };
    let program = site.gateway.status()["generation"].clone();

    let (code, said) = reload("U6 = \"off\"", "U6 = \"drop\"");
    assert_eq!(code, Some(0), "{said}");
    eventually("the datagrams are dropped", || (!datagrams.passes()).then_some(()));
    assert_ne!(site.gateway.status()["generation"], program);

    // A mode that there is not, a check that there is not: told, and what was stays.
    let generation = site.gateway.status()["generation"].clone();
    let mut before = "U6 = \"drop\"";
    for bad in ["U6 = \"sometimes\"", "U99 = \"off\"", "U6 = 3"] {
        let (code, said) = reload(before, bad);
        assert_ne!(code, Some(0), "{bad}: {said}");
        assert!(said.contains("firewall.toml") || said.contains("U99"), "{bad}: {said}");
        assert_eq!(site.gateway.status()["generation"], generation, "{bad}");
        assert!(!datagrams.passes(), "{bad}");
        before = bad;
    }

    let (code, said) = reload(before, "U6 = \"observe\"");
    assert_eq!(code, Some(0), "{said}");
    eventually("the datagrams pass again", || datagrams.passes().then_some(()));
    let observed = || (datagrams.counted("observed_packets") > 0).then_some(());
    eventually("they are counted as observed", observed);
    // Without a word of it the check is what it is by default again.
    let (code, said) = reload("U6 = \"observe\"", "");
    assert_eq!(code, Some(0), "{said}");
    eventually("the datagrams are dropped by default", || (!datagrams.passes()).then_some(()));
}

#[test]
fn checks_of_a_reload_that_nobody_confirms_are_undone() {
    let test = "kernel_loop::reload::checks_of_a_reload_that_nobody_confirms_are_undone";
    let kernel = "\n[kernel.checks]\nU6 = \"off\"\n".into();
    let Some(site) = Site::start(test, &Setup { kernel, ..Setup::of(NOTES) }) else { return };
    let mut datagrams = Datagrams::new(&site);
    assert!(datagrams.passes(), "the check is off");
    rewrite(&site.gateway, "U6 = \"off\"", "U6 = \"drop\"");
    let (code, said) = site.gateway.cli(&["reload", "--confirm-within", "2s"]);
    assert_eq!(code, Some(0), "{said}");
    eventually("the datagrams are dropped", || (!datagrams.passes()).then_some(()));
    eventually("what was before is in force again", || datagrams.passes().then_some(()));
}
