//! What may ban, and what only makes suspected.

use super::*;

/// Anybody can send packets in anybody's name: they make a source suspected, whose own offences then
/// count twice, and ban nobody.
#[tokio::test]
async fn what_can_be_forged_bans_nobody() {
    let plane = Recorder::default();
    let (keeper, handle) = memory(BanMode::Enforce, &plane);
    let running = run(keeper);
    let victim: IpAddr = "192.0.2.7".parse().unwrap();
    for _ in 0..10_000 {
        handle.signal(victim, Evidence::Spoofable, "T4");
    }
    assert!(matches!(offend(&handle, "192.0.2.8", Offence::Framing).await, Consequence::Noted));
    assert!(handle.list(None, 10).await.unwrap().bans.is_empty());
    assert_eq!(plane.until("192.0.2.7/32"), None);
    let twice = offend(&handle, "192.0.2.7", Offence::Framing).await;
    assert!(matches!(twice, Consequence::Banned(_)), "its own counts twice: {twice:?}");
    running.stop().await;
}

/// The test above sees what it is there to see: with the rule turned round, the same signals ban.
#[tokio::test]
async fn were_it_to_ban_the_signals_would_be_noticed() {
    let plane = Recorder::default();
    let turned = KeeperSettings { may_ban: |_| true, ..settings(BanMode::Enforce) };
    let (keeper, handle) = Keeper::new(turned, None, Some(plane.clone()), Moment::now());
    let running = run(keeper);
    for _ in 0..10 {
        handle.signal("192.0.2.7".parse().unwrap(), Evidence::Spoofable, "T4");
    }
    assert!(matches!(offend(&handle, "192.0.2.8", Offence::Framing).await, Consequence::Noted));
    assert_eq!(handle.list(None, 10).await.unwrap().bans.len(), 1);
    running.stop().await;
}
