//! What is asked of each peer, and what it must answer.
//!
//! `workload/contract.yaml` is the `OpenAPI` document of these exchanges: the firewall enforces it
//! in both directions, the upstream keeps it, and one workload breaks it.

use std::fmt::Write;
use std::sync::LazyLock;

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

/// What is asked of `POST /imports`: order lines of 32 KiB.
static LINES: LazyLock<String> = LazyLock::new(|| {
    array(32 * 1024, |text, n| {
        write!(
            text,
            r#"{{"sku":"KE-{:04}","quantity":{},"price":{{"amount":{}.5,"currency":"EUR"}},"#,
            n % 10_000,
            n % 100 + 1,
            n % 1000
        )?;
        text.push_str(r#""options":["steel","1.7 l"]}"#);
        Ok(())
    })
});

/// What the upstream answers to `POST /imports`.
pub(crate) const TAKEN: &str = r#"{"taken":300}"#;

/// What the upstream answers to `GET /catalogue`: items of 64 KiB.
pub(crate) static CATALOGUE: LazyLock<String> = LazyLock::new(|| {
    array(64 * 1024, |text, n| {
        let id = format!("\"id\":{}", n + 1);
        text.push_str(&ITEM.replace("\"id\":42", &id));
        Ok(())
    })
});

/// A JSON array of just so many octets: elements as long as they fit, and white space.
fn array(octets: usize, element: impl Fn(&mut String, usize) -> std::fmt::Result) -> String {
    let mut text = "[".to_owned();
    for n in 0.. {
        let mut next = if n == 0 { String::new() } else { ",".to_owned() };
        element(&mut next, n).expect("a String takes whatever is written");
        if text.len() + next.len() + 1 > octets {
            break;
        }
        text.push_str(&next);
    }
    let room = octets - 1 - text.len();
    text.extend(std::iter::repeat_n(' ', room));
    text.push(']');
    text
}

/// One kind of request, and the way it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    SmallGet,
    NestedPost,
    ArrayPost,
    LargeAnswer,
    InvalidPost,
    Http2Get,
    TlsNew,
    TlsResumed,
}

/// Where a peer listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Plain,
    Tls,
}

impl Door {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Tls];
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// HTTP/1.1, one request after another.
    Kept,
    /// HTTP/2, [`STREAMS`] requests at once.
    Multiplexed,
    /// HTTP/1.1, one request each; its session is the last one's, or is made anew.
    Fresh { is_resumed: bool },
}

/// Requests at once on a connection of HTTP/2.
pub(crate) const STREAMS: usize = 8;

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
    pub(crate) const ALL: [Self; 8] = [
        Self::SmallGet,
        Self::NestedPost,
        Self::ArrayPost,
        Self::LargeAnswer,
        Self::InvalidPost,
        Self::Http2Get,
        Self::TlsNew,
        Self::TlsResumed,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::SmallGet => "small GET, 200 B answer",
            Self::NestedPost => "POST 1 KiB nested JSON",
            Self::ArrayPost => "POST 32 KiB array of JSON",
            Self::LargeAnswer => "GET, 64 KiB answer",
            Self::InvalidPost => "invalid POST 1 KiB nested JSON",
            Self::Http2Get => "small GET, HTTP/2 over TLS 1.3",
            Self::TlsNew => "small GET, each on a new connection by TLS 1.3",
            Self::TlsResumed => "small GET, each on a new connection by TLS 1.3, resumed",
        }
    }

    pub(crate) const fn door(self) -> Door {
        match self.manner() {
            Manner::Kept => Door::Plain,
            Manner::Multiplexed | Manner::Fresh { .. } => Door::Tls,
        }
    }

    pub(crate) const fn manner(self) -> Manner {
        match self {
            Self::Http2Get => Manner::Multiplexed,
            Self::TlsNew => Manner::Fresh { is_resumed: false },
            Self::TlsResumed => Manner::Fresh { is_resumed: true },
            _ => Manner::Kept,
        }
    }

    /// The request, the same each time. `host` is what the peer listens on.
    pub(crate) fn request(self, host: &HeaderValue) -> anyhow::Result<Request<Full<Bytes>>> {
        let (method, target, body) = match self {
            Self::NestedPost => (Method::POST, "/orders", Bytes::from_static(ORDER.as_bytes())),
            Self::InvalidPost => (Method::POST, "/orders", Bytes::from(invalid_order())),
            Self::ArrayPost => (Method::POST, "/imports", Bytes::from_static(LINES.as_bytes())),
            Self::LargeAnswer => (Method::GET, "/catalogue", Bytes::new()),
            Self::SmallGet | Self::Http2Get | Self::TlsNew | Self::TlsResumed => {
                (Method::GET, "/items/42?currency=EUR", Bytes::new())
            }
        };
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        if self.manner() == Manner::Multiplexed {
            // HTTP/2 has the authority in its target.
            *request.uri_mut() = format!("https://{}{target}", host.to_str()?).parse()?;
        } else {
            *request.uri_mut() = hyper::Uri::from_static(target);
            request.headers_mut().insert(HOST, host.clone());
        }
        if has_body {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        Ok(request)
    }

    /// What a peer that behaves as `conduct` must answer.
    pub(crate) fn expected(self, conduct: Conduct) -> Expected {
        match (self, conduct) {
            (Self::SmallGet | Self::Http2Get | Self::TlsNew | Self::TlsResumed, _) => {
                Expected { status: StatusCode::OK, body: Some(ITEM) }
            }
            (Self::ArrayPost, _) => Expected { status: StatusCode::ACCEPTED, body: Some(TAKEN) },
            (Self::LargeAnswer, _) => {
                Expected { status: StatusCode::OK, body: Some(CATALOGUE.as_str()) }
            }
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
        assert_eq!(LINES.len(), 32 << 10);
        assert_eq!(CATALOGUE.len(), 64 << 10);
    }

    #[test]
    fn bodies_are_json() {
        for text in [ITEM, RECEIPT, ORDER, &invalid_order(), &LINES, TAKEN, &CATALOGUE] {
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
