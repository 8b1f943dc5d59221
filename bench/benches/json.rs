//! What a JSON body costs: the firewall's whole check of it, against `serde_json` and `jsonschema`
//! with the same schema, formats asserted, patterns on the linear engine.
//!
//! Run with `cargo bench -p bench --bench json`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use firewall::contract::{Content, Contract, LoadOptions, load};
use http::{HeaderValue, Method};
use serde_json::{Value, json};

/// Octets that the documents have, roughly: as many lines of an order as fit.
const SIZES: [(&str, usize); 3] = [("1 KiB", 1024), ("32 KiB", 32 * 1024), ("256 KiB", 256 * 1024)];

/// Of one line of an order: all of it is constrained.
fn line_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["sku", "product", "quantity", "price", "due"],
        "properties": {
            "sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
            "slug": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
            "product": {"type": "string", "format": "uuid"},
            "page": {"type": "string", "format": "uri", "maxLength": 200},
            "quantity": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 999},
            "price": {
                "type": "object",
                "additionalProperties": false,
                "required": ["amount", "currency"],
                "properties": {
                    "amount": {"type": "number", "minimum": 0},
                    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"}
                }
            },
            "options": {
                "type": "array",
                "maxItems": 8,
                "items": {"type": "string", "maxLength": 40}
            },
            "due": {"type": "string", "format": "date"},
            "changed": {"type": "string", "format": "date-time"},
            "gift": {"type": "boolean"}
        }
    })
}

fn order_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["reference", "placed", "customer", "lines"],
        "properties": {
            "reference": {"type": "string", "format": "uuid"},
            "placed": {"type": "string", "format": "date-time"},
            "customer": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name", "email"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 80},
                    "email": {"type": "string", "format": "email"},
                    "address": {"type": "string", "format": "ipv4"},
                    "host": {"type": "string", "format": "hostname"}
                }
            },
            "lines": {"type": "array", "minItems": 1, "items": line_schema()}
        }
    })
}

/// An order of about `size` octets, compact, as clients write it.
fn order(size: usize) -> Value {
    let line = |n: usize| {
        json!({
            "sku": format!("KE-{:04}", n % 10_000),
            "slug": format!("kettle-{n}-brushed-steel"),
            "product": format!("6f2d1c3a-8b4e-4f7a-9c5d-{n:012x}"),
            "page": format!("https://shop.example/products/{n}?currency=EUR#details"),
            "quantity": n % 999 + 1,
            "price": {"amount": 0.05 + f64::from(u16::try_from(n % 50_000).unwrap_or(0)), "currency": "EUR"},
            "options": ["brushed steel", "1.7 litres"],
            "due": "2026-03-31",
            "changed": "2026-02-03T04:05:06.789+01:00",
            "gift": n.is_multiple_of(3)
        })
    };
    let mut order = json!({
        "reference": "6f2d1c3a-8b4e-4f7a-9c5d-0e1f2a3b4c5d",
        "placed": "2026-02-03T04:05:06Z",
        "customer": {
            "name": "Ada Example",
            "email": "ada.example@shop.example",
            "address": "192.0.2.17",
            "host": "client-17.shop.example"
        },
        "lines": [line(0)]
    });
    let line_octets = line(1_000).to_string().len() + 1;
    let lines = size.saturating_sub(order.to_string().len()) / line_octets;
    if let Some(Value::Array(list)) = order.get_mut("lines") {
        list.extend((1..=lines).map(line));
    }
    order
}

/// The contract of `POST /orders`, read from a file as at start.
fn contract() -> Contract {
    let document = json!({
        "openapi": "3.0.3",
        "info": {"title": "Orders", "version": "1"},
        "paths": {"/orders": {"post": {
            "requestBody": {
                "required": true,
                "content": {"application/json": {"schema": order_schema()}}
            },
            "responses": {"204": {"description": "Taken."}}
        }}}
    });
    let path =
        std::env::temp_dir().join(format!("firewall-bench-json-{}.json", std::process::id()));
    std::fs::write(&path, document.to_string()).expect("the document can be written");
    let loaded = load(&path, &LoadOptions::default());
    std::fs::remove_file(&path).expect("the document can be removed");
    loaded.unwrap_or_else(|errors| panic!("{errors:#?}")).contract
}

fn content(contract: &Contract) -> &Content {
    let operation =
        contract.route(&Method::POST, "/orders", None).expect("it is declared").operation;
    let json = HeaderValue::from_static("application/json");
    operation.body().expect("it has one").content(Some(&json)).expect("it is declared")
}

fn bodies(criterion: &mut Criterion) {
    let contract = contract();
    let content = content(&contract);
    let peer = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&order_schema())
        .expect("the schema is valid");
    let peer_accepts = |body: &[u8]| {
        serde_json::from_slice::<Value>(body).is_ok_and(|instance| peer.is_valid(&instance))
    };
    let peer_explains = |body: &[u8]| {
        serde_json::from_slice::<Value>(body)
            .is_ok_and(|instance| peer.validate(&instance).map_err(drop).is_ok())
    };

    for (title, size) in SIZES {
        let valid = order(size);
        let mut unknown = valid.clone();
        if let Value::Object(members) = &mut unknown {
            members.insert("undeclared".to_owned(), json!(true));
        }
        let (valid, unknown) = (valid.to_string(), unknown.to_string());
        let (valid, unknown) = (valid.as_bytes(), unknown.as_bytes());
        // What is measured must be what is meant.
        assert!(content.check(valid).is_ok() && peer_accepts(valid));
        assert!(content.check(unknown).is_err() && !peer_explains(unknown));

        let mut group = criterion.benchmark_group("accepted");
        group.throughput(Throughput::Bytes(valid.len() as u64));
        group.bench_function(BenchmarkId::new("firewall", title), |bencher| {
            bencher.iter(|| content.check(black_box(valid)));
        });
        group.bench_function(BenchmarkId::new("serde_json and jsonschema", title), |bencher| {
            bencher.iter(|| peer_accepts(black_box(valid)));
        });
        group.finish();

        let mut group = criterion.benchmark_group("refused for an unknown member");
        group.throughput(Throughput::Bytes(unknown.len() as u64));
        group.bench_function(BenchmarkId::new("firewall", title), |bencher| {
            bencher.iter(|| content.check(black_box(unknown)));
        });
        group.bench_function(BenchmarkId::new("serde_json and jsonschema", title), |bencher| {
            bencher.iter(|| peer_explains(black_box(unknown)));
        });
        group.finish();
    }
}

fn main() {
    // Shorter than criterion's own 3 and 5 seconds: the differences of interest are of factors.
    let mut criterion = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(3))
        .configure_from_args();
    bodies(&mut criterion);
    criterion.final_summary();
}
