//! The runner of one target: libFuzzer's, where it is built with `--cfg fuzzing`, as
//! `cargo xtask fuzz` does.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: firewall_fuzz::begin(),
    |data: &[u8]| firewall_fuzz::run(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("error: this is not instrumented; run `cargo xtask fuzz`");
    std::process::exit(2);
}
