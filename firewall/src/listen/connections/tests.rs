//! Seats: limits at n and one more, per source and in all, and what is left when all have gone.

use super::*;
use crate::pipeline::origin::Origin;

fn peer(address: &str) -> PeerAddr {
    PeerAddr::new(address.parse().unwrap())
}

fn connections(total: usize, per_source: usize) -> Rc<Connections> {
    let exempt = vec!["192.0.2.128/25".parse().unwrap()];
    Connections::new(
        ConnectionLimits { total, per_source, exempt, ..ConnectionLimits::default() },
        3,
    )
}

fn at_work(ticket: Ticket) -> Ticket {
    ticket.judgement().begin();
    ticket
}

#[test]
fn a_source_has_so_many_seats_and_no_more() {
    let connections = connections(10, 2);
    let admit = |address| connections.admit(peer(address), Monotonic::now()).map(at_work);
    let first = admit("192.0.2.1").unwrap();
    let _second = admit("::ffff:192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").err(), Some(NoSeat::Source));
    let _other = admit("192.0.2.2").unwrap();
    drop(first);
    let _third = admit("192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").err(), Some(NoSeat::Source));

    let _one = admit("2001:db8::1").unwrap();
    let _two = admit("2001:db8::2").unwrap();
    assert_eq!(admit("2001:db8::3").err(), Some(NoSeat::Source), "a /64 is one source");
    let _next = admit("2001:db8:0:1::1").unwrap();

    let _exempt: Vec<_> = (0..3).map(|_| admit("192.0.2.200").unwrap()).collect();
    assert_eq!(connections.open(), 9);
}

#[test]
fn a_suspected_source_has_half_of_the_seats() {
    let connections = connections(20, 5);
    let now = Monotonic::from_ns(1);
    let admit = |address| connections.admit(peer(address), now).map(at_work);
    connections.limits.suspicion.note(ClientAddr("192.0.2.1".parse().unwrap()), now);
    let _three: Vec<_> = (0..3).map(|_| admit("192.0.2.1").unwrap()).collect();
    assert_eq!(admit("192.0.2.1").err(), Some(NoSeat::Source));
    let _five: Vec<_> = (0..5).map(|_| admit("192.0.2.2").unwrap()).collect();
    assert_eq!(admit("192.0.2.2").err(), Some(NoSeat::Source));
    let later = now.after(crate::ban::suspicion::SUSPECTED_FOR);
    assert!(connections.admit(peer("192.0.2.1"), later).is_ok());
}

#[test]
fn a_full_worker_takes_the_seat_that_has_been_idle_for_longest() {
    let connections = connections(3, 10);
    let admit = |ms: u64| connections.admit(peer("192.0.2.1"), Monotonic::from_ns(ms * 1_000_000));
    let answered = |ms: u64| {
        let ticket = at_work(admit(ms).unwrap());
        ticket.judgement().end(Monotonic::from_ns(ms * 1_000_000));
        ticket
    };
    let working = at_work(admit(0).unwrap());
    let longest = answered(1);
    let shorter = answered(2);
    let newest = at_work(admit(3).unwrap());
    assert_eq!(connections.open(), 3);
    assert_eq!(longest.seat.order.get(), Order::Drop);
    assert_eq!(shorter.seat.order.get(), Order::Serve);
    assert_eq!(working.seat.order.get(), Order::Serve);
    drop(longest);
    assert_eq!(connections.open(), 3, "the seat it gave up is not freed twice");
    shorter.judgement().set_in_head(true);
    assert_eq!(admit(4).err(), Some(NoSeat::Worker), "who has begun to ask is not idle");
    drop((working, shorter, newest));
    assert_eq!(connections.open(), 0);
}

#[test]
fn who_waits_for_its_client_for_long_makes_room_where_nobody_is_idle() {
    let connections = connections(3, 10);
    let now = Monotonic::coarse();
    let late = now.after(SEAT_PATIENCE * 2);
    let admit = |at| connections.admit(peer("192.0.2.1"), at);
    let (in_head, in_body, working) =
        (admit(now).unwrap(), admit(now).unwrap(), at_work(admit(now).unwrap()));
    in_head.judgement().set_in_head(true);
    let body = at_work(in_body);
    let origin = Origin::of_connection(body.peer(), body.socket(), 0, now, body.judgement());
    let awaiting = origin.awaits_body();
    assert_eq!(admit(now).err(), Some(NoSeat::Worker), "they have just begun");
    let first = at_work(admit(late).unwrap());
    assert_eq!(in_head.seat.order.get(), Order::Drop, "the rest of its head does not come");
    assert_eq!(in_head.judgement().ending(), Some(Ending::Room));
    assert_eq!(body.seat.order.get(), Order::Serve);
    let second = at_work(admit(late).unwrap());
    assert_eq!(body.seat.order.get(), Order::Drop, "nor does that of its body");
    assert_eq!(admit(late).err(), Some(NoSeat::Worker), "we are at work for all that are left");
    drop(awaiting);
    working.judgement().set_blocked(true, now);
    let third = admit(late).unwrap();
    assert_eq!(working.seat.order.get(), Order::Drop, "it does not take its answer");
    // Who has just come is not who makes room; who was answered goes first, be it a moment ago.
    first.judgement().set_blocked(true, now);
    let fourth = at_work(admit(late).unwrap());
    assert_eq!((first.seat.order.get(), third.seat.order.get()), (Order::Drop, Order::Serve));
    second.judgement().set_blocked(true, now);
    let third = at_work(third);
    third.judgement().end(late);
    drop(at_work(admit(late).unwrap()));
    assert_eq!((second.seat.order.get(), third.seat.order.get()), (Order::Serve, Order::Drop));
    drop(fourth);
    drop(second);
}

/// Who ends nothing, and begins more beside it, is as slow as what he began first; who sends gets on.
#[test]
fn a_client_is_as_slow_as_what_it_does_not_end() {
    let connections = connections(1, 10);
    let now = Monotonic::coarse();
    let ticket = at_work(connections.admit(peer("192.0.2.1"), now).unwrap());
    let judgement = ticket.judgement();
    let origin = || Origin::of_connection(ticket.peer(), ticket.socket(), 0, now, judgement);
    let (first, second) = (origin(), origin());
    let slow = first.awaits_body();
    let since = judgement.awaits_client_since().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let beside = second.awaits_body();
    judgement.set_in_head(true);
    judgement.piece_waits(Monotonic::coarse());
    assert_eq!(judgement.awaits_client_since(), Some(since));
    judgement.count_received(16 * 1024 - 1);
    assert_eq!(judgement.awaits_client_since(), Some(since));
    judgement.count_received(1);
    assert!(judgement.awaits_client_since().unwrap() > since, "it gets on");
    drop((slow, beside));
}

#[test]
fn limits_change_for_those_who_come() {
    let connections = connections(2, 2);
    let admit = |address| connections.admit(peer(address), Monotonic::now()).map(at_work);
    let _seated = [admit("192.0.2.1").unwrap(), admit("192.0.2.1").unwrap()];
    connections.limit(4, 3);
    let _third = admit("192.0.2.1").unwrap();
    assert_eq!(admit("192.0.2.1").err(), Some(NoSeat::Source));
    let fourth = admit("192.0.2.2").unwrap();
    connections.limit(1, 1);
    assert_eq!(connections.open(), 4, "who has a seat keeps it");
    drop(fourth);
    assert_eq!(admit("192.0.2.3").err(), Some(NoSeat::Worker));
}

#[test]
fn nothing_is_kept_of_those_who_left() {
    let connections = connections(1000, 10);
    for round in 0..3_u8 {
        let tickets: Vec<_> = (0..200_u8)
            .map(|host| connections.admit(peer(&format!("198.51.100.{host}")), Monotonic::now()))
            .map(Result::unwrap)
            .collect();
        assert_eq!(connections.open(), 200, "round {round}");
        drop(tickets);
    }
    let seats = connections.seats.borrow();
    assert_eq!(seats.taken(), 0);
    assert_eq!(seats.places.len(), 200, "seats are used again");
    assert!(seats.by_source.is_empty());
}

#[test]
fn connection_numbers_tell_workers_apart() {
    let connections = connections(10, 10);
    let ids: Vec<_> = (0..3)
        .map(|_| connections.admit(peer("192.0.2.1"), Monotonic::now()).unwrap().id())
        .collect();
    assert_eq!(ids, [3 << 48, 3 << 48 | 1, 3 << 48 | 2]);
}

#[test]
fn a_ban_finds_the_connections_of_its_target() {
    let connections = connections(10, 10);
    let admit = |address| connections.admit(peer(address), Monotonic::now()).unwrap();
    let tickets = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(admit);
    let dropped = |target: &str| {
        for ticket in &tickets {
            ticket.seat.order.set(Order::Serve);
        }
        let count = connections.close_source(target.parse().unwrap(), Duration::ZERO);
        let orders = tickets.each_ref().map(|ticket| ticket.seat.order.get() == Order::Drop);
        assert_eq!(orders.iter().filter(|is_dropped| **is_dropped).count(), count);
        orders
    };
    assert_eq!(dropped("192.0.2.1/32"), [true, false, false, false]);
    assert_eq!(dropped("192.0.2.0/24"), [true, true, false, false]);
    assert_eq!(dropped("2001:db8::/64"), [false, false, true, true]);
    assert_eq!(dropped("2001:db8::2/128"), [false, false, false, true]);
    assert_eq!(dropped("2001:db8::/32"), [false, false, true, true]);
    assert_eq!(dropped("203.0.113.0/24"), [false; 4]);
}

#[test]
fn the_search_for_an_idle_connection_goes_round() {
    let connections = connections(3 * IDLE_SAMPLE, usize::MAX);
    let admit = || connections.admit(peer("192.0.2.1"), Monotonic::now());
    let tickets: Vec<_> = (0..3 * IDLE_SAMPLE).map(|_| at_work(admit().unwrap())).collect();
    tickets.last().unwrap().judgement().end(Monotonic::now());
    let tries: Vec<_> = (0..3).map(|_| admit().is_ok()).collect();
    assert_eq!(tries, [false, false, true]);
}

#[tokio::test]
async fn nobody_is_admitted_while_draining() {
    let connections = connections(10, 10);
    assert_eq!(connections.drain(Duration::ZERO, Duration::ZERO).await, 0);
    let admitted = connections.admit(peer("192.0.2.1"), Monotonic::now());
    assert_eq!(admitted.err(), Some(NoSeat::Draining));
}

#[test]
fn who_is_named_by_a_balancer_has_his_own_seats() {
    let connections = connections(10, 2);
    let admit = || connections.admit(peer("192.0.2.200"), Monotonic::now()).unwrap();
    let named = |address| {
        let ticket = admit();
        let renamed = ticket.rename(peer(address), Monotonic::now());
        renamed.map(|()| at_work(ticket))
    };
    let first = named("192.0.2.1").unwrap();
    assert_eq!((first.peer(), first.socket()), (peer("192.0.2.1"), peer("192.0.2.200")));
    let second = named("::ffff:192.0.2.1").unwrap();
    assert_eq!(named("192.0.2.1").err(), Some(NoSeat::Source));
    assert_eq!(connections.open(), 2, "who was refused has left");
    let other = named("192.0.2.2").unwrap();

    let close = |target: &str| connections.close_source(target.parse().unwrap(), Duration::ZERO);
    assert_eq!(close("192.0.2.200/32"), 0, "none is the balancer's");
    assert_eq!(close("192.0.2.1/32"), 2);
    assert_eq!(other.seat.order.get(), Order::Serve);
    let is_chosen = |chosen: PeerAddr| chosen == peer("192.0.2.2");
    assert_eq!(connections.close_where(is_chosen, Duration::ZERO), 1);
    drop((first, second, other));
    assert!(connections.seats.borrow().by_source.is_empty());
}

#[test]
fn who_is_named_after_giving_up_his_seat_does_not_get_another() {
    let connections = connections(1, 10);
    let now = Monotonic::now();
    let late = connections.admit(peer("192.0.2.200"), now).unwrap();
    let soon = now.after(SEAT_PATIENCE / 2);
    assert_eq!(connections.admit(peer("192.0.2.200"), soon).err(), Some(NoSeat::Worker));
    let newer = connections.admit(peer("192.0.2.200"), now.after(SEAT_PATIENCE)).unwrap();
    assert_eq!(late.seat.order.get(), Order::Drop);
    late.rename(peer("192.0.2.1"), Monotonic::now()).unwrap();
    assert_eq!(connections.seats.borrow().by_source.len(), 1);
    drop((late, newer));
    assert!(connections.seats.borrow().by_source.is_empty());
}
