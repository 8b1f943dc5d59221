//! The packet path: everything that decides about a packet, without a word of the kernel's.
//!
//! [`verdict`](verdict::verdict) is generic over [`Packet`](packet::Packet) and
//! [`Tables`](verdict::Tables), so that the same code runs in the kernel (`program.rs`) and in tests.
#![cfg_attr(not(any(test, feature = "cases")), no_std)]
#![expect(clippy::inline_always, reason = "the verifier walks a call anew for each way to it")]

pub mod awaited;
#[cfg(any(test, feature = "cases"))]
pub mod cases;
pub mod chain;
pub mod checksum;
mod datagram;
pub mod findings;
mod icmp;
pub mod inspect;
mod ipv4;
mod ipv6;
pub mod link;
pub mod options;
mod ordinary;
pub mod packet;
pub mod source;
mod tcp;
mod udp;
pub mod verdict;
