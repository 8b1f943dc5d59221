//! The runner of one target: libFuzzer's, where it is built with it, as `cargo xtask fuzz` does.

#![cfg_attr(feature = "libfuzzer-sys", no_main)]

#[cfg(feature = "libfuzzer-sys")]
libfuzzer_sys::fuzz_target!(
    init: firewall_fuzz::begin(),
    |data: &[u8]| firewall_fuzz::run(data)
);

#[cfg(not(feature = "libfuzzer-sys"))]
fn main() {
    eprintln!("error: this is not the fuzzer; run `cargo xtask fuzz`");
    std::process::exit(2);
}
