//! Packets by the million: the bench's generator at one end of a cable, and at the other who counts
//! what arrives.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::Array;
use aya::programs::Xdp;
use aya::{Ebpf, TestRun as _, TestRunAttrs, TestRunOptions};
use firewall::clock::Monotonic;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use xtask::lab::NetNs;

/// Frames that one system call sends.
const BURST: u32 = 100_000;
/// The most that the kernel takes at once.
const BATCH: u32 = 256;
/// Keys in one element of the generator's map, and its elements.
const KEYS_PER_PAGE: usize = 1024;
const PAGES: u32 = 1024;

/// The generator, which goes through its sources over and over.
pub(crate) struct Flood<'a> {
    object: Ebpf,
    namespace: &'a NetNs,
    interface: &'a str,
    frame: Vec<u8>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) frames: u64,
    /// Frames that the other end's ring had no room for.
    pub(crate) without_room: u64,
    pub(crate) time: Duration,
}

impl Sent {
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate to a few digits")]
        let frames = self.frames as f64;
        frames / self.time.as_secs_f64()
    }
}

impl<'a> Flood<'a> {
    /// Datagrams out of an interface of one namespace to an address and port at the other end of its
    /// cable, an interface of another.
    pub(crate) fn new(
        (namespace, interface): (&'a NetNs, &'a str),
        (other, end): (&NetNs, &str),
        sources: &[Ipv4Addr],
        (to, port): (Ipv4Addr, u16),
    ) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/src/packet/bench.bpf.o");
        let mut object = Ebpf::load_file(path).unwrap();
        let mut keys: Array<_, [[u8; 4]; KEYS_PER_PAGE]> =
            Array::try_from(object.map_mut("KEYS4").unwrap()).unwrap();
        let mut page = [[0; 4]; KEYS_PER_PAGE];
        for (key, source) in page.iter_mut().zip(sources.iter().cycle()) {
            *key = source.octets();
        }
        for index in 0..PAGES {
            keys.set(index, page, 0).unwrap();
        }
        let program: &mut Xdp = object.program_mut("generate").unwrap().try_into().unwrap();
        program.load().unwrap();
        let hardware = other.run(|| hardware_address(end)).unwrap();
        Self { object, namespace, interface, frame: datagram(hardware, to, port) }
    }

    /// Sends until told to stop.
    pub(crate) fn run(&mut self, is_over: &AtomicBool) -> Sent {
        let Self { object, namespace, interface, frame } = self;
        let work = || {
            let index = if_nametoindex(*interface).unwrap();
            let mut run: Array<_, [u8; 16]> =
                Array::try_from(object.map_mut("RUN").unwrap()).unwrap();
            let mut words = [0; 16];
            words[8..12].copy_from_slice(&index.to_ne_bytes());
            run.set(0, words, 0).unwrap();
            let program: &mut Xdp = object.program_mut("generate").unwrap().try_into().unwrap();
            let (before, began) = (dropped(interface), Monotonic::now());
            let mut sent = Sent::default();
            while !is_over.load(Ordering::Relaxed) {
                let options = TestRunOptions {
                    data_in: Some(frame.as_slice()),
                    repeat: BURST,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                };
                program.test_run(options).unwrap();
                sent.frames += u64::from(BURST);
            }
            sent.time = Monotonic::now().since(began);
            sent.without_room = dropped(interface) - before;
            sent
        };
        namespace.run(work).unwrap()
    }
}

/// What an interface of the calling thread's namespace could not send (`proc_net(5)`: eight columns of
/// what was received, then octets, packets, errors, drops).
fn dropped(interface: &str) -> u64 {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line =
        devices.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.unwrap().split_whitespace().nth(11).unwrap().parse().unwrap()
}

fn hardware_address(interface: &str) -> [u8; 6] {
    let mut found = getifaddrs().unwrap().filter(|found| found.interface_name == interface);
    found.find_map(|found| found.address?.as_link_addr()?.addr()).unwrap()
}

/// The shortest frame, from `0.0.0.0`, in whose place the generator puts a source; without a UDP
/// checksum, as IPv4 allows.
fn datagram(hardware: [u8; 6], to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    header.extend(to.octets());
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
    let mut frame = hardware.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    frame.extend(header);
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 26, 0, 0]);
    frame.extend([0; 18]);
    frame
}

/// Says that something is over when it is dropped, by a panic too.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Datagrams that arrived, by what became of their sources.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) banned: AtomicU64,
    pub(crate) clean: AtomicU64,
}

/// The banned half of the sources here; the other half is clean.
pub(crate) const BANNED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 128);
pub(crate) const BANNED_LENGTH: u8 = 25;

/// Neighbours of the gateway, one banned after one that is not.
pub(crate) fn sources() -> Vec<Ipv4Addr> {
    (0..64)
        .flat_map(|n| [Ipv4Addr::new(10, 77, 0, 16 + n), Ipv4Addr::new(10, 77, 0, 136 + n)])
        .collect()
}

/// Counts what a socket receives, until told to stop and nothing more comes.
pub(crate) fn count(receiver: &UdpSocket, arrived: &Arrived, is_over: &AtomicBool) {
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 64];
    loop {
        match receiver.recv_from(&mut buffer) {
            Ok((_, from)) => {
                let is_banned = match from.ip() {
                    std::net::IpAddr::V4(address) => address.octets()[3] >= BANNED.octets()[3],
                    std::net::IpAddr::V6(_) => false,
                };
                let counter = if is_banned { &arrived.banned } else { &arrived.clean };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) if is_over.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}
