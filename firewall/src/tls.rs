//! TLS: one provider of cryptography, the files that keys and certificates are in, and what is known of
//! an encrypted connection. All sides use it: the listener, the upstreams and the feeds.

pub mod authorities;
pub mod certificate;
mod der;
pub mod hello;
pub mod ja4;
pub mod ocsp;
pub mod pem;
pub mod server;
pub mod session;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The one provider of cryptography of this process: AWS-LC, as rustls chooses its suites and groups,
/// the hybrid of X25519 and ML-KEM-768 first.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
