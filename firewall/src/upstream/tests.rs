//! What an upstream's failures mean to clients.

use super::UpstreamError;

#[test]
fn failures_have_the_status_that_they_mean() {
    for (error, id, status) in [
        (UpstreamError::Saturated, "saturated", 503),
        (UpstreamError::QueueFull, "queue-full", 503),
        (UpstreamError::Unhealthy, "unhealthy", 503),
        (UpstreamError::Unresolved, "unresolved", 502),
        (UpstreamError::Connect, "connect", 502),
        (UpstreamError::Tls, "tls", 502),
        (UpstreamError::Protocol, "protocol", 502),
        (UpstreamError::ConnectTimeout, "connect-timeout", 504),
        (UpstreamError::ResponseTimeout, "response-timeout", 504),
        (UpstreamError::ReadTimeout, "read-timeout", 504),
    ] {
        assert_eq!((error.id(), error.status()), (id, status), "{error:?}");
        assert!(error.title().starts_with("The service "), "{error:?}");
    }
}
