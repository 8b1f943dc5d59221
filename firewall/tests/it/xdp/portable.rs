//! The table of packets in one pass, so that an emulated machine can do it too: whole frames, one
//! program as it is by default, counters read once.

use std::collections::BTreeMap;

use firewall::clock::Monotonic;
use firewall::kernel::Reason;
use firewall_ebpf::cases::{self, Case};
use firewall_ebpf::verdict::verdict;

use super::start;
use super::verdict::{net, options, unpinned};

#[test]
fn every_case_is_judged_as_on_the_host() {
    let Some(mut kernel) = start("every_case_is_judged_as_on_the_host", &unpinned()) else {
        return;
    };
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|case| options(case) == unpinned()).collect();
    let mut expected: BTreeMap<&str, (u64, u64)> =
        Reason::ALL.iter().map(|reason| (reason.id(), (0, 0))).collect();
    for case in cases {
        for &prefix in &case.bans {
            kernel.ban(net(prefix), Monotonic::NEVER).unwrap();
        }
        let on_host = verdict(case.frame.as_slice(), &case.tables());
        let probe = kernel.probe(&case.frame, 1).unwrap();
        assert_eq!(probe.is_dropped, on_host.drops(), "{}: {on_host:?}", case.name);
        for &reason in Reason::ALL {
            let (acted, observed) = expected.entry(reason.id()).or_default();
            *acted += u64::from(reason == on_host.reason());
            *observed += u64::from(on_host.observed.holds(reason));
        }
        for &prefix in &case.bans {
            assert!(kernel.unban(net(prefix)).unwrap(), "{}", case.name);
        }
    }
    let counters = kernel.counters().unwrap();
    let counted = |&reason: &Reason| {
        let (acted, observed) = (counters.acted(reason), counters.observed(reason));
        (reason.id(), (acted.packets, observed.packets))
    };
    assert_eq!(Reason::ALL.iter().map(counted).collect::<BTreeMap<_, _>>(), expected);
}
