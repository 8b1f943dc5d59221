//! Who holds every seat and does little with it, from however many sources, keeps nobody out.

use super::*;

/// Seats of the one worker.
const SEATS: usize = 40;
/// Connections that are opened against it, at most.
const ATTACKERS: usize = 500;

/// A firewall with few seats, and patience that an attack outlives easily.
fn besieged(upstream: &Upstream, more: &str) -> Gateway {
    let times = "head_timeout = \"60s\"\nidle_timeout = \"60s\"\nbody_timeout = \"60s\"";
    let limits = format!("connections_per_worker = {SEATS}\n{times}\n{more}");
    Gateway::start(&passing(&limits), upstream)
}

/// Opens connections from many sources, each of which begins as it is told and then says no more. Those
/// that are turned away or ended are no matter.
fn besiege(gateway: &Gateway, count: usize, begin: &[u8]) -> Vec<Client> {
    let open = |number: usize| {
        let from = source(u8::try_from(number % 200).unwrap() + 50);
        let mut client = Client::connect_from(from, gateway.address).ok()?;
        client.send(begin);
        Some(client)
    };
    (0..count).filter_map(open).collect()
}

/// Good clients from sources of their own, in both versions: how many of these tries are answered right.
fn good_ones(gateway: &Gateway, tries: u8) -> (usize, usize) {
    let one = |last| {
        let client = Client::connect_from(source(last), gateway.address);
        client.is_ok_and(|mut client| is_served(&mut client))
    };
    let other = |last| Http2::connect_from(source(last), gateway.address).is_served();
    ((0..tries).filter(|n| one(1 + n)).count(), (0..tries).filter(|n| other(21 + n)).count())
}

/// As good clients do that are turned away: they come again, for a while.
#[track_caller]
fn get_through(gateway: &Gateway, what: &str) {
    // An attack that has just begun looks like clients that have: it takes a second to tell.
    eventually(&format!("{what}: the first gets through"), || {
        let client = Client::connect_from(source(1), gateway.address);
        client.is_ok_and(|mut client| is_served(&mut client)).then_some(())
    });
    assert_eq!(good_ones(gateway, 15), (15, 15), "{what}");
}

#[test]
fn slow_heads() {
    let upstream = notes();
    let gateway = besieged(&upstream, "");
    let held = besiege(&gateway, ATTACKERS, b"GET /notes HTTP/1.1\r\nX-A: b\r\n");
    get_through(&gateway, "slow heads");
    assert!(gateway.metrics().contains("ended_total{reason=\"room\"}"));
    drop(held);
}

/// One source has its share, be it ever so eager; everybody else has the rest.
#[test]
fn slow_heads_of_one_source() {
    let upstream = notes();
    let gateway = besieged(&upstream, "connections_per_source = 10");
    let open = |_| {
        let mut client = Client::connect_from(source(250), gateway.address).ok()?;
        client.send("GET /notes HTTP/1.1\r\n");
        Some(client)
    };
    let held: Vec<_> = (0..ATTACKERS).filter_map(open).collect();
    assert_eq!(good_ones(&gateway, 15), (15, 15));
    let refused = ATTACKERS - 10;
    counts(
        &gateway,
        &format!("firewall_connections_refused_total{{reason=\"source-full\"}} {refused}"),
    );
    drop(held);
}

#[test]
fn slow_bodies() {
    let upstream = notes();
    let gateway = besieged(&upstream, "");
    let head = "POST /notes HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    let besieging = besiege(&gateway, ATTACKERS, head.as_bytes());
    get_through(&gateway, "slow bodies");
    eventually("what was given up is told of", || {
        let log = gateway.access_log();
        log.iter().any(|line| line["ended"] == "room" && line["status"] == 499).then_some(())
    });
    drop(besieging);
}

#[test]
fn slow_bodies_in_http2() {
    let upstream = notes();
    let gateway = besieged(&upstream, "");
    let mut begin = crate::kit::frames::PREFACE.to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    let post = block(&request("POST", "/notes", &[("content-type", "application/json")]));
    for id in [1, 3, 5] {
        begin.extend(frame(1, 4, id, &post));
        begin.extend(frame(DATA, 0, id, b"{"));
    }
    let held = besiege(&gateway, ATTACKERS, &begin);
    get_through(&gateway, "slow bodies in HTTP/2");
    drop(held);
}

#[test]
fn slow_readers() {
    let upstream = long();
    let gateway = besieged(&upstream, "");
    let held: Vec<_> = (0..SEATS)
        .map(|number| {
            let from = source(u8::try_from(number).unwrap() + 50);
            let mut stream = narrow(from, gateway.address);
            let asked = bodiless("GET /notes?limit=1");
            std::io::Write::write_all(&mut stream, asked.as_bytes()).unwrap();
            stream
        })
        .collect();
    get_through(&gateway, "slow readers");
    drop(held);
}

/// Clients of HTTP/2 whose windows let nothing through hold no seat that another needs.
#[test]
fn streams_that_nobody_reads() {
    let upstream = notes();
    let gateway = besieged(&upstream, "");
    let mut begin = crate::kit::frames::PREFACE.to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &setting(4, 0)));
    let get = block(&request("GET", "/notes", &[]));
    for id in [1, 3, 5] {
        begin.extend(frame(1, 5, id, &get));
    }
    let held = besiege(&gateway, ATTACKERS, &begin);
    get_through(&gateway, "streams that nobody reads");
    drop(held);
}
