//! `cargo xtask bench`: the program as it is shipped, measured beside the other proxies.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// What of the comparisons can be chosen.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    task: Option<Task>,

    /// Under a minute, for a first look; its spread is wide
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// How often each workload is measured on each peer
    #[arg(long)]
    rounds: Option<u32>,
    /// How long one measurement lasts
    #[arg(long)]
    seconds: Option<f64>,
    /// Keep-alive connections, each with one request at a time
    #[arg(long)]
    connections: Option<usize>,
    /// The seed of the order, to repeat a run
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write every sample
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Instead, how long documents take to compile: synthetic ones of 1,200 and 10,000 operations,
    /// and these
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..,
        conflicts_with_all = ["quick", "seconds", "connections", "seed", "json"],
    )]
    documents: Option<Vec<PathBuf>>,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Instead, the packet path beside xdp-filter, nftables, ipset and the kernel's own tables.
    /// Needs root; installs what it lacks with apt
    Packet {
        /// Under three minutes, for a first look; its spread is wide
        #[arg(long)]
        quick: bool,
        /// The seed of addresses and order, to repeat a run
        #[arg(long)]
        seed: Option<u64>,
        /// Where to write every sample, the commands used, and the ratios
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Builds the firewall as it is shipped and the bench with optimisation, and compares.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let firewall = build("firewall", "dist")?;
    let bench = build("bench", "release")?;
    let mut command = Command::new(bench);
    let task = match options {
        Options { task: Some(Task::Packet { .. }), .. } => "packet",
        Options { documents: Some(_), .. } => "documents",
        _ => "compare",
    };
    command.arg(task).arg("--firewall").arg(firewall).args(arguments(options));
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    anyhow::ensure!(status.success(), "bench {task}: {status}");
    Ok(())
}

/// What the bench is told beyond the firewall's place; its own defaults hold for the rest.
fn arguments(options: &Options) -> Vec<String> {
    let Options { task, quick, rounds, seconds, connections, seed, json, documents } = options;
    if let Some(Task::Packet { quick, seed, json }) = task {
        let flag = quick.then(|| "--quick".to_owned());
        return flag
            .into_iter()
            .chain(pairs(&[
                ("--seed", seed.map(|seed| seed.to_string())),
                ("--json", path(json.as_ref())),
            ]))
            .collect();
    }
    let (rounds, seconds) = if *quick { (Some(3), Some(1.0)) } else { (*rounds, *seconds) };
    let given = [
        ("--rounds", rounds.map(|rounds| rounds.to_string())),
        ("--seconds", seconds.map(|seconds| seconds.to_string())),
        ("--connections", connections.map(|connections| connections.to_string())),
        ("--seed", seed.map(|seed| seed.to_string())),
        ("--json", path(json.as_ref())),
    ];
    pairs(&given).chain(documents.iter().flatten().map(|path| path.display().to_string())).collect()
}

fn path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// The options that were given, name and value one after the other.
fn pairs(given: &[(&str, Option<String>)]) -> impl Iterator<Item = String> {
    given.iter().filter_map(|(name, value)| Some([(*name).to_owned(), value.clone()?])).flatten()
}

/// Builds a package's program of the same name and says where it is.
fn build(package: &str, profile: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--locked", "--message-format=json-render-diagnostics"])
        .args(["--profile", profile, "--package", package, "--bin", package])
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    anyhow::ensure!(output.status.success(), "building {package}: {}", output.status);
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    executable(&messages, package).with_context(|| format!("cargo built no program {package}"))
}

/// The program of this name among cargo's messages, one JSON object a line
/// (the Cargo Book, "External tools").
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_program = message.get("reason")? == "compiler-artifact"
            && message.pointer("/target/name")? == name;
        let path = message.get("executable")?.as_str()?;
        is_program.then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn told(typed: &[&str]) -> Option<Vec<String>> {
        let typed = std::iter::once(&"bench").chain(typed);
        let cli = <Cli as clap::Parser>::try_parse_from(typed).ok()?;
        Some(arguments(&cli.options))
    }

    #[test]
    fn only_what_was_chosen_is_passed_on() {
        let cases: &[(&[&str], Option<&[&str]>)] = &[
            (&[], Some(&[])),
            (&["--quick"], Some(&["--rounds", "3", "--seconds", "1"])),
            (
                &["--quick", "--json", "a b"],
                Some(&["--rounds", "3", "--seconds", "1", "--json", "a b"]),
            ),
            (&["--seconds", "0.5", "--seed", "7"], Some(&["--seconds", "0.5", "--seed", "7"])),
            (
                &["--rounds", "2", "--connections", "8"],
                Some(&["--rounds", "2", "--connections", "8"]),
            ),
            (&["--documents"], Some(&[])),
            (&["--rounds", "3", "--documents", "a", "b"], Some(&["--rounds", "3", "a", "b"])),
            (&["--documents", "--quick"], None),
            (&["--quick", "--rounds", "2"], None),
            (&["packet"], Some(&[])),
            (
                &["packet", "--quick", "--seed", "3", "--json", "a b"],
                Some(&["--quick", "--seed", "3", "--json", "a b"]),
            ),
            (&["packet", "--rounds", "3"], None),
            (&["--quick", "packet"], None),
            (&["--rounds", "many"], None),
        ];
        for (typed, expected) in cases {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(told(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn program_is_found_among_the_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#,
            "\nnot JSON\n",
            r#"{"reason":"compiler-artifact","target":{"name":"firewall"},"executable":null}"#,
            "\n",
            r#"{"reason":"build-script-executed","target":{"name":"firewall"},"executable":"/b"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"firewall"},"executable":"/d/firewall"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "firewall"), Some("/d/firewall".into()));
        assert_eq!(executable(messages, "bench"), None);
        assert_eq!(executable(messages, "libc"), None);
    }
}
