//! What takes a loader that the outside has no use for.

use firewall_ebpf::cases;
use xtask::skip::skipped;

use super::*;

/// The smallest ring buffer: room for 73 events.
const PAGE_OCTETS: u32 = 4096;
/// Longer than it takes to fill: every reason is sampled ten times a second.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn events_without_room_are_counted_as_lost() {
    let options = Options { pin_dir: "/proc/nowhere".into(), ..Options::default() };
    let mut kernel = match Kernel::with_ring(&options, PAGE_OCTETS) {
        Err(error) if error.is_not_permitted() => {
            return skipped("events_without_room_are_counted_as_lost", &error.to_string());
        }
        started => started.unwrap(),
    };
    assert_eq!(kernel.counters().unwrap().events_lost, 0);
    // Nobody reads the events.
    let cases = cases::all();
    let started = Monotonic::now();
    while kernel.counters().unwrap().events_lost == 0 {
        assert!(Monotonic::now().since(started) < DEADLINE, "the ring buffer is never full");
        for case in &cases {
            kernel.probe(&case.frame, 1).unwrap();
        }
    }
}
