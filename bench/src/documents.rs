//! `bench documents`: how long a document takes to compile, and how much memory.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::{clock, process};

pub(crate) mod synthetic;

/// How often the memory of a running check is read; its last milliseconds go unseen.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Measure how long documents take to compile, and how much memory
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The firewall's program
    #[arg(long, value_name = "PATH")]
    firewall: PathBuf,
    /// Synthetic documents of so many operations
    #[arg(long, value_delimiter = ',', default_value = "1200,10000")]
    operations: Vec<usize>,
    /// How often each document is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Documents besides
    files: Vec<PathBuf>,
}

/// One document, and what its compilation took.
struct Row {
    name: String,
    octets: u64,
    answer: &'static str,
    seconds: Vec<f64>,
    peak_rss_kib: u64,
}

/// Measures `firewall check` on each document and prints a table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("firewall-documents-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    let rows = measure(options, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    std::io::stdout().write_all(table(&rows?).as_bytes()).context("printing the table")
}

fn measure(options: &Options, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut documents = Vec::new();
    for operations in &options.operations {
        let path = folder.join(format!("{operations}.json"));
        std::fs::write(&path, synthetic::document(*operations))?;
        documents.push((format!("{operations} operations"), path));
    }
    documents.extend(options.files.iter().map(|path| (path.display().to_string(), path.clone())));
    let mut rows = Vec::new();
    for (name, path) in documents {
        let octets = std::fs::metadata(&path).with_context(|| name.clone())?.len();
        let mut row = Row { name, octets, answer: "", seconds: Vec::new(), peak_rss_kib: 0 };
        for _ in 0..options.rounds {
            let check = check(&options.firewall, &path)?;
            row.answer = check.answer;
            row.seconds.push(check.seconds);
            row.peak_rss_kib = row.peak_rss_kib.max(check.peak_rss_kib);
        }
        rows.push(row);
    }
    Ok(rows)
}

struct Check {
    answer: &'static str,
    seconds: f64,
    peak_rss_kib: u64,
}

fn check(firewall: &Path, document: &Path) -> anyhow::Result<Check> {
    let start = clock::monotonic();
    let mut child = Command::new(firewall)
        .arg("check")
        .arg(document)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", firewall.display()))?;
    let (code, peak_rss_kib) = watched(&mut child)?;
    let seconds = clock::monotonic().saturating_sub(start).as_secs_f64();
    let answer = match code {
        Some(0) => "enforceable",
        Some(1) => "refused",
        code => anyhow::bail!("firewall check {} ended with {code:?}", document.display()),
    };
    Ok(Check { answer, seconds, peak_rss_kib })
}

/// The exit code of a child, and the most memory that it had.
fn watched(child: &mut Child) -> anyhow::Result<(Option<i32>, u64)> {
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), peak));
        }
        // It may end between the two; then nothing is added.
        peak = peak.max(process::peak_rss_kib_of(child.id()).unwrap_or(0));
        thread::sleep(POLL_INTERVAL);
    }
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from("| document | octets | answer | median | longest | peak memory |\n");
    out.push_str("|---|---:|---|---:|---:|---:|\n");
    for row in rows {
        let mut seconds = row.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let longest = seconds.last().copied().unwrap_or_default();
        // Writing to a String cannot fail.
        writeln!(
            out,
            "| {} | {} | {} | {median:.3} s | {longest:.3} s | {} MiB |",
            row.name,
            row.octets,
            row.answer,
            row.peak_rss_kib.div_ceil(1024),
        )
        .unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_median_and_the_longest() {
        let row = |seconds: &[f64]| Row {
            name: "n".to_owned(),
            octets: 7,
            answer: "refused",
            seconds: seconds.to_vec(),
            peak_rss_kib: 1025,
        };
        let table = table(&[row(&[0.3, 0.1, 0.2]), row(&[0.5])]);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| n | 7 | refused | 0.200 s | 0.300 s | 2 MiB |",
                "| n | 7 | refused | 0.500 s | 0.500 s | 2 MiB |",
            ]
        );
    }

    #[test]
    fn a_program_that_is_no_firewall_is_an_error() {
        let check = |program: &str| check(Path::new(program), Path::new("/dev/null"));
        assert_eq!(check("true").unwrap().answer, "enforceable");
        assert_eq!(check("false").unwrap().answer, "refused");
        assert!(check("/nonexistent").is_err());
    }

    #[test]
    fn memory_is_seen_while_it_runs() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 0.05; exit 3"]).spawn().expect("a shell");
        let (code, peak) = watched(&mut child).unwrap();
        assert_eq!(code, Some(3));
        assert!(peak > 200, "{peak} KiB");
    }
}
