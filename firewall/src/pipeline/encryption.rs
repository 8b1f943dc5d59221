//! Whether the connection's handshake allows this request: the name that it was made for, and the
//! certificate that the client has shown.

use http::header::HOST;
use http::uri::Authority;

use crate::pipeline::exchange::Exchange;
use crate::violation::{Rule, Violation};

/// Refuses a request of a client whose certificate is accepted no longer, one for another name than its
/// connection's, where names decide who may come, and one without a client's certificate, where the API
/// demands one. In every mode: who may come is no question of the contract.
pub(super) fn encryption(exchange: &Exchange<'_>) -> Result<(), Violation> {
    let (server, session) = (exchange.ruleset.tls.as_ref(), exchange.session);
    if let (Some(server), Some(session)) = (server, session)
        && !session.is_accepted(server)
    {
        return Err(Violation::new(Rule::ClientCertificateOver));
    }
    let binds_names = || server.is_some_and(|server| server.binds_names());
    if let Some(name) = session.and_then(|session| session.server_name.as_deref())
        && binds_names()
        && !is_host(exchange, name)
    {
        return Err(Violation::new(Rule::ServerName));
    }
    if exchange.api.client_certificate && session.is_none_or(|session| session.client.is_none()) {
        return Err(Violation::new(Rule::ClientCertificate));
    }
    Ok(())
}

/// Whether the request is for this host, whatever port it names.
fn is_host(exchange: &Exchange<'_>, name: &str) -> bool {
    let authority = exchange.request.uri.authority().map(Authority::as_str);
    let field = || exchange.request.headers.get(HOST).and_then(|value| value.to_str().ok());
    authority.or_else(field).is_some_and(|host| is_same(host, name))
}

/// Names are alike in both cases, and with the root's dot; a port belongs to none.
fn is_same(host: &str, name: &str) -> bool {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let [host, name] = [host, name].map(|name| name.strip_suffix('.').unwrap_or(name));
    host.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_names() {
        for (host, name, expected) in [
            ("api.example", "api.example", true),
            ("API.Example:8443", "api.example", true),
            ("api.example.", "api.example", true),
            ("api.example.:443", "api.example", true),
            ("other.example", "api.example", false),
            ("api.example.evil", "api.example", false),
            ("[::1]:443", "api.example", false),
            ("", "api.example", false),
        ] {
            assert_eq!(is_same(host, name), expected, "{host} {name}");
        }
    }
}
