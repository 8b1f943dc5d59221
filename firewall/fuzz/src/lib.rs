//! Differential fuzz targets: what the firewall decides about octets, against what an independent
//! and naive reading of the same octets decides. A target panics where the two differ.

use std::path::Path;
use std::sync::OnceLock;

mod canary;
mod document;
mod frames;
mod framing;
mod hello;
mod json_tape;
mod parameters;
mod pattern;
mod router;
mod specimen;

/// The environment variable that names the target.
pub const TARGET: &str = "FIREWALL_FUZZ_TARGET";
/// The environment variable that names the folder which the target's seeds are written to before the
/// first input is read, with the file `dictionary` beside it.
pub const SEEDS: &str = "FIREWALL_FUZZ_SEEDS";

/// One thing that is fuzzed.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics where the firewall's verdict is not the reference's.
    pub run: fn(&[u8]),
    /// What the fuzzer starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that random octets would seldom make.
    pub words: &'static [&'static str],
}

/// Every target; `canary` must be found to crash.
pub const TARGETS: [Target; 9] = [
    canary::TARGET,
    document::TARGET,
    frames::TARGET,
    framing::TARGET,
    hello::TARGET,
    json_tape::TARGET,
    parameters::TARGET,
    pattern::TARGET,
    router::TARGET,
];

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

/// Chooses the target and writes its seeds, as the environment says.
///
/// # Panics
///
/// Without a target, or where the seeds cannot be written.
pub fn begin() {
    let name = std::env::var(TARGET).expect("the environment names a target");
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    if let Some(folder) = std::env::var_os(SEEDS) {
        write_seeds(target, Path::new(&folder)).expect("the folder of seeds can be written");
    }
    abort_on_panic();
    assert!(CHOSEN.set(target).is_ok(), "libFuzzer begins once");
}

/// Runs the chosen target on one input.
pub fn run(data: &[u8]) {
    if let Some(target) = CHOSEN.get() {
        (target.run)(data);
    }
}

fn write_seeds(target: &Target, folder: &Path) -> std::io::Result<()> {
    for (index, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index:03}")), seed)?;
    }
    std::fs::write(folder.with_file_name("dictionary"), dictionary(target.words))
}

/// The words in libFuzzer's form: one in quotes on each line, what is not plain in hexadecimal.
fn dictionary(words: &[&str]) -> String {
    let escaped = |octet: u8| match octet {
        b'"' | b'\\' => format!("\\{}", char::from(octet)),
        b' '..=b'~' => char::from(octet).to_string(),
        _ => format!("\\x{octet:02X}"),
    };
    let line = |word: &&str| format!("\"{}\"\n", word.bytes().map(escaped).collect::<String>());
    // An empty file is an error to libFuzzer.
    std::iter::once("# words\n".to_owned()).chain(words.iter().map(line)).collect()
}

/// A panic that is caught on its way would be missed, so the hook ends the process; but those of the
/// linear pattern engine are caught by design (rust-lang/regex#1344) and refuse the value.
fn abort_on_panic() {
    drop(std::panic::take_hook());
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or("", |location| location.file());
        if !place.contains("/regex-automata-") {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not the fuzzer, but the same functions: that they agree on every seed and on small changes of
    /// it, so that a target which no longer fits the program is found without fuzzing.
    #[test]
    fn targets_hold_on_their_seeds_and_small_changes() {
        for target in TARGETS.iter().filter(|target| target.name != canary::TARGET.name) {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            let mut random = 0x9E37_79B9_7F4A_7C15_u64;
            for seed in &seeds {
                (target.run)(seed);
                for _ in 0..4 {
                    let mut changed = seed.clone();
                    // Knuth's MMIX; anything that moves about will do.
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let [at, octet, ..] = random.to_be_bytes();
                    let at = usize::from(at) * changed.len() / 256;
                    if let Some(place) = changed.get_mut(at) {
                        *place = octet;
                    }
                    (target.run)(&changed);
                }
                (target.run)(&seed[..seed.len() / 2]);
            }
        }
    }

    #[test]
    fn dictionaries_are_libfuzzers() {
        assert_eq!(
            dictionary(&["a b", "\"\\", "é\n"]),
            "# words\n\"a b\"\n\"\\\"\\\\\"\n\"\\xC3\\xA9\\x0A\"\n"
        );
        assert_eq!(dictionary(&[]), "# words\n");
    }

    #[test]
    fn canary_crashes() {
        let crash = std::panic::catch_unwind(|| (canary::TARGET.run)(b"bird"));
        assert!(crash.is_err());
        (canary::TARGET.run)(b"birch");
    }
}
