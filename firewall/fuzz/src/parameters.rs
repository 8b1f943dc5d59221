//! `parameters`: what a parameter's text stands for, and by a reader that makes a value of it.

use super::Target;

pub(crate) const TARGET: Target = Target { name: "parameters", run, seeds, words: &[] };

fn run(_data: &[u8]) {}

fn seeds() -> Vec<Vec<u8>> {
    vec![vec![0]]
}
