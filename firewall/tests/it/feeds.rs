//! Lists that others keep, with the real program: taken, enforced, guarded, asked over HTTP and HTTPS.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::tls::{Authority, Issued, server};
use crate::kit::upstream::Upstream;

/// Loopback is somebody here: each test's clients are.
const MANAGEMENT: &str = "loopback = false\nown_addresses = false\ndetect = []";

fn setup(feeds: &str, files: &[(&str, &str)]) -> Setup {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Setup {
        management: format!("{MANAGEMENT}\n{feeds}"),
        files: files.iter().map(owned).collect(),
        ..Setup::of(NOTES)
    }
}

fn feed(name: &str, keys: &str) -> String {
    format!("[[feed]]\nname = \"{name}\"\nprivate_addresses = \"list\"\n{keys}\n")
}

/// The status that a client gets; none if it is not let in.
fn status(gateway: &Gateway, source: &str) -> Option<u16> {
    let mut client = Client::connect_from(source.parse().unwrap(), gateway.address).ok()?;
    client.send(bodiless("GET /notes")).answer().map(|answer| answer.status)
}

fn feeds(gateway: &Gateway, arguments: &[&str]) -> Value {
    let (code, text) = gateway.cli(&[&["feed"], arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn who_is_listed_is_refused_by_name_of_the_feed() {
    let upstream = notes();
    let clients = "trusted_proxies = [\"127.0.0.9/32\"]".to_owned();
    let feeds_of = feed("bad", "path = \"bad.txt\"")
        + &feed("watched", "path = \"watched.json\"\naction = \"observe\"");
    let watched =
        r#"{"prefixes":[{"ipv4Prefix":"198.51.100.0/24"},{"ipv6Prefix":"2001:db8::/32"}]}"#;
    let bad = "# bad\n127.0.1.0/24\n203.0.113.0/24 ; SBL1\n127.0.0.9\n";
    let files = [("bad.txt", bad), ("watched.json", watched)];
    let setup = Setup { clients, ..setup(&feeds_of, &files) };
    let gateway = Gateway::start(&setup, &upstream);
    eventually("the feed is in force", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    let other = r#"firewall_feed_entries{feed="watched"} 2"#;
    eventually("so is the other one", || gateway.metrics().contains(other).then_some(()));
    assert_eq!(status(&gateway, "127.0.0.1"), Some(200));

    // The proxy is on the list, and on the allowlist; whom it speaks for is judged by himself.
    let ask = |forwarded: &str| {
        let mut proxy =
            Client::connect_from("127.0.0.9".parse().unwrap(), gateway.address).unwrap();
        let request = bodiless("GET /notes")
            .replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {forwarded}\r\n\r\n"));
        proxy.send(request).answer().unwrap()
    };
    let refused = ask("203.0.113.7");
    assert_eq!((refused.status, refused.rule().as_str()), (403, "ban.feed"));
    assert!(!refused.text().contains("bad"), "the client is not told which list: {refused:?}");
    assert_eq!(ask("198.51.100.7").status, 200);
    assert_eq!(ask("203.0.112.7").status, 200);
    let lines = eventually("three lines", || {
        let log = gateway.access_log();
        let of = |client: &str| log.iter().find(|line| line["client"] == client).cloned();
        Some((of("203.0.113.7")?, of("198.51.100.7")?))
    });
    assert_eq!((&lines.0["feed"], &lines.0["verdict"]), (&"bad".into(), &"refused".into()));
    assert_eq!((&lines.1["feed"], &lines.1["verdict"]), (&"watched".into(), &"observed".into()));
    // It is no offence against us: nobody is banned for it.
    assert_eq!(gateway.bans(), [] as [Value; 0]);

    let (_, text) = gateway.cli(&["explain", "203.0.113.7"]);
    assert!(text.contains("listed by feed bad"), "{text}");
    let (_, text) = gateway.cli(&["explain", "198.51.100.7"]);
    assert!(text.contains("watched") && text.contains("only observed"), "{text}");
    let (_, text) = gateway.cli(&["explain", "127.0.0.9"]);
    assert!(text.contains("exempt") && text.contains("trusted-proxy"), "{text}");
    let (_, text) = gateway.cli(&["feed", "list"]);
    assert!(text.contains("bad.txt") && text.contains("observe"), "{text}");
    let metrics = gateway.metrics();
    for line in [
        r#"firewall_feed_entries{feed="watched"} 2"#,
        r#"firewall_feed_refreshes_total{feed="bad",result="changed"} 1"#,
        r#"firewall_contract_violations_total{action="observed",api="test",rule="ban.feed"} 1"#,
        r#"firewall_feed_age_seconds{feed="bad"}"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // Who came as the list did may have been let in and then refused, too.
    let refused =
        r#"firewall_contract_violations_total{action="refused",api="test",rule="ban.feed"} "#;
    let count = metrics.lines().find_map(|line| line.strip_prefix(refused)).unwrap();
    assert_ne!(count, "0");
}

#[test]
fn a_broken_list_is_told_and_changes_nothing() {
    let upstream = notes();
    let setup = setup(&feed("bad", "path = \"bad.txt\""), &[("bad.txt", "127.0.1.0/24\n")]);
    let gateway = Gateway::start(&setup, &upstream);
    eventually("the feed is in force", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    gateway.scratch.file("bad.txt", "<html>gone</html>");
    let told = feeds(&gateway, &["refresh", "bad"]);
    assert!(told[0]["problem"].as_str().unwrap().contains("page for people"), "{told}");
    assert_eq!(told[0]["entries"], 1);
    assert_eq!(status(&gateway, "127.0.1.7"), None);

    // A restart without the file: the copy serves.
    std::fs::remove_file(gateway.scratch.path().join("bad.txt")).unwrap();
    let gateway = gateway.kill_and_restart_after(|command| command.spawn().unwrap(), || {});
    assert_eq!(status(&gateway, "127.0.1.7"), None);
    gateway.scratch.file("bad.txt", "127.0.2.0/24\n");
    eventually("the new list", || status(&gateway, "127.0.2.7").is_none().then_some(()));
    assert_eq!(status(&gateway, "127.0.1.7"), Some(200));
}

#[test]
fn a_list_that_shrinks_waits_for_a_word() {
    let upstream = notes();
    let long = (0..250).map(|n| format!("127.1.{n}.1")).collect::<Vec<_>>().join("\n") + "\n";
    let setup = setup(&feed("bad", "path = \"bad.txt\""), &[("bad.txt", &long)]);
    let gateway = Gateway::start(&setup, &upstream);
    eventually("the feed is in force", || status(&gateway, "127.1.7.1").is_none().then_some(()));
    gateway.scratch.file("bad.txt", "127.1.0.1\n");
    let told = feeds(&gateway, &["refresh"]);
    assert_eq!(told[0]["held"], "249 of 250 entries would vanish", "{told}");
    assert_eq!(status(&gateway, "127.1.7.1"), None);
    let (_, text) = gateway.cli(&["feed", "list"]);
    assert!(text.contains("waits to be accepted: 249 of 250"), "{text}");
    let told = feeds(&gateway, &["accept", "bad"]);
    assert_eq!(told[0]["entries"], 1, "{told}");
    assert_eq!(status(&gateway, "127.1.7.1"), Some(200));
    assert_eq!(status(&gateway, "127.1.0.1"), None);
    assert_eq!(gateway.cli(&["feed", "accept", "bad"]).0, Some(2), "nothing waits any more");
    assert_eq!(gateway.cli(&["feed", "refresh", "other"]).0, Some(2));
}

#[test]
fn a_reload_adds_and_removes_feeds() {
    let upstream = notes();
    let files = [("a.txt", "127.0.1.0/24\n"), ("b.txt", "127.0.2.0/24\n")];
    let (a, b) = (feed("a", "path = \"a.txt\""), feed("b", "path = \"b.txt\""));
    let gateway = Gateway::start(&setup(&a, &files), &upstream);
    eventually("the first feed", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    assert_eq!(status(&gateway, "127.0.2.7"), Some(200));
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, text.replace(&a, &b)).unwrap();
    eventually("the second feed", || status(&gateway, "127.0.2.7").is_none().then_some(()));
    assert_eq!(status(&gateway, "127.0.1.7"), Some(200));
    assert_eq!(feeds(&gateway, &["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_server_is_asked_and_asked_whether_it_has_changed() {
    let upstream = notes();
    let server = Upstream::start(|request| {
        if request.head.to_ascii_lowercase().contains("if-none-match: \"1\"") {
            return b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec();
        }
        b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 13\r\n\r\n127.0.1.0/24\n".to_vec()
    });
    let url = format!("url = \"{}/list.txt\"", server.url());
    let gateway = Gateway::start(&setup(&feed("web", &url), &[]), &upstream);
    eventually("the feed is in force", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    let told = feeds(&gateway, &["refresh", "web"]);
    assert_eq!((&told[0]["problem"], &told[0]["entries"]), (&Value::Null, &1.into()), "{told}");
    let metrics = gateway.metrics();
    for line in [
        r#"firewall_feed_refreshes_total{feed="web",result="changed"} 1"#,
        r#"firewall_feed_refreshes_total{feed="web",result="unchanged"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

/// Serves a list of 127.0.1.0/24 over TLS; gives its port.
fn encrypted(issued: &Issued) -> u16 {
    let server = server(issued, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream =
                StreamOwned::new(ServerConnection::new(Arc::clone(&server)).unwrap(), stream);
            // Whoever does not believe it asks nothing.
            if stream.read(&mut [0; 4096]).is_ok_and(|octets| octets > 0) {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n127.0.1.0/24\n";
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    port
}

#[test]
fn a_server_must_prove_who_it_is() {
    let upstream = notes();
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let right = encrypted(&authority.issue(&["127.0.0.1", "localhost"], None, 1));
    let misnamed = encrypted(&authority.issue(&["lists.test"], None, 2));
    let files = [("ca.pem", &*authority.pem), ("other.pem", &*other.pem)];
    for (url, ca, problem) in [
        (format!("https://127.0.0.1:{right}/list"), "ca = \"ca.pem\"", None),
        (format!("https://localhost:{right}/list"), "ca = \"ca.pem\"", None),
        (format!("https://127.0.0.1:{right}/list"), "ca = \"other.pem\"", Some("UnknownIssuer")),
        // The system's authorities have not heard of it either.
        (format!("https://127.0.0.1:{right}/list"), "", Some("UnknownIssuer")),
        (format!("https://127.0.0.1:{misnamed}/list"), "ca = \"ca.pem\"", Some("not valid for")),
        (format!("http://127.0.0.1:{right}/list"), "", Some("exchange failed")),
    ] {
        let keys = format!("url = {url:?}\n{ca}");
        let gateway = Gateway::start(&setup(&feed("web", &keys), &files), &upstream);
        let told = feeds(&gateway, &["refresh", "web"]);
        match problem {
            None => {
                assert_eq!(told[0]["entries"], 1, "{keys}: {told}");
                assert_eq!(status(&gateway, "127.0.1.7"), None, "{keys}");
            }
            Some(part) => {
                let found = told[0]["problem"].as_str().unwrap_or_default();
                assert!(found.contains(part), "{keys}: {told}");
                assert_eq!(status(&gateway, "127.0.1.7"), Some(200), "{keys}");
            }
        }
    }

    let keys = format!("url = \"https://127.0.0.1:{right}/list\"\nca = \"renewed.pem\"");
    let renewed = [("renewed.pem", &*authority.pem)];
    let gateway = Gateway::start(&setup(&feed("web", &keys), &renewed), &upstream);
    eventually("the feed is in force", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    // It is read each time; what is listed stays while it cannot be.
    gateway.scratch.file("renewed.pem", &other.pem);
    let told = feeds(&gateway, &["refresh", "web"]);
    assert!(told[0]["problem"].as_str().unwrap().contains("UnknownIssuer"), "{told}");
    std::fs::remove_file(gateway.scratch.path().join("renewed.pem")).unwrap();
    let told = feeds(&gateway, &["refresh", "web"]);
    assert!(told[0]["problem"].as_str().unwrap().contains("cannot read"), "{told}");
    assert_eq!(told[0]["entries"], 1, "{told}");
    assert_eq!(status(&gateway, "127.0.1.7"), None);
    let (code, text) = gateway.check();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("feed web: ca") && text.contains("renewed.pem"), "{text}");
    let (code, text) = gateway.cli(&["reload"]);
    assert_ne!(code, Some(0), "{text}");
    assert!(text.contains("renewed.pem"), "{text}");
    gateway.scratch.file("renewed.pem", &authority.pem);
    let told = feeds(&gateway, &["refresh", "web"]);
    assert_eq!(told[0]["problem"], Value::Null, "{told}");
}

#[test]
fn a_feed_may_change_its_format_and_not_into_garbage() {
    let upstream = notes();
    let keys = "path = \"bad\"\nformat = \"auto\"";
    let setup = setup(&feed("bad", keys), &[("bad", "127.0.1.0/24\n127.0.2.0/24\n")]);
    let gateway = Gateway::start(&setup, &upstream);
    eventually("the feed is in force", || status(&gateway, "127.0.1.7").is_none().then_some(()));
    let refresh = |text: &str| {
        gateway.scratch.file("bad", text);
        feeds(&gateway, &["refresh", "bad"])[0].clone()
    };
    let listed = |gateway: &Gateway| -> Vec<u8> {
        (1..=6).filter(|n| status(gateway, &format!("127.0.{n}.7")).is_none()).collect()
    };
    assert_eq!(listed(&gateway), [1, 2]);
    let google = r#"{"prefixes":[{"ipv4Prefix":"127.0.2.0/24"},{"ipv4Prefix":"127.0.5.0/24"}]}"#;
    let spamhaus = "{\"cidr\":\"127.0.3.0/24\"}\n{\"cidr\":\"127.0.4.0/24\"}\n\
                    {\"type\":\"metadata\",\"records\":2}\n";
    for (text, expected) in [
        (google, [2, 5]),
        (spamhaus, [3, 4]),
        ("127.0.1.0/24\n127.0.2.0/24\n", [1, 2]),
        (google, [2, 5]),
    ] {
        let told = refresh(text);
        assert_eq!((&told["problem"], &told["entries"]), (&Value::Null, &2.into()), "{told}");
        assert_eq!(listed(&gateway), expected, "{text}");
    }

    // Whatever else comes of the same address: the last good list stays, and somebody is told.
    let pages = [
        "<!DOCTYPE html><html><body>503</body></html>",
        r#"{"error":"quota exceeded"}"#,
        r#"{"prefixes":[{"ipv4Prefix":"127.0.6.0/24"},{"ipv4Pre"#,
        "{\"cidr\":\"127.0.6.0/24\"}\n",
        "Too many requests\nCome back later\n",
        "",
    ];
    for (failures, page) in (1..).zip(pages) {
        let told = refresh(page);
        assert!(told["problem"].is_string(), "{page:?}: {told}");
        assert_eq!(told["entries"], 2, "{page:?}: {told}");
        assert_eq!(listed(&gateway), [2, 5], "{page:?}");
        let (_, text) = gateway.cli(&["feed", "list"]);
        assert!(text.contains("not renewed: "), "{page:?}: {text}");
        let line =
            format!(r#"firewall_feed_refreshes_total{{feed="bad",result="failed"}} {failures}"#);
        let metrics = gateway.metrics();
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    let told = refresh("127.0.6.0/24\n127.0.1.0/24\n");
    assert_eq!(told["problem"], Value::Null, "{told}");
    assert_eq!(listed(&gateway), [1, 6]);
}
