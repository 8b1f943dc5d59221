//! Enforce, observe, off: for each direction, what passes and what is said of it.

use crate::contract::{NOTES, notes};
use crate::kit::client::{bodiless, exchange, with_body};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

#[test]
fn observed_requests_pass_octet_for_octet() {
    let request = "POST /notes?z=1&a=%41%2f HTTP/1.1\r\nHost: shop.test\r\nX-B: 2\r\nX-A: 1\r\n\
                   Content-Type: application/json\r\nAccept-Encoding: gzip\r\nContent-Length: 10\r\n\
                   \r\n{\"text\":7}";
    let mut received = Vec::new();
    for mode in ["observe", "off"] {
        let upstream = notes();
        let api = format!("requests = \"{mode}\"\nresponses = \"{mode}\"");
        let setup = Setup { api, management: "loopback = false".into(), ..Setup::of(NOTES) };
        let gateway = Gateway::start(&setup, &upstream);
        for _ in 0..10 {
            assert_eq!(exchange(gateway.address, request).status, 201, "{mode}");
        }
        assert_eq!(gateway.bans().len(), 0, "what passes is no offence");
        let log = eventually("ten lines", || Some(gateway.access_log()).filter(|l| l.len() == 10));
        let verdict = if mode == "observe" { "observed" } else { "passed" };
        assert!(log.iter().all(|line| line["verdict"] == verdict), "{log:?}");
        if mode == "observe" {
            assert_eq!(log[0]["rule"], "parameter.unknown");
            let metrics = gateway.metrics();
            for rule in ["parameter.unknown", "body.schema"] {
                let line = format!(
                    "firewall_contract_violations_total{{action=\"observed\",api=\"test\",rule=\"{rule}\"}} 10"
                );
                assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
            }
        }
        received.push(upstream.received().pop().unwrap());
    }
    assert_eq!(received[0], received[1]);
    assert_eq!(received[0].line(), "POST /notes?z=1&a=%41%2f HTTP/1.1");
    assert_eq!(received[0].body, b"{\"text\":7}");
    assert_eq!(received[0].header("accept-encoding"), Some("gzip"));
    let names: Vec<_> =
        received[0].head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    let position = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
    assert!(position("x-b") < position("x-a"), "{names:?}");
}

#[test]
fn framing_is_refused_in_every_mode() {
    for mode in ["enforce", "observe", "off"] {
        let upstream = notes();
        let api = format!("requests = \"{mode}\"\nresponses = \"{mode}\"");
        let gateway = Gateway::start(&Setup { api, ..Setup::of(NOTES) }, &upstream);
        let answer = exchange(
            gateway.address,
            "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        );
        assert_eq!((answer.status, answer.rule().as_str()), (400, "framing.length-conflict"));
        assert_eq!(upstream.received(), [], "{mode}");
    }
}

#[test]
fn each_direction_has_a_mode_of_its_own() {
    let bad_request = with_body("POST /notes", "application/json", r#"{"text":7}"#);
    for (requests, responses, bad_request_status, bad_answer_status) in [
        ("enforce", "enforce", 400, 502),
        ("observe", "enforce", 502, 502),
        ("enforce", "observe", 400, 200),
        ("enforce", "off", 400, 200),
        ("off", "off", 200, 200),
    ] {
        let upstream = Upstream::start(|_| json("200 OK", r#"{"not":"a list"}"#));
        let api = format!("requests = \"{requests}\"\nresponses = \"{responses}\"");
        let gateway = Gateway::start(&Setup { api, ..Setup::of(NOTES) }, &upstream);
        let shown = format!("requests {requests}, responses {responses}");
        let answer = exchange(gateway.address, &bad_request);
        assert_eq!(answer.status, bad_request_status, "{shown}: {}", answer.text());
        let answer = exchange(gateway.address, bodiless("GET /notes"));
        assert_eq!(answer.status, bad_answer_status, "{shown}: {}", answer.text());
    }
}

#[test]
fn an_observed_body_beyond_its_limit_passes_whole() {
    let upstream = notes();
    let setup = Setup {
        api: "requests = \"observe\"".into(),
        limits: "body_octets = 64".into(),
        ..Setup::of(NOTES)
    };
    let gateway = Gateway::start(&setup, &upstream);
    let body = format!("{}{}", r#"{"text":"a"}"#, " ".repeat(200_000));
    let chunked = format!(
        "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [with_body("POST /notes", "application/json", &body), chunked] {
        let answer = exchange(gateway.address, request);
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert!(upstream.received().pop().unwrap().body == body.as_bytes());
    }
}
