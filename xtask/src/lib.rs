//! The project's own tasks, and the network that the demonstration and the tests are run in.

pub mod lab;
pub mod skip;
