//! What keeps a document from being enforced, and where it stands.

use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The contract cannot be enforced as written, or, as a warning, is enforced only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractError {
    pub file: Arc<str>,
    /// Counted from 1; none where the place has no line, as for a file that cannot be read.
    pub line: Option<u32>,
    /// A JSON Pointer (RFC 6901) into the document; empty for the whole.
    pub pointer: Box<str>,
    pub problem: Problem,
}

impl ContractError {
    /// The files that the problem is about: the one it stands in, and the one that this refers to.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let referred = match &self.problem {
            Problem::UnreadableReference { file, .. } | Problem::OutsideReference { file, .. } => {
                Some(&**file)
            }
            _ => None,
        };
        [&*self.file].into_iter().chain(referred)
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": #{}: {}", self.pointer, self.problem)
    }
}

impl std::error::Error for ContractError {}

impl Serialize for ContractError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ContractError", 5)?;
        fields.serialize_field("file", &*self.file)?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("pointer", &*self.pointer)?;
        fields.serialize_field("message", &self.problem.to_string())?;
        fields.serialize_field("unenforced", &self.problem.unenforced())?;
        fields.end()
    }
}

/// What is wrong at one place of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(Box<str>),
    #[error("the document has more than {limit} octets")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    Syntax(Box<str>),
    #[error("`openapi` is {found}; supported: 3.0.x, 3.1.x, 3.2.x")]
    Version { found: Box<str> },
    /// The typed reading of the structure refuses the document.
    #[error("is not a valid OpenAPI 3.0 document: {0}")]
    Structure(Box<str>),
    #[error("`{0}` is missing")]
    Missing(Box<str>),
    #[error("expected {expected}, found {found}")]
    Unexpected { expected: &'static str, found: Box<str> },
    #[error("`{name}` is not a field that OpenAPI {version} defines here")]
    UnknownField { name: Box<str>, version: &'static str },
    #[error("the reference {0} leads to nothing")]
    UnknownReference(Box<str>),
    /// Nothing is fetched.
    #[error("the reference {0} leads to another host; name a directory for it in `references`")]
    RemoteReference(Box<str>),
    #[error("the reference leads to {file}, which is not below {top}")]
    OutsideReference { file: Box<str>, top: Box<str> },
    #[error("the reference leads to {file}: {reason}")]
    UnreadableReference { file: Box<str>, reason: Box<str> },
    /// The reference leads to a file whose problem is told on its own.
    #[error("the reference leads to a file that cannot be had")]
    MissingFile,
    #[error("the document has more than {limit} files")]
    TooManyFiles { limit: usize },
    #[error("`{0}` identifies two schemas")]
    IdentifierRepeated(Box<str>),
    #[error("the reference leads back to itself")]
    ReferenceCycle,
    #[error("the dialect {0} is not one of JSON Schema 2020-12 and OpenAPI's own")]
    Dialect(Box<str>),
    /// OpenAPI 3.0 ignores what stands beside `$ref`.
    #[error("`{0}` has no effect beside `$ref`")]
    BesideReference(Box<str>),
    #[error("{first} and {second} match the same requests")]
    PathsCollide { first: Box<str>, second: Box<str> },
    /// No request is for both, and yet the specification forbids it (3.1.1, section 4.8.8).
    #[error(
        "{first} and {second} are of one hierarchy, though their methods differ; accept that by naming `same-hierarchy` in `unenforced`"
    )]
    SameHierarchy { first: Box<str>, second: Box<str> },
    /// Every request is refused.
    #[error("the document has no operations, so that every request is refused")]
    NoOperations,
    #[error("the operationId `{0}` is given twice")]
    OperationIdRepeated(Box<str>),
    #[error("{0}")]
    Path(Box<str>),
    #[error("{0}")]
    Parameter(Box<str>),
    #[error("{0}")]
    Upgrade(Box<str>),
    /// A field that the specification gives no meaning here.
    #[error("{0} has no effect")]
    Ineffective(Box<str>),
    /// A parameter that the document describes and this version does not enforce, or the
    /// specification does not define. The configuration may accept that by the name given here.
    #[error(
        "{parameter}: {reason}; accept that it is not enforced by naming `{kind}` in `unenforced`"
    )]
    ParameterNotEnforced { parameter: Box<str>, kind: Box<str>, reason: Box<str> },
    #[error("{0}")]
    Grpc(Box<str>),
    #[error("{0}")]
    Security(Box<str>),
    /// Always a warning.
    #[error("credentials are checked for presence and form; verifying them is left to the API")]
    CredentialsUnverified,
    #[error("the pattern cannot be enforced: {0}")]
    Pattern(Box<str>),
    #[error("{0}")]
    Schema(Box<str>),
    /// Always a warning: base schemas that name their heirs do so, and the library that checks takes
    /// the schema to hold where it comes back.
    #[error("the schema leads back to itself for the same value, where it is taken to hold")]
    CyclicSchema,
    #[error("the discriminator's `{0}` leads to nothing; messages are checked without it")]
    Discriminator(Box<str>),
    /// Something that the document demands and this version does not enforce. The configuration may
    /// accept that by the name given here.
    #[error("`{0}` is not enforced; accept that by naming it in `unenforced`")]
    NotEnforced(Box<str>),
}

impl Problem {
    /// The name by which the configuration can accept that this is not enforced.
    pub fn unenforced(&self) -> Option<&str> {
        match self {
            Self::NotEnforced(kind) | Self::ParameterNotEnforced { kind, .. } => Some(kind),
            Self::SameHierarchy { .. } => Some("same-hierarchy"),
            _ => None,
        }
    }
}
