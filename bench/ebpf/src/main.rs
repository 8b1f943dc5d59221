//! For BPF the bench's XDP programs; for the host an empty one, so that the workspace builds anywhere.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For the one atomic instruction that the language does not offer for this target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

// The firewall's own, for a filter that is nothing but a look-up in its tables.
#[cfg(target_arch = "bpf")]
#[path = "../../../firewall-ebpf/src/program/bans.rs"]
mod bans;
#[cfg(target_arch = "bpf")]
mod program;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
