//! JSON without a tree: one parse into a tape, which the schema validator then walks in place.

pub mod parse;
pub mod tape;

pub use parse::{JsonError, with_tape};
pub use simd_json::{Node, StaticNode};
pub use tape::{Scope, TapeJson, TapeNode};
