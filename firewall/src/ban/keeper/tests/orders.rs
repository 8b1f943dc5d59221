//! Operators: what they are told, and what is on disk by then.

use super::*;

#[tokio::test]
async fn what_is_not_on_disk_is_not_acknowledged_and_written_later() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let lost = scratch.path().join("lost");
    let state = (Store::misplaced(&lost), Loaded::default());
    let enforce = settings(BanMode::Enforce);
    let (keeper, handle) = Keeper::new(enforce, Some(state), Some(plane.clone()), Moment::now());
    let running = run(keeper);
    let refused = handle.add(net("192.0.2.7/32"), None, String::new()).await;
    assert!(matches!(refused, Err(KeeperError::NotRecorded { .. })), "{refused:?}");
    assert!(plane.until("192.0.2.7/32").is_some(), "it is enforced all the same");
    assert_eq!(handle.stats().persistence(), Persistence::Failing);
    // The directory comes back with its file, and the failed batch is written to it.
    let found = scratch.path().join("found");
    std::fs::create_dir(&found).unwrap();
    drop(Store::open(&found).unwrap());
    std::fs::rename(&found, &lost).unwrap();
    eventually("the file is written", || handle.stats().persistence() == Persistence::Durable)
        .await;
    running.stop().await;
    assert_eq!(stored(&lost), [net("192.0.2.7/32")]);
}

#[tokio::test]
async fn a_file_that_had_to_begin_anew_is_given_every_ban() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (keeper, handle) = durable(&scratch, &Recorder::default());
    let running = run(keeper);
    handle.add(net("192.0.2.7/32"), None, String::new()).await.unwrap();
    running.stop().await;
    let (_, loaded) = Store::open(scratch.path()).unwrap();
    let state = (Store::misplaced(other.path()), loaded);
    let (enforce, plane) = (settings(BanMode::Enforce), Recorder::default());
    let (keeper, handle) = Keeper::new(enforce, Some(state), Some(plane), Moment::now());
    let running = run(keeper);
    handle.add(net("192.0.2.8/32"), None, String::new()).await.unwrap();
    running.stop().await;
    assert_eq!(stored(other.path()), [net("192.0.2.7/32"), net("192.0.2.8/32")]);
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let (mut keeper, handle) = memory(BanMode::Enforce, &Recorder::default());
    let at = Moment::now();
    for host in 0..25_u32 {
        let target = IpNet::from(IpAddr::V4((0x0a00_0000 + host).into()));
        let changes = keeper.ledger.add(target, None, String::new(), at.monotonic).unwrap();
        keeper.apply(&changes, &at, None);
    }
    let running = run(keeper);
    let (mut after, mut sizes, mut seen) = (None, Vec::new(), Vec::new());
    loop {
        let page = handle.list(after, 10).await.unwrap();
        assert_eq!(page.total, 25);
        sizes.push(page.bans.len());
        seen.extend(page.bans.into_iter().map(|ban| ban.target));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert!(seen.is_sorted() && seen.len() == 25);
    assert_eq!(handle.list(None, 25).await.unwrap().next, None);
    assert_eq!(handle.list(None, 0).await.unwrap().bans.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_address_is_explained() {
    let (keeper, handle) = memory(BanMode::Enforce, &Recorder::default());
    let running = run(keeper);
    offend(&handle, "2001:db8::1", Offence::Scan).await;
    let neighbour = handle.explain("2001:db8::2".parse().unwrap()).await.unwrap();
    assert_eq!(neighbour.source, net("2001:db8::/64"));
    assert_eq!((neighbour.score, neighbour.threshold, neighbour.step), (40, 100, 0));
    assert!(!neighbour.exempt && neighbour.ban.is_none());
    get_banned(&handle, "192.0.2.7").await;
    let banned = handle.explain("::ffff:192.0.2.7".parse().unwrap()).await.unwrap();
    assert_eq!(banned.source, net("192.0.2.7/32"));
    let ban = banned.ban.unwrap();
    assert_eq!((ban.target, ban.rule.as_deref()), (net("192.0.2.7/32"), Some("framing.host")));
    let json = serde_json::to_value(&ban).unwrap();
    assert_eq!((&json["origin"], &json["target"]), (&"automatic".into(), &"192.0.2.7/32".into()));
    running.stop().await;
}
