//! What a request and its answer must be: an OpenAPI document, compiled once, read-only afterwards.
//!
//! [`load`] runs at start and at reload, reads everything and reports every problem. Its product, the
//! [`Contract`], holds no text of the document: a request indexes it and never searches. What a
//! document demands and this version does not enforce is an error, or, named in
//! [`LoadOptions::unenforced`], a warning: never silence.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod compile;
mod content;
mod dialect;
mod document;
mod format;
mod media_type;
mod operation;
mod parameter;
mod paths;
mod pattern;
mod problem;
mod query;
mod response;
mod schema;
mod structure;
mod uri;

pub use content::{BodyRule, Content};
pub use operation::{Contract, Matched, Operation, OperationIndex};
pub use problem::{ContractError, Problem};
pub use response::ResponseRule;

use document::Document;

/// How a document is to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// What may stay unenforced, by the names that [`Problem::unenforced`] gives: `security`,
    /// `format:foo`, `media-type:text/csv`.
    pub unenforced: BTreeSet<String>,
    /// Octets that a request's body may have.
    pub body_limit: usize,
    /// Octets that a response's body may have.
    pub response_limit: usize,
    /// Levels of arrays and objects that a JSON body may have.
    pub depth_limit: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            unenforced: BTreeSet::new(),
            body_limit: 1024 * 1024,
            response_limit: 8 * 1024 * 1024,
            depth_limit: 64,
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

/// Reads and compiles a document, which is JSON or YAML 1.2, of OpenAPI 3.0.
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
    let document = Document::read(path).map_err(|error| vec![error])?;
    let compile::Compiled { contract, mut problems } = compile::compile(&document.root, options);
    if problems.iter().all(|(_, problem)| is_warning(problem, options))
        && let Err(error) = structure::read(&document.root)
    {
        problems.push((String::new(), Problem::Structure(error.to_string().into())));
    }
    let lines = if problems.is_empty() {
        Vec::new()
    } else {
        document.lines(problems.iter().map(|(pointer, _)| &**pointer))
    };
    let located = problems.into_iter().zip(lines).map(|((pointer, problem), line)| ContractError {
        file: Arc::clone(&document.file),
        line,
        pointer: pointer.into(),
        problem,
    });
    let (mut warnings, mut errors): (Vec<_>, Vec<_>) =
        located.partition(|error| is_warning(&error.problem, options));
    warnings.sort_by_key(|error| error.line);
    errors.sort_by_key(|error| error.line);
    if errors.is_empty() {
        let files = vec![path.to_owned()];
        Ok(Loaded { contract, warnings, files, digest: document.sha256 })
    } else {
        Err(errors)
    }
}

fn is_warning(problem: &Problem, options: &LoadOptions) -> bool {
    match problem {
        Problem::NotEnforced(kind) => options.unenforced.contains(&**kind),
        Problem::BesideReference(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
