//! `canary`: crashes on one word of four octets. That the fuzzer finds it shows that coverage leads
//! it: blind, it would take four thousand million tries.

use super::Target;

pub(crate) const TARGET: Target =
    Target { name: "canary", run, seeds: || vec![b"....".to_vec()], words: &[] };

fn run(data: &[u8]) {
    let mut rest = data;
    // One letter at a time, however well it is compiled: each one found is a step that counts.
    for letter in b"bird" {
        match rest.split_first() {
            Some((octet, behind)) if octet == letter => rest = std::hint::black_box(behind),
            _ => return,
        }
    }
    panic!("the canary is dead");
}
