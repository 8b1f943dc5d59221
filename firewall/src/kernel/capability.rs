//! Which privileges of this process the kernel program needs and does not have.

use std::fmt;
use std::fs;

/// A capability of capabilities(7), by the bit that `/proc` shows it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    bit: u32,
    name: &'static str,
    /// What cannot be done without.
    purpose: &'static str,
    /// Whether `CAP_SYS_ADMIN`, out of which it was made, stands for it too.
    is_of_sys_admin: bool,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (to {})", self.name, self.purpose)
    }
}

const SYS_ADMIN: u32 = 21;

const NEEDED: [Capability; 3] = [
    Capability { bit: 39, name: "CAP_BPF", purpose: "make maps", is_of_sys_admin: true },
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        purpose: "load an XDP program and attach it",
        is_of_sys_admin: false,
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
        purpose: "have it verified with offsets that depend on the packet",
        is_of_sys_admin: true,
    },
];

/// What this process lacks; nothing where that cannot be found out.
pub(super) fn missing() -> Vec<Capability> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    effective(&status).map(lacking).unwrap_or_default()
}

/// The effective capabilities of proc(5)'s `status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn lacking(effective: u64) -> Vec<Capability> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    let is_missing =
        |needed: &Capability| !(has(needed.bit) || needed.is_of_sys_admin && has(SYS_ADMIN));
    NEEDED.into_iter().filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        for (effective, expected) in [
            ("000001ffffffffff", &[][..]),
            ("0000000000000000", &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]),
            // CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON; then without one of them each.
            ("000000c000001000", &[]),
            ("0000004000001000", &["CAP_BPF"]),
            ("000000c000000000", &["CAP_NET_ADMIN"]),
            ("0000008000001000", &["CAP_PERFMON"]),
            // CAP_SYS_ADMIN instead of both of its children.
            ("0000000000201000", &[]),
            ("0000000000200000", &["CAP_NET_ADMIN"]),
        ] {
            let status = format!("Name:\tfirewall\nCapPrm:\t0\nCapEff:\t{effective}\n");
            let names: Vec<_> = lacking(super::effective(&status).unwrap())
                .into_iter()
                .map(|capability| capability.name)
                .collect();
            assert_eq!(names, expected, "{effective}");
        }
        for broken in ["", "CapEff:\tx\n", "CapPrm:\t0\n"] {
            assert_eq!(effective(broken), None, "{broken}");
        }
    }
}
