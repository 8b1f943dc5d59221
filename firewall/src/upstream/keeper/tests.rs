//! Endpoints that fail and return: real sockets, a resolver of our own.

mod names;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::*;
use crate::upstream::address::EndpointAddress;
use crate::upstream::body::Body;
use crate::upstream::pool::Pool;
use crate::upstream::{
    CheckRules, EjectionRules, EndpointSettings, PingRules, Protocol, RetryRules, UpstreamError,
    UpstreamLimits, WithoutHealthy,
};

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn settings(urls: &[&str]) -> UpstreamSettings {
    let endpoint = |url: &&str| {
        let (address, scheme) = EndpointAddress::parse(url).unwrap();
        EndpointSettings { address, scheme, weight: 1 }
    };
    UpstreamSettings {
        endpoints: urls.iter().map(endpoint).collect(),
        protocol: Protocol::Http1,
        pings: PingRules { interval: SHORT, timeout: SHORT },
        limits: UpstreamLimits {
            connect_timeout: SHORT,
            read_timeout: SHORT,
            idle_timeout: Duration::from_secs(4),
            connections: 4,
            pending: 4,
            pending_timeout: SHORT,
        },
        resolve_interval: Duration::from_millis(20),
        ejection: EjectionRules { failures: 3, base: SHORT, max: 4 * SHORT, share: 50 },
        check: None,
        tls: None,
        retry: RetryRules { attempts: 2, share: 20, per_second: 10 },
        without_healthy: WithoutHealthy::Try,
    }
}

/// Answers each request on each connection; what it answers may change.
struct Server {
    address: SocketAddr,
    answered: Rc<Cell<u32>>,
    answer: Rc<Cell<&'static str>>,
    accepting: tokio::task::JoinHandle<()>,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
/// The connection is closed instead.
const NONE: &str = "";
/// Nothing ever comes.
const SILENCE: &str = "silence";

impl Server {
    async fn start(answer: &'static str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    fn on(listener: TcpListener, answer: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let (answered, answer) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(answer)));
        let (count, given) = (Rc::clone(&answered), Rc::clone(&answer));
        let accepting = spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, given) = (Rc::clone(&count), Rc::clone(&given));
                spawn_local(async move {
                    let mut read = [0; 4096];
                    while stream.read(&mut read).await.is_ok_and(|octets| octets > 0) {
                        count.set(count.get() + 1);
                        match given.get() {
                            NONE => return,
                            SILENCE => std::future::pending().await,
                            answer => stream.write_all(answer.as_bytes()).await.unwrap_or(()),
                        }
                    }
                });
            }
        });
        Self { address, answered, answer, accepting }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(PATIENCE, test).await.expect("the test ends in time");
    });
}

fn upstreams(resolve: Arc<Resolve>) -> (Upstreams, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let upstreams = Upstreams::new(resolve, Arc::clone(&metrics));
    drop(spawn_local(upstreams.clone().run()));
    (upstreams, metrics)
}

fn without_names() -> Arc<Resolve> {
    Arc::new(|_, _| Err(std::io::Error::other("there are no names here")))
}

fn get() -> Request<Body> {
    Request::get("/").header("host", "a").body(Body::empty()).unwrap()
}

async fn ask(pool: &Rc<Pool>) -> Result<u16, UpstreamError> {
    Ok(pool.send(get(), 5 * SHORT).await?.0.status().as_u16())
}

fn pool(upstream: &Upstream, metrics: &Metrics) -> Rc<Pool> {
    Pool::new(upstream.clone(), "test", metrics)
}

fn labels(upstream: &Upstream) -> Vec<String> {
    upstream.endpoints().iter().map(|endpoint| endpoint.label().to_string()).collect()
}

fn states(upstream: &Upstream) -> Vec<EndpointState> {
    upstream.endpoints().iter().map(|endpoint| endpoint.state()).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE / 2, waiting).await.is_ok(), "{what}");
}

#[test]
fn generations_that_configure_it_alike_share_an_upstream() {
    local(async {
        let (upstreams, _) = upstreams(without_names());
        let of = |api, url| upstreams.of(api, settings(&[url]), None);
        let first = of("test", "http://127.0.0.1:1");
        assert!(of("test", "http://127.0.0.1:1").is(&first));
        assert!(!of("other", "http://127.0.0.1:1").is(&first));
        assert!(!of("test", "http://127.0.0.1:2").is(&first));
        drop(first);
        until("what nobody has is let go", || {
            upstreams.of("probe", settings(&["http://127.0.0.1:3"]), None);
            upstreams.known().len() == 1
        })
        .await;
    });
}

#[test]
fn one_that_refuses_is_ejected_and_no_request_is_lost() {
    local(async {
        let sound = Server::start(OK).await;
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (upstreams, metrics) = upstreams(without_names());
        let urls = [format!("http://{refusing}"), sound.url()];
        let upstream = upstreams.of("test", settings(&[&urls[0], &urls[1]]), None);
        let pool = pool(&upstream, &metrics);
        while states(&upstream) != [EndpointState::Ejected, EndpointState::Up] {
            assert_eq!(ask(&pool).await, Ok(200));
            sleep(Duration::from_millis(1)).await;
        }
        // It comes back: requests reach it when its time is over.
        let back = Server::on(TcpListener::bind(refusing).await.unwrap(), OK);
        while back.answered.get() == 0 {
            assert_eq!(ask(&pool).await, Ok(200));
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(states(&upstream), [EndpointState::Up; 2]);
        let ejections = metrics.ejections.with_label_values(&["test", &refusing.to_string()]);
        assert_eq!(ejections.get(), 1);
        let unsent = metrics.upstream_retries.with_label_values(&["test", "unsent"]);
        assert!(unsent.get() >= 3, "{}", unsent.get());
    });
}

#[test]
fn what_one_generation_counts_of_an_endpoint_outlives_another() {
    local(async {
        let (failing, sound) = (Server::start(BUSY).await, Server::start(OK).await);
        let (upstreams, metrics) = upstreams(without_names());
        let urls = [failing.url(), sound.url()];
        let earlier = settings(&[&urls[0], &urls[1]]);
        let present =
            UpstreamSettings { without_healthy: WithoutHealthy::Refuse, ..earlier.clone() };
        let earlier = upstreams.of("test", earlier, None);
        let present = upstreams.of("test", present, None);
        let pool = pool(&present, &metrics);
        while states(&present) != [EndpointState::Ejected, EndpointState::Up] {
            ask(&pool).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        let label = failing.address.to_string();
        let line =
            format!("firewall_upstream_ejections_total{{api=\"test\",endpoint=\"{label}\"}}");
        let is_counted = || {
            let text = String::from_utf8(metrics.exposition().unwrap()).unwrap();
            text.contains(&line)
        };
        assert!(is_counted());
        let weak = Arc::downgrade(&earlier.0);
        drop(earlier);
        assert_eq!(weak.strong_count(), 0);
        // The keeper looks at least so often.
        sleep(2 * TICK).await;
        assert!(is_counted(), "the present generation has it still");
        drop((pool, present));
        until("nobody has it", || !is_counted()).await;
    });
}

#[test]
fn one_that_is_ejected_returns_when_the_others_checks_fail() {
    local(async {
        let (failing, other) = (Server::start(BUSY).await, Server::start(OK).await);
        let (upstreams, metrics) = upstreams(without_names());
        let mut settings = settings(&[&failing.url(), &other.url()]);
        settings.ejection.base = PATIENCE;
        settings.ejection.max = PATIENCE;
        settings.check = Some(CheckRules {
            path: http::uri::PathAndQuery::from_static("/up"),
            host: None,
            interval: Duration::from_millis(20),
            timeout: SHORT,
            healthy: 1,
            unhealthy: 2,
            statuses: vec![200..=200, 503..=503],
        });
        settings.without_healthy = WithoutHealthy::Refuse;
        let upstream = upstreams.of("test", settings, None);
        let pool = pool(&upstream, &metrics);
        let (up, down) = (EndpointState::Up, EndpointState::Down);
        while states(&upstream) != [EndpointState::Ejected, up] {
            ask(&pool).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        other.answer.set(NONE);
        until("the other has taken its place", || states(&upstream) == [up, down]).await;
        assert_eq!(ask(&pool).await, Ok(503));
    });
}

#[test]
fn where_all_are_down_answers_come_at_once_and_recovery_too() {
    local(async {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let addresses = listeners.map(|listener| listener.local_addr().unwrap());
        let urls = addresses.map(|address| format!("http://{address}"));
        let (upstreams, metrics) = upstreams(without_names());
        let upstream = upstreams.of("test", settings(&[&urls[0], &urls[1]]), None);
        let pool = pool(&upstream, &metrics);
        let started = Monotonic::now();
        for _ in 0..100 {
            assert_eq!(ask(&pool).await, Err(UpstreamError::Connect));
        }
        assert!(Monotonic::now().since(started) < 10 * SHORT);
        let out = states(&upstream).iter().filter(|state| **state != EndpointState::Up).count();
        assert!(out <= 1, "one always remains");
        let _back = addresses.map(|address| {
            let listener = std::net::TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            Server::on(TcpListener::from_std(listener).unwrap(), OK)
        });
        assert_eq!(ask(&pool).await, Ok(200));
    });
}

#[test]
fn one_that_is_silent_gets_no_more_than_its_share() {
    local(async {
        let (sound, silent) = (Server::start(OK).await, Server::start(SILENCE).await);
        let (upstreams, metrics) = upstreams(without_names());
        let upstream = upstreams.of("test", settings(&[&silent.url(), &sound.url()]), None);
        let pool = pool(&upstream, &metrics);
        let mut failed = 0;
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let pool = Rc::clone(&pool);
                spawn_local(async move {
                    let mut failed = 0;
                    for _ in 0..100 {
                        failed += u32::from(pool.send(get(), SHORT).await.is_err());
                    }
                    failed
                })
            })
            .collect();
        for asking in asking {
            failed += asking.await.unwrap();
        }
        assert_eq!(failed, silent.answered.get());
        assert!((1..=9).contains(&failed), "{failed} of 300 waited for nothing");
    });
}

#[test]
fn one_that_got_a_request_late_is_not_blamed_for_it() {
    local(async {
        let silent = Server::start(SILENCE).await;
        let (upstreams, metrics) = upstreams(without_names());
        let mut settings = settings(&[&silent.url()]);
        settings.limits.connections = 1;
        settings.limits.pending_timeout = PATIENCE;
        let upstream = upstreams.of("test", settings, None);
        let pool = pool(&upstream, &metrics);
        let asking = [2 * SHORT, 3 * SHORT].map(|patience| {
            let pool = Rc::clone(&pool);
            spawn_local(async move { pool.send(get(), patience).await.map(drop) })
        });
        for asking in asking {
            assert_eq!(asking.await.unwrap(), Err(UpstreamError::ResponseTimeout));
        }
        assert_eq!(silent.answered.get(), 2);
        assert_eq!(upstream.endpoints()[0].failures(), 1, "the other waited for the first");
    });
}

#[test]
fn what_had_no_answer_is_sent_again_only_where_that_is_safe() {
    local(async {
        for (method, body, expected) in [
            (Method::GET, "", Ok(200)),
            (Method::PUT, "a", Ok(200)),
            (Method::POST, "a", Err(UpstreamError::Protocol)),
        ] {
            let (closing, sound) = (Server::start(NONE).await, Server::start(OK).await);
            let (upstreams, metrics) = upstreams(without_names());
            let upstream = upstreams.of("test", settings(&[&closing.url(), &sound.url()]), None);
            let pool = pool(&upstream, &metrics);
            let body = Body::full(bytes::Bytes::from_static(body.as_bytes()));
            let request = Request::builder().method(&method).uri("/").header("host", "a");
            let answer = pool.send(request.body(body).unwrap(), 5 * SHORT).await;
            let status = answer.map(|(response, _)| response.status().as_u16());
            assert_eq!(status, expected, "{method}");
            let sent = (closing.answered.get(), sound.answered.get());
            assert_eq!(sent, (1, u32::from(expected.is_ok())), "{method}");
        }
    });
}

#[test]
fn retries_have_a_budget() {
    local(async {
        let (one, other) = (Server::start(NONE).await, Server::start(NONE).await);
        let (upstreams, metrics) = upstreams(without_names());
        let mut settings = settings(&[&one.url(), &other.url()]);
        settings.retry = RetryRules { attempts: 8, share: 10, per_second: 0 };
        settings.ejection.failures = 0;
        let pool = pool(&upstreams.of("test", settings, None), &metrics);
        for _ in 0..100 {
            assert_eq!(ask(&pool).await, Err(UpstreamError::Protocol));
        }
        assert_eq!(one.answered.get() + other.answered.get(), 110);
    });
}

#[test]
fn what_a_kept_connection_took_counts_as_sent_where_no_new_one_is_made() {
    local(async {
        for (per_second, expected) in [(0, Err(UpstreamError::Connect)), (10, Ok(200))] {
            let (closing, sound) = (Server::start(OK).await, Server::start(OK).await);
            let (upstreams, metrics) = upstreams(without_names());
            let mut settings = settings(&[&closing.url(), &sound.url()]);
            settings.retry = RetryRules { attempts: 2, share: 0, per_second };
            let pool = pool(&upstreams.of("test", settings, None), &metrics);
            // They go round: both have a kept connection then, and the first is next.
            for _ in 0..2 {
                assert_eq!(ask(&pool).await, Ok(200));
            }
            closing.answer.set(NONE);
            closing.accepting.abort();
            assert_eq!(ask(&pool).await, expected);
            assert_eq!(closing.answered.get(), 2);
            assert_eq!(sound.answered.get(), 1 + u32::from(expected.is_ok()));
            let retries = |reason| metrics.upstream_retries.with_label_values(&["test", reason]);
            assert_eq!(retries("unsent").get(), 0);
            assert_eq!(retries("replayed").get(), u64::from(expected.is_ok()));
        }
    });
}

#[test]
fn gateway_errors_eject_and_other_errors_do_not() {
    const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    local(async {
        for (answer, is_ejected) in [(BUSY, true), (BROKEN, false)] {
            let (failing, sound) = (Server::start(answer).await, Server::start(OK).await);
            let (upstreams, metrics) = upstreams(without_names());
            let upstream = upstreams.of("test", settings(&[&failing.url(), &sound.url()]), None);
            let pool = pool(&upstream, &metrics);
            while failing.answered.get() < 3 {
                ask(&pool).await.unwrap();
            }
            sleep(Duration::from_millis(50)).await;
            let is_out = states(&upstream)[0] == EndpointState::Ejected;
            assert_eq!(is_out, is_ejected, "{answer}");
        }
    });
}

#[test]
fn clients_that_leave_say_nothing_of_an_endpoint() {
    local(async {
        let (silent, sound) = (Server::start(SILENCE).await, Server::start(OK).await);
        let (upstreams, metrics) = upstreams(without_names());
        let upstream = upstreams.of("test", settings(&[&silent.url(), &sound.url()]), None);
        let pool = pool(&upstream, &metrics);
        for _ in 0..20 {
            drop(timeout(Duration::from_millis(10), ask(&pool)).await);
        }
        sleep(Duration::from_millis(50)).await;
        assert_eq!(states(&upstream), [EndpointState::Up; 2]);
    });
}

#[test]
fn connections_and_those_that_wait_are_bounded() {
    local(async {
        let silent = Server::start(SILENCE).await;
        let (upstreams, metrics) = upstreams(without_names());
        let upstream = upstreams.of("test", settings(&[&silent.url()]), None);
        let pool = pool(&upstream, &metrics);
        let asking: Vec<_> = (0..9)
            .map(|_| {
                let pool = Rc::clone(&pool);
                spawn_local(async move { ask(&pool).await })
            })
            .collect();
        let mut found = BTreeMap::new();
        for asking in asking {
            let error = asking.await.unwrap().unwrap_err();
            *found.entry(error.id()).or_insert(0) += 1;
        }
        let expected = [("queue-full", 1), ("response-timeout", 4), ("saturated", 4)];
        assert_eq!(found, BTreeMap::from(expected));
        assert_eq!(silent.answered.get(), 4);
        silent.answer.set(OK);
        assert_eq!(ask(&pool).await, Ok(200), "all places are free again");
    });
}

#[test]
fn checks_take_endpoints_out_and_bring_them_back() {
    local(async {
        let (one, other) = (Server::start(BUSY).await, Server::start(OK).await);
        let (upstreams, metrics) = upstreams(without_names());
        let mut settings = settings(&[&one.url(), &other.url()]);
        settings.check = Some(CheckRules {
            path: http::uri::PathAndQuery::from_static("/up"),
            host: None,
            interval: Duration::from_millis(20),
            timeout: SHORT,
            healthy: 2,
            unhealthy: 2,
            statuses: vec![200..=299],
        });
        settings.without_healthy = WithoutHealthy::Refuse;
        let upstream = upstreams.of("test", settings, None);
        let pool = pool(&upstream, &metrics);
        let (up, down) = (EndpointState::Up, EndpointState::Down);
        until("the first check decides", || states(&upstream) == [down, up]).await;
        for _ in 0..10 {
            assert_eq!(ask(&pool).await, Ok(200));
        }
        one.answer.set(OK);
        until("it is back", || states(&upstream) == [up, up]).await;
        one.answer.set(SILENCE);
        other.answer.set(NONE);
        until("both are down", || states(&upstream) == [down, down]).await;
        assert_eq!(ask(&pool).await, Err(UpstreamError::Unhealthy));
        other.accepting.abort();
        other.answer.set(OK);
        one.answer.set(OK);
        until("one is back", || states(&upstream)[0] == up).await;
        assert_eq!(ask(&pool).await, Ok(200));
    });
}
