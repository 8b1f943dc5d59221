//! SYN cookies in the kernel: real connections of strangers who would be shed.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{InterfaceOptions, Kernel, Options, Reason};
use xtask::lab::Topology;
use xtask::skip::skipped;

use super::start;

/// The kernel repeats a SYN after a second: what is not answered by then is not answered.
const PATIENCE: Duration = Duration::from_millis(900);

fn options(interface: &str, syn_cookies: bool) -> Options {
    let interfaces = vec![InterfaceOptions::of(interface.parse().unwrap())];
    Options { interfaces, syn_cookies, pin_dir: "/proc/nowhere".into(), ..Options::default() }
}

/// A gateway that sheds every stranger, and a client whose interface takes what is sent back.
struct Site {
    topology: Topology,
    gateway: Kernel,
    /// A virtual cable takes sent-back frames only where its other end has a program too.
    _client: Kernel,
}

fn site(test: &str, syn_cookies: bool, sysctl: &str) -> Option<Site> {
    let topology = match Topology::new() {
        Ok(topology) => topology,
        Err(error) => {
            assert!(error.is_unavailable(), "{error}");
            skipped(test, &error.to_string());
            return None;
        }
    };
    let set = || std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", sysctl);
    if let Err(error) = topology.gateway.run(set).unwrap() {
        skipped(test, &format!("net.ipv4.tcp_syncookies cannot be set: {error}"));
        return None;
    }
    let interface = Topology::PUBLIC_INTERFACE;
    let run = || start(test, &options(interface, syn_cookies));
    let mut gateway = topology.gateway.run(run).unwrap()?;
    let client = topology.client.run(|| start(test, &options("client0", false))).unwrap()?;
    gateway.shed(u32::MAX, Monotonic::NEVER).unwrap();
    Some(Site { topology, gateway, _client: client })
}

impl Site {
    fn acted(&self, reason: Reason) -> u64 {
        self.gateway.counters().unwrap().acted(reason).packets
    }
}

fn families() -> [(IpAddr, IpAddr); 2] {
    [
        (Topology::client_v4(1).into(), Topology::GATEWAY_V4.into()),
        (Topology::client_v6(1).into(), Topology::GATEWAY_V6.into()),
    ]
}

#[test]
fn a_stranger_who_answers_the_cookie_is_connected() {
    let test = "a_stranger_who_answers_the_cookie_is_connected";
    let Some(site) = site(test, true, "2") else { return };
    for (from, to) in families() {
        let to = SocketAddr::new(to, 8080);
        let listener = site.topology.gateway.bind(to).unwrap();
        let answered = site.acted(Reason::T16);
        let connected = site.topology.client.connect(SocketAddr::new(from, 0), to, PATIENCE);
        let mut client = connected.unwrap().unwrap_or_else(|error| panic!("{from}: {error}"));
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        // More than one segment each way: whatever was agreed upon is agreed by both.
        let sent = vec![7_u8; 100_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&sent).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            server.read_to_end(&mut received).unwrap();
            assert!(received == sent, "{from}: {} octets", received.len());
        });
        assert_eq!(site.acted(Reason::T16), answered + 1, "{from}");
    }
    assert_eq!(site.acted(Reason::S1), 0);
    let netstat = || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let netstat = site.topology.gateway.run(netstat).unwrap();
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, received) = pairs.find(|(name, _)| *name == "SyncookiesRecv").unwrap();
    assert_eq!(received, "2", "the kernel took its own cookies back");
}

#[test]
fn without_cookies_a_stranger_is_shed() {
    let test = "without_cookies_a_stranger_is_shed";
    // Switched off; and switched on where the host's kernel does not want cookies.
    for (syn_cookies, sysctl) in [(false, "2"), (true, "1")] {
        let Some(site) = site(test, syn_cookies, sysctl) else { return };
        for (from, to) in families() {
            let to = SocketAddr::new(to, 8080);
            let _listener = site.topology.gateway.bind(to).unwrap();
            let before = site.acted(Reason::S1);
            let connected = site.topology.client.connect(SocketAddr::new(from, 0), to, PATIENCE);
            connected.unwrap().expect_err("it is shed");
            assert!(site.acted(Reason::S1) > before, "{from}");
        }
        assert_eq!(site.acted(Reason::T16), 0);
    }
}

#[test]
fn what_nobody_listens_to_gets_no_cookie() {
    let Some(site) = site("what_nobody_listens_to_gets_no_cookie", true, "2") else { return };
    for (from, to) in families() {
        let connected = site.topology.client.connect(
            SocketAddr::new(from, 0),
            SocketAddr::new(to, 8081),
            PATIENCE,
        );
        connected.unwrap().expect_err("it is shed");
    }
    assert_eq!(site.acted(Reason::T16), 0);
}
