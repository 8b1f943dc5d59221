//! To be written.

pub mod origin;
