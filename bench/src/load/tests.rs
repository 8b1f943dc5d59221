//! The generator against the upstream, and against servers that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::upstream::Upstream;

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
        let mut load = Load::connect(peer, 1).await?;
        load.run(Workload::SmallGet, Conduct::Passes, BRIEF).await
    })
}

#[test]
fn every_workload_is_answered_and_counted() {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
    within_local_set(async {
        let mut load = Load::connect(upstream.address, 3).await.expect("connected");
        for workload in Workload::ALL {
            let outcome = load.run(workload, Conduct::Passes, BRIEF).await.expect("answered");
            // Three connections ask at least once each; the histogram counts what was answered.
            assert!(outcome.requests() >= 3, "{workload:?}: {}", outcome.requests());
            assert_eq!(outcome.reconnects, 0, "{workload:?}");
            assert!(outcome.elapsed >= BRIEF, "{workload:?}: {:?}", outcome.elapsed);
            let slowest = Duration::from_nanos(outcome.latency_ns.max());
            assert!(slowest <= outcome.elapsed + BRIEF, "{workload:?}: {slowest:?}");
            assert!(outcome.latency_ns.min() > 0, "{workload:?}");
        }
        assert_eq!(load.connections.len(), 3);
    });
}

#[test]
fn passed_invalid_request_is_an_error_where_it_must_be_refused() {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
    let outcome = within_local_set(async {
        let mut load = Load::connect(upstream.address, 2).await.expect("connected");
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
