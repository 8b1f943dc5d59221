//! What a request and its answer must be: an OpenAPI document, compiled once, read-only afterwards.
//!
//! [`load`] runs at start and at reload, reads everything and reports every problem. Its product, the
//! [`Contract`], holds no text of the document: a request indexes it and never searches. What a
//! document demands and this version does not enforce is an error, or, named in
//! [`LoadOptions::unenforced`], a warning: never silence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod authority;
mod claim;
mod compile;
mod content;
mod cookie;
mod dialect;
mod document;
mod documents;
pub mod exception;
mod format;
mod grpc;
mod header;
mod media_type;
mod operation;
mod pairs;
mod parameter;
mod paths;
mod pattern;
pub mod policy;
mod preflight;
mod problem;
mod query;
mod response;
mod schema;
mod security;
mod structure;
mod upgrade;
mod uri;
mod walk;

pub use claim::{Claim, Rank};
pub use content::{BodyRule, Content};
pub use grpc::GrpcRule;
pub use header::reads_as;
pub use operation::{Contract, Matched, Operation, OperationIndex};
pub use policy::Policy;
pub use problem::{ContractError, Problem};
pub use response::ResponseRule;
pub use security::{Credential, Presented, SecurityRule};
pub use upgrade::UpgradeRule;

use compile::Version;
use compile::path_items::OPERATION_REFERENCE;
use documents::{Documents, FileIndex, Place};
use policy::Verdict;

use crate::json::{DuplicateNames, JsonRules};

/// How a document is to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// What may stay unenforced, by the names that [`Problem::unenforced`] gives: `security`,
    /// `format:foo`, `media-type:text/csv`.
    pub unenforced: BTreeSet<String>,
    /// What the specification leaves to the owner of the API.
    pub policy: Policy,
    /// The directories that stand for the URIs with these prefixes.
    pub references: BTreeMap<String, PathBuf>,
    /// Octets that a request's body may have.
    pub body_limit: usize,
    /// Octets that a response's body may have.
    pub response_limit: usize,
    /// Levels of arrays and objects that a JSON body may have.
    pub depth_limit: usize,
    /// Whether HTTP/2 is spoken to the API, as gRPC needs it.
    pub http2_upstream: bool,
}

impl LoadOptions {
    /// What JSON must be beyond its grammar.
    pub(crate) fn json_rules(&self) -> JsonRules {
        let passes = |verdict| verdict == Verdict::Pass;
        JsonRules {
            depth_limit: self.depth_limit,
            duplicate_names: if passes(self.policy.json_duplicate_names) {
                DuplicateNames::Last
            } else {
                DuplicateNames::Refuse
            },
            inexact_numbers: passes(self.policy.json_inexact_numbers),
            byte_order_mark: passes(self.policy.json_byte_order_mark),
        }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            unenforced: BTreeSet::new(),
            policy: Policy::default(),
            references: BTreeMap::new(),
            body_limit: 1024 * 1024,
            response_limit: 8 * 1024 * 1024,
            depth_limit: 64,
            http2_upstream: true,
        }
    }
}

/// A contract, and what its operator should know of it.
#[derive(Debug)]
pub struct Loaded {
    pub contract: Contract,
    /// What is not enforced because the options say so, and what has no effect.
    pub warnings: Vec<ContractError>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// The SHA-256 of the files, in hexadecimal: equal for equal documents.
    pub digest: String,
}

/// Levels of arrays and objects that [`LoadOptions::depth_limit`] may be.
pub const DEPTH_MAX: usize = 1024;

/// Octets of stack for checking bodies of so many levels: at each, the schemas that speak of one value
/// may stand as deep as their own limit lets them, and none takes more than a kibibyte.
pub const fn check_stack(depth_limit: usize) -> usize {
    (2 << 20) + depth_limit * dialect::LEVELS_LIMIT * 1024
}

/// Reads and compiles a document of OpenAPI 3.0, 3.1 or 3.2, which is JSON or YAML 1.2, and whatever
/// files it refers to.
///
/// # Errors
///
/// Every problem found, in the order of the document's lines.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, Vec<ContractError>> {
    document::with_deep_stack(|| load_here(path, options)).unwrap_or_else(|error| {
        Err(vec![ContractError {
            file: path.display().to_string().into(),
            line: None,
            pointer: "".into(),
            problem: Problem::Unreadable(error.to_string().into()),
        }])
    })
}

fn load_here(path: &Path, options: &LoadOptions) -> Result<Loaded, Vec<ContractError>> {
    let (documents, unread) = Documents::read(path, &options.references)?;
    let compile::Compiled { contract, version, mut problems } =
        compile::compile(&documents, options);
    if unread.is_empty()
        && version == Version::V3_0
        && problems.iter().all(|(_, problem)| is_warning(problem, options))
        // The typed reading knows no such operation.
        && !options.unenforced.contains(OPERATION_REFERENCE)
        && let Err(error) = structure::read(documents.root(FileIndex(0)))
    {
        problems.push((Place::root(), Problem::Structure(error.to_string().into())));
    }
    problems.retain(|(_, problem)| *problem != Problem::MissingFile);
    let (warnings, errors): (Vec<_>, Vec<_>) = unread
        .into_iter()
        .chain(documents.locate(problems))
        .partition(|error| is_warning(&error.problem, options));
    exception::prepare();
    if errors.is_empty() {
        let files = documents.files().map(Path::to_owned).collect();
        Ok(Loaded { contract, warnings, files, digest: documents.sha256() })
    } else {
        Err(errors)
    }
}

fn is_warning(problem: &Problem, options: &LoadOptions) -> bool {
    match problem {
        Problem::BesideReference(_)
        | Problem::CredentialsUnverified
        | Problem::Ineffective(_)
        | Problem::NoOperations
        | Problem::CyclicSchema
        | Problem::Discriminator(_) => true,
        _ => problem.unenforced().is_some_and(|kind| options.unenforced.contains(kind)),
    }
}

#[cfg(test)]
mod tests;
