//! Frames that no server would send: each ends in an error for its own exchange or its own connection,
//! and the next request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{get, setup};
use crate::kit::client::{Client, exchange, with_body};
use crate::kit::eventually;
use crate::kit::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, PROTOCOL_ERROR,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, setting,
};
use crate::kit::gateway::Gateway;
use crate::kit::multiplexed::raw;

pub(super) fn silent_after_settings(connection: &mut Http2) {
    connection.send(frame(SETTINGS, 0, 0, b""));
    while connection.frame().is_some() {}
}

fn fields(more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/json")];
    block(&fields.iter().chain(more).copied().collect::<Vec<_>>())
}

fn head(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &fields(more))
}

fn honest(connection: &mut Http2, stream: u32) {
    connection.send(head(stream, 0, &[])).send(frame(DATA, END_STREAM, stream, b"[]"));
}

/// Sends the same again and again until the other side has had enough, or all were sent. Whether it had.
fn flood(connection: &mut Http2, octets: &[u8]) -> bool {
    let many = octets.repeat(100);
    for _ in 0..1_000 {
        if !connection.try_send(&many) {
            return true;
        }
    }
    false
}

type Act = fn(&mut Http2, u32);

/// The first request gets `act`, all others an honest answer. Gives what the first client was told.
#[track_caller]
fn told(name: &str, act: Act) -> (u16, String) {
    let count = Arc::new(AtomicUsize::new(0));
    let address = raw(move |connection| {
        connection.send(frame(SETTINGS, 0, 0, b""));
        while let Some(request) = connection.frame_of(HEADERS) {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                act(connection, request.stream);
            } else {
                honest(connection, request.stream);
            }
        }
    });
    let gateway = Gateway::start_before(&setup(""), &[&format!("http://{address}")]);
    // No method that would be sent again.
    let answer = exchange(gateway.address, with_body("POST /things", "application/json", "{}"));
    assert_eq!(get(&gateway).text(), "[]", "{name}: the next request is answered");
    let kind = if answer.status == 200 { answer.text() } else { super::kind(&answer) };
    (answer.status, kind)
}

#[test]
fn what_is_no_answer_is_a_502_and_nothing_else_suffers() {
    let protocol = || (502, "urn:firewall:upstream:protocol".to_owned());
    let cases: [(&str, Act); 17] = [
        ("a field of a connection", |c, id| {
            c.send(head(id, END_STREAM, &[("connection", "x-a"), ("x-a", "b")]));
        }),
        ("a coding of HTTP/1.1", |c, id| {
            c.send(head(id, 0, &[("transfer-encoding", "chunked")]));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("TE", |c, id| {
            c.send(head(id, END_STREAM, &[("te", "trailers")]));
        }),
        ("two lengths", |c, id| {
            c.send(head(id, 0, &[("content-length", "2"), ("content-length", "2")]));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("a length with a sign", |c, id| {
            c.send(head(id, 0, &[("content-length", "+2")]));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("less than the length", |c, id| {
            c.send(head(id, 0, &[("content-length", "3")]));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("more than the length", |c, id| {
            c.send(head(id, 0, &[("content-length", "1")]));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("a blank before a value", |c, id| {
            c.send(head(id, 0, &[("x-a", " b")])).send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("upper case", |c, id| {
            c.send(head(id, 0, &[("X-A", "b")])).send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("no status", |c, id| {
            c.send(frame(HEADERS, END_HEADERS, id, &block(&[("x-a", "b")])));
            c.send(frame(DATA, END_STREAM, id, b"[]"));
        }),
        ("an answer that is cut off", |c, id| {
            c.send(head(id, 0, &[])).send(frame(DATA, 0, id, b"["));
            c.send(frame(RST_STREAM, 0, id, &2_u32.to_be_bytes()));
        }),
        ("an answer that is cut off as if it were whole", |c, id| {
            c.send(head(id, 0, &[])).send(frame(DATA, 0, id, b"[]"));
            c.send(frame(RST_STREAM, 0, id, &0_u32.to_be_bytes()));
        }),
        ("a connection that ends within an answer", |c, id| {
            c.send(head(id, 0, &[])).send(frame(DATA, 0, id, b"[]"));
            c.end();
        }),
        ("a promise", |c, id| {
            let promise = [&2_u32.to_be_bytes()[..], &fields(&[])].concat();
            c.send(frame(PUSH_PROMISE, END_HEADERS, id, &promise));
        }),
        ("a stream of its own", |c, _| {
            c.send(head(2, END_STREAM, &[]));
        }),
        ("a head beyond all bounds", |c, id| {
            let large = "a".repeat(15_000);
            c.send(frame(HEADERS, 0, id, &fields(&[("x-0", &large)])));
            for _ in 0..20 {
                c.send(frame(CONTINUATION, 0, id, &block(&[("x-1", &large)])));
            }
            c.send(frame(CONTINUATION, END_HEADERS, id, &block(&[("x-2", "")])));
        }),
        ("an end without a word", |c, _| c.end()),
    ];
    for (name, act) in cases {
        assert_eq!(told(name, act), protocol(), "{name}");
    }
}

/// More of what brings nothing than any honest server sends: the connection ends, while it is sent.
#[test]
fn floods_end_their_connection() {
    let cases: [(&str, Act); 9] = [
        ("SETTINGS", |c, _| assert!(flood(c, &frame(SETTINGS, 0, 0, &setting(1, 4_096))))),
        ("PING", |c, _| assert!(flood(c, &frame(PING, 0, 0, &[0; 8])))),
        ("answers to no PING", |c, _| assert!(flood(c, &frame(PING, ACK, 0, &[0; 8])))),
        ("windows", |c, _| {
            assert!(flood(c, &frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())));
        }),
        ("CONTINUATION", |c, id| {
            c.send(frame(HEADERS, 0, id, &fields(&[])));
            assert!(flood(c, &frame(CONTINUATION, 0, id, b"")));
        }),
        ("empty DATA", |c, id| {
            c.send(head(id, 0, &[]));
            assert!(flood(c, &frame(DATA, 0, id, b"")));
        }),
        ("heads that are not the last", |c, id| {
            let early = block(&[(":status", "103")]);
            assert!(flood(c, &frame(HEADERS, END_HEADERS, id, &early)));
        }),
        ("resets", |c, id| {
            assert!(flood(c, &frame(RST_STREAM, 0, id, &2_u32.to_be_bytes())));
        }),
        ("what nobody knows", |c, _| assert!(flood(c, &frame(0xfa, 0, 0, b"?")))),
    ];
    for (name, act) in cases {
        assert_eq!(told(name, act).0, 502, "{name}");
    }
}

/// GOAWAY: what it leaves unprocessed is sent on another connection, whatever its method; what it does
/// not is waited for.
#[test]
fn goaway_by_its_word() {
    let cases: [(&str, Act, u16); 4] = [
        (
            "not processed",
            |c, _| {
                c.send(leave(0, 0));
            },
            200,
        ),
        (
            "not processed, for an error",
            |c, _| {
                c.send(leave(0, PROTOCOL_ERROR));
            },
            200,
        ),
        (
            "processed, and answered afterwards",
            |c, id| {
                c.send(leave(id, 0));
                honest(c, id);
            },
            200,
        ),
        (
            "processed, and not answered",
            |c, id| {
                c.send(leave(id, 0));
                c.end();
            },
            502,
        ),
    ];
    for (name, act, status) in cases {
        assert_eq!(told(name, act).0, status, "{name}");
    }
}

fn leave(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A whole answer stays one, although the endpoint takes no more of the request after it (RFC 9113
/// section 8.1).
#[test]
fn an_early_answer_is_whole() {
    let early: Act = |c, id| {
        honest(c, id);
        c.send(frame(RST_STREAM, 0, id, &0_u32.to_be_bytes()));
    };
    assert_eq!(told("early", early), (200, "[]".to_owned()));
}

/// Who does not begin as HTTP/2 does, or allows no streams, gets no request.
#[test]
fn beginnings() {
    /// How it begins.
    type Begin = fn(&mut Http2);
    let cases: [(&str, Begin, u16, &str); 4] = [
        (
            "another frame first",
            |c| {
                c.send(frame(PING, 0, 0, &[0; 8]));
            },
            502,
            "urn:firewall:upstream:not-http2",
        ),
        (
            "no streams",
            |c| {
                c.send(frame(SETTINGS, 0, 0, &setting(3, 0)));
            },
            503,
            "urn:firewall:upstream:refused",
        ),
        // Which is said while our settings are read.
        ("agreement alone", |_| {}, 502, "urn:firewall:upstream:not-http2"),
        ("nothing", Http2::swallow, 504, "urn:firewall:upstream:connect-timeout"),
    ];
    for (name, begin, status, expected) in cases {
        let address = raw(move |connection| {
            begin(connection);
            while let Some(frame) = connection.frame() {
                assert_ne!(frame.kind, HEADERS, "no request is sent");
            }
        });
        let setup = setup(", connect_timeout = \"300ms\"");
        let gateway = Gateway::start_before(&setup, &[&format!("http://{address}")]);
        let answer = get(&gateway);
        assert_eq!((answer.status, super::kind(&answer).as_str()), (status, expected), "{name}");
    }
}

/// Clients that leave in crowds, while their answers are on the way, end nothing that others share.
#[test]
fn a_crowd_that_leaves_harms_nobody_who_stays() {
    const CROWD: usize = 90;
    let (opened, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opening, asking) = (Arc::clone(&opened), Arc::clone(&asked));
    let address = raw(move |connection| {
        opening.fetch_add(1, Ordering::Relaxed);
        connection.send(frame(SETTINGS, 0, 0, b""));
        let mut left = Vec::new();
        while let Some(received) = connection.frame() {
            match received.kind {
                // What has a body is the crowd's.
                HEADERS if received.flags & END_STREAM == 0 => {
                    asking.fetch_add(1, Ordering::Relaxed);
                }
                HEADERS => honest(connection, received.stream),
                RST_STREAM => left.push(received.stream),
                _ => {}
            }
            if left.len() == CROWD {
                left.drain(..).for_each(|stream| honest(connection, stream));
            }
        }
    });
    let gateway = Gateway::start_before(&setup(""), &[&format!("http://{address}")]);
    for wave in 1..=4 {
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut client = Client::connect(gateway.address);
                client.send(with_body("POST /things", "application/json", "{}"));
                client
            })
            .collect();
        eventually("all are there", || {
            (asked.load(Ordering::Relaxed) == wave * CROWD).then_some(())
        });
        drop(crowd);
        assert_eq!(get(&gateway).text(), "[]", "{wave}");
    }
    // All that was late is read before this is answered.
    assert_eq!(get(&gateway).text(), "[]");
    assert_eq!(opened.load(Ordering::Relaxed), 1);
}
