//! The program: reads the command line, runs it, prints what went wrong with all its causes.

use std::process::ExitCode;

use clap::Parser;
use firewall::control::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("firewall: {error:#}");
            ExitCode::from(2)
        }
    }
}
