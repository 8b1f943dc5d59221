//! Where the suite's verdict is not ours, each with what happens instead and why. An entry that is
//! about nothing, or whose cases get the suite's verdict, fails the run.

use std::fmt;

use Outcome::{Load, Passed, Refused};
use Reason::{FormatAsserted, NumberPolicy, OtherDialect, UnknownKeyword};

/// Cases whose verdict differs from the suite's, and what it is.
#[derive(Debug)]
pub(super) struct Exclusion {
    pub(super) file: &'static str,
    /// The group's whole description; empty for every group of the file.
    pub(super) group: &'static str,
    /// In the test's description; empty for every test whose verdict differs.
    pub(super) test: &'static str,
    pub(super) outcome: Outcome,
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// The contract is refused; every problem has these words.
    Load(&'static str),
    Passed,
    /// By these rules, as a request's body and as a response's.
    Refused(&'static str, &'static str),
}

#[derive(Debug)]
pub(super) enum Reason {
    FormatAsserted,
    NumberPolicy,
    OtherDialect,
    UnknownKeyword,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FormatAsserted => "formats are asserted by default",
            Self::NumberPolicy => "numbers beyond 64 bits or a double's precision are refused",
            Self::OtherDialect => "schemas of another dialect are refused at load",
            Self::UnknownKeyword => "unknown keywords are refused at load",
        })
    }
}

const fn load(
    file: &'static str,
    group: &'static str,
    words: &'static str,
    reason: Reason,
) -> Exclusion {
    Exclusion { file, group, test: "", outcome: Load(words), reason }
}

const fn case(
    file: &'static str,
    group: &'static str,
    test: &'static str,
    outcome: Outcome,
    reason: Reason,
) -> Exclusion {
    Exclusion { file, group, test, outcome, reason }
}

pub(super) const EXCLUSIONS: &[Exclusion] = &[case(
    "format",
    "",
    "is only an annotation by default",
    Refused("body.schema", "response.schema"),
    FormatAsserted,
)];
