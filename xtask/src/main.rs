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
    /// Build the XDP object that is committed beside the loader
    Ebpf(xtask::ebpf::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Ebpf(options) => xtask::ebpf::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
