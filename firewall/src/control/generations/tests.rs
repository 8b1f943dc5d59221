//! Generations that stay, and that give way.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::contract::{LoadOptions, load};
use crate::control::config::{ConfigFile, Headers, Upstream as UpstreamConfig};
use crate::control::settings::{headers, upstreams};
use crate::metrics::Metrics;
use crate::pipeline::answer_fields::AnswerFields;
use crate::pipeline::choice::Choice;
use crate::pipeline::ruleset::{Api, ExchangeLimits};
use crate::pipeline::tunnel::TunnelTimes;
use crate::upstream::keeper::Upstreams;

const SPEC: &str = "openapi: 3.0.3\ninfo: { title: t, version: '1' }\npaths: {}\n";

fn generation(number: u64, content: u8) -> Generation {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory =
        std::env::temp_dir().join(format!("fw-generation-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("spec.yaml");
    std::fs::write(&path, SPEC).unwrap();
    let contract = load(&path, &LoadOptions::default()).unwrap().contract;
    std::fs::remove_dir_all(&directory).unwrap();
    let second = Duration::from_secs(1);
    let rules = headers::rules(&Headers::default(), &Headers::default());
    let metrics = Arc::new(Metrics::new());
    let upstream = UpstreamConfig::of_one("http://127.0.0.1:1".into());
    let upstream = upstreams::upstream("test", &upstream).unwrap();
    let ruleset = Ruleset {
        generation: number,
        apis: vec![Api {
            name: "test".into(),
            request_mode: Mode::Enforce,
            response_mode: Mode::Off,
            upstream: Upstreams::of_the_system(Arc::clone(&metrics)).of("test", upstream, None),
            limits: ExchangeLimits {
                body_timeout: second,
                response_timeout: second,
                response_body_timeout: second,
                tunnel: TunnelTimes { idle: second, age: second },
            },
            answer_fields: AnswerFields::new(&rules, &contract),
            contract: Arc::new(contract),
            client_certificate: false,
            operations: Vec::new(),
            metrics: metrics.api("test"),
        }],
        choice: Choice::default(),
        nobody: metrics.api(""),
        trusted_proxies: Vec::new(),
        tls: None,
    };
    Generation {
        ruleset: Arc::new(ruleset),
        settings: settings(),
        contents: Arc::new(vec![("spec.yaml".into(), Some([content; 32]))]),
    }
}

fn settings() -> Arc<Settings> {
    let text = "[listen]\naddress = \"127.0.0.1:1\"\n[[api]]\nname = \"test\"\n\
                spec = \"spec.yaml\"\nupstream = \"http://127.0.0.1:1\"\n";
    let file = ConfigFile::parse(Path::new("firewall.toml"), text).unwrap();
    Arc::new(Settings::of(file).unwrap())
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ns(seconds * 1_000_000_000)
}

fn serving(generations: &Generations) -> u64 {
    generations.published().load().generation
}

#[test]
fn what_is_not_confirmed_gives_way() {
    let mut generations = Generations::new(generation(1, 1));
    let second = generation(generations.next_number(), 2);
    let fallback = generations.fallback(&second.contents).unwrap();
    generations.install(second, at(10));
    generations.confirm_until(at(20), fallback);
    assert_eq!((serving(&generations), generations.next_number()), (2, 3));
    assert_eq!(generations.unconfirmed(at(15)), Some(Duration::from_secs(5)));
    assert!(generations.tend(at(19)).is_none());
    assert_eq!(generations.tend(at(20)).unwrap().ruleset.generation, 1);
    assert_eq!(serving(&generations), 1);
    assert!(generations.tend(at(30)).is_none());
    assert!(!generations.confirm(), "too late");
    assert_eq!(generations.next_number(), 3, "no number is given twice");
}

#[test]
fn what_is_confirmed_stays() {
    let mut generations = Generations::new(generation(1, 1));
    let second = generation(2, 2);
    let fallback = generations.fallback(&second.contents).unwrap();
    generations.install(second, at(10));
    generations.confirm_until(at(20), fallback);
    assert!(generations.confirm());
    assert!(!generations.confirm());
    assert!(generations.tend(at(100)).is_none());
    assert_eq!(serving(&generations), 2);
}

#[test]
fn a_file_that_was_taken_already_can_still_be_left() {
    let mut generations = Generations::new(generation(1, 1));
    assert!(generations.fallback(&generation(2, 1).contents).is_none(), "nothing has changed");
    // The watch took the change; the operator's reload finds nothing new.
    generations.install(generation(2, 2), at(10));
    let third = generation(3, 2);
    let fallback = generations.fallback(&third.contents).unwrap();
    assert_eq!(fallback.ruleset.generation, 1);
    generations.install(third, at(11));
    generations.confirm_until(at(20), fallback);
    // One more change while it waits: the way back is the same.
    let fourth = generation(4, 3);
    assert_eq!(generations.fallback(&fourth.contents).unwrap().ruleset.generation, 1);
    generations.install(fourth, at(12));
    assert_eq!(generations.tend(at(20)).unwrap().ruleset.generation, 1);
}

#[test]
fn what_was_before_is_forgotten_in_time() {
    let mut generations = Generations::new(generation(1, 1));
    generations.install(generation(2, 2), at(10));
    assert!(generations.tend(at(10).after(PREVIOUS_KEPT)).is_none());
    assert!(generations.fallback(&generation(3, 2).contents).is_some());
    assert!(generations.tend(at(11).after(PREVIOUS_KEPT)).is_none());
    assert!(generations.fallback(&generation(3, 2).contents).is_none());
}

#[test]
fn while_everything_passes_contracts_are_observed() {
    let modes = |generations: &Generations| {
        let ruleset = generations.published().load();
        (ruleset.apis[0].request_mode, ruleset.apis[0].response_mode)
    };
    let mut generations = Generations::new(generation(1, 1));
    generations.pass_all(true);
    assert_eq!(modes(&generations), (Mode::Observe, Mode::Off));
    generations.install(generation(2, 2), at(1));
    assert_eq!(modes(&generations), (Mode::Observe, Mode::Off));
    assert_eq!(serving(&generations), 2);
    generations.pass_all(false);
    assert_eq!(modes(&generations), (Mode::Enforce, Mode::Off));
}
