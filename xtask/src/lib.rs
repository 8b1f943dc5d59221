//! The project's own tasks, as a library that its tests share.

pub mod ebpf;
