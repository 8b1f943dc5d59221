//! JSON without a tree: one parse into a tape, which the schema validator then walks in place.

mod duplicate;
pub mod number;
pub mod parse;
pub mod tape;

pub use number::{Decimal, is_exact};
pub use parse::{DuplicateNames, JsonError, JsonRules, with_tape};
pub use simd_json::{Node, StaticNode};
pub(crate) use tape::is_same_name;
pub use tape::{Scope, TapeJson, TapeNode, TapeNumber};
