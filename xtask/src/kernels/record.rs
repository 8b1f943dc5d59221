//! `firewall/docs/kernels.md`: what each kernel made of the program, as a table.

use std::fmt;

use anyhow::{Context as _, Result};

/// What numbers of instructions may differ by, in percent: another patch level of a kernel prunes a
/// little otherwise, and small changes of the program need no new record.
const TOLERANCE: u64 = 20;

const BEGIN: &str = "<!-- written by `cargo xtask test --kernels --write` -->";
const END: &str = "<!-- end -->";

/// What was found on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) series: String,
    pub(super) version: String,
    /// Walked by the verifier: the program as it is loaded by default, and with its log on.
    pub(super) instructions: u64,
    pub(super) with_log: u64,
    pub(super) passed: usize,
    /// Tests that this kernel cannot run, each with its reason.
    pub(super) unable: Vec<String>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, instructions, with_log, passed, .. } = self;
        write!(f, "Linux {version}: {passed} tests passed, {instructions} instructions verified ")?;
        write!(f, "({with_log} with log)")?;
        for unable in &self.unable {
            write!(f, "; could not run {unable}")?;
        }
        Ok(())
    }
}

/// The rows: series, version, instructions, with log, tests, what could not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    rows: Vec<[String; 6]>,
}

impl Record {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (_, table, _) = parts(text)?;
        let cells = |line: &str| -> Option<[String; 6]> {
            let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
            let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().ok()
        };
        // Behind the titles and the line beneath them.
        let rows = table.lines().filter_map(cells).skip(2).collect();
        Ok(Self { rows })
    }

    /// Every measurement that the record lacks, or has otherwise. Kernels beyond those of the record
    /// are those of somebody's machine.
    pub(super) fn differences(&self, found: &[Measured]) -> Vec<String> {
        let mut differences = Vec::new();
        for measured in found {
            let Some(row) = self.rows.iter().find(|row| row[0] == measured.series) else {
                continue;
            };
            let numbers = [(&row[2], measured.instructions), (&row[3], measured.with_log)];
            for (recorded, found) in numbers {
                let near = recorded
                    .parse::<u64>()
                    .is_ok_and(|recorded| recorded.abs_diff(found) * 100 <= recorded * TOLERANCE);
                if !near {
                    let series = &measured.series;
                    let problem =
                        format!("{series}: {recorded} instructions on record, {found} found");
                    differences.push(problem);
                }
            }
        }
        differences
    }

    /// The record with these measurements in place of those of the same series.
    pub(super) fn with(mut self, found: &[Measured]) -> Self {
        for measured in found {
            let row = [
                measured.series.clone(),
                measured.version.clone(),
                measured.instructions.to_string(),
                measured.with_log.to_string(),
                measured.passed.to_string(),
                measured.unable.join("; "),
            ];
            match self.rows.iter_mut().find(|known| known[0] == measured.series) {
                Some(known) => *known = row,
                None => self.rows.push(row),
            }
        }
        self.rows.sort_by_key(|row| numbers(&row[0]));
        self
    }

    /// The document with this table in it.
    pub(super) fn written_into(&self, text: &str) -> Result<String> {
        let (before, _, after) = parts(text)?;
        let titles =
            "| series | version | instructions | with log | tests passed | could not run |";
        let rows: String =
            self.rows.iter().map(|row| ["| ", &row.join(" | "), " |\n"].concat()).collect();
        let table = format!("{titles}\n|---|---|---|---|---|---|\n{rows}");
        Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
    }
}

fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = text.split_once(BEGIN).context("the record has no table")?;
    let (table, after) = rest.split_once(END).context("the record's table has no end")?;
    Ok((before, table, after))
}

fn numbers(series: &str) -> Vec<u32> {
    series.split('.').filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(series: &str, instructions: u64) -> Measured {
        Measured {
            series: series.to_owned(),
            version: format!("{series}.1"),
            instructions,
            with_log: 2 * instructions,
            passed: 7,
            unable: vec!["a: b".to_owned()],
        }
    }

    fn recorded() -> (String, Record) {
        let empty = format!("# Kernels\n\n{BEGIN}\n{END}\nand more\n");
        let record = Record::parse(&empty).unwrap();
        let record = record.with(&[measured("6.12", 1000), measured("6.1", 500)]);
        (record.written_into(&empty).unwrap(), record)
    }

    #[test]
    fn what_is_written_is_read() {
        let (text, record) = recorded();
        assert_eq!(Record::parse(&text).unwrap(), record);
        let series: Vec<&str> = record.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(series, ["6.1", "6.12"]);
        assert!(text.starts_with("# Kernels\n") && text.ends_with("\nand more\n"), "{text}");
        assert!(Record::parse("# Kernels\n").is_err());
    }

    #[test]
    fn differences_beyond_the_tolerance_are_told() {
        let (_, record) = recorded();
        for (series, instructions, expected) in [
            ("6.1", 500, 0),
            ("6.1", 600, 0),
            ("6.1", 400, 0),
            ("6.1", 601, 2),
            ("6.1", 399, 2),
            ("6.99", 1, 0),
        ] {
            let differences = record.differences(&[measured(series, instructions)]);
            assert_eq!(differences.len(), expected, "{series} {instructions}: {differences:?}");
        }
    }
}
