//! From a request or an answer to its verdict, on the demonstration's document.

use std::io::Write;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::*;
use crate::violation::{Location, Rule, Violation};

fn shop() -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop.yaml");
    load(&path, &LoadOptions::default()).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(|error| format!("{error}\n")).collect::<String>())
    })
}

#[test]
fn the_example_loads_whole() {
    let shop = shop();
    assert_eq!(shop.warnings, []);
    assert_eq!(shop.digest.len(), 64);
    let ids: Vec<_> = shop.contract.operations().iter().map(Operation::id).collect();
    assert_eq!(ids.len(), 11, "{ids:?}");
}
