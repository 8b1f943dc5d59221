//! Raw octets on real sockets: what is answered, what the service sees, when the connection ends.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use tokio::time::timeout;

use super::super::connections::{ConnectionLimits, Connections, NoSeat};
use super::super::socket::{Listener, bind};
use super::super::{Event, Turned, run};
use super::*;
use crate::access_log::Ending;

/// Longer than anything here may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A worker whose service records what reaches it.
struct Worker {
    address: SocketAddr,
    connections: Rc<Connections>,
    service: Rc<Service>,
    turned: Rc<RefCell<Vec<Turned>>>,
    ended: Rc<RefCell<Vec<Ending>>>,
}

#[derive(Default)]
struct Service {
    seen: RefCell<Vec<String>>,
    /// `/wait` is answered when this is notified, and says so here when it begins.
    go_on: Notify,
    begun: Notify,
    given_up: Notify,
}

impl Service {
    /// Answers 200 with the body's length; a refusal with the rule's status.
    async fn answer(&self, origin: Origin, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let line = format!("{} {}", request.method(), request.uri());
        if let Some(violation) = origin.refusal() {
            return self.refuse(violation.rule.id(), violation.rule.status());
        }
        let path = request.uri().path().to_owned();
        if path == "/unread" {
            self.seen.borrow_mut().push(line);
            return Response::new(Full::from("unread"));
        }
        let Ok(body) = request.into_body().collect().await else {
            return match origin.body_violation() {
                Some(violation) => self.refuse(violation.rule.id(), violation.rule.status()),
                None => self.refuse("cut", 408),
            };
        };
        self.seen.borrow_mut().push(line);
        match &*path {
            "/wait" => {
                let given_up = Guard(&self.given_up);
                self.begun.notify_one();
                self.go_on.notified().await;
                std::mem::forget(given_up);
            }
            "/last" => origin.close_after_response(),
            "/large" => {
                origin.close_after_response();
                return Response::new(Full::from(vec![b'x'; 8 << 20]));
            }
            _ => {}
        }
        Response::new(Full::from(body.to_bytes().len().to_string()))
    }

    fn refuse(&self, rule: &str, status: u16) -> Response<Full<Bytes>> {
        self.seen.borrow_mut().push(rule.to_owned());
        Response::builder().status(status).body(Full::from("refused")).unwrap()
    }
}

struct Guard<'a>(&'a Notify);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What no test waits for.
fn patient() -> Patience {
    let long = DEADLINE * 10;
    Patience { head: long, idle: long, linger: long, linger_octets: 1 << 20 }
}

/// What a test can wait for.
fn hasty() -> Patience {
    let short = Duration::from_millis(300);
    Patience { head: short, idle: short, linger: short, linger_octets: 1 << 20 }
}

impl Worker {
    fn start(limits: ConnectionLimits, settings: ConnectionSettings) -> Self {
        let one = NonZeroUsize::new(1).unwrap();
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into(), one, 64).unwrap().remove(0);
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(vec![socket], false).unwrap();
        let worker = Self {
            address,
            connections: Connections::new(limits, 1),
            service: Rc::default(),
            turned: Rc::default(),
            ended: Rc::default(),
        };
        let settings = Rc::new(settings);
        let (service, turned) = (Rc::clone(&worker.service), Rc::clone(&worker.turned));
        let ended = Rc::clone(&worker.ended);
        let answer = move |origin, request| {
            let service = Rc::clone(&service);
            async move { service.answer(origin, request).await }
        };
        drop(spawn_local(run(
            listener,
            Rc::clone(&worker.connections),
            move || Rc::clone(&settings),
            |_| false,
            move |_, event| match event {
                Event::Accepted => {}
                Event::Turned(reason) => turned.borrow_mut().push(reason),
                Event::Ended(reason) => ended.borrow_mut().push(reason),
            },
            Rc::new(answer),
        )));
        worker
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the octets, keeps its side open, and gives all that comes until the worker closes.
    async fn ask(&self, octets: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(octets).await.unwrap();
        rest(&mut stream).await
    }

    fn seen(&self) -> Vec<String> {
        self.service.seen.take()
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answers = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answers)).await.expect("closed").expect("no reset");
    String::from_utf8(answers).unwrap()
}

/// Reads until the answers end with these octets.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut answers = Vec::new();
    while !answers.ends_with(end.as_bytes()) {
        let octet = timeout(DEADLINE, stream.read_u8()).await.expect("an answer").unwrap();
        answers.push(octet);
    }
    String::from_utf8(answers).unwrap()
}

fn statuses(answers: &str) -> Vec<u16> {
    let lines = answers.split("HTTP/1.").skip(1);
    lines.map(|line| line[2..5].parse().unwrap()).collect()
}

async fn with<F: Future<Output = ()>>(test: impl FnOnce(Worker) -> F) {
    with_limits(ConnectionLimits::default(), patient(), test).await;
}

async fn with_limits<F: Future<Output = ()>>(
    limits: ConnectionLimits,
    patience: Patience,
    test: impl FnOnce(Worker) -> F,
) {
    let settings = ConnectionSettings { patience, ..ConnectionSettings::default() };
    let local = LocalSet::new();
    local.run_until(async { test(Worker::start(limits, settings)).await }).await;
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSE: &str = "GET /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn ambiguous_requests_are_refused_once_and_end_the_connection() {
    with(async |worker| {
        for (octets, rule, status) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "framing.length-conflict", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", "framing.length-conflict", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 28\r\n\r\n", "framing.content-length", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "framing.content-length", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", "framing.content-length", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "framing.transfer-encoding", 400),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "framing.transfer-encoding", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", "framing.bare-lf", 400),
            ("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "framing.bare-cr", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 9\r\n\r\n", "framing.field-line", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 28\r\n\r\n", "framing.field-line", 400),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "framing.request-line", 400),
            ("GET /\r\n", "framing.version", 505),
            ("GET / HTTP/1.1\r\n\r\n", "framing.host", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "framing.host", 400),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "framing.target", 400),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "framing.target", 400),
            ("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", "framing.target", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", "framing.upgrade", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "framing.expectation", 417),
        ] {
            // Whoever read the first message differently would find one or two more here.
            let answers = worker.ask(format!("{octets}{GET}{GET}").as_bytes()).await;
            assert_eq!(statuses(&answers), [status], "{octets:?}: {answers}");
            assert!(answers.contains("connection: close\r\n"), "{answers}");
            assert_eq!(worker.seen(), [rule], "{octets:?}");

            let answers = worker.ask(format!("{GET}{octets}{GET}").as_bytes()).await;
            assert_eq!(statuses(&answers), [200, status], "{octets:?}: {answers}");
            assert_eq!(worker.seen(), ["GET /a", rule], "{octets:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn broken_chunks_are_refused_once_and_end_the_connection() {
    with(async |worker| {
        for (chunks, rule) in [
            ("0\r\nX: y\r\n\r\n", "framing.trailer"),
            ("3;a=b\r\nabc\r\n0\r\n\r\n", "framing.chunk"),
            ("3 \r\nabc\r\n0\r\n\r\n", "framing.chunk"),
            ("3\nabc\r\n0\r\n\r\n", "framing.chunk"),
            ("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "framing.chunk"),
            ("2\r\nabc\r\n0\r\n\r\n", "framing.chunk"),
        ] {
            let head = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let answers = worker.ask(format!("{GET}{head}{chunks}{GET}").as_bytes()).await;
            assert_eq!(statuses(&answers), [200, 400], "{chunks:?}: {answers}");
            assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
            assert_eq!(worker.seen(), ["GET /a", rule], "{chunks:?}");

            let unread = head.replace("/b", "/unread");
            let answers = worker.ask(format!("{unread}{chunks}{GET}").as_bytes()).await;
            assert_eq!(statuses(&answers), [200], "{chunks:?}: {answers}");
            assert_eq!(worker.seen(), ["POST /unread"], "{chunks:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn well_framed_requests_pass_in_any_pieces() {
    with(async |worker| {
        let stream = format!(
            "{GET}POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
             POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{CLOSE}"
        );
        for size in [1, 7, 50, stream.len()] {
            let mut client = worker.connect().await;
            client.set_nodelay(true).unwrap();
            for piece in stream.as_bytes().chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let answers = rest(&mut client).await;
            assert_eq!(statuses(&answers), [200, 200, 200, 200], "{size}: {answers}");
            assert_eq!(worker.seen(), ["GET /a", "POST /b", "POST /c", "GET /z"]);
        }
    })
    .await;
}

#[tokio::test]
async fn limits_above_hypers_own_hold() {
    let head = HeadLimits { head_octets: 300_000, fields: 300, target_octets: 100_000 };
    let settings =
        ConnectionSettings { head, patience: patient(), ..ConnectionSettings::default() };
    let test = async {
        let worker = Worker::start(ConnectionLimits::default(), settings);
        let fields = |count: usize| "A: b\r\n".repeat(count - 2);
        let large = format!("B: {}\r\n", "c".repeat(250_000));
        for (target, fields, expected) in [
            ("/a", fields(300), 200),
            ("/a", fields(301), 431),
            ("/a", large.clone(), 200),
            ("/a", large.repeat(2), 431),
            (&format!("/{}", "a".repeat(65_533)), String::new(), 200),
            (&format!("/{}", "a".repeat(65_534)), String::new(), 414),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
            let answers = worker.ask(format!("{head}{fields}\r\n").as_bytes()).await;
            assert_eq!(statuses(&answers), [expected]);
            assert_eq!(worker.seen().len(), 1, "the answer is the service's, not hyper's");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_head_must_arrive_in_time() {
    let patience = Patience { linger: DEADLINE * 10, ..hasty() };
    with_limits(ConnectionLimits::default(), patience, async |worker| {
        let answers = worker.ask(b"GET / HTTP/1.1\r\nHost: a\r\n").await;
        assert_eq!(statuses(&answers), [408], "{answers}");
        assert_eq!(worker.seen(), ["framing.head-timeout"]);

        let mut client = worker.connect().await;
        client.write_all(format!("{GET}GET").as_bytes()).await.unwrap();
        let slow = async {
            for octet in b" / HTTP/1.1" {
                sleep(Duration::from_millis(50)).await;
                client.write_all(&[*octet]).await.unwrap();
            }
            rest(&mut client).await
        };
        // Each octet came in time, the head did not.
        let answers = slow.await;
        assert_eq!(statuses(&answers), [200, 408], "{answers}");
        assert_eq!(worker.seen(), ["GET /a", "framing.head-timeout"]);
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_connection_without_a_word() {
    with_limits(ConnectionLimits::default(), hasty(), async |worker| {
        assert_eq!(worker.ask(b"").await, "");
        let answers = worker.ask(GET.as_bytes()).await;
        assert_eq!(statuses(&answers), [200], "{answers}");
        assert!(!answers.contains("connection: close"), "{answers}");
        assert_eq!(worker.seen(), ["GET /a"]);
        timeout(DEADLINE, emptied(&worker)).await.unwrap();
        assert_eq!(worker.ended.take(), [Ending::Silent, Ending::Idle]);
    })
    .await;
    let lingering = Patience { linger: DEADLINE * 10, ..hasty() };
    with_limits(ConnectionLimits::default(), lingering, async |worker| {
        let mut client = worker.connect().await;
        assert_eq!(rest(&mut client).await, "");
        timeout(DEADLINE, emptied(&worker)).await.expect("the silent are not waited for");
    })
    .await;
}

#[tokio::test]
async fn the_time_that_an_answer_takes_is_not_the_clients() {
    with_limits(ConnectionLimits::default(), hasty(), async |worker| {
        let mut client = worker.connect().await;
        client.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        let long = hasty().idle.max(hasty().head) * 2;
        assert!(timeout(long, client.read_u8()).await.is_err(), "neither closed nor answered");
        worker.service.go_on.notify_one();
        let answers = rest(&mut client).await;
        assert_eq!(statuses(&answers), [200], "{answers}");
    })
    .await;
}

#[tokio::test]
async fn what_the_client_still_sends_does_not_destroy_the_refusal() {
    with(async |worker| {
        let mut stream = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        stream.resize(700_000, b'x');
        let answers = worker.ask(&stream).await;
        assert_eq!(statuses(&answers), [400], "{answers}");
        assert!(answers.ends_with("refused"), "{answers}");
    })
    .await;
}

#[tokio::test]
async fn lingering_is_bounded_in_octets_and_in_time() {
    with_limits(ConnectionLimits::default(), patient(), async |worker| {
        let mut client = worker.connect().await;
        client.write_all(b"\n").await.unwrap();
        let scrap = vec![b'x'; 1 << 16];
        let flood = async { while client.write_all(&scrap).await.is_ok() {} };
        timeout(DEADLINE, flood).await.expect("the flood is cut off");
        timeout(DEADLINE, emptied(&worker)).await.unwrap();
    })
    .await;
    let a_second = Patience { linger: Duration::from_secs(1), ..patient() };
    with_limits(ConnectionLimits::default(), a_second, async |worker| {
        let mut client = worker.connect().await;
        client.write_all(b"\n").await.unwrap();
        until(&mut client, "refused").await;
        assert_eq!(worker.connections.open(), 1, "lingers for a client that is still there");
        timeout(DEADLINE, emptied(&worker)).await.unwrap();
    })
    .await;
}

async fn emptied(worker: &Worker) {
    while worker.connections.open() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn continue_is_said_only_when_the_body_is_wanted() {
    with(async |worker| {
        let head = "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n";
        let mut client = worker.connect().await;
        client.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(format!("abc{CLOSE}").as_bytes()).await.unwrap();
        assert_eq!(statuses(&rest(&mut client).await), [200, 200]);

        let unread = format!("{head}\r\n").replace("/b", "/unread");
        let answers = worker.ask(unread.as_bytes()).await;
        assert_eq!(statuses(&answers), [200], "{answers}");
        let refused = format!("{head}Content-Length: 3\r\n\r\n");
        assert_eq!(statuses(&worker.ask(refused.as_bytes()).await), [400]);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    with(async |worker| {
        let mut client = worker.connect().await;
        client.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        drop(client);
        timeout(DEADLINE, worker.service.given_up.notified()).await.expect("given up");
        timeout(DEADLINE, emptied(&worker)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_service_can_end_the_connection() {
    with(async |worker| {
        let last = GET.replace("/a", "/last");
        let answers = worker.ask(format!("{GET}{last}{GET}").as_bytes()).await;
        assert_eq!(statuses(&answers), [200, 200], "{answers}");
        assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
        assert_eq!(worker.seen(), ["GET /a", "GET /last"]);
    })
    .await;
}

#[tokio::test]
async fn a_ban_ends_all_connections_but_lets_the_refusal_out() {
    with(async |worker| {
        let (mut idle, mut busy, mut refused) =
            (worker.connect().await, worker.connect().await, worker.connect().await);
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "\r\n\r\n0").await;
        busy.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        // So much that it cannot have been written when the ban comes.
        refused.write_all(GET.replace("/a", "/large").as_bytes()).await.unwrap();
        until(&mut refused, "\r\n\r\nx").await;

        let target = "127.0.0.1/32".parse().unwrap();
        assert_eq!(worker.connections.close_source("127.0.0.2/32".parse().unwrap(), DEADLINE), 0);
        assert_eq!(worker.connections.close_source(target, DEADLINE), 3);
        for client in [&mut idle, &mut busy] {
            let error = timeout(DEADLINE, client.read_u8()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        timeout(DEADLINE, worker.service.given_up.notified()).await.expect("given up");
        assert_eq!(rest(&mut refused).await.len(), (8 << 20) - 1);
        drop(refused);
        timeout(DEADLINE, emptied(&worker)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn last_words_are_bounded_in_time() {
    with(async |worker| {
        let mut refused = worker.connect().await;
        refused.write_all(GET.replace("/a", "/large").as_bytes()).await.unwrap();
        until(&mut refused, "\r\n\r\nx").await;
        let networks = "127.0.0.0/8".parse().unwrap();
        assert_eq!(worker.connections.close_source(networks, Duration::from_millis(50)), 1);
        timeout(DEADLINE, emptied(&worker)).await.expect("cut off although nothing is read");
    })
    .await;
}

#[tokio::test]
async fn draining_finishes_what_has_begun() {
    with_limits(ConnectionLimits::default(), patient(), async |worker| {
        let mut idle = worker.connect().await;
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "\r\n\r\n0").await;
        let mut busy = worker.connect().await;
        busy.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        let (early, late) = GET.split_at(10);
        let mut asking = worker.connect().await;
        asking.write_all(early.as_bytes()).await.unwrap();
        let mut fresh = worker.connect().await;
        let mut silent = worker.connect().await;
        while worker.connections.open() < 5 {
            tokio::task::yield_now().await;
        }

        let connections = Rc::clone(&worker.connections);
        let drained = spawn_local(async move { connections.drain(DEADLINE, Duration::ZERO).await });
        assert_eq!(rest(&mut idle).await, "", "an idle connection ends at once");
        assert!(!drained.is_finished());
        for (client, octets) in [(&mut asking, late), (&mut fresh, GET)] {
            client.write_all(octets.as_bytes()).await.unwrap();
            let answers = rest(client).await;
            assert_eq!(statuses(&answers), [200], "{answers}");
            assert!(answers.contains("connection: close"), "{answers}");
        }
        worker.service.go_on.notify_one();
        let answers = rest(&mut busy).await;
        assert_eq!(statuses(&answers), [200], "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
        assert_eq!(rest(&mut silent).await, "");
        drop((idle, asking, fresh, busy, silent));
        assert_eq!(timeout(DEADLINE, drained).await.unwrap().unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn draining_has_an_end() {
    with(async |worker| {
        let mut busy = worker.connect().await;
        busy.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        let drained = worker.connections.drain(Duration::from_millis(50), Duration::ZERO);
        assert_eq!(timeout(DEADLINE, drained).await.unwrap(), 1);
        timeout(DEADLINE, worker.service.given_up.notified()).await.expect("given up");
        assert_eq!(worker.connections.open(), 0);
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_a_limit_are_turned_away() {
    let limits = ConnectionLimits { per_source: 2, ..ConnectionLimits::default() };
    with_limits(limits, patient(), async |worker| {
        let (_first, _second) = (worker.connect().await, worker.connect().await);
        while worker.connections.open() < 2 {
            tokio::task::yield_now().await;
        }
        let mut third = worker.connect().await;
        let outcome = timeout(DEADLINE, third.read_u8()).await.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(worker.turned.take(), [Turned::NoSeat(NoSeat::Source)]);
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let limits = ConnectionLimits { total: 2, ..ConnectionLimits::default() };
    with_limits(limits, patient(), async |worker| {
        let mut busy = worker.connect().await;
        busy.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.unwrap();
        let mut idle = worker.connect().await;
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "\r\n\r\n0").await;

        let mut client = worker.connect().await;
        client.write_all(WAIT.as_bytes()).await.unwrap();
        timeout(DEADLINE, worker.service.begun.notified()).await.expect("has a seat");
        assert!(timeout(DEADLINE, idle.read_u8()).await.unwrap().is_err(), "made room");

        let mut late = worker.connect().await;
        assert!(timeout(DEADLINE, late.read_u8()).await.unwrap().is_err(), "no room");
        worker.service.go_on.notify_one();
        worker.service.go_on.notify_one();
        until(&mut busy, "\r\n\r\n0").await;
    })
    .await;
}
