//! Good standing: from what workers report to what the kernel's table holds.

use super::*;
use crate::ban::standing::StandingRules;

/// Three requests make a standing, at once.
fn keeper(plane: &Recorder) -> (Keeper<Recorder>, KeeperHandle) {
    let standing = StandingRules { requests: 3, age: Duration::ZERO, decay: HOUR };
    let settings = KeeperSettings { standing, ..settings(BanMode::Enforce) };
    Keeper::new(settings, None, Some(plane.clone()), Moment::now())
}

fn conforming(client: ClientAddr, requests: u32) -> Conduct {
    let mut conduct = Conduct::default();
    (0..requests).for_each(|_| conduct.conform(client));
    conduct
}

fn standing(plane: &Recorder) -> Vec<String> {
    plane.0.lock().unwrap().standing.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_record_reaches_the_kernel_and_an_offence_takes_it_away() {
    for (address, source) in
        [("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
    {
        let plane = Recorder::default();
        let (mut keeper, _handle) = keeper(&plane);
        let ((client, peer), at) = (client(address), Moment::now());
        keeper.note(conforming(client, 2), at.monotonic);
        assert_eq!(standing(&plane), Vec::<String>::new());
        keeper.note(conforming(client, 1), at.monotonic);
        assert_eq!(standing(&plane), [source]);
        assert!(keeper.explain(client.0, &at).in_good_standing);
        let (reply, _) = oneshot::channel();
        let (offence, rule) = (Offence::Parameter, "parameter");
        keeper.judge(Accusation { client, peer, offence, rule, reply }, &at);
        assert_eq!(standing(&plane), Vec::<String>::new());
        assert!(!keeper.explain(client.0, &at).in_good_standing);
    }
}

#[test]
fn a_violation_that_was_only_observed_takes_it_away_too() {
    let plane = Recorder::default();
    let (mut keeper, _handle) = keeper(&plane);
    let ((client, _), now) = (client("192.0.2.7"), Moment::now().monotonic);
    keeper.note(conforming(client, 3), now);
    assert_eq!(standing(&plane), ["192.0.2.7"]);
    let mut conduct = conforming(client, 9);
    conduct.violate(client);
    keeper.note(conduct, now);
    assert_eq!(standing(&plane), Vec::<String>::new());
}

#[test]
fn who_is_exempt_takes_no_place() {
    let plane = Recorder::default();
    let (mut keeper, _handle) = keeper(&plane);
    keeper.note(conforming(client("127.0.0.1").0, 9), Moment::now().monotonic);
    assert_eq!(standing(&plane), Vec::<String>::new());
}

#[test]
fn what_the_kernel_would_not_give_up_is_tried_again() {
    let plane = Recorder::default();
    let (mut keeper, handle) = keeper(&plane);
    let ((client, _), at) = (client("192.0.2.7"), Moment::now());
    keeper.note(conforming(client, 3), at.monotonic);
    plane.set_broken(true);
    keeper.fall(client);
    assert_eq!(standing(&plane), ["192.0.2.7"]);
    assert!(handle.stats().kernel_errors.load(Ordering::Relaxed) > 0);
    plane.set_broken(false);
    keeper.tick(at);
    assert_eq!(standing(&plane), Vec::<String>::new());
}

#[test]
fn a_report_that_finds_no_room_stays_with_the_worker() {
    let plane = Recorder::default();
    let (_keeper, handle) = keeper(&plane);
    let (client, _) = client("192.0.2.7");
    handle.report(&mut Conduct::default());
    for _ in 0..REPORTS_MAX {
        let mut conduct = conforming(client, 1);
        handle.report(&mut conduct);
        assert!(conduct.is_empty());
    }
    let mut conduct = conforming(client, 1);
    handle.report(&mut conduct);
    assert!(!conduct.is_empty());
}
