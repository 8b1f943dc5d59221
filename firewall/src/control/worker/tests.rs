//! A worker and the keeper, with a table in the kernel's place that can be held up.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::net::TcpStream;
use std::sync::mpsc as blocking;

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::*;
use crate::ban::exempt::Exempt;
use crate::ban::keeper::{Held, Keeper, KeeperSettings, Plane};
use crate::clock::Moment;
use crate::control::cli::RunOptions;
use crate::control::policy;
use crate::control::watchdog::Pulses;
use crate::listen::socket;
use crate::upstream::keeper::Upstreams;

/// Longer than anything here takes on a busy machine; never waited out.
const DEADLINE: Duration = Duration::from_secs(20);
/// Many times what a refusal takes that waits for nothing.
const AT_ONCE: Duration = Duration::from_millis(300);

/// A ban table that says when it is written, and goes on when it is let.
#[derive(Debug)]
struct HeldUp {
    begun: blocking::Sender<IpNet>,
    go_on: blocking::Receiver<()>,
}

impl Plane for HeldUp {
    type Error = std::convert::Infallible;

    fn ban(&mut self, target: IpNet, _: Monotonic) -> Result<(), Self::Error> {
        self.begun.send(target).unwrap();
        self.go_on.recv().unwrap();
        Ok(())
    }

    fn unban(&mut self, _: IpNet) -> Result<bool, Self::Error> {
        Ok(false)
    }

    fn drops(&self, _: IpNet) -> Result<Option<u64>, Self::Error> {
        Ok(Some(0))
    }

    fn stand(&mut self, _: IpAddr) -> Result<(), Self::Error> {
        Ok(())
    }

    fn fall(&mut self, _: IpAddr) -> Result<(), Self::Error> {
        Ok(())
    }

    fn held(&self) -> Result<Vec<Held>, Self::Error> {
        Ok(Vec::new())
    }
}

/// Sends a request for a path that no contract knows.
fn offend(client: &mut TcpStream) {
    client.write_all(b"GET /.env HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
}

/// Reads one refusal: its body is an object without another inside.
fn refusal(client: &mut TcpStream) -> String {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = Vec::new();
    while text.last() != Some(&b'}') {
        let mut octet = [0];
        client.read_exact(&mut octet).unwrap();
        text.extend(octet);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_refusal_is_written_when_the_kernel_holds_its_ban_and_not_before() {
    let name = format!("firewall-worker-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let spec = "openapi: 3.0.3\ninfo: { title: a, version: \"1\" }\npaths: {}\n";
    std::fs::write(directory.join("spec.yaml"), spec).unwrap();
    let config = directory.join("firewall.toml");
    let text = "[listen]\naddress = \"127.0.0.1:0\"\nworkers = 1\n[[api]]\nname = \"a\"\n\
                spec = \"spec.yaml\"\nupstream = \"http://127.0.0.1:9\"\n";
    std::fs::write(&config, text).unwrap();
    let metrics = Arc::new(Metrics::new());
    let mut options = RunOptions::default();
    options.config = Some(config);
    let upstreams = Upstreams::of_the_system(Arc::clone(&metrics));
    let loaded = policy::load(&options, 1, &metrics, &upstreams, None).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();

    let (begun, begins) = blocking::channel();
    let (let_go, go_on) = blocking::channel();
    let keeper_settings = KeeperSettings {
        exempt: Arc::<Exempt>::default(),
        patience: DEADLINE,
        ..KeeperSettings::default()
    };
    let plane = Some(HeldUp { begun, go_on });
    let (mut keeper, handle) = Keeper::new(keeper_settings, None, plane, Moment::now());
    let (bans, link) = keeper.worker();
    let (stop_keeper, stopped) = oneshot::channel::<()>();
    let keeping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keeper.run(async { drop(stopped.await) }));
    });

    let settings = Arc::new(loaded.settings);
    let mut listeners = socket::bind(settings.listen, settings.workers, settings.backlog).unwrap();
    let listener = listeners.pop().unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(Stop::Serve);
    let (ended, _endings) = mpsc::unbounded_channel();
    let worker = spawn(WorkerParts {
        index: 0,
        sockets: vec![listener],
        is_shared: false,
        rulesets: Arc::new(ArcSwap::from_pointee(loaded.ruleset)),
        keeper: handle,
        bans,
        link,
        load: Arc::default(),
        metrics,
        log: None,
        audit: None,
        settings: Arc::new(ArcSwap::new(settings)),
        stopping,
        ended,
        pulse: Pulses::default().pulse("worker-0".to_owned()),
    });

    let mut client = TcpStream::connect(address).unwrap();
    for _ in 0..2 {
        offend(&mut client);
        assert!(refusal(&mut client).starts_with("HTTP/1.1 404 "));
    }
    offend(&mut client);
    let banned = begins.recv_timeout(DEADLINE).unwrap();
    assert_eq!(banned, "127.0.0.1/32".parse().unwrap());
    client.set_read_timeout(Some(AT_ONCE)).unwrap();
    let early = client.read(&mut [0]).expect_err("the kernel does not hold the ban yet");
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");

    let_go.send(()).unwrap();
    let last = refusal(&mut client);
    assert!(last.starts_with("HTTP/1.1 404 "), "{last}");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the refusal is the last word");

    stop.send(Stop::Drain).unwrap();
    worker.unwrap().join().unwrap();
    stop_keeper.send(()).unwrap();
    keeping.join().unwrap();
}
