//! TLS at the listener, with the library's own client; `tls/programs.rs` asks curl and OpenSSL.

mod bounds;
mod programs;

use std::time::Duration;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::kit::client::Client;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::tls::{Authority, Issued, TlsClient, ask, install, status};
use crate::kit::upstream::Upstream;
use crate::kit::{Scratch, eventually};

const PAGES: &str = r"
openapi: 3.0.4
info: { title: pages, version: '1' }
paths:
  /page:
    get:
      responses: { '204': { description: ok } }
";

const NAME: &str = "api.example";

fn upstream() -> Upstream {
    Upstream::start(|_| b"HTTP/1.1 204 No Content\r\nSet-Cookie: sid=1\r\n\r\n".to_vec())
}

/// A firewall that speaks TLS, its authority, and where its certificates are.
struct Served {
    gateway: Gateway,
    upstream: Upstream,
    ca: Authority,
    folder: Scratch,
}

impl Served {
    /// With one certificate, for `NAME`, and more keys of `[listen.tls]`.
    #[track_caller]
    fn start(more: &str) -> Self {
        Self::with(more, "", "", |_, _| String::new())
    }

    /// With files that the caller makes, and what he says of them.
    #[track_caller]
    fn with(
        more: &str,
        api: &str,
        limits: &str,
        files: impl FnOnce(&Authority, &Scratch) -> String,
    ) -> Self {
        let (ca, folder, upstream) = (Authority::new("test"), Scratch::new(), upstream());
        let one = install(&folder, "one", &ca.issue(&[NAME], None, 1));
        let made = files(&ca, &folder);
        let tls: Vec<String> = [format!("certificate = [{one}]"), more.into(), made]
            .into_iter()
            .filter(|keys| !keys.is_empty())
            .collect();
        let listen = format!("tls = {{ {} }}", tls.join(", "));
        let (api, limits) = (api.into(), limits.into());
        let setup = Setup { listen, api, limits, ..Setup::of(PAGES) };
        let gateway = Gateway::start(&setup, &upstream);
        Self { gateway, upstream, ca, folder }
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(&self.ca, &[&TLS13, &TLS12], None)
    }

    /// The status of one request.
    #[track_caller]
    fn get(&self, client: &TlsClient, name: &str) -> u16 {
        status(&client.get(self.gateway.address, name).unwrap().0)
    }

    /// Waits until a counter has come to be there.
    #[track_caller]
    fn counts(&self, line: &str) {
        eventually(line, || self.gateway.metrics().contains(line).then_some(()));
    }
}

fn refused(reason: &str) -> String {
    format!("firewall_connections_refused_total{{reason=\"{reason}\"}} 1")
}

#[test]
fn what_a_connection_settled_is_told() {
    let served = Served::start("");
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let client = TlsClient::new(&served.ca, &[version], None);
        let (answer, kind) = client.get(served.gateway.address, NAME).unwrap();
        assert_eq!((status(&answer), kind), (204, HandshakeKind::Full), "{name}");
        assert!(answer.contains("Secure"), "a cookie over TLS is marked: {answer}");
        let handshakes =
            format!("firewall_tls_handshakes_total{{kind=\"full\",version=\"{name}\"}} 1");
        served.counts(&handshakes);
    }
    let received = served.upstream.received();
    assert!(received.iter().all(|request| request.header("x-forwarded-proto") == Some("https")));
    let mut log = eventually("two lines", || {
        let log = served.gateway.access_log();
        (log.len() == 2).then_some(log)
    });
    // Each worker writes its lines by itself.
    log.sort_by_key(|line| std::cmp::Reverse(line["tls"].to_string()));
    for (line, (version, offered)) in log.iter().zip([("TLSv1.3", "t13d"), ("TLSv1.2", "t12d")]) {
        assert_eq!(line["tls"], version);
        let ja4 = line["ja4"].as_str().unwrap();
        assert!(ja4.len() == 36 && ja4.starts_with(offered) && &ja4[8..10] == "h1", "{ja4}");
        assert!(line.get("client_subject").is_none());
        served.counts(&format!("firewall_tls_client_hellos_total{{offered=\"{offered}\"}} 1"));
    }
    served.counts("firewall_tls_certificate_not_after_seconds{");
}

#[test]
fn plain_text_meets_an_alert() {
    let served = Served::start("");
    let mut client = Client::connect(served.gateway.address);
    client.send("GET /page HTTP/1.1\r\nHost: api.example\r\n\r\n");
    assert_eq!(client.closed().first(), Some(&21), "an alert, and the end");
    served.counts(&refused("tls-plaintext"));
    assert!(served.upstream.received().is_empty());
    assert_eq!(served.get(&served.client(), NAME), 204, "others are served");
}

#[test]
fn unknown_names() {
    let lenient = Served::start("");
    let strict = Served::start("unknown_sni = \"refuse\"");
    for served in [&lenient, &strict] {
        assert_eq!(served.get(&served.client(), NAME), 204);
    }
    // The certificate is for another name, and the client says so; or there is none.
    let said = lenient.client().get(lenient.gateway.address, "other.example").unwrap_err();
    assert!(said.to_string().contains("certificate"), "{said}");
    let said = strict.client().get(strict.gateway.address, "other.example").unwrap_err();
    assert!(said.to_string().contains("UnrecognisedName"), "{said}");
    strict.counts(&refused("tls-unknown-name"));

    for (served, other) in [(&lenient, 204), (&strict, 421)] {
        let mut stream = served.client().connect(served.gateway.address, NAME);
        for (host, expected) in
            [(NAME, 204), ("API.Example:443", 204), ("other.example", other), (NAME, 204)]
        {
            let answer = ask(&mut stream, host, "/page").unwrap();
            assert_eq!(status(&answer), expected, "{host}: {answer}");
            assert_eq!(answer.contains("client.server-name"), expected == 421, "{answer}");
        }
    }
}

#[test]
fn sessions_go_on_whichever_worker_gets_them() {
    let served = Served::start("");
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let client = TlsClient::new(&served.ca, &[version], None);
        for kind in [HandshakeKind::Full].into_iter().chain([HandshakeKind::Resumed; 6]) {
            let (answer, found) = client.get(served.gateway.address, NAME).unwrap();
            assert_eq!((status(&answer), found), (204, kind), "{name}");
        }
        let line =
            format!("firewall_tls_handshakes_total{{kind=\"resumed\",version=\"{name}\"}} 6");
        served.counts(&line);
    }
}

#[test]
fn certificates_change_under_open_connections() {
    let served = Served::start("");
    let (address, client) = (served.gateway.address, served.client());
    let mut open = client.connect(address, NAME);
    assert_eq!(status(&ask(&mut open, NAME, "/page").unwrap()), 204);
    let fresh = || TlsClient::new(&served.ca, &[&TLS13], None);
    assert!(fresh().get(address, "new.example").is_err(), "it is for one name alone");

    install(&served.folder, "one", &served.ca.issue(&[NAME, "new.example"], None, 2));
    eventually("the new certificate", || fresh().get(address, "new.example").ok());
    assert_eq!(status(&ask(&mut open, NAME, "/page").unwrap()), 204, "the old connection");
    assert_eq!(client.get(address, NAME).unwrap().1, HandshakeKind::Resumed, "its session");

    // A key of another certificate: the old ones serve on, and the file is named.
    let (other, mut torn) = (served.ca.issue(&[NAME], None, 3), served.ca.issue(&[NAME], None, 4));
    torn.key = other.key;
    install(&served.folder, "one", &torn);
    eventually("the refusal", || {
        let said = served.gateway.errors();
        (said.contains("one.key: not the key of") && said.contains("not reloaded")).then_some(())
    });
    served.counts("firewall_config_last_reload_successful 0");
    assert!(fresh().get(address, "new.example").is_ok());
    assert_eq!(status(&ask(&mut open, NAME, "/page").unwrap()), 204);

    install(&served.folder, "one", &served.ca.issue(&["third.example"], None, 5));
    eventually("the third", || fresh().get(address, "third.example").ok());
    assert_eq!(status(&ask(&mut open, NAME, "/page").unwrap()), 204);
    let keys = served.gateway.errors();
    assert!(!keys.contains("BEGIN"), "nothing of a key is told: {keys}");
}

/// The files that clients' certificates are verified by.
fn clients(mode: &str, ca: &Authority, folder: &Scratch) -> String {
    let authority = folder.file("clients.pem", &ca.pem);
    let list = folder.file("clients.crl", &ca.revoke(&[66]));
    format!(
        "client_certificates = \"{mode}\", client_ca = {:?}, client_crls = [{:?}]",
        authority.display().to_string(),
        list.display().to_string()
    )
}

#[test]
fn clients_show_certificates_where_they_must() {
    let stranger = Authority::new("stranger");
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let served = Served::with("", "", "", |ca, folder| clients("required", ca, folder));
        let get = |own: Option<&Issued>| {
            let client = TlsClient::new(&served.ca, &[version], own);
            client.get(served.gateway.address, NAME).map(|(answer, _)| status(&answer))
        };
        let good = served.ca.issue(&[], Some("billing, \"EU\""), 7);
        assert_eq!(get(Some(&good)).unwrap(), 204, "{name}");
        assert!(get(None).is_err(), "{name}");
        assert!(get(Some(&served.ca.issue(&[], Some("thief"), 66))).is_err(), "{name}");
        assert!(get(Some(&stranger.issue(&[], Some("billing"), 7))).is_err(), "{name}");
        let refused = "firewall_connections_refused_total{reason=\"tls-client-certificate\"} 3";
        served.counts(refused);
        let log = eventually("a line", || served.gateway.access_log().pop());
        let subject = log["client_subject"].as_str().unwrap();
        assert!(subject.contains(r#"CN=billing\, \"EU\""#), "{subject}");
        assert_eq!(served.upstream.received().len(), 1);
    }
}

#[test]
fn who_is_revoked_cannot_go_on() {
    let served = Served::with("", "", "", |ca, folder| clients("required", ca, folder));
    let own = served.ca.issue(&[], Some("billing"), 7);
    let client = TlsClient::new(&served.ca, &[&TLS13], Some(&own));
    let address = served.gateway.address;
    assert_eq!(client.get(address, NAME).unwrap().1, HandshakeKind::Full);
    assert_eq!(client.get(address, NAME).unwrap().1, HandshakeKind::Resumed);
    served.folder.file("clients.crl", &served.ca.revoke(&[7, 66]));
    eventually("the new list", || client.get(address, NAME).is_err().then_some(()));
    for _ in 0..3 {
        assert!(client.get(address, NAME).is_err(), "neither by a ticket");
    }
}

#[test]
fn who_is_revoked_cannot_go_on_in_an_open_connection_either() {
    let served = Served::with("", "", "", |ca, folder| clients("required", ca, folder));
    let opened = |serial| {
        let own = served.ca.issue(&[], Some("billing"), serial);
        let client = TlsClient::new(&served.ca, &[&TLS13], Some(&own));
        let mut stream = client.connect(served.gateway.address, NAME);
        assert_eq!(status(&ask(&mut stream, NAME, "/page").unwrap()), 204);
        stream
    };
    let (mut revoked, mut good) = (opened(7), opened(8));
    served.folder.file("clients.crl", &served.ca.revoke(&[7, 66]));
    let answer = eventually("the new list", || {
        let answer = ask(&mut revoked, NAME, "/page").unwrap();
        (status(&answer) != 204).then_some(answer)
    });
    assert_eq!(status(&answer), 421, "{answer}");
    assert!(answer.contains("client.certificate-over"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(ask(&mut revoked, NAME, "/page").is_err(), "the connection is over");
    assert_eq!(status(&ask(&mut good, NAME, "/page").unwrap()), 204, "the others go on");
}

#[test]
fn a_certificate_ends_in_sessions_and_open_connections_too() {
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let served = Served::with("", "", "", |ca, folder| clients("optional", ca, folder));
        let own = served.ca.issue_for("billing", Duration::from_secs(6), 7);
        let client = TlsClient::new(&served.ca, &[version], Some(&own));
        let address = served.gateway.address;
        assert_eq!(client.get(address, NAME).unwrap().1, HandshakeKind::Full, "{name}");
        assert_eq!(client.get(address, NAME).unwrap().1, HandshakeKind::Resumed, "{name}");
        let mut open = client.connect(address, NAME);
        assert_eq!(status(&ask(&mut open, NAME, "/page").unwrap()), 204, "{name}");
        let answer = eventually("the end", || {
            let answer = ask(&mut open, NAME, "/page").unwrap();
            (status(&answer) != 204).then_some(answer)
        });
        assert_eq!(status(&answer), 421, "{name}: {answer}");
        for _ in 0..3 {
            assert!(client.get(address, NAME).is_err(), "{name}: neither by a ticket");
        }
        assert_eq!(served.get(&served.client(), NAME), 204, "{name}: who shows none");
    }
}

#[test]
fn an_api_demands_a_certificate_that_the_listener_only_asks_for() {
    for (api, without) in [("", 204), ("client_certificate = true", 403)] {
        let served = Served::with("", api, "", |ca, folder| clients("optional", ca, folder));
        assert_eq!(served.get(&served.client(), NAME), without);
        let own = served.ca.issue(&[], Some("billing"), 7);
        assert_eq!(served.get(&TlsClient::new(&served.ca, &[&TLS13], Some(&own)), NAME), 204);
        let (answer, _) = served.client().get(served.gateway.address, NAME).unwrap();
        assert_eq!(answer.contains("client.certificate"), without == 403, "{answer}");
        let revoked = served.ca.issue(&[], Some("thief"), 66);
        let thief = TlsClient::new(&served.ca, &[&TLS13], Some(&revoked));
        assert!(thief.get(served.gateway.address, NAME).is_err(), "what is shown is verified");
    }
}

#[test]
fn check_reads_the_files_too() {
    let served = Served::start("");
    assert_eq!(served.gateway.check().0, Some(0));
    let key = served.folder.path().join("one.key");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(key, readable).unwrap();
    let (code, said) = served.gateway.check();
    assert_eq!(code, Some(1));
    assert!(said.contains("one.key: a private key that others"), "{said}");
}
