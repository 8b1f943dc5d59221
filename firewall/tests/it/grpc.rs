//! Calls of gRPC through the real program, between a client and an upstream of HTTP/2: what is declared
//! passes both ways at once, and what is not ends as gRPC ends a call.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kit::client::exchange;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::multiplexed::{Answering, Exchange, Multiplexed};
use crate::kit::{PATIENCE, eventually};

const ORDERS: &str = r#"
openapi: 3.0.3
info: { title: Orders, version: "1" }
paths:
  /shop.Orders/Watch:
    post:
      x-firewall-grpc: { messageOctets: 100, seconds: 5 }
      parameters:
        - { name: x-tenant, in: header, schema: { type: string, maxLength: 3 } }
      requestBody: { content: { application/grpc: {} } }
      responses: { "200": { description: ok, content: { application/grpc: {} } } }
"#;

const WATCH: &str = "/shop.Orders/Watch";

fn setup() -> Setup {
    Setup {
        listen: "workers = 1\nhttp2 = \"prior-knowledge\"".into(),
        upstream: "protocol = \"http2\"".into(),
        // What is wrong here is wrong on purpose, and from one address.
        bans: "mode = \"off\"".into(),
        ..Setup::of(ORDERS)
    }
}

fn before(upstream: &Multiplexed) -> Gateway {
    Gateway::start_before(&setup(), &[&upstream.url()])
}

/// A message with this flag.
fn flagged(flag: u8, body: &[u8]) -> Bytes {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, body].concat().into()
}

fn message(body: &[u8]) -> Bytes {
    flagged(0, body)
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
    };
    lines.iter().map(line).collect()
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

/// Sends back each message as it comes, and ends well.
fn echo(mut exchange: Exchange) -> Answering {
    Box::pin(async move {
        let coding = exchange.asked.field("grpc-encoding").unwrap_or("identity").to_owned();
        let head = [GRPC, &[("grpc-encoding", &*coding)]].concat();
        // The call may be over already.
        let Some(mut answer) = exchange.begin(200, &head) else { return };
        while let Some(piece) = exchange.piece().await {
            if answer.send_data(piece, false).is_err() {
                return;
            }
        }
        drop(answer.send_trailers(fields(&[("grpc-status", "0")])));
    })
}

/// One call that has begun.
struct Begun {
    request: SendStream<Bytes>,
    response: h2::client::ResponseFuture,
}

/// What came of a call.
#[derive(Debug, Default)]
struct Ended {
    status: u16,
    head: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
    reset: Option<h2::Reason>,
}

impl Ended {
    fn field(&self, name: &str) -> Option<&str> {
        self.trailers.get(name).or_else(|| self.head.get(name))?.to_str().ok()
    }

    /// The status of gRPC, and the rule of a refusal.
    fn told(&self) -> (&str, &str) {
        let status = self.field("grpc-status").unwrap_or("none");
        (status, self.field("firewall-rule").unwrap_or_default())
    }

    async fn of(response: Response<RecvStream>) -> Self {
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        let mut ended = Self { status, head: head.headers, ..Self::default() };
        while let Some(piece) = body.data().await {
            match piece {
                Ok(piece) => {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    ended.body.extend_from_slice(&piece);
                }
                Err(error) => {
                    ended.reset = error.reason();
                    return ended;
                }
            }
        }
        match body.trailers().await {
            Ok(trailers) => ended.trailers = trailers.unwrap_or_default(),
            Err(error) => ended.reset = error.reason(),
        }
        ended
    }
}

impl Begun {
    async fn ended(self) -> Ended {
        let Self { request, response } = self;
        let ended = match response.await {
            Ok(response) => Ended::of(response).await,
            Err(error) => Ended { reset: error.reason(), ..Ended::default() },
        };
        drop(request);
        ended
    }
}

struct Caller(SendRequest<Bytes>);

impl Caller {
    async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let (caller, connection) = h2::client::handshake(stream).await.unwrap();
        drop(tokio::spawn(connection));
        Self(caller)
    }

    async fn call(&mut self, path: &str, lines: &[(&str, &str)]) -> Begun {
        let mut request = Request::post(format!("http://a.test{path}")).body(()).unwrap();
        *request.headers_mut() = fields(lines);
        std::future::poll_fn(|cx| self.0.poll_ready(cx)).await.unwrap();
        let (response, request) = self.0.send_request(request, false).unwrap();
        Begun { request, response }
    }

    /// A call with this as its whole request.
    async fn whole(&mut self, path: &str, lines: &[(&str, &str)], body: Bytes) -> Ended {
        let mut call = self.call(path, lines).await;
        call.request.send_data(body, true).unwrap();
        call.ended().await
    }
}

const HEAD: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("it ends in time") });
}

#[test]
fn a_call_passes_with_its_metadata_and_trailers() {
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            let body = exchange.whole().await;
            let mut answer = exchange.head(200, &[GRPC, &[("x-initial", "1")]].concat());
            answer.send_data(body.into(), false).unwrap();
            let trailers =
                [("grpc-status", "5"), ("grpc-message", "no%20order"), ("x-detail-bin", "CgR0")];
            answer.send_trailers(fields(&trailers)).unwrap();
        })
    });
    let gateway = before(&upstream);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        let more = [("grpc-timeout", "2S"), ("x-tenant", "abc"), ("x-free", "1")];
        for kind in ["application/grpc", "application/grpc+proto"] {
            let head = [&[("content-type", kind), ("te", "trailers")][..], &more].concat();
            let both = [message(b"one"), message(&[7; 100])].concat();
            let ended = caller.whole(WATCH, &head, both.clone().into()).await;
            assert_eq!((ended.status, &ended.body), (200, &both), "{ended:?}");
            assert_eq!(ended.head["x-initial"], "1");
            assert_eq!(
                ended.trailers,
                fields(&[
                    ("grpc-status", "5"),
                    ("grpc-message", "no%20order"),
                    ("x-detail-bin", "CgR0"),
                ])
            );
        }
    });
    let asked = &upstream.asked()[0];
    assert_eq!(asked.line, format!("POST {WATCH}"));
    let sent = [("te", "trailers"), ("grpc-timeout", "2S"), ("x-tenant", "abc"), ("x-free", "1")];
    for (name, value) in sent {
        assert_eq!(asked.field(name), Some(value), "{name}");
    }
    assert_eq!(upstream.connections(), 1);
}

/// Each side waits for the other's message before it sends its next.
#[test]
fn both_directions_flow_at_once() {
    let upstream = Multiplexed::start(echo);
    let gateway = before(&upstream);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        let Begun { mut request, response } = caller.call(WATCH, HEAD).await;
        let mut answer = response.await.unwrap().into_body();
        for round in 0..50_u8 {
            let sent = message(&[round; 20]);
            request.send_data(sent.clone(), false).unwrap();
            let mut came = Vec::new();
            while came.len() < sent.len() {
                let piece = answer.data().await.unwrap().unwrap();
                answer.flow_control().release_capacity(piece.len()).unwrap();
                came.extend_from_slice(&piece);
            }
            assert_eq!(came, sent, "{round}");
        }
        request.send_data(Bytes::new(), true).unwrap();
        assert!(answer.data().await.is_none());
        assert_eq!(answer.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
    let line = eventually("it is logged", || gateway.access_log().into_iter().next());
    assert_eq!(
        (&line["verdict"], &line["request_octets"]),
        (&"passed".into(), &1_250.into()),
        "{line}"
    );
}

/// What the client does wrong is told as gRPC tells it, and the upstream has at most what was right.
#[test]
fn calls_by_their_contract() {
    let upstream = Multiplexed::start(echo);
    let gateway = before(&upstream);
    let with = |line: (&'static str, &'static str)| {
        let others = HEAD.iter().copied().filter(|(name, _)| *name != line.0);
        others.chain([line]).collect::<Vec<_>>()
    };
    let head = || HEAD.to_vec();
    let one = || message(b"one");
    let cut = |octets: Bytes, by: usize| octets.slice(..octets.len() - by);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        for (what, path, head, body, expected) in [
            ("sound", WATCH, head(), one(), ("0", "")),
            ("no message", WATCH, head(), Bytes::new(), ("0", "")),
            ("an empty one", WATCH, head(), message(b""), ("0", "")),
            ("another method", "/shop.Orders/Drop", head(), one(), ("12", "route.unknown-path")),
            ("a query", "/shop.Orders/Watch?a=1", head(), one(), ("3", "parameter.unknown")),
            ("metadata", WATCH, with(("x-tenant", "abcd")), one(), ("3", "parameter.schema")),
            ("no trailers", WATCH, GRPC.to_vec(), one(), ("3", "parameter.grpc-te")),
            (
                "a timeout",
                WATCH,
                with(("grpc-timeout", "1")),
                one(),
                ("3", "parameter.grpc-timeout"),
            ),
            (
                "another format",
                WATCH,
                with(("content-type", "application/grpc+json")),
                one(),
                ("3", "body.media-type"),
            ),
            ("the largest", WATCH, head(), message(&[0; 100]), ("0", "")),
            ("larger", WATCH, head(), message(&[0; 101]), ("8", "body.grpc-message-too-large")),
            ("a flag", WATCH, head(), flagged(2, b"one"), ("3", "body.grpc-framing")),
            ("no coding", WATCH, head(), flagged(1, b"one"), ("3", "body.grpc-framing")),
            ("a coding", WATCH, with(("grpc-encoding", "gzip")), flagged(1, b"one"), ("0", "")),
            ("cut off", WATCH, head(), cut(one(), 1), ("3", "body.grpc-framing")),
            ("cut off in its length", WATCH, head(), cut(one(), 4), ("3", "body.grpc-framing")),
        ] {
            // The upstream answers when it has heard something: not before the fault is found.
            let ended = caller.whole(path, &head, body).await;
            let (status, rule) = ended.told();
            let is_late = rule.is_empty() && !expected.1.is_empty();
            if is_late {
                // The answer had begun: its trailers tell.
                assert_eq!(status, expected.0, "{what}: {ended:?}");
            } else {
                assert_eq!((status, rule), expected, "{what}: {ended:?}");
            }
            assert_eq!(ended.status, 200, "{what}");
            assert_eq!(ended.field("content-type"), Some("application/grpc"), "{what}");
            if !expected.1.is_empty() {
                eventually(what, || {
                    gateway.access_log().iter().any(|it| it["rule"] == expected.1).then_some(())
                });
            }
        }
        let json = [("content-type", "application/json"), ("te", "trailers")];
        assert_eq!(caller.whole(WATCH, &json, one()).await.status, 415, "who does not call");
    });
    let http1 = format!(
        "POST {WATCH} HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: te\r\n\
         Content-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0"
    );
    let answer = exchange(gateway.address, http1);
    assert_eq!((answer.status, answer.rule().as_str()), (505, "route.grpc-version"));
}

/// What the upstream does wrong ends the call with 13, or with a reset within a message.
#[test]
fn answers_by_their_contract() {
    #[derive(Clone, Copy)]
    enum Says {
        /// A head that is all.
        Only(u16, &'static [(&'static str, &'static str)]),
        /// Octets, then these trailers.
        Then(&'static [u8], &'static [(&'static str, &'static str)]),
        /// Octets, and the end.
        End(&'static [u8]),
    }
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    const ONE: &[u8] = b"\0\0\0\0\x03one";
    const TRACE: &[(&str, &str)] = &[
        ("grpc-status", "2"),
        (
            "grpc-message",
            "Traceback (most recent call last):%0A  File %22/app/a.py%22, line 1, in f",
        ),
    ];
    let cases: [(&str, Says, Option<&str>, &str); 14] = [
        ("sound", Says::Then(ONE, OK), Some("0"), ""),
        ("no message", Says::Then(b"", OK), Some("0"), ""),
        (
            "trailers only",
            Says::Only(200, &[("content-type", "application/grpc"), ("grpc-status", "7")]),
            Some("7"),
            "",
        ),
        ("nothing but a head", Says::Only(200, GRPC), Some("13"), "response.grpc-trailers"),
        ("another status", Says::Only(503, &[]), Some("13"), "response.status"),
        (
            "another type",
            Says::Only(200, &[("content-type", "text/html"), ("grpc-status", "0")]),
            Some("13"),
            "response.media-type",
        ),
        ("no trailers", Says::End(ONE), Some("13"), "response.grpc-trailers"),
        ("no status", Says::Then(ONE, &[("x-a", "b")]), Some("13"), "response.grpc-trailers"),
        (
            "a length behind",
            Says::Then(ONE, &[("grpc-status", "0"), ("content-length", "8")]),
            Some("13"),
            "response.grpc-trailers",
        ),
        ("a trace", Says::Then(ONE, TRACE), Some("13"), "response.exception"),
        (
            "a flag",
            Says::Then(b"\0\0\0\0\x03one\x07\0\0\0\0", OK),
            Some("13"),
            "response.grpc-framing",
        ),
        (
            "too large",
            Says::Then(b"\0\0\0\0\x65", OK),
            Some("13"),
            "response.grpc-message-too-large",
        ),
        ("cut off", Says::Then(b"\0\0\0\0\x03on", OK), None, "response.grpc-framing"),
        ("cut off at the end", Says::End(b"\0\0\0\0\x03on"), None, "response.grpc-framing"),
    ];
    let upstream = Multiplexed::start(move |mut exchange| {
        Box::pin(async move {
            let case: usize = exchange.asked.field("x-case").unwrap().parse().unwrap();
            exchange.whole().await;
            match cases[case].1 {
                Says::Only(status, lines) => exchange.bodiless(status, lines),
                Says::Then(octets, lines) => {
                    let mut answer = exchange.head(200, GRPC);
                    answer.send_data(Bytes::from_static(octets), false).unwrap();
                    answer.send_trailers(fields(lines)).unwrap();
                }
                Says::End(octets) => {
                    let mut answer = exchange.head(200, GRPC);
                    answer.send_data(Bytes::from_static(octets), true).unwrap();
                }
            }
        })
    });
    let gateway = before(&upstream);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        for (number, (what, _, status, rule)) in cases.into_iter().enumerate() {
            let number = number.to_string();
            let head = [HEAD, &[("x-case", &*number)]].concat();
            let ended = caller.whole(WATCH, &head, message(b"one")).await;
            assert_eq!(ended.field("grpc-status"), status, "{what}: {ended:?}");
            assert_eq!(ended.reset.is_some(), status.is_none(), "{what}: {ended:?}");
            assert!(!format!("{ended:?}").contains("Traceback"), "{what}");
            if !rule.is_empty() {
                eventually(what, || {
                    gateway.access_log().iter().any(|it| it["rule"] == rule).then_some(())
                });
            }
        }
    });
}

/// A call ends when its client said it would, whether or not the answer has begun.
#[test]
fn timeouts_bound_the_whole_call() {
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            let mut answer = None;
            if exchange.asked.field("x-case") == Some("begun") {
                let mut begun = exchange.head(200, GRPC);
                begun.send_data(message(b"one"), false).unwrap();
                answer = Some(begun);
            }
            exchange.reset().await;
            drop(answer);
        })
    });
    let gateway = before(&upstream);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        for case in ["silent", "begun"] {
            let head = [HEAD, &[("grpc-timeout", "300m"), ("x-case", case)]].concat();
            let ended = caller.call(WATCH, &head).await.ended().await;
            assert_eq!(ended.told(), ("4", ""), "{case}: {ended:?}");
        }
    });
}

/// What is wrong after the answer has begun ends it too, on both sides, and counts.
#[test]
fn a_fault_in_mid_call_ends_both_sides_and_is_an_offence() {
    let upstream = Multiplexed::start(echo);
    let setup = Setup { bans: "threshold = 10".into(), ..setup() };
    let setup = Setup { management: "loopback = false".into(), ..setup };
    let gateway = Gateway::start_before(&setup, &[&upstream.url()]);
    local(async {
        let mut caller = Caller::connect(gateway.address).await;
        let Begun { mut request, response } = caller.call(WATCH, HEAD).await;
        request.send_data(message(b"one"), false).unwrap();
        let response = response.await.unwrap();
        request.send_data(flagged(9, b"two"), false).unwrap();
        let ended = Ended::of(response).await;
        // The ban may have closed the connection already.
        let is_told = ended.told().0 == "3" || ended.trailers.is_empty();
        assert!(is_told && ended.body == message(b"one"), "{ended:?}");
    });
    eventually("the ban", || (!gateway.bans().is_empty()).then_some(()));
    let logged = || gateway.access_log().into_iter().find(|it| it["rule"] == "body.grpc-framing");
    let line = eventually("it is logged", logged);
    assert_eq!(line["verdict"], "refused");
    let metrics = gateway.metrics();
    let counted = metrics
        .lines()
        .find(|it| it.contains("action=\"refused\",api=\"test\",rule=\"body.grpc-framing\""));
    assert!(counted.is_some_and(|it| it.ends_with(" 1")), "{counted:?}");
}

/// Octets of memory that the firewall has.
fn resident(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Who does not read keeps neither memory nor others.
#[test]
fn back_pressure_reaches_the_sender() {
    const TOTAL: usize = 64 << 20;
    let upstream = Multiplexed::start(|mut exchange| {
        Box::pin(async move {
            let mut answer = exchange.head(200, GRPC);
            if exchange.asked.field("x-case").is_some() {
                let piece: Bytes = message(&[0; 95]).repeat(100).into();
                let mut sent = 0;
                while sent < TOTAL {
                    answer.reserve_capacity(piece.len());
                    let room = std::future::poll_fn(|cx| answer.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return };
                    if room < piece.len() {
                        continue;
                    }
                    answer.send_data(piece.clone(), false).unwrap();
                    sent += piece.len();
                }
            }
            answer.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
        })
    });
    let gateway = before(&upstream);
    let before = resident(&gateway);
    local(async {
        let mut slow = Caller::connect(gateway.address).await;
        let held = slow.call(WATCH, &[HEAD, &[("x-case", "much")]].concat()).await;
        let unread = held.response.await.unwrap();
        let mut other = Caller::connect(gateway.address).await;
        for _ in 0..20 {
            assert_eq!(other.whole(WATCH, HEAD, message(b"one")).await.told().0, "0");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let grown = resident(&gateway).saturating_sub(before);
        assert!(grown < TOTAL / 4, "{grown} octets");
        drop(unread);
    });
}

#[test]
fn an_upstream_of_http1_is_an_error_with_its_place() {
    let scratch = crate::kit::Scratch::new();
    scratch.file("spec.yaml", ORDERS);
    let config = "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\nspec = \"spec.yaml\"\n\
                  upstream = \"http://127.0.0.1:1\"\n";
    let config = scratch.file("firewall.toml", config);
    let command = |path: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_firewall"));
        let output = command.arg("check").arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = command(&config);
    assert_eq!(code, Some(1), "{told}");
    let place = "spec.yaml:7: #/paths/~1shop.Orders~1Watch/post/x-firewall-grpc: gRPC needs HTTP/2";
    assert!(told.contains(place), "{told}");
    // Of a document alone it is not known.
    assert_eq!(command(&scratch.path().join("spec.yaml")).0, Some(0));
}
