//! What the test harness printed, as numbers and names.

/// The sum of the results of several test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
}

impl Tally {
    pub(crate) fn read(log: &str) -> Self {
        let mut tally = Self::default();
        for line in log.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                tally.passed += passed(counts).unwrap_or_default();
            } else if let Some(test) = line.strip_prefix("test ")
                && let Some((name, "FAILED")) = test.rsplit_once(" ... ")
            {
                tally.failed.push(name.to_owned());
            }
        }
        tally
    }
}

/// The number before ` passed`.
fn passed(counts: &str) -> Option<usize> {
    let (before, _) = counts.split_once(" passed")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let log = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\n\
                   test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
                   test result: ok. 41 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
                   test src/lib.rs - f (line 3) ... FAILED\n";
        let failed = vec!["c".to_owned(), "src/lib.rs - f (line 3)".to_owned()];
        assert_eq!(Tally::read(log), Tally { passed: 42, failed });
        assert_eq!(Tally::read("nothing of a test\ntest result: ok.\n"), Tally::default());
    }
}
