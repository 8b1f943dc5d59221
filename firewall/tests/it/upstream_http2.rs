//! HTTP/2 to the upstream: the same checked request, streams that share connections, refusals that cost
//! no request, and an upstream's floods that end its own connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::kit::client::{Answer, Client, bodiless, exchange, with_body};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::multiplexed::{Answering, Exchange, Multiplexed};
use crate::kit::tls::Authority;
use crate::kit::upstream::{Upstream, json};
use crate::kit::{Scratch, eventually};

/// An upstream that breaks the protocol, frame by frame.
mod evil;

const THINGS: &str = r#"
openapi: 3.0.3
info: { title: Things, version: "1" }
paths:
  /things:
    get:
      parameters: [ { name: x-case, in: header, schema: { type: string } } ]
      responses: { "200": { description: ok, content: { application/json: { schema: {} } } } }
    put:
      requestBody:
        required: true
        content: { application/json: { schema: { type: object } } }
      responses: { "200": { description: ok, content: { application/json: { schema: {} } } } }
    post:
      requestBody:
        required: true
        content: { application/json: { schema: { type: object } } }
      responses: { "200": { description: ok, content: { application/json: { schema: {} } } } }
  /stream:
    post:
      requestBody:
        required: true
        content: { application/octet-stream: { x-firewall-stream: 1073741824 } }
      responses:
        "200": { description: ok, content: { application/octet-stream: { x-firewall-stream: 1073741824 } } }
"#;

fn setup(upstream: &str) -> Setup {
    Setup {
        listen: "workers = 1\nhttp2 = \"prior-knowledge\"".into(),
        upstream: format!("protocol = \"http2\"{upstream}"),
        limits: "response_timeout = \"5s\"".into(),
        ..Setup::of(THINGS)
    }
}

fn before(upstream: &Multiplexed, keys: &str) -> Gateway {
    Gateway::start_before(&setup(keys), &[&upstream.url()])
}

fn honest(mut exchange: Exchange) -> Answering {
    Box::pin(async move {
        exchange.whole().await;
        exchange.json(200, &format!("{}", exchange.connection));
    })
}

fn get(gateway: &Gateway) -> Answer {
    exchange(gateway.address, bodiless("GET /things"))
}

#[track_caller]
fn kind(answer: &Answer) -> String {
    answer.json()["type"].as_str().unwrap().to_owned()
}

/// Both protocols of clients lead to one and the same request of HTTP/2.
#[test]
fn the_request_is_the_one_that_was_checked() {
    let upstream = Multiplexed::start(honest);
    let gateway = before(&upstream, "");
    let request = "GET /things?a HTTP/1.1\r\nHost: a.test:8080\r\n\r\n".to_owned();
    assert_eq!(exchange(gateway.address, request).rule(), "parameter.unknown");
    let fields = "Host: a.test:8080\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
                  Keep-Alive: 5\r\nCookie: a=1\r\nX-Kept: yes\r\n";
    let answer = exchange(gateway.address, format!("GET /things HTTP/1.1\r\n{fields}\r\n"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "0"), "{}", answer.text());
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    let chunked = "PUT /things HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(exchange(gateway.address, chunked).status, 200);
    let asked = upstream.asked();
    let [first, second] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(first.line, "GET /things");
    assert_eq!(first.authority.as_deref(), Some("a.test:8080"));
    assert_eq!(first.scheme.as_deref(), Some("http"));
    for name in ["host", "connection", "x-hop", "te", "keep-alive", "transfer-encoding"] {
        assert_eq!(first.field(name), None, "{name}");
        assert_eq!(second.field(name), None, "{name}");
    }
    assert_eq!(first.field("x-kept"), Some("yes"));
    assert_eq!(first.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(second.line, "PUT /things");
    assert_eq!(second.field("content-length"), Some("2"));
    assert_eq!(upstream.connections(), 1);
    eventually("it is logged", || {
        let log = gateway.access_log();
        log.iter().any(|line| line["upstream_status"] == 200).then_some(())
    });
}

/// So many exchanges at once take one connection, up to what the endpoint allows on each.
#[test]
fn exchanges_share_connections_as_far_as_the_endpoint_allows() {
    for (allowed, clients, connections) in [(100, 20, 1), (4, 8, 2), (1, 3, 3)] {
        let here = Arc::new(AtomicUsize::new(0));
        let arrived = Arc::clone(&here);
        let upstream = Multiplexed::tuned(
            move |builder| {
                builder.max_concurrent_streams(allowed);
            },
            None,
            move |mut exchange| {
                let here = Arc::clone(&arrived);
                Box::pin(async move {
                    here.fetch_add(1, Ordering::Relaxed);
                    // None is answered before all are there.
                    while here.load(Ordering::Relaxed) < clients {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    exchange.json(200, "1");
                })
            },
        );
        let gateway = before(&upstream, "");
        let mut waiting: Vec<_> = (0..clients).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut waiting {
            client.send(bodiless("GET /things"));
        }
        for client in &mut waiting {
            assert_eq!(client.answer().unwrap().status, 200);
        }
        assert_eq!(upstream.connections(), connections, "{clients} where {allowed} are allowed");
    }
}

/// What waits beyond `connections` is refused as it is with HTTP/1.1.
#[test]
fn exchanges_in_flight_are_bounded() {
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            if exchange.asked.field("x-case").is_none() {
                exchange.reset().await;
            }
            exchange.json(200, "1");
        })
    });
    let gateway = before(&upstream, ", connections = 2, pending = 0");
    let silent = "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n\
                  Content-Length: 10\r\n\r\n1";
    let mut first = Client::connect(gateway.address);
    let mut second = Client::connect(gateway.address);
    first.send(silent);
    second.send(silent);
    eventually("both are there", || (upstream.asked().len() == 2).then_some(()));
    let third = get(&gateway);
    assert_eq!((third.status, kind(&third).as_str()), (503, "urn:firewall:upstream:queue-full"));
    drop(first);
    let case = "GET /things HTTP/1.1\r\nHost: a\r\nX-Case: 1\r\n\r\n".to_owned();
    eventually("there is room again", || {
        (exchange(gateway.address, case.clone()).status == 200).then_some(())
    });
}

/// What the endpoint has not acted upon by its own word is sent again, whatever its method.
#[test]
fn what_is_refused_unprocessed_is_sent_again() {
    for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::INTERNAL_ERROR] {
        let count = Arc::new(AtomicUsize::new(0));
        let upstream = Multiplexed::start(move |mut exchange| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                if number == 0 {
                    return exchange.refuse(reason);
                }
                let body = exchange.whole().await;
                exchange.json(200, std::str::from_utf8(&body).unwrap());
            })
        });
        let gateway = before(&upstream, "");
        let answer =
            exchange(gateway.address, with_body("POST /things", "application/json", r#"{"a":1}"#));
        if reason == h2::Reason::REFUSED_STREAM {
            assert_eq!((answer.status, &*answer.text()), (200, r#"{"a":1}"#));
            let retries = "firewall_upstream_retries_total{api=\"test\",reason=\"unsent\"} 1\n";
            assert!(gateway.metrics().contains(retries));
        } else {
            assert_eq!(kind(&answer), "urn:firewall:upstream:protocol");
            assert_eq!(upstream.asked().len(), 1);
        }
    }
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move { exchange.refuse(h2::Reason::REFUSED_STREAM) })
    });
    let gateway = before(&upstream, ", retry = { share = 0, per_second = 1 }");
    let answer = get(&gateway);
    assert_eq!((answer.status, kind(&answer).as_str()), (503, "urn:firewall:upstream:refused"));
    assert!(upstream.asked().len() <= 3, "the budget holds: {}", upstream.asked().len());
}

/// An endpoint that drains loses no request, and is spoken to anew.
#[test]
fn goaway_loses_no_request() {
    let upstream = Multiplexed::start(honest);
    let gateway = before(&upstream, "");
    for round in 0..20 {
        let last = "GET /things HTTP/1.1\r\nHost: a\r\nX-Last: 1\r\n\r\n".to_owned();
        assert_eq!(exchange(gateway.address, last).status, 200, "{round}");
        let answer = exchange(gateway.address, with_body("POST /things", "application/json", "{}"));
        assert_eq!(answer.status, 200, "{round}: {}", answer.text());
    }
    assert!(upstream.connections() > 10, "{}", upstream.connections());
}

/// A streamed body that was not sent yet flows by another connection, while others still end on the
/// one that takes no more.
#[test]
fn goaway_loses_no_stream() {
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            exchange.whole().await;
            exchange
                .head(200, &[("content-type", "application/octet-stream")])
                .send_data(bytes::Bytes::from_static(b"got it"), true)
                .unwrap();
        })
    });
    let gateway = before(&upstream, "");
    let begun = "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n\
                 Transfer-Encoding: chunked\r\n";
    let mut held = Vec::new();
    for round in 0..5 {
        let mut client = Client::connect(gateway.address);
        client.send(format!("{begun}X-Last: 1\r\n\r\n2\r\nab\r\n"));
        eventually("it is under way", || (upstream.asked().len() > 2 * round).then_some(()));
        held.push(client);
        let answer = exchange(gateway.address, format!("{begun}\r\n2\r\nab\r\n0\r\n\r\n"));
        assert_eq!((answer.status, &*answer.text()), (200, "got it"), "{round}");
    }
    for mut client in held {
        assert_eq!(client.send("0\r\n\r\n").answer().unwrap().status, 200);
    }
}

#[test]
fn idle_connections_are_closed_and_opened_again() {
    let upstream = Multiplexed::start(honest);
    let gateway = before(&upstream, ", idle_timeout = \"100ms\"");
    assert_eq!(get(&gateway).text(), "0");
    eventually("it is closed", || (upstream.ended() == 1).then_some(()));
    assert_eq!(get(&gateway).text(), "1");
}

/// Over TLS the endpoint must take up HTTP/2; nothing else is fallen back to.
#[test]
fn tls_agrees_upon_it_or_no_request_is_sent() {
    let scratch = Scratch::new();
    let authority = Authority::new("Upstreams");
    let issued = authority.issue(&["api.test"], None, 1);
    let ca = scratch.file("ca.pem", &authority.pem);
    let tls = format!(", tls = {{ ca = {ca:?}, server_name = \"api.test\" }}");
    for (protocols, expected) in
        [(&["h2"][..], true), (&["h2", "http/1.1"], true), (&["http/1.1"], false), (&[], false)]
    {
        let upstream = Multiplexed::tuned(|_| {}, Some((&issued, protocols)), honest);
        let gateway = before(&upstream, &tls);
        let answer = get(&gateway);
        if expected {
            assert_eq!(answer.status, 200, "{protocols:?}: {}", answer.text());
            assert_eq!(upstream.asked()[0].scheme.as_deref(), Some("https"));
        } else {
            let found = (answer.status, kind(&answer));
            assert_eq!(found, (502, "urn:firewall:upstream:not-http2".into()), "{protocols:?}");
            assert!(upstream.asked().is_empty());
        }
    }
    // And who is spoken to by HTTP/1.1 is not spoken to otherwise.
    let upstream = Multiplexed::tuned(|_| {}, Some((&issued, &["h2"])), honest);
    let keys = format!("protocol = \"http1\"{tls}");
    let gateway = Gateway::start_before(&Setup { upstream: keys, ..setup("") }, &[&upstream.url()]);
    assert_eq!(get(&gateway).status, 502);
}

/// In plain text it is known beforehand: who turns out to speak HTTP/1.1 gets no request.
#[test]
fn an_endpoint_of_http1_gets_no_request() {
    let upstream = Upstream::start(|_| json("200 OK", "1"));
    let gateway = Gateway::start(&setup(""), &upstream);
    let answer = get(&gateway);
    assert_eq!((answer.status, kind(&answer).as_str()), (502, "urn:firewall:upstream:not-http2"));
    assert!(upstream.received().iter().all(|request| !request.head.contains("/things")));
}

#[test]
fn checks_speak_it_too() {
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            let is_check = exchange.asked.line == "GET /up";
            exchange.json(if is_check { 503 } else { 200 }, "1");
        })
    });
    let check = "check = { path = \"/up\", interval = \"100ms\", host = \"up.test\" }";
    let gateway = before(&upstream, &format!(", {check}, without_healthy = \"refuse\""));
    eventually("it is down", || {
        let status = gateway.status();
        (status["apis"][0]["endpoints"][0]["state"] == "down").then_some(())
    });
    assert_eq!(kind(&get(&gateway)), "urn:firewall:upstream:unhealthy");
    let asked = upstream.asked();
    assert_eq!(asked[0].authority.as_deref(), Some("up.test"));
    assert_eq!(asked[0].field("connection"), None);
}

/// A client that leaves takes its stream along, and no other.
#[test]
fn an_aborted_side_aborts_the_other_and_nobody_else() {
    let reset = Arc::new(AtomicUsize::new(0));
    let resets = Arc::clone(&reset);
    let upstream = Multiplexed::start(move |mut exchange| {
        let resets = Arc::clone(&resets);
        Box::pin(async move {
            if exchange.asked.line == "POST /stream" {
                let mut answer = None;
                if exchange.asked.field("x-case") == Some("answered") {
                    let octets = [("content-type", "application/octet-stream")];
                    answer = Some(exchange.head(200, &octets));
                }
                if exchange.reset().await.is_some() {
                    resets.fetch_add(1, Ordering::Relaxed);
                }
                drop(answer);
            } else {
                exchange.json(200, "1");
            }
        })
    });
    let gateway = before(&upstream, "");
    for (round, case) in ["waiting", "answered"].into_iter().enumerate() {
        let mut leaving = Client::connect(gateway.address);
        leaving.send(format!(
            "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n\
             X-Case: {case}\r\nContent-Length: 10\r\n\r\n1"
        ));
        eventually("it is there", || (upstream.asked().len() > 2 * round).then_some(()));
        drop(leaving);
        eventually(case, || (reset.load(Ordering::Relaxed) == round + 1).then_some(()));
        assert_eq!(get(&gateway).status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}

/// An endpoint that says nothing more at all is noticed by its missing answers to PING.
#[test]
fn a_dead_connection_is_noticed_by_pings() {
    let address = crate::kit::multiplexed::raw(evil::silent_after_settings);
    let setup = Setup {
        limits: "response_timeout = \"20s\"".into(),
        ..setup(", ping_interval = \"100ms\", ping_timeout = \"100ms\"")
    };
    let gateway = Gateway::start_before(&setup, &[&format!("http://{address}")]);
    let answer = exchange(gateway.address, with_body("POST /things", "application/json", "{}"));
    assert_eq!((answer.status, kind(&answer).as_str()), (502, "urn:firewall:upstream:protocol"));
}
