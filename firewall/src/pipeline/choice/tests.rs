//! Hosts and base paths of several APIs.

use super::*;
use crate::contract::policy::Hosts;
use crate::contract::{LoadOptions, Policy, load};

/// A contract for these servers.
fn contract(servers: &[&str]) -> Contract {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let servers: Vec<_> = servers.iter().map(|url| serde_json::json!({ "url": url })).collect();
    let document = serde_json::json!({
        "openapi": "3.0.3",
        "info": { "title": "t", "version": "1" },
        "servers": servers,
        "paths": { "/a": { "get": { "responses": { "204": { "description": "done" } } } } },
    });
    let name = format!("firewall-choice-{}-{count}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    let policy = Policy { hosts: Hosts::Document, ..Policy::default() };
    let loaded = load(&path, &LoadOptions { policy, ..LoadOptions::default() });
    std::fs::remove_file(&path).unwrap();
    loaded.unwrap().contract
}

fn choice(apis: &[&[&str]]) -> Result<Choice, Rivals> {
    let contracts: Vec<_> = apis.iter().map(|servers| contract(servers)).collect();
    Choice::among(&contracts.iter().collect::<Vec<_>>())
}

#[test]
fn the_host_then_the_longest_base_path() {
    let choice = choice(&[
        &["https://a.test/v1", "https://a.test/v1/inner"],
        &["https://a.test/v1/in", "/v1"],
        &["https://a.test"],
        &["https://b.test/v1", "https://b.test/"],
        &["/other"],
    ])
    .unwrap();
    for (host, path, expected) in [
        ("a.test", "/v1/a", Ok(0)),
        ("A.TEST:443", "/v1/a", Ok(0)),
        ("a.test", "/v1", Ok(0)),
        ("a.test", "/%761/a", Ok(0)),
        ("a.test", "/v1/in/a", Ok(1)),
        ("a.test", "/v1/inner/a", Ok(0)),
        ("a.test", "/v2/a", Ok(2)),
        ("a.test", "/v10", Ok(2)),
        ("a.test", "/other/a", Ok(2)),
        ("b.test", "/v1/a", Ok(3)),
        ("b.test", "/", Ok(3)),
        ("c.test", "/v1/a", Ok(1)),
        ("c.test", "/other/a", Ok(4)),
        ("c.test", "/a", Err(Rule::UnknownPath)),
        ("a.test:8443", "/v1/a", Ok(1)),
    ] {
        assert_eq!(choice.of(Some(host), path), expected, "{host}{path}");
    }
}

#[test]
fn a_host_that_nobody_has_is_told_from_a_path() {
    let choice = choice(&[&["https://a.test/v1"], &["https://b.test/v2"]]).unwrap();
    for (host, path, expected) in [
        (Some("a.test"), "/v1/a", Ok(0)),
        (Some("a.test"), "/v2/a", Err(Rule::UnknownPath)),
        (Some("a.test"), "/%ff/a", Err(Rule::UnknownPath)),
        (Some("c.test"), "/v1/a", Err(Rule::Misdirected)),
        (None, "/v1/a", Err(Rule::Misdirected)),
    ] {
        assert_eq!(choice.of(host, path), expected, "{host:?}{path}");
    }
}

#[test]
fn one_api_gets_everything() {
    let choice = choice(&[&["https://a.test/v1"]]).unwrap();
    assert_eq!(choice.of(Some("b.test"), "/"), Ok(0));
}

#[test]
fn two_that_claim_the_same_are_told() {
    for (one, other, are_rivals) in [
        ("/", "/", true),
        ("/v1", "/v2", false),
        ("/v1", "/", false),
        ("https://a.test", "https://A.test:443", true),
        ("https://a.test", "https://a.test:8443", false),
        ("https://a.test", "http://a.test", false),
        ("https://a.test", "//a.test", true),
        ("https://a.test", "https://b.test", false),
        ("https://a.test", "/", false),
    ] {
        let found = choice(&[&["https://c.test"], &[one], &[other]]);
        assert_eq!(found.err(), are_rivals.then_some(Rivals(1, 2)), "{one} {other}");
    }
}
