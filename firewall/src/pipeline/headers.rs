//! Fields that belong to one hop, and fields that speak of the hops.

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, FORWARDED, HOST, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::address::{ClientAddr, PeerAddr};
use crate::contract::{Operation, reads_as};
use crate::pipeline::ruleset::Mode;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// RFC 9110 section 7.6.1, and those that older hops use in the same sense. `Expect` is answered by
/// this hop, which reads the body itself.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    EXPECT,
];

/// In which a hop speaks of those before it.
const CLAIMS: [HeaderName; 5] =
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP];

/// With which each name begins in which a hop speaks of those before it, or of the client's certificate,
/// whatever else it says.
const PREFIXES: [&str; 3] = ["x-forwarded-", "ssl-client-", "x-ssl-client-"];

/// In which hops of one maker or another name the client's address, or its certificate (RFC 9440).
const ATTRIBUTES: [&str; 15] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-cert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-remote-addr",
    "x-remote-ip",
];

/// The way that a request came.
#[derive(Clone, Copy, Debug)]
pub struct Hops {
    pub peer: PeerAddr,
    pub client: ClientAddr,
    /// Whether the client's connection is encrypted.
    pub is_over_tls: bool,
}

/// Removes the fields of the previous hop, those that `Connection` names among them; the others keep
/// their order. Gives the names that `Connection` gave, where they are not the hop's own in any case.
///
/// What is meant for every hop stays, although `Connection` names it (RFC 9110 section 7.6.1
/// forbids that): a client could otherwise take the host from a message that was judged by it.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Vec<HeaderName> {
    if !HOP_BY_HOP.iter().any(|name| headers.contains_key(name)) {
        return Vec::new();
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH && !CLAIMS.contains(name))
        .filter(|name| !HOP_BY_HOP.contains(name))
        .collect();
    // Removing one by one would move the last field into each gap.
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in &*headers {
        if !HOP_BY_HOP.contains(name) && !named.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    *headers = kept;
    named
}

/// Tells the upstream who the client is, and nothing that would have it read another request than the
/// one that was judged.
///
/// What an untrusted peer says of itself is removed: its address stands alone in `X-Forwarded-For`, and
/// no other field of that family stays that the contract does not declare. So is, from any peer, what
/// only some upstreams take for such a claim. A trusted proxy's list is kept, and the proxy's own address
/// added to it. Where requests are enforced, which `enforced` is the
/// operation of, fields that some upstreams take for the target, the method or a checked field are
/// removed, and cookies stand in one line; where answers are, no content coding is asked for, since
/// one could not be looked into.
pub fn forward_headers(
    headers: &mut HeaderMap,
    hops: Hops,
    enforced: Option<&Operation>,
    response_mode: Mode,
) {
    let Hops { peer, client, is_over_tls } = hops;
    let address = HeaderValue::from_str(&peer.0.to_string());
    let is_direct = peer.0 == client.0;
    remove_in_order(headers, |name| {
        let is_asked_for = || enforced.is_some_and(|operation| operation.declares(name));
        let is_claim = is_direct
            && *name != X_FORWARDED_FOR
            && (CLAIMS.contains(name) || speaks_of_hops(name.as_str()) && !is_asked_for());
        let is_override = enforced.is_some_and(|operation| operation.strips(name));
        is_claim || is_override || is_disguised_claim(name)
    });
    if let Ok(address) = address {
        let joined = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        let list = if is_direct { Vec::new() } else { joined.collect::<Vec<_>>() };
        let value = if list.is_empty() {
            Some(address)
        } else {
            let mut list = list.join(&b", "[..]);
            list.extend_from_slice(b", ");
            list.extend_from_slice(address.as_bytes());
            HeaderValue::from_bytes(&list).ok()
        };
        if let Some(value) = value {
            headers.insert(X_FORWARDED_FOR, value);
        }
    }
    if let Entry::Vacant(entry) = headers.entry(X_FORWARDED_PROTO) {
        entry.insert(HeaderValue::from_static(if is_over_tls { "https" } else { "http" }));
    }
    if enforced.is_some() {
        join_cookies(headers);
    }
    if response_mode == Mode::Enforce {
        remove_in_order(headers, |name| *name == ACCEPT_ENCODING);
    }
}

/// Whether some upstream may take a field of this name for what a hop says of those before it.
fn speaks_of_hops(name: &str) -> bool {
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|it| reads_as(it, prefix));
    PREFIXES.iter().any(begins) || ATTRIBUTES.iter().any(|known| reads_as(name, known))
}

/// A claim in another spelling, by which CGI and its heirs know it all the same.
fn is_disguised_claim(name: &HeaderName) -> bool {
    !CLAIMS.contains(name) && CLAIMS.iter().any(|known| reads_as(name.as_str(), known.as_str()))
}

/// Makes one line of several `Cookie` lines (RFC 9113 section 8.2.3), of which some upstreams would
/// read only the first.
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(_), Some(_)) = (lines.next(), lines.next()) else { return };
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // What were field values make one.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Removes every line of some fields; the others keep their order.
pub(super) fn remove_in_order(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&is_removed) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in &*headers {
        if !is_removed(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    *headers = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(peer: PeerAddr) -> Hops {
        Hops { peer, client: ClientAddr(peer.0), is_over_tls: false }
    }

    #[test]
    fn the_upstream_learns_whether_the_client_speaks_tls() {
        let peer = PeerAddr("192.0.2.1".parse().unwrap());
        for (is_over_tls, expected) in [(true, "https"), (false, "http")] {
            let mut map = headers(&[("x-forwarded-proto", "gopher")]);
            forward_headers(&mut map, Hops { is_over_tls, ..direct(peer) }, None, Mode::Off);
            assert_eq!(map[X_FORWARDED_PROTO], expected);
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_keeps_its_order() {
        for (given, kept) in [
            (vec![("host", "a"), ("accept", "b")], vec![("host", "a"), ("accept", "b")]),
            (
                vec![
                    ("host", "a"),
                    ("connection", "keep-alive, X-Secret"),
                    ("x-secret", "1"),
                    ("keep-alive", "5"),
                    ("accept", "b"),
                    ("te", "trailers"),
                    ("x-last", "c"),
                ],
                vec![("host", "a"), ("accept", "b"), ("x-last", "c")],
            ),
            (vec![("expect", "100-continue"), ("host", "a")], vec![("host", "a")]),
            (
                vec![
                    ("host", "a"),
                    ("connection", "Host, Content-Length, X-Forwarded-For, Forwarded"),
                    ("content-length", "1"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                vec![("host", "a"), ("content-length", "1"), ("x-forwarded-for", "192.0.2.1")],
            ),
        ] {
            let mut map = headers(&given);
            strip_hop_by_hop(&mut map);
            assert_eq!(lines(&map), kept);
        }
    }

    #[test]
    fn a_client_cannot_speak_for_another() {
        let mut map = headers(&[
            ("host", "a"),
            ("x-forwarded-for", "10.9.9.9"),
            ("forwarded", "for=10.9.9.9"),
            ("x-real-ip", "10.9.9.9"),
            ("x_forwarded_for", "10.9.9.9"),
            ("x-forwarded_proto", "https"),
            ("x-forwarded-user", "root"),
            ("x-forwarded-client-cert", "By=spiffe"),
            ("x_forwarded_prefix", "/evil"),
            ("x-forwarde", "kept"),
            ("true-client-ip", "10.9.9.9"),
            ("cf_connecting_ip", "10.9.9.9"),
            ("x-client-ipv", "kept"),
            ("client-cert", ":AAAA:"),
            ("client_cert_chain", ":AAAA:"),
            ("ssl-client-verify", "SUCCESS"),
            ("x-ssl_client-subject-dn", "CN=root"),
            ("client-certificate", "kept"),
        ]);
        let peer = PeerAddr("192.0.2.1".parse().unwrap());
        forward_headers(&mut map, direct(peer), None, Mode::Observe);
        assert_eq!(
            lines(&map),
            [
                ("host", "a"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarde", "kept"),
                ("x-client-ipv", "kept"),
                ("client-certificate", "kept"),
                ("x-forwarded-proto", "http"),
            ]
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_or_the_contract_asks_for_stays() {
        let said = [("x-forwarded-user", "ann"), ("true-client-ip", "192.0.2.1")];
        let peer = PeerAddr("10.0.0.1".parse().unwrap());
        let client = ClientAddr("192.0.2.1".parse().unwrap());
        let mut map = headers(&said);
        let hops = Hops { peer, client, is_over_tls: false };
        forward_headers(&mut map, hops, None, Mode::Off);
        assert_eq!(lines(&map)[..2], said);
        with_operation(|operation| {
            let mut map = headers(&[("x-forwarded-tenant", "a"), ("x-forwarded-user", "ann")]);
            forward_headers(&mut map, direct(peer), Some(operation), Mode::Off);
            assert_eq!(lines(&map)[0], ("x-forwarded-tenant", "a"));
            assert!(!map.contains_key("x-forwarded-user"));
        });
    }

    #[test]
    fn a_trusted_proxy_is_added_to_its_list() {
        let mut map = headers(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")]);
        let peer = PeerAddr("10.0.0.1".parse().unwrap());
        let client = ClientAddr("192.0.2.1".parse().unwrap());
        let hops = Hops { peer, client, is_over_tls: false };
        forward_headers(&mut map, hops, None, Mode::Enforce);
        assert_eq!(
            lines(&map),
            [("x-forwarded-for", "192.0.2.1, 10.0.0.1"), ("x-forwarded-proto", "https")]
        );
    }

    #[test]
    fn content_codings_are_asked_for_only_where_answers_are_not_enforced() {
        let peer = PeerAddr("192.0.2.1".parse().unwrap());
        for (mode, kept) in [(Mode::Enforce, false), (Mode::Observe, true), (Mode::Off, true)] {
            let mut map = headers(&[("accept-encoding", "gzip")]);
            forward_headers(&mut map, direct(peer), None, mode);
            assert_eq!(map.contains_key(ACCEPT_ENCODING), kept, "{mode:?}");
        }
    }

    /// The operation of a document with two header parameters, `X-Tenant` and `X-Forwarded-Tenant`.
    fn with_operation<T>(read: impl FnOnce(&Operation) -> T) -> T {
        let document = "{\"openapi\":\"3.0.3\",\"info\":{\"title\":\"t\",\"version\":\"1\"},\"paths\":{\"/\":{\"get\":{\"parameters\":[{\"name\":\"X-Tenant\",\"in\":\"header\",\"schema\":{}},{\"name\":\"X-Forwarded-Tenant\",\"in\":\"header\",\"schema\":{}}],\"responses\":{\"200\":{\"description\":\"ok\"}}}}}}";
        let name = format!("firewall-headers-{:?}.json", std::thread::current().id());
        let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, document).unwrap();
        let loaded = crate::contract::load(&path, &crate::contract::LoadOptions::default());
        std::fs::remove_file(&path).unwrap();
        read(&loaded.ok().unwrap().contract.operations()[0])
    }

    #[test]
    fn target_method_and_declared_fields_cannot_be_overridden_where_they_are_enforced() {
        let peer = PeerAddr("192.0.2.1".parse().unwrap());
        with_operation(|operation| {
            for name in [
                "x-original-url",
                "x-rewrite-url",
                "x-http-method-override",
                "x_rewrite_url",
                "x_tenant",
            ] {
                for enforced in [Some(operation), None] {
                    let mut map = headers(&[("host", "a"), ("x-original", "kept")]);
                    map.append(HeaderName::from_static(name), HeaderValue::from_static("/admin"));
                    map.append("x-tenant", HeaderValue::from_static("kept"));
                    forward_headers(&mut map, direct(peer), enforced, Mode::Off);
                    assert_eq!(map.contains_key(name), enforced.is_none(), "{name}");
                    assert!(
                        map.contains_key("x-original") && map.contains_key("x-tenant"),
                        "{name}"
                    );
                }
            }
        });
    }

    #[test]
    fn cookies_are_in_one_line_where_they_were_checked() {
        let peer = PeerAddr("192.0.2.1".parse().unwrap());
        with_operation(|operation| {
            for (enforced, expected) in
                [(Some(operation), &["a=1; b=2; c=3"][..]), (None, &["a=1", "b=2; c=3"])]
            {
                let mut map = headers(&[("cookie", "a=1"), ("host", "a"), ("cookie", "b=2; c=3")]);
                forward_headers(&mut map, direct(peer), enforced, Mode::Off);
                let found: Vec<_> = map.get_all(COOKIE).iter().collect();
                assert_eq!(found, expected);
                assert_eq!(map.iter().next().unwrap().0, COOKIE, "the order is kept");
            }
        });
    }

    #[test]
    fn what_connection_named_is_told() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Tenant, TE,, Host"),
            ("connection", "close"),
            ("x-tenant", "a"),
        ]);
        let named = strip_hop_by_hop(&mut map);
        assert_eq!(named, ["x-tenant", "close"]);
        assert!(map.is_empty());
        assert_eq!(strip_hop_by_hop(&mut map), [""; 0]);
    }
}
