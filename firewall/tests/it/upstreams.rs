//! Several endpoints and several APIs through the real program, before upstreams that refuse, hang,
//! stall, and come back.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::kit::client::{Client, bodiless, exchange};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::tls::{Authority, Issued, secret, server};
use crate::kit::upstream::{Upstream, json as answer};
use crate::kit::{PATIENCE, Scratch, eventually};

const PLAIN: &str = r#"
openapi: 3.0.3
info: { title: Plain, version: "1" }
paths:
  /a:
    get:
      responses: { "200": { description: ok, content: { application/json: { schema: {} } } } }
"#;

fn one_worker() -> Setup {
    Setup { listen: "workers = 1".into(), ..Setup::of(PLAIN) }
}

fn named(name: &'static str) -> Upstream {
    Upstream::start(move |_| answer("200 OK", &format!("\"{name}\"")))
}

/// A port at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[track_caller]
fn ask(gateway: &Gateway) -> String {
    let answer = exchange(gateway.address, bodiless("GET /a"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

fn states(gateway: &Gateway) -> Value {
    let status = gateway.status();
    let endpoints = status["apis"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.into_iter().map(|endpoint| endpoint["state"].clone()).collect()
}

#[test]
fn an_endpoint_that_is_down_costs_no_request_and_is_used_again() {
    let (sound, down) = (named("sound"), nobody());
    let upstream = "ejection = { failures = 3, time = \"500ms\", time_max = \"1s\" }";
    let setup = Setup { upstream: upstream.into(), ..one_worker() };
    let gateway = Gateway::start_before(&setup, &[&url(down), &sound.url()]);
    eventually("it is ejected", || {
        assert_eq!(ask(&gateway), "\"sound\"");
        (states(&gateway) == json!(["ejected", "up"])).then_some(())
    });
    let metrics = gateway.metrics();
    for line in [
        format!("firewall_upstream_endpoint_up{{api=\"test\",endpoint=\"{down}\"}} 0\n"),
        format!("firewall_upstream_endpoint_up{{api=\"test\",endpoint=\"{}\"}} 1\n", sound.address),
        format!("firewall_upstream_ejections_total{{api=\"test\",endpoint=\"{down}\"}} 1\n"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    let back = Upstream::on(TcpListener::bind(down).unwrap(), |_| answer("200 OK", "\"back\""));
    eventually("it is used again", || (ask(&gateway) == "\"back\"").then_some(()));
    assert_eq!(states(&gateway), json!(["up", "up"]));
    assert!(!back.received().is_empty());
    let log = gateway.errors();
    assert!(log.contains("an endpoint is ejected") && log.contains("tried again"), "{log}");
    let endpoint = back.address.to_string();
    eventually("the log tells who answered", || {
        gateway.access_log().iter().any(|line| line["endpoint"] == *endpoint).then_some(())
    });
}

#[test]
fn where_all_are_down_clients_hear_it_at_once_and_recovery_too() {
    let (one, other) = (nobody(), nobody());
    let gateway = Gateway::start_before(&one_worker(), &[&url(one), &url(other)]);
    for _ in 0..50 {
        let answer = exchange(gateway.address, bodiless("GET /a"));
        assert_eq!(answer.status, 502);
        assert_eq!(answer.json()["type"], "urn:firewall:upstream:connect");
    }
    let back = |at| Upstream::on(TcpListener::bind(at).unwrap(), |_| answer("200 OK", "1"));
    let _back = (back(one), back(other));
    assert_eq!(ask(&gateway), "1");
    assert!(gateway.bans().is_empty());
}

#[test]
fn checks_decide_before_requests_do() {
    let upstream = Upstream::start(|request| match request.line() {
        "GET /up HTTP/1.1" => answer("503 Service Unavailable", "\"not yet\""),
        _ => answer("200 OK", "1"),
    });
    let check = "check = { path = \"/up\", interval = \"100ms\", host = \"up.test\" }";
    for (policy, status) in [("refuse", 503), ("try", 200)] {
        let keys = format!("{check}, without_healthy = \"{policy}\"");
        let gateway = Gateway::start(&Setup { upstream: keys, ..one_worker() }, &upstream);
        eventually("it is down", || (states(&gateway) == json!(["down"])).then_some(()));
        let answer = exchange(gateway.address, bodiless("GET /a"));
        assert_eq!(answer.status, status);
        if status == 503 {
            assert_eq!(answer.json()["type"], "urn:firewall:upstream:unhealthy");
        }
    }
    let asked = upstream.received();
    let check = asked.iter().find(|request| request.line() == "GET /up HTTP/1.1").unwrap();
    assert_eq!(check.header("host"), Some("up.test"));
}

#[test]
fn unix_sockets_and_names() {
    let scratch = Scratch::new();
    let path = scratch.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            while stream.read(&mut request).is_ok_and(|octets| octets > 0) {
                drop(stream.write_all(&answer("200 OK", "\"unix\"")));
            }
        }
    });
    let socket = format!("unix:{}", path.display());
    let gateway = Gateway::start_before(&one_worker(), &[&socket]);
    assert_eq!(ask(&gateway), "\"unix\"");
    assert_eq!(gateway.status()["apis"][0]["endpoints"][0]["endpoint"], *socket);
    drop(gateway);

    let upstream = named("name");
    let port = upstream.address.port();
    let localhost = format!("http://localhost:{port}");
    let gateway = Gateway::start_before(&one_worker(), &[&localhost]);
    assert_eq!(ask(&gateway), "\"name\"");
    let label = format!("localhost/127.0.0.1:{port}");
    let status = gateway.status();
    let endpoints = status["apis"][0]["endpoints"].as_array().unwrap();
    assert!(endpoints.iter().any(|endpoint| endpoint["endpoint"] == *label), "{status}");
    drop(gateway);

    // A name that there is not (RFC 6761 section 6.4) is no reason not to start.
    let gateway = Gateway::start_before(&one_worker(), &["http://nowhere.invalid"]);
    let answer = exchange(gateway.address, bodiless("GET /a"));
    assert_eq!(answer.json()["type"], "urn:firewall:upstream:unresolved");
}

#[test]
fn an_answer_that_stalls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            drop(stream.read(&mut request));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
            open.push(stream);
        }
    });
    let api = "requests = \"off\"\nresponses = \"off\"".into();
    let upstream = "read_timeout = \"300ms\"".into();
    let gateway = Gateway::start_before(&Setup { api, upstream, ..one_worker() }, &[&url(address)]);
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bodiless("GET /a").as_bytes()).unwrap();
    let mut read = Vec::new();
    drop(stream.read_to_end(&mut read));
    assert!(read.ends_with(b"half"), "{}", String::from_utf8_lossy(&read));
    let line = "firewall_upstream_errors_total{api=\"test\",reason=\"read-timeout\"} 1\n";
    eventually("it is counted", || gateway.metrics().contains(line).then_some(()));
}

#[test]
fn a_reload_keeps_connections_where_the_upstream_stays() {
    let upstream = named("kept");
    let gateway = Gateway::start(&one_worker(), &upstream);
    let mut client = Client::connect(gateway.address);
    for _ in 0..3 {
        assert_eq!(client.send(bodiless("GET /a")).answer().unwrap().status, 200);
        assert_eq!(gateway.cli(&["reload"]).0, Some(0));
    }
    let line = "firewall_upstream_connections_total{api=\"test\",origin=\"new\"} 1\n";
    assert!(gateway.metrics().contains(line));
}

fn below(server: &str) -> String {
    format!("{PLAIN}servers: [ {{ url: \"{server}\" }} ]\n")
}

fn second(upstream: &Upstream) -> String {
    format!(
        "contract = {{ hosts = \"document\" }}\n[[api]]\nname = \"second\"\nspec = \"second.yaml\"\n\
         upstream = \"{}\"\nresponses = \"observe\"\ncontract = {{ hosts = \"document\" }}\n\
         limits = {{ response_timeout = \"1s\" }}\n",
        upstream.url()
    )
}

#[track_caller]
fn asked(gateway: &Gateway, host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = exchange(gateway.address, request);
    let text = if answer.status == 200 { answer.text() } else { answer.rule() };
    (answer.status, text)
}

#[test]
fn several_apis_by_host_and_base_path() {
    let (one, other) = (named("one"), named("other"));
    let setup = Setup {
        spec: below("https://a.test/v1"),
        files: vec![("second.yaml".into(), below("https://a.test/v2"))],
        api: second(&other),
        ..one_worker()
    };
    let gateway = Gateway::start(&setup, &one);
    for (host, path, expected) in [
        ("a.test", "/v1/a", (200, "\"one\"")),
        ("a.test", "/v2/a", (200, "\"other\"")),
        ("A.test", "/v2/a", (200, "\"other\"")),
        ("a.test", "/v2/b", (404, "route.unknown-path")),
        ("a.test", "/v3/a", (404, "route.unknown-path")),
        ("a.test", "/v1/../v2/a", (400, "route.path")),
        ("b.test", "/v1/a", (421, "route.host")),
    ] {
        let (status, text) = asked(&gateway, host, path);
        assert_eq!((status, &*text), expected, "{host}{path}");
    }
    let metrics = gateway.metrics();
    for line in [
        r#"firewall_http_requests_total{api="test",operation="GET /a",outcome="passed"} 1"#,
        r#"firewall_http_requests_total{api="second",operation="GET /a",outcome="passed"} 2"#,
        r#"firewall_http_requests_total{api="second",operation="",outcome="refused"} 1"#,
        r#"firewall_http_requests_total{api="",operation="",outcome="refused"} 2"#,
        r#"firewall_contract_violations_total{action="refused",api="",rule="route.host"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let status = gateway.status();
    assert_eq!((&status["apis"][1]["name"], &status["operations"]), (&json!("second"), &json!(2)));

    // One that is broken keeps the others from changing.
    gateway.scratch.file("spec.yaml", &below("https://a.test/v9"));
    gateway.scratch.file("second.yaml", "openapi: 3.0.3\n");
    assert_ne!(gateway.cli(&["reload"]).0, Some(0));
    assert_eq!(asked(&gateway, "a.test", "/v1/a").0, 200);
    assert_eq!(asked(&gateway, "a.test", "/v2/a").0, 200);
    gateway.scratch.file("second.yaml", &below("https://a.test/v2"));
    eventually("the next generation is whole", || {
        (gateway.cli(&["reload"]).0 == Some(0)).then_some(())
    });
    assert_eq!(asked(&gateway, "a.test", "/v1/a").0, 404);
    assert_eq!(asked(&gateway, "a.test", "/v9/a"), (200, "\"one\"".to_owned()));
    assert_eq!(asked(&gateway, "a.test", "/v2/a").0, 200);

    // And so do two that claim the same.
    gateway.scratch.file("second.yaml", &below("https://A.test:443/v9"));
    for (code, text) in [gateway.cli(&["reload"]), gateway.check()] {
        assert_ne!(code, Some(0), "{text}");
        assert!(text.contains("\"test\" and \"second\" claim the same requests"), "{text}");
    }
    assert_eq!(asked(&gateway, "a.test", "/v2/a").0, 200);
}

#[test]
fn what_is_nobodys_is_refused_in_every_mode() {
    let (one, other) = (named("one"), named("other"));
    let observe = "requests = \"observe\"\nresponses = \"observe\"\n";
    let setup = Setup {
        spec: below("https://a.test"),
        files: vec![("second.yaml".into(), below("https://b.test"))],
        api: format!("{observe}{}", second(&other)),
        management: "loopback = false\nown_addresses = false".into(),
        bans: "threshold = 1".into(),
        ..one_worker()
    };
    let gateway = Gateway::start(&setup, &one);
    for _ in 0..10 {
        assert_eq!(asked(&gateway, "c.test", "/a"), (421, "route.host".to_owned()));
    }
    assert_eq!(gateway.bans(), Vec::<Value>::new(), "a wrong name is no attack");
    assert_eq!(asked(&gateway, "a.test", "/a"), (200, "\"one\"".to_owned()));
    assert_eq!(one.received().len(), 1);
}

/// Serves by TLS, and asks for certificates of `clients` if there are any. Behind so many `answers` on
/// a connection it takes one more request, and closes without a word.
fn encrypted(issued: &Issued, clients: Option<&Authority>, answers: usize) -> SocketAddr {
    let server = server(issued, clients);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&server)).unwrap();
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(connection, stream);
                let mut request = [0; 4096];
                let mut answered = 0;
                while stream.read(&mut request).is_ok_and(|octets| octets > 0) {
                    if answered == answers {
                        return;
                    }
                    answered += 1;
                    drop(stream.write_all(&answer("200 OK", "\"secret\"")));
                }
            });
        }
    });
    address
}

#[test]
fn endpoints_prove_who_they_are_and_so_does_the_firewall() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let folder = Scratch::new();
    let ca = folder.file("ca.pem", &authority.pem);
    let other_ca = folder.file("other.pem", &other.pem);
    let own = authority.issue(&[], Some("firewall"), 7);
    let (chain, key) = (folder.file("own.pem", &own.chain), secret(&folder, "own.key", &own.key));
    let issued = authority.issue(&["api.test", "127.0.0.1"], None, 1);
    let open = encrypted(&issued, None, usize::MAX);
    let closed = encrypted(&issued, Some(&authority), usize::MAX);
    let identity = format!("certificate = {chain:?}, key = {key:?}");
    for (address, tls, is_believed) in [
        (open, format!("ca = {ca:?}"), true),
        (open, format!("ca = {ca:?}, server_name = \"api.test\""), true),
        (open, format!("ca = {ca:?}, server_name = \"other.test\""), false),
        (open, format!("ca = {other_ca:?}"), false),
        (closed, format!("ca = {ca:?}"), false),
        (closed, format!("ca = {ca:?}, {identity}"), true),
    ] {
        let upstream = format!("tls = {{ {tls} }}");
        let setup = Setup { upstream, ..one_worker() };
        let gateway = Gateway::start_before(&setup, &[&format!("https://{address}")]);
        let answer = exchange(gateway.address, bodiless("GET /a"));
        if is_believed {
            assert_eq!((answer.status, &*answer.text()), (200, "\"secret\""), "{tls}");
        } else {
            assert_eq!(answer.status, 502, "{tls}");
            let kind = answer.json()["type"].as_str().unwrap().to_owned();
            // TLS 1.3 lets a client speak before it is told that it is not believed.
            assert!(kind.ends_with(":tls") || kind.ends_with(":protocol"), "{tls}: {kind}");
        }
    }
}

#[test]
fn a_kept_connection_that_ends_without_farewell_costs_no_request() {
    let authority = Authority::new("one");
    let folder = Scratch::new();
    let ca = folder.file("ca.pem", &authority.pem);
    let address = encrypted(&authority.issue(&["127.0.0.1"], None, 1), None, 1);
    let upstream = format!("tls = {{ ca = {ca:?} }}");
    let setup = Setup { upstream, ..one_worker() };
    let gateway = Gateway::start_before(&setup, &[&format!("https://{address}")]);
    for _ in 0..3 {
        assert_eq!(ask(&gateway), "\"secret\"");
    }
    let line = "firewall_upstream_connections_total{api=\"test\",origin=\"new\"} 3\n";
    assert!(gateway.metrics().contains(line), "each was kept, and ended");
}
