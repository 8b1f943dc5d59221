//! `bench`: what the firewall costs, measured beside other proxies in the same run.

mod clock;
mod compare;
mod documents;
mod load;
mod order;
mod packet;
mod peer;
mod pin;
mod process;
mod report;
mod statistics;
mod upstream;
mod workload;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::upstream::Upstream;

/// What the firewall costs, measured beside other proxies in the same run
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Answer as the bench's contract promises, until stopped
    Upstream {
        /// Where to listen; port 0 chooses one
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
    },
    Compare(compare::Options),
    Documents(documents::Options),
    Packet(packet::Options),
    /// Print a synthetic document
    Synthesize {
        /// How many operations it has
        #[arg(long, default_value_t = 10_000)]
        operations: usize,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Upstream { listen } => Upstream::start(listen, None).and_then(|upstream| {
            eprintln!("listening on {}", upstream.address);
            upstream.join()
        }),
        Task::Compare(options) => compare(&options),
        Task::Documents(options) => documents::run(&options),
        Task::Packet(options) => packet::run(&options),
        Task::Synthesize { operations } => {
            let document = documents::synthetic::document(operations);
            std::io::stdout().write_all(document.as_bytes()).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &compare::Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // Whichever way it ends, the peers are dropped, and with that stopped.
        tokio::select! {
            compared = compare::run(options) => compared,
            _ = terminated.recv() => anyhow::bail!("terminated"),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                anyhow::bail!("interrupted")
            }
        }
    }))
}
