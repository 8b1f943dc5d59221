//! Levels: where they begin, how they rise and fall, who overrules them.

use super::*;
use crate::control::config::Span;

fn settings() -> config::Pressure {
    config::Pressure { calm: Span::seconds(10), ..config::Pressure::default() }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ns(seconds * 1_000_000_000)
}

fn seats(share: f64) -> Load {
    Load { seats: share, ..Load::default() }
}

#[test]
fn each_level_begins_where_it_is_configured() {
    for (load, level) in [
        (Load::default(), 0),
        (seats(0.699), 0),
        (seats(0.7), 1),
        (seats(0.85), 2),
        (seats(0.949), 2),
        (seats(1.0), 3),
        (Load { syns: 1e9, ..Load::default() }, 0),
        (Load { syns: 500.0, lag: Duration::from_millis(99), ..Load::default() }, 0),
        (Load { syns: 500.0, lag: Duration::from_millis(100), ..Load::default() }, 1),
        (Load { syns: 500.0, lag: Duration::from_secs(9), ..Load::default() }, 3),
        // Late, but not for new connections: there are too few.
        (Load { syns: 499.9, lag: Duration::from_secs(9), ..Load::default() }, 0),
        (Load { syns: 500.0, overflows: 0.9, ..Load::default() }, 0),
        (Load { syns: 500.0, overflows: 100.0, ..Load::default() }, 2),
        (Load { syns: 499.0, overflows: 1e6, ..Load::default() }, 0),
        // Full seats shed even a trickle: who sits there need not send.
        (Load { seats: 0.7, syns: 600.0, overflows: 1_000.0, ..Load::default() }, 3),
    ] {
        assert_eq!(due(&settings(), &load).number(), level, "{load:?}");
    }
}

#[test]
fn one_look_is_a_hiccup_and_two_are_a_level() {
    let mut gauge = Gauge::new(settings());
    for (second, share, level) in
        [(0, 1.0, 0), (1, 0.0, 0), (2, 1.0, 0), (3, 0.7, 1), (4, 1.0, 1), (5, 1.0, 3)]
    {
        gauge.observe(seats(share), at(second));
        assert_eq!(gauge.level().number(), level, "second {second}");
    }
}

#[test]
fn it_goes_down_by_one_step_after_each_calm_while() {
    let mut gauge = Gauge::new(settings());
    gauge.observe(seats(1.0), at(0));
    gauge.observe(seats(1.0), at(1));
    for (second, share, level) in [
        (10, 0.0, 3),
        (19, 0.0, 3),
        // What calls for the present level begins the while anew.
        (20, 1.0, 3),
        (21, 0.0, 3),
        (30, 0.0, 3),
        (31, 0.0, 2),
        (40, 0.0, 2),
        (41, 0.0, 1),
        (51, 0.75, 1),
        (52, 0.0, 1),
        (61, 0.0, 1),
        (62, 0.0, 0),
        (1_000, 0.0, 0),
    ] {
        gauge.observe(seats(share), at(second));
        assert_eq!(gauge.level().number(), level, "second {second}");
    }
}

#[test]
fn an_order_stands_until_it_is_taken_back() {
    let mut gauge = Gauge::new(settings());
    gauge.order("2".parse().unwrap());
    assert_eq!(gauge.level().number(), 2);
    gauge.observe(seats(1.0), at(0));
    gauge.observe(seats(1.0), at(1));
    assert_eq!(gauge.level().number(), 2);
    assert_eq!(gauge.report()["by_order"], true);
    gauge.order("auto".parse().unwrap());
    assert_eq!(gauge.level().number(), 3, "the load was followed meanwhile");
    gauge.order("0".parse().unwrap());
    assert_eq!((gauge.level().number(), gauge.share()), (0, None));
}

#[test]
fn orders_are_words_of_their_own() {
    for text in ["0", "1", "2", "3", "auto"] {
        assert!(text.parse::<Order>().is_ok(), "{text}");
    }
    for text in ["4", "-1", "", "Auto", "1.5", "256", "off"] {
        assert!(text.parse::<Order>().is_err(), "{text}");
    }
}

#[test]
fn shares_are_of_two_to_the_32() {
    for (share, expected) in [
        (0.0, None),
        (0.25, Some((1 << 30) - 1)),
        (0.5, Some((1 << 31) - 1)),
        (1.0, Some(u32::MAX)),
    ] {
        let mut gauge = Gauge::new(config::Pressure { shed: [share, 1.0, 1.0], ..settings() });
        gauge.order(Order(Some(Level(1))));
        assert_eq!(gauge.share(), expected, "{share}");
    }
}

#[test]
fn the_fullest_and_the_latest_worker_count() {
    let workers: Vec<Arc<WorkerLoad>> = (0..2).map(|_| Arc::default()).collect();
    workers[0].tell(50, Duration::from_millis(3));
    workers[0].tell(40, Duration::from_millis(2));
    workers[1].tell(75, Duration::ZERO);
    let load = |earlier, now| load(&workers, 100, earlier, now);
    let earlier = Reading { at: at(10), syns: 1_000, overflows: 7 };
    let now = Reading { at: at(12), syns: 3_000, overflows: 7 };
    let load_now = load(earlier, now);
    let expected =
        Load { seats: 0.75, lag: Duration::from_millis(3), overflows: 0.0, syns: 1_000.0 };
    assert_eq!(load_now, expected);
    // Lags are told once; no time has passed, and nothing comes in no time.
    assert_eq!(load(now, now), seats(0.75));
    // A counter that starts anew is no flood.
    let anew = Reading { at: at(13), syns: 0, overflows: 0 };
    assert_eq!(load(now, anew), seats(0.75));
}

#[test]
fn the_kernel_s_counters_are_found_by_name() {
    let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\n\
                   IpExt: InNoRoutes\nIpExt: 0\n";
    assert_eq!(overflows(netstat), 22);
    for odd in [
        "",
        "TcpExt: ListenOverflows\n",
        "TcpExt: A\nTcpExt: 5\n",
        "TcpExt: ListenOverflows\nTcpExt: x\n",
    ] {
        assert_eq!(overflows(odd), 0, "{odd}");
    }
    let here = std::fs::read_to_string(NETSTAT).unwrap();
    assert!(here.contains(" ListenOverflows "), "{here}");
}
