//! Where the suite's verdict is not ours, each with what happens instead and why. An entry that is
//! about nothing, or whose cases get the suite's verdict, fails the run.

use std::fmt;

use Outcome::{Load, Refused};
use Reason::{
    FormatAsserted, FormatUnknown, Metaschema, NumberPolicy, OtherDialect, UnknownKeyword,
};

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
    /// The contract is refused; every problem has some of these words.
    Load(&'static [&'static str]),
    /// By these rules, as a request's body and as a response's.
    Refused(&'static str, &'static str),
}

#[derive(Debug)]
pub(super) enum Reason {
    FormatAsserted,
    FormatUnknown,
    Metaschema,
    NumberPolicy,
    OtherDialect,
    UnknownKeyword,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FormatAsserted => "formats are asserted by default",
            Self::FormatUnknown => "formats that nobody knows are refused at load",
            Self::Metaschema => "the metaschema is a reference to another host",
            Self::NumberPolicy => "numbers beyond 64 bits or a double's precision are refused",
            Self::OtherDialect => "schemas of another dialect are refused at load",
            Self::UnknownKeyword => "unknown keywords are refused at load",
        })
    }
}

const fn load(
    file: &'static str,
    group: &'static str,
    words: &'static [&'static str],
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

const MALFORMED: Outcome = Refused("body.malformed", "response.malformed");
const UNLIKE: Outcome = Refused("body.schema", "response.schema");
const DIALECT: &[&str] = &["is not one of JSON Schema 2020-12 and OpenAPI's own"];

pub(super) const EXCLUSIONS: &[Exclusion] = &[
    case("format", "", "is only an annotation by default", UNLIKE, FormatAsserted),
    load("optional/format/unknown", "", &["`format:unknown` is not enforced"], FormatUnknown),
    load(
        "defs",
        "validate definition against metaschema",
        &["https://json-schema.org/draft/2020-12/schema leads to another host"],
        Metaschema,
    ),
    load(
        "ref",
        "remote ref, containing refs itself",
        &["https://json-schema.org/draft/2020-12/schema leads to another host"],
        Metaschema,
    ),
    load("optional/cross-draft", "", DIALECT, OtherDialect),
    load("optional/format-assertion", "", DIALECT, OtherDialect),
    load("vocabulary", "", DIALECT, OtherDialect),
    load(
        "optional/dependencies-compatibility",
        "",
        &["`keyword:dependencies` is not enforced"],
        UnknownKeyword,
    ),
    load(
        "optional/refOfUnknownKeyword",
        "reference of a root arbitrary keyword ",
        &["`keyword:unknown-keyword` is not enforced"],
        UnknownKeyword,
    ),
    load(
        "optional/refOfUnknownKeyword",
        "reference of an arbitrary keyword of a sub-schema",
        &["`keyword:unknown-keyword` is not enforced"],
        UnknownKeyword,
    ),
    load(
        "optional/unknownKeyword",
        "",
        &[
            "`keyword:array_of_schemas` is not enforced",
            "`keyword:object_of_schemas` is not enforced",
            "identifies two schemas",
        ],
        UnknownKeyword,
    ),
    case("optional/bignum", "integer", "", MALFORMED, NumberPolicy),
    case("optional/bignum", "number", "", MALFORMED, NumberPolicy),
    case("optional/bignum", "string", "", MALFORMED, NumberPolicy),
    case("optional/bignum", "minimum integer comparison", "", MALFORMED, NumberPolicy),
    case("optional/bignum", "float comparison with high precision", "", MALFORMED, NumberPolicy),
    case(
        "optional/bignum",
        "float comparison with high precision on negative numbers",
        "",
        MALFORMED,
        NumberPolicy,
    ),
];
