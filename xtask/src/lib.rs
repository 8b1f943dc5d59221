//! The project's own tasks, and the network that the demonstration and the tests are run in.

pub mod bench;
pub mod demo;
pub mod ebpf;
mod end;
pub mod fuzz;
pub mod kernels;
pub mod lab;
mod project;
mod report;
pub mod skip;
pub mod suite;
mod tally;
pub mod test;
pub mod tidy;
