//! The integration tests: the real program, real sockets, the real kernel where it lets us.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's panic is its verdict, and clippy excepts test functions alone"
)]

mod kit;

/// Refused answers: what the client gets instead, and what the operator.
mod answers;
/// Bodies in flight.
mod bodies;
/// Who the client is, behind balancers and proxies.
mod clients;
/// The contract as seen from the two sockets: what passes, what is refused, what is forwarded.
mod contract;
/// Security requirements: challenges, offences, order.
mod credentials;
/// Units and manifests: what they start exists, and their hardening holds.
mod deploy;
/// What is in progress while the policy changes under it, or the process ends.
mod endings;
/// Lists that others keep.
mod feeds;
/// Calls of gRPC, where they are declared.
mod grpc;
/// What answers get and lose on their way out.
mod headers;
/// An upstream that lies, breaks off, stalls or says too much.
mod hostile;
/// HTTP/2, frame by frame: heads, floods, limits, drain.
mod http2;
/// Interfaces that appear, are renamed, flap and vanish; modes; a second instance.
mod interfaces;
/// The loop through the kernel: namespaces, a native XDP program, real packets.
mod kernel_loop;
/// Limits at n and one more, exhaustion, and limits that change.
mod limits;
/// The ways to lock oneself out, and back in.
mod lockout;
/// Offences become bans, bans hold, survive, and are lifted.
mod loops;
/// Enforce, observe, off.
mod modes;
/// The command line, the admin socket, reload, drain.
mod operator;
/// Parameters and fields, as the upstream gets them.
mod parameters;
/// Which privileges the kernel program takes, and what is said where one is missing.
mod privileges;
/// Hosts, base paths, segments, methods and preflights.
mod routing;
/// Under a service manager: readiness, reload, stop, and a watchdog that notices.
mod service;
/// Ambiguous requests and hard limits, octet by octet on the client's socket.
mod smuggling;
/// A loader with capabilities and a proxy without any: what each may, and what holds without either.
mod split;
/// The JSON-Schema-Test-Suite through the whole path, in both directions.
mod suite;
/// TLS at the listener: names, versions, sessions, certificates of clients, reload, bounds.
mod tls;
/// Another process takes the running one's place.
mod upgrade;
/// HTTP/2 to the upstream: what it is asked, what it may do, and what it may not.
mod upstream_http2;
/// Several endpoints, several APIs: what fails, returns, stalls, is moved or is not there.
mod upstreams;
/// WebSockets where they are declared: handshake, frames, limits, ends.
mod websocket;
/// The packet table through the kernel, attaching, pinning, adopting.
mod xdp;
