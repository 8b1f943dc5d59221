//! The generator against the upstream, and against servers that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;

use super::*;
use crate::upstream::Upstream;
use crate::workload::{Door, ITEM};

type Issued = rcgen::CertifiedKey<rcgen::KeyPair>;

const BRIEF: Duration = Duration::from_millis(100);

fn within_local_set<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::LocalSet::new().run_until(future))
}

/// Runs `small GET` on one connection to a server that gives each accepted connection this answer
/// once and closes it.
fn run_against(answer: &'static str) -> anyhow::Result<Outcome> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
    let peer = listener.local_addr().expect("its address");
    // Ends with the test's process: it waits for a connection that does not come.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                stream.write_all(answer.as_bytes()).expect("sent");
            }
        }
    });
    within_local_set(async {
        let mut load = Load::connect(Route::plain(peer), 1).await?;
        load.run(Workload::SmallGet, Conduct::Passes, BRIEF).await
    })
}

#[test]
fn every_workload_is_answered_and_counted() {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
    within_local_set(async {
        let mut load = Load::connect(Route::plain(upstream.address), 3).await.expect("connected");
        let is_plain = |workload: &Workload| workload.door() == Door::Plain;
        for workload in Workload::ALL.into_iter().filter(is_plain) {
            let outcome = load.run(workload, Conduct::Passes, BRIEF).await.expect("answered");
            // Three connections ask at least once each; the histogram counts what was answered.
            assert!(outcome.requests() >= 3, "{workload:?}: {}", outcome.requests());
            assert_eq!(outcome.reconnects, 0, "{workload:?}");
            assert!(outcome.elapsed >= BRIEF, "{workload:?}: {:?}", outcome.elapsed);
            let slowest = Duration::from_nanos(outcome.latency_ns.max());
            assert!(slowest <= outcome.elapsed + BRIEF, "{workload:?}: {slowest:?}");
            assert!(outcome.latency_ns.min() > 0, "{workload:?}");
        }
        assert_eq!(load.askers.len(), 3);
    });
}

/// What a TLS server saw.
#[derive(Default)]
struct Seen {
    full: AtomicU64,
    resumed: AtomicU64,
    requests: AtomicU64,
}

/// Answers `small GET` over TLS, by HTTP/2 where that is asked for.
fn encrypted(identity: &Issued, seen: Arc<Seen>) -> SocketAddr {
    let key = rustls_pki_types::PrivateKeyDer::try_from(identity.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(firewall::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key.expect("a key"));
    let mut server = server.expect("a server");
    server.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
    listener.set_nonblocking(true).expect("not blocking");
    let address = listener.local_addr().expect("its address");
    // Ends with the test's process.
    std::thread::spawn(move || {
        within_local_set(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    let count = match session.handshake_kind() {
                        Some(HandshakeKind::Resumed) => &seen.resumed,
                        _ => &seen.full,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    let is_http2 = session.alpn_protocol() == Some(b"h2");
                    let service = hyper::service::service_fn(|_request| {
                        seen.requests.fetch_add(1, Ordering::Relaxed);
                        let body = Full::new(Bytes::from_static(ITEM.as_bytes()));
                        async { Ok::<_, std::convert::Infallible>(Response::new(body)) }
                    });
                    let stream = TokioIo::new(stream);
                    if is_http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(server.serve_connection(stream, service).await);
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        drop(server.serve_connection(stream, service).await);
                    }
                });
            }
        });
    });
    address
}

#[test]
fn encrypted_workloads_use_connections_as_they_say() {
    let identity =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    for (workload, askers) in
        [(Workload::Http2Get, 9), (Workload::TlsNew, 2), (Workload::TlsResumed, 2)]
    {
        let seen = Arc::new(Seen::default());
        let peer = encrypted(&identity, Arc::clone(&seen));
        let certificate = Some(identity.cert.der().clone());
        let route = Route { peer, manner: workload.manner(), certificate };
        let outcome = within_local_set(async {
            let mut load = Load::connect(route, askers).await?;
            load.run(workload, Conduct::Passes, BRIEF).await?;
            load.run(workload, Conduct::Passes, BRIEF).await
        });
        let outcome = outcome.expect("answered");
        let [full, resumed, requests] =
            [&seen.full, &seen.resumed, &seen.requests].map(|count| count.load(Ordering::Relaxed));
        let case = format!("{workload:?}: {full} full, {resumed} resumed, {requests} requests");
        assert_eq!(outcome.reconnects, 0, "{case}");
        assert!(requests > outcome.requests() && outcome.requests() > 2, "{case}");
        match workload.manner() {
            Manner::Multiplexed => assert_eq!((full, resumed), (2, 0), "{case}"),
            Manner::Fresh { is_resumed: false } => {
                assert_eq!((full, resumed), (requests, 0), "{case}");
            }
            Manner::Fresh { is_resumed: true } => {
                assert_eq!((full, resumed), (2, requests - 2), "{case}");
            }
            Manner::Kept => unreachable!(),
        }
    }
}

#[test]
fn a_peer_of_another_name_is_an_error() {
    let issue = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("issued");
    let peer = encrypted(&issue(), Arc::default());
    let certificate = Some(issue().cert.der().clone());
    let route = Route { peer, manner: Manner::Multiplexed, certificate };
    let connected = within_local_set(Load::connect(route, 1));
    let error = format!("{:#}", connected.err().expect("an error"));
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[test]
fn passed_invalid_request_is_an_error_where_it_must_be_refused() {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
    let outcome = within_local_set(async {
        let mut load = Load::connect(Route::plain(upstream.address), 2).await.expect("connected");
        load.run(Workload::InvalidPost, Conduct::Refuses, BRIEF).await
    });
    let error = outcome.err().expect("an error").to_string();
    assert!(error.starts_with("expected 400 Bad Request, got 201 Created"), "{error}");
}

#[test]
fn closed_connections_are_opened_again_and_counted() {
    let answer = concat!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 200\r\n\r\n",
        r#"{"id":42,"sku":"KE-0042","name":"Kettle, 1.7 litres, brushed steel body","#,
        r#""price":{"amount":39.9,"currency":"EUR"},"stock":17,"#,
        r#""tags":["kitchen","steel","electric"],"changed":"2026-02-03T04:05:06.789Z"}"#,
    );
    let outcome = run_against(answer).expect("answered");
    assert!(outcome.requests() > 1);
    assert_eq!(outcome.reconnects, outcome.requests() - 1);
}

#[test]
fn wrong_answers_are_errors() {
    let cases = [
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", "got 502 Bad Gateway: oops"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "another body than the upstream's: {}"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{", "end of file"),
        ("", "connection closed"),
        ("nonsense\r\n\r\n", "invalid HTTP version"),
    ];
    for (answer, expected) in cases {
        let error = format!("{:#}", run_against(answer).err().expect(answer));
        assert!(error.contains(expected), "{answer:?}: {error}");
    }
}
