//! What is in progress while the policy changes under it, or the process ends.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::Value;

use crate::contract::NOTES;
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::load::Load;
use crate::kit::upstream::{Upstream, json as answer};
use crate::kit::{PATIENCE, eventually};

/// How often there is another document, and how many of them.
const RELOAD_INTERVAL: Duration = Duration::from_millis(100);
const RELOADS: usize = 40;

#[test]
fn no_request_fails_while_generations_come_and_go() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |request| {
        if request.line().contains("/notes/1 ") {
            held.lock().unwrap().recv().expect("to be released");
            return answer("200 OK", r#"{"text":"late"}"#);
        }
        answer("200 OK", "[]")
    });
    let limits = "response_timeout = \"10m\"".into();
    let gateway = Gateway::start(&Setup { limits, ..Setup::of(NOTES) }, &upstream);
    let mut slow = Client::connect(gateway.address);
    slow.send(bodiless("GET /notes/1"));
    eventually("the request is at the upstream", || upstream.received().pop());
    let load = Load::on(gateway.address, 2, 2);
    let other = NOTES.replace("operationId: newestNote", "operationId: lastNote");
    let socket = gateway.scratch.path().join("admin.sock");
    let reload = || firewall::control::socket::call(&socket, &Method::POST, "/v1/reload", None);
    let mut refused = 0;
    for number in 0..RELOADS {
        let document = [NOTES, &other, "openapi: 3.0.3\ninfo: ["][number % 3];
        // As editors and Kubernetes replace a file: whole, or not at all.
        let new = gateway.scratch.file("spec.new", document);
        std::fs::rename(new, gateway.scratch.path().join("spec.yaml")).unwrap();
        let (status, told) = reload().unwrap();
        let is_sound = number % 3 < 2;
        let expected = if is_sound { StatusCode::OK } else { StatusCode::CONFLICT };
        assert_eq!(status, expected, "{number}: {told}");
        refused += usize::from(!is_sound);
        std::thread::sleep(RELOAD_INTERVAL);
    }
    let (served, lost) = load.end();
    assert!(lost.is_empty(), "{} of {served}: {lost:?}", lost.len());
    assert!(served > 100, "{served} requests");
    let generation = gateway.status()["generation"].as_u64().unwrap();
    assert!(generation > u64::try_from(RELOADS - refused).unwrap(), "{generation}");
    release.send(()).unwrap();
    assert_eq!(slow.answer().expect("an answer").status, 200);
    let log = eventually("a line for each exchange", || {
        let log = gateway.access_log();
        (log.len() as u64 == served + 1).then_some(log)
    });
    let of_slow = log.iter().find(|line| line["operation"] == "getNote").unwrap();
    assert_eq!(of_slow["generation"], 1, "it ends by what it began with: {of_slow}");
    let of_each = |line: &Value| line["generation"].as_u64().unwrap();
    let generations: std::collections::BTreeSet<_> = log.iter().map(of_each).collect();
    assert!(generations.len() > RELOADS / 3, "{generations:?}");
}

#[test]
fn a_drain_has_a_deadline_and_a_second_order_none() {
    let late = Duration::from_millis(1500);
    let upstream = Upstream::start(move |request| {
        if request.line().contains("/notes/1 ") {
            std::thread::sleep(late);
        }
        if request.line().contains("/notes/2 ") {
            std::thread::sleep(PATIENCE);
        }
        answer("200 OK", r#"{"text":"late"}"#)
    });
    for (limit, again, in_time, too_late) in
        [("4s", false, true, false), ("500ms", false, false, false), ("60s", true, false, false)]
    {
        let limits = format!("drain_timeout = \"{limit}\"");
        let mut gateway = Gateway::start(&Setup { limits, ..Setup::of(NOTES) }, &upstream);
        let before = upstream.received().len();
        let mut clients = [1, 2].map(|number| {
            let mut client = Client::connect(gateway.address);
            client.send(bodiless(&format!("GET /notes/{number}")));
            client
        });
        eventually("both are at the upstream", || {
            (upstream.received().len() == before + 2).then_some(())
        });
        gateway.signal(Signal::TERM);
        if again {
            eventually("it drains", || gateway.errors().contains("draining").then_some(()));
            gateway.signal(Signal::TERM);
        }
        assert_eq!(gateway.ended(), Some(0), "{limit}: {}", gateway.errors());
        let answered = clients.each_mut().map(|client| client.answer().is_some());
        assert_eq!(answered, [in_time, too_late], "{limit}");
        let statuses: Vec<Value> =
            gateway.access_log().iter().map(|line| line["status"].clone()).collect();
        assert_eq!(statuses.len(), 2, "{limit}: each has its line: {statuses:?}");
    }
}
