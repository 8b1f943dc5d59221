//! `cargo xtask TASK`: what a contributor types.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure the firewall beside other proxies
    Bench(xtask::bench::Options),
    /// Show the whole firewall at work in a network of its own
    Demo(xtask::demo::Options),
    /// Compare the firewall's verdicts with naive ones, on inputs that coverage leads to
    Fuzz(xtask::fuzz::Options),
    /// Bring the JSON-Schema-Test-Suite and run it through the real program
    Suite(xtask::suite::Options),
    /// Run every test, and name what cannot run here
    Test(xtask::test::Options),
    /// Check the rules that neither compiler nor clippy knows
    Tidy,
    /// The first process of a virtual machine of `test --kernels`
    #[command(hide = true)]
    KernelGuest { tests: Vec<String> },
    /// Build the XDP object that is committed beside the loader
    Ebpf(xtask::ebpf::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Bench(options) => xtask::bench::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Demo(options) => xtask::demo::run(options).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(options) => xtask::fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Suite(options) => xtask::suite::run(options).map(|()| ExitCode::SUCCESS),
        Task::Test(options) => xtask::test::run(&options).map(|()| ExitCode::SUCCESS),
        Task::KernelGuest { tests } => {
            xtask::kernels::guest::run(&tests).map(|never| match never {})
        }
        Task::Tidy => xtask::tidy::run().map(|()| ExitCode::SUCCESS),
        Task::Ebpf(options) => xtask::ebpf::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
