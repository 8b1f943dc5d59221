//! What is asked of each peer, and what it must answer.
//!
//! `workload/contract.yaml` is the `OpenAPI` document of these exchanges: the firewall enforces it
//! in both directions, the upstream keeps it, and one workload breaks it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

/// The bench's own `OpenAPI` document.
pub(crate) const CONTRACT: &str = include_str!("workload/contract.yaml");

/// What the upstream answers to `GET /items/{id}`: 200 octets.
pub(crate) const ITEM: &str = concat!(
    r#"{"id":42,"sku":"KE-0042","name":"Kettle, 1.7 litres, brushed steel body","#,
    r#""price":{"amount":39.9,"currency":"EUR"},"stock":17,"#,
    r#""tags":["kitchen","steel","electric"],"changed":"2026-02-03T04:05:06.789Z"}"#,
);

/// What the upstream answers to `POST /orders`.
pub(crate) const RECEIPT: &str = concat!(
    r#"{"order":"6f2d1c3a-8b4e-4f7a-9c5d-0e1f2a3b4c5d","status":"placed","#,
    r#""total":{"amount":512.35,"currency":"EUR"},"expected":"2026-02-06"}"#,
);

/// An order of 1 KiB, nested four deep, which the contract allows.
const ORDER: &str = concat!(
    r#"{"reference":"6f2d1c3a-8b4e-4f7a-9c5d-0e1f2a3b4c5d","placed":"2026-02-03T04:05:06Z","#,
    r#""priority":"express","customer":{"name":"Ada Example","email":"ada@shop.example","#,
    r#""shipping":{"street":"12 Long Lane","city":"Sample Town","postcode":"10115","country":"DE"},"#,
    r#""billing":{"street":"7 Short Street","city":"Sample Town","postcode":"10117","country":"DE"}},"#,
    r#""lines":[{"sku":"KE-0042","quantity":2,"price":{"amount":39.9,"currency":"EUR"},"#,
    r#""options":["steel","1.7 l"]},"#,
    r#"{"sku":"PA-1001","quantity":1,"price":{"amount":89.5,"currency":"EUR"},"#,
    r#""options":["28 cm","induction","lid"]},"#,
    r#"{"sku":"KN-0007","quantity":3,"price":{"amount":24.25,"currency":"EUR"},"options":[]},"#,
    r#"{"sku":"BO-3320","quantity":12,"price":{"amount":4.8,"currency":"EUR"},"#,
    r#""options":["blue","porcelain"]},"#,
    r#"{"sku":"TO-0815","quantity":1,"price":{"amount":129.0,"currency":"EUR"},"#,
    r#""options":["two slots"]},"#,
    r#"{"sku":"MX-2204","quantity":5,"price":{"amount":14.4,"currency":"EUR"},"#,
    r#""options":["glass","set of two"]}],"#,
    r#""note":"Please ring twice. If nobody is in: number 14, left."}"#,
);

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    SmallGet,
    NestedPost,
    InvalidPost,
}

/// What a peer does with a request that breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conduct {
    /// It knows no contract: everything reaches the upstream.
    Passes,
    /// It answers 400 itself.
    Refuses,
}

/// The answer that a request must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) status: StatusCode,
    /// The whole body; `None` where the peer writes it in its own words.
    pub(crate) body: Option<&'static str>,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::SmallGet, Self::NestedPost, Self::InvalidPost];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::SmallGet => "small GET, 200 B answer",
            Self::NestedPost => "POST 1 KiB nested JSON",
            Self::InvalidPost => "invalid POST 1 KiB nested JSON",
        }
    }

    /// The request, the same each time. `host` is what the peer listens on.
    pub(crate) fn request(self, host: HeaderValue) -> Request<Full<Bytes>> {
        let (method, target, body) = match self {
            Self::SmallGet => (Method::GET, "/items/42?currency=EUR", Bytes::new()),
            Self::NestedPost => (Method::POST, "/orders", Bytes::from_static(ORDER.as_bytes())),
            Self::InvalidPost => (Method::POST, "/orders", Bytes::from(invalid_order())),
        };
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static(target);
        request.headers_mut().insert(HOST, host);
        if has_body {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        request
    }

    /// What a peer that behaves as `conduct` must answer.
    pub(crate) const fn expected(self, conduct: Conduct) -> Expected {
        match (self, conduct) {
            (Self::SmallGet, _) => Expected { status: StatusCode::OK, body: Some(ITEM) },
            (Self::InvalidPost, Conduct::Refuses) => {
                Expected { status: StatusCode::BAD_REQUEST, body: None }
            }
            (Self::NestedPost, _) | (Self::InvalidPost, Conduct::Passes) => {
                Expected { status: StatusCode::CREATED, body: Some(RECEIPT) }
            }
        }
    }
}

/// The order with one quantity of zero in its last line, so that all of it has to be looked at.
fn invalid_order() -> String {
    ORDER.replace(r#""quantity":5"#, r#""quantity":0"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_titles() {
        assert_eq!(ITEM.len(), 200);
        assert_eq!(ORDER.len(), 1024);
        assert_eq!(invalid_order().len(), 1024);
    }

    #[test]
    fn bodies_are_json() {
        for text in [ITEM, RECEIPT, ORDER, &invalid_order()] {
            serde_json::from_str::<serde_json::Value>(text).expect(text);
        }
    }

    #[test]
    fn invalid_order_differs_in_one_octet_near_its_end() {
        let invalid = invalid_order();
        let differing: Vec<usize> = ORDER
            .bytes()
            .zip(invalid.bytes())
            .enumerate()
            .filter_map(|(at, (valid, invalid))| (valid != invalid).then_some(at))
            .collect();
        assert!(matches!(differing[..], [at] if at > 800), "{differing:?}");
    }

    #[test]
    fn only_the_invalid_request_is_answered_by_conduct() {
        for workload in Workload::ALL {
            let same = workload.expected(Conduct::Passes) == workload.expected(Conduct::Refuses);
            assert_eq!(same, workload != Workload::InvalidPost, "{workload:?}");
        }
    }
}
