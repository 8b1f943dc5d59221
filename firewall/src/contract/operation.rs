//! tmp
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationIndex(pub(crate) u32);
