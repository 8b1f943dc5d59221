//! `canary`: crashes on one word of four octets. That the fuzzer finds it shows that coverage leads
//! it: blind, it would take four thousand million tries.

use super::Target;

pub(crate) const TARGET: Target =
    Target { name: "canary", run, seeds: || vec![b"....".to_vec()], words: &[] };

fn run(data: &[u8]) {
    // One octet at a time: each is a branch of its own.
    let mut word = data.iter();
    if word.next() == Some(&b'b')
        && word.next() == Some(&b'i')
        && word.next() == Some(&b'r')
        && word.next() == Some(&b'd')
    {
        panic!("the canary is dead");
    }
}
