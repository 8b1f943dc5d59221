//! Each limit at what it allows, and beyond: floods, slowness, sizes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firewall::clock::Monotonic;

use super::{Expected, logged, plain};
use crate::contract::notes;
use crate::kit::eventually;
use crate::kit::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Fields, GOAWAY, HEADERS, Http2,
    PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, request, setting,
};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

/// Codes of RFC 9113 section 7.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn limited(limits: &str, http2: &str) -> Setup {
    Setup { limits: format!("{limits}\n[limits.http2]\n{http2}"), ..plain() }
}

/// A connection whose settings are exchanged: two frames that bring nothing have been sent.
fn settled(gateway: &Gateway) -> Http2 {
    let mut client = Http2::connect(gateway.address);
    client.frame_of(SETTINGS).expect("settings");
    client
}

fn post() -> Fields {
    request("POST", "/notes", &[("content-type", "application/json")])
}

/// Whether the client was told to be calm, for this reason, and the gateway still serves others.
#[track_caller]
fn is_sent_away(client: &mut Http2, gateway: &Gateway, rule: &str, what: &str) {
    assert_eq!(client.closed(), Some(ENHANCE_YOUR_CALM), "{what}");
    logged(gateway, rule, what);
    assert!(Http2::connect(gateway.address).is_served(), "{what}: the next connection");
}

#[test]
fn frames_that_bring_nothing() {
    let upstream = notes();
    let setup = limited("", "control = { rate = 1, burst = 10 }");
    let gateway = Gateway::start(&setup, &upstream);
    // Of the ten the settings were two.
    let flood = |client: &mut Http2, octets: &[u8], count: usize| {
        client.send(octets.repeat(count));
    };
    for (what, octets) in [
        ("settings", frame(SETTINGS, 0, 0, b"")),
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("answers to pings", frame(PING, 1, 0, &[0; 8])),
        ("priorities", frame(PRIORITY, 0, 1001, &[0, 0, 0, 0, 1])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x42, 0, 0, b"abc")),
    ] {
        let mut client = settled(&gateway);
        flood(&mut client, &octets, 8);
        assert!(client.is_served(), "eight {what}");
        let mut client = settled(&gateway);
        flood(&mut client, &octets, 9);
        is_sent_away(&mut client, &gateway, "framing.http2-frames", what);
    }
    let empty = |client: &mut Http2, count: usize| {
        let id = client.head(0, &block(&post()));
        flood(client, &frame(DATA, 0, id, b""), count);
        client.send(frame(DATA, END_STREAM, id, br#"{"text":"a"}"#));
        id
    };
    let mut client = settled(&gateway);
    let id = empty(&mut client, 8);
    assert_eq!(client.outcome(id).status, Some(201), "eight empty frames of a body");
    let mut client = settled(&gateway);
    empty(&mut client, 9);
    is_sent_away(&mut client, &gateway, "framing.http2-frames", "empty frames of a body");
}

/// h2 allows a hundred empty frames in a connection's life, however long it is: no flood by that.
#[test]
fn empty_frames_over_a_connection_s_life() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let mut client = settled(&gateway);
    let id = client.head(0, &block(&post()));
    client.send(frame(DATA, 0, id, b"").repeat(101));
    assert_eq!(client.closed(), Some(ENHANCE_YOUR_CALM));
    assert!(Http2::connect(gateway.address).is_served());
    let log = eventually("the next request is logged", || {
        let log = gateway.access_log();
        log.iter().any(|line| line["status"] == 200).then_some(log)
    });
    assert!(log.iter().all(|line| line["rule"] != "framing.http2-frames"), "{log:?}");
}

/// A client that downloads opens windows, and measures the way: no flood.
#[test]
fn frames_that_answers_bring_about_are_none_too_many() {
    let upstream = notes();
    let setup = limited("", "control = { rate = 1, burst = 10 }");
    let gateway = Gateway::start(&setup, &upstream);
    let mut client = settled(&gateway);
    for _ in 0..50 {
        assert!(client.is_served());
        client.send(frame(PING, 0, 0, &[0; 8]));
        for _ in 0..2 {
            client.send(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
        }
    }
    assert!(client.is_served());
}

#[test]
fn streams_that_are_taken_back() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("", "resets = { rate = 1, burst = 5 }"), &upstream);
    let reset = |client: &mut Http2, count: usize| {
        for _ in 0..count {
            let id = client.ask(&request("GET", "/notes", &[]));
            client.send(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
        }
    };
    let mut client = settled(&gateway);
    reset(&mut client, 5);
    assert!(client.is_served());
    let mut client = settled(&gateway);
    reset(&mut client, 6);
    is_sent_away(&mut client, &gateway, "framing.http2-resets", "resets");
}

/// CVE-2025-8671: the client has us reset its streams, by errors.
#[test]
fn streams_that_fail() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("", "errors = { rate = 1, burst = 3 }"), &upstream);
    let malformed = block(&request("GET", "/notes", &[("connection", "close")]));
    // A window that nothing can be added to is an error of its stream alone.
    let nothing = |client: &mut Http2| {
        let id = client.ask(&request("GET", "/notes", &[]));
        client.send(frame(WINDOW_UPDATE, 0, id, &[0, 0, 0, 0]));
    };
    let fail = |client: &mut Http2| {
        client.head(END_STREAM, &malformed);
    };
    let mut client = settled(&gateway);
    (0..3).for_each(|_| fail(&mut client));
    assert!(client.is_served(), "three");
    let mut client = settled(&gateway);
    (0..4).for_each(|_| fail(&mut client));
    is_sent_away(&mut client, &gateway, "framing.http2-errors", "malformed heads");
    let mut client = settled(&gateway);
    (0..4).for_each(|_| nothing(&mut client));
    assert!(client.closed().is_some(), "windows of nothing");
    assert!(Http2::connect(gateway.address).is_served());
}

#[test]
fn heads_in_many_frames() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("", "continuations = 3"), &upstream);
    let whole = block(&request("GET", "/notes", &[]));
    for (count, is_served) in [(0, true), (3, true), (4, false), (1000, false)] {
        let mut client = settled(&gateway);
        let id = client.take_id();
        let (first, rest) = whole.split_at(if count == 0 { whole.len() } else { 5 });
        let flags = if count == 0 { END_HEADERS | END_STREAM } else { END_STREAM };
        client.send(frame(HEADERS, flags, id, first));
        for number in 1..=count {
            let is_last = number == count;
            let (flags, part) = if is_last { (END_HEADERS, rest) } else { (0, &b""[..]) };
            client.send(frame(CONTINUATION, flags, id, part));
        }
        if is_served {
            assert_eq!(client.outcome(id).status, Some(200), "{count}");
        } else {
            is_sent_away(&mut client, &gateway, "framing.http2-continuations", "continuations");
        }
    }
}

#[test]
fn heads_by_their_size() {
    let upstream = notes();
    let limits = "head_octets = 1000\nhead_fields = 4\ntarget_octets = 100";
    let gateway = Gateway::start(&limited(limits, ""), &upstream);
    let frame_octets = "GET /notes HTTP/1.1\r\nhost: a.test\r\nx: \r\n\r\n".len();
    let sized = |octets: usize| {
        let value = "a".repeat(octets - frame_octets);
        request("GET", "/notes", &[("x", &value)])
    };
    let fielded = |count: usize| {
        let more = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")];
        request("GET", "/notes", &more[..count])
    };
    let targeted = |octets: usize| {
        let number = "1".repeat(octets - "/notes?limit=".len());
        request("GET", &format!("/notes?limit={number}"), &[])
    };
    let too_large = Expected::Refused("framing.head-too-large", 431);
    for (what, fields, expected) in [
        ("1000 octets", sized(1000), Expected::Served),
        ("1001 octets", sized(1001), too_large),
        ("4 fields", fielded(4), Expected::Served),
        ("5 fields", fielded(5), too_large),
        ("100 octets of target", targeted(100), Expected::Refused("parameter.type", 400)),
        ("101", targeted(101), Expected::Refused("framing.target-too-long", 414)),
    ] {
        expected.check(&gateway, what, &fields);
    }
    // What is far beyond the limit h2 refuses, with a status and nothing else.
    let mut client = settled(&gateway);
    let id = client.ask(&sized(2000));
    assert_eq!(client.outcome(id).status, Some(431));
    // And what is further still ends the connection.
    let mut client = settled(&gateway);
    client.ask(&sized(10_000));
    assert_eq!(client.closed(), Some(ENHANCE_YOUR_CALM));
    logged(&gateway, "framing.head-too-large", "far too large");
}

/// A field of 4,000 octets is indexed once, and then named by one octet again and again.
#[test]
fn a_bomb_of_indexed_fields() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let before = resident(&gateway);
    for _ in 0..20 {
        let mut client = settled(&gateway);
        let mut octets = block(&request("GET", "/notes", &[]));
        // Literal with incremental indexing, a new name (RFC 7541 section 6.2.1).
        octets.extend([0x40, 1, b'x', 127]);
        // 4,000 - 127 is 30 * 128 + 33 (section 5.1).
        octets.extend([128 + 33, 30]);
        octets.extend([b'a'; 4000]);
        octets.extend([0xbe; 12_000]);
        client.head(END_STREAM, &octets);
        assert_eq!(client.closed(), Some(ENHANCE_YOUR_CALM));
    }
    logged(&gateway, "framing.head-too-large", "the bomb");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} octets more");
    assert!(Http2::connect(gateway.address).is_served());
}

/// Octets of memory that the firewall has.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_connection_has_so_many_requests_at_once() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("", "streams = 3"), &upstream);
    let mut client = settled(&gateway);
    let open: Vec<_> = (0..3).map(|_| client.head(0, &block(&post()))).collect();
    let beyond = client.head(0, &block(&post()));
    assert_eq!(client.outcome(beyond).reset, Some(REFUSED_STREAM));
    for id in open {
        client.send(frame(DATA, END_STREAM, id, br#"{"text":"a"}"#));
        assert_eq!(client.outcome(id).status, Some(201));
    }
    assert!(client.is_served());
    assert_eq!(upstream.received().len(), 4);
}

/// Requests count as connections do, over all of a source's connections.
#[test]
fn a_source_has_so_many_requests_at_once() {
    let upstream = notes();
    let mut setup = limited("connections_per_source = 3", "");
    setup.listen.push_str("\nworkers = 1");
    let gateway = Gateway::start(&setup, &upstream);
    let connect = |last| Http2::connect_from([127, 0, 0, last].into(), gateway.address);
    let (mut one, mut other) = (connect(2), connect(2));
    let open = [one.head(0, &block(&post())), one.head(0, &block(&post()))];
    let third = other.head(0, &block(&post()));
    eventually("three are under way", || {
        let id = other.ask(&request("GET", "/notes", &[]));
        let outcome = other.outcome(id);
        (outcome.status == Some(429))
            .then(|| assert_eq!(outcome.rule(), "framing.requests-at-once"))
    });
    assert!(connect(3).is_served(), "another source");
    for (client, id) in [(&mut one, open[0]), (&mut other, third)] {
        client.send(frame(DATA, END_STREAM, id, br#"{"text":"a"}"#));
        assert_eq!(client.outcome(id).status, Some(201));
    }
    assert!(other.is_served());
    assert_eq!(gateway.bans(), [] as [serde_json::Value; 0]);
}

/// Frames of one octet cost us a hundred times what they cost the client.
#[test]
fn bodies_in_crumbs() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let mut client = settled(&gateway);
    let id = client.head(0, &block(&post()));
    for octet in br#"{"text":"a"}"# {
        client.send(frame(DATA, 0, id, &[*octet]));
    }
    client.send(frame(DATA, END_STREAM, id, b""));
    assert_eq!(client.outcome(id).status, Some(201), "a small body in crumbs");
    let mut client = settled(&gateway);
    // Nobody reads the body of a request that is answered by the head alone, or waits for one.
    let ids: Vec<_> = (0..50).map(|_| client.head(0, &block(&post()))).collect();
    let before = resident(&gateway);
    for id in ids {
        client.send(frame(DATA, 0, id, b" ").repeat(20_000));
    }
    client.closed();
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets more");
    assert!(Http2::connect(gateway.address).is_served());
}

#[test]
fn who_is_slow() {
    let upstream = notes();
    let limits = "head_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"400ms\"";
    let gateway = Gateway::start(&limited(limits, ""), &upstream);
    let whole = block(&request("GET", "/notes", &[]));
    // Part of a head.
    let mut client = settled(&gateway);
    let id = client.take_id();
    client.send(frame(HEADERS, END_STREAM, id, &whole[..9]));
    is_sent_away(&mut client, &gateway, "framing.head-timeout", "part of a head");
    // Part of a frame of a head.
    let mut client = settled(&gateway);
    let octets = frame(HEADERS, END_STREAM | END_HEADERS, 1, &whole);
    client.send(&octets[..octets.len() - 1]);
    is_sent_away(&mut client, &gateway, "framing.head-timeout", "part of a frame");
    // Part of a body is a matter of its stream alone.
    let mut client = settled(&gateway);
    let id = client.head(0, &block(&post()));
    client.send(frame(DATA, 0, id, b"{"));
    let outcome = client.outcome(id);
    assert_eq!((outcome.status, outcome.rule().as_str()), (Some(408), "body.incomplete"));
    assert!(client.is_served());
    // Who has nothing to say is let go, with a word where he would understand it.
    assert_eq!(client.closed(), Some(0));
    assert_eq!(settled(&gateway).closed(), Some(0));
    let mut client = Http2::silent(LOCALHOST, gateway.address);
    assert_eq!(client.closed(), None);
    let mut client = Http2::silent(LOCALHOST, gateway.address);
    assert_eq!(client.send(&PREFACE[..20]).closed(), None);
    let mut client = Http2::silent(LOCALHOST, gateway.address);
    // Settings of ours may be there, no reproach.
    assert!(matches!(client.send(PREFACE).closed(), None | Some(0)));
}

/// An answer that the client takes nothing of: its stream is given up, and no other.
#[test]
fn answers_that_nobody_takes() {
    let upstream = Upstream::start(|request| {
        if request.line().contains("limit") {
            json(
                "200 OK",
                &format!("[{}{{\"text\":\"a\"}}]", "{\"text\":\"aaaaaaaaaaaa\"},".repeat(20_000)),
            )
        } else {
            json("200 OK", "[]")
        }
    });
    let gateway = Gateway::start(&limited("idle_timeout = \"500ms\"", ""), &upstream);
    // No octet of any answer fits into a window of none.
    let settings = [setting(1, 0), setting(4, 0)].concat();
    let mut client = Http2::begin(LOCALHOST, gateway.address, &settings);
    let small = client.ask(&request("GET", "/notes", &[]));
    let large = client.ask(&request("GET", "/notes?limit=1", &[]));
    assert_eq!(client.outcome(small).reset, Some(CANCEL));
    assert_eq!(client.outcome(large).reset, Some(CANCEL));
    // A client that takes a little now and then is as slow as that; one that takes nothing of one
    // answer may take another.
    let mut client = Http2::begin(LOCALHOST, gateway.address, &setting(1, 0));
    let large = client.ask(&request("GET", "/notes?limit=1", &[]));
    let started = Monotonic::now();
    while Monotonic::now().since(started) < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(50));
    }
    client.send(frame(WINDOW_UPDATE, 0, 0, &0x1000_0000_u32.to_be_bytes()));
    assert!(client.is_served());
    assert_eq!(client.outcome(large).reset, Some(CANCEL));
    assert!(client.is_served());
    // And nothing of what was given up is left at the upstream.
    eventually("all is settled", || (gateway.access_log().len() >= 5).then_some(()));
}

/// Small answers wait within h2 for a window, where no task is left to watch them: the connection is
/// given up, be it at work or not.
#[test]
fn ends_of_answers_that_nobody_takes() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("idle_timeout = \"500ms\"", ""), &upstream);
    let mut client = narrow(&gateway);
    client.ask(&request("GET", "/notes", &[]));
    let started = Monotonic::now();
    let mut served = 0;
    while taken(&mut client) == Some(200) {
        served += 1;
        assert!(Monotonic::now().since(started) < Duration::from_secs(20), "{served} served");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(served > 0);
    // What is closed while more comes may lose its last word.
    assert!(matches!(client.closed(), None | Some(ENHANCE_YOUR_CALM)));
    // Who takes what he asked for is not in a hurry to go on.
    let mut client = narrow(&gateway);
    for _ in 0..4 {
        assert_eq!(taken(&mut client), Some(200));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(gateway.bans(), [] as [serde_json::Value; 0]);
}

/// Answers that are not taken count as requests that are under way.
#[test]
fn answers_that_wait_are_under_way() {
    let upstream = notes();
    let mut setup = limited("connections_per_source = 3", "");
    setup.listen.push_str("\nworkers = 1");
    let gateway = Gateway::start(&setup, &upstream);
    let mut client = narrow(&gateway);
    assert_eq!(taken(&mut client), Some(200));
    let waiting: Vec<_> = (0..3).map(|_| client.ask(&request("GET", "/notes", &[]))).collect();
    eventually("three answers wait", || (taken(&mut client) == Some(429)).then_some(()));
    for id in waiting {
        client.send(frame(WINDOW_UPDATE, 0, id, &1_000_u32.to_be_bytes()));
    }
    eventually("none waits", || (taken(&mut client) == Some(200)).then_some(()));
}

/// A connection on which one octet of each answer can be sent.
fn narrow(gateway: &Gateway) -> Http2 {
    let settings = [setting(1, 0), setting(4, 1)].concat();
    Http2::begin(LOCALHOST, gateway.address, &settings)
}

/// The status of an answer that is taken whole.
fn taken(client: &mut Http2) -> Option<u16> {
    let id = client.ask(&request("GET", "/notes", &[]));
    client.send(frame(WINDOW_UPDATE, 0, id, &1_000_u32.to_be_bytes()));
    client.outcome(id).status
}

/// Floods from several connections at once, and one client that means well.
#[test]
fn good_clients_get_through_floods() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let before = resident(&gateway);
    let is_over = AtomicBool::new(false);
    let floods: [fn(&mut Http2); 5] = [
        |client| {
            let id = client.ask(&request("GET", "/notes", &[]));
            client.send(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
        },
        |client| {
            client.send(frame(PING, 0, 0, &[0; 8]).repeat(20));
        },
        |client| {
            client.send(frame(SETTINGS, 0, 0, &setting(4, 77)).repeat(20));
        },
        |client| {
            client.head(END_STREAM, &block(&request("GET", "/notes", &[("te", "gzip")])));
        },
        |client| {
            let id = client.take_id();
            client.send(frame(HEADERS, 0, id, b""));
            client.send(frame(CONTINUATION, 0, id, b"").repeat(20));
        },
    ];
    std::thread::scope(|scope| {
        for flood in &floods {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = Http2::connect(gateway.address);
                    for _ in 0..500 {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        flood(&mut client);
                        // Whether it holds is asked here, not how fast this machine is.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        let started = Monotonic::now();
        let mut served = 0;
        while Monotonic::now().since(started) < Duration::from_secs(2) || served < 10 {
            let mut client = Http2::connect(gateway.address);
            for _ in 0..5 {
                assert!(client.is_served(), "after {served}");
                served += 1;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets more");
    for rule in ["resets", "frames", "malformed", "errors", "continuations"] {
        logged(&gateway, &format!("framing.http2-{rule}"), "a flood");
    }
    let metrics = gateway.metrics();
    assert!(metrics.contains("rule=\"framing.http2-resets\""), "{metrics}");
}

/// Who is told to go away hears it once; who goes on is not heard.
#[test]
fn nothing_is_read_after_the_last_word() {
    let upstream = notes();
    let gateway = Gateway::start(&limited("", "resets = { rate = 1, burst = 1 }"), &upstream);
    let mut client = settled(&gateway);
    let mut octets = Vec::new();
    for id in [1_u32, 3] {
        let head = block(&request("GET", "/notes", &[("te", "gzip")]));
        octets.extend(frame(HEADERS, END_HEADERS, id, &head));
        octets.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
    }
    for id in (5..205_u32).step_by(2) {
        let head = block(&request("GET", "/notes", &[]));
        octets.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &head));
    }
    client.send(octets);
    let mut goaways = 0;
    while let Some(frame) = client.frame() {
        goaways += usize::from(frame.kind == GOAWAY);
    }
    assert_eq!(goaways, 1);
    logged(&gateway, "framing.http2-resets", "two resets");
    assert_eq!(upstream.received(), []);
}
