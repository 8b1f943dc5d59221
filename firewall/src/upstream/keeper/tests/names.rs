//! Names whose addresses change, and names without an answer.

use super::*;

/// What a name server says, by name; none: it fails.
type Zone = Arc<Mutex<BTreeMap<&'static str, Vec<SocketAddr>>>>;

fn zone() -> (Zone, Arc<Resolve>) {
    let zone = Zone::default();
    let asked = Arc::clone(&zone);
    let resolve = move |name: &str, _port| {
        let found = asked.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| std::io::Error::other("no answer"))
    };
    (zone, Arc::new(resolve))
}

#[test]
fn a_name_is_followed_and_its_last_addresses_are_kept() {
    local(async {
        let (one, other) = (Server::start(OK).await, Server::start(OK).await);
        let (zone, resolve) = zone();
        let set = |addresses: Vec<SocketAddr>| {
            zone.lock().unwrap().insert("api.test", addresses);
        };
        let (upstreams, metrics) = upstreams(resolve);
        let upstream = upstreams.of("test", settings(&["http://api.test:80"]), None);
        let pool = pool(&upstream, &metrics);
        upstream.settled().await;
        assert_eq!(ask(&pool).await, Err(UpstreamError::Unresolved));

        set(vec![one.address]);
        until("the name is found", || upstream.endpoints().len() == 1).await;
        assert_eq!(labels(&upstream), [format!("api.test/{}", one.address)]);
        assert_eq!(ask(&pool).await, Ok(200));
        // The change goes on beneath requests, none of which is lost.
        set(vec![other.address]);
        while other.answered.get() == 0 {
            assert_eq!(ask(&pool).await, Ok(200));
        }
        let before = one.answered.get();
        for _ in 0..10 {
            assert_eq!(ask(&pool).await, Ok(200));
        }
        assert_eq!(one.answered.get(), before, "nothing more goes where the name was");
        zone.lock().unwrap().clear();
        sleep(SHORT).await;
        assert_eq!(ask(&pool).await, Ok(200), "what was found last is kept");
        set(Vec::new());
        sleep(SHORT).await;
        assert_eq!(ask(&pool).await, Ok(200), "no address is no answer");

        let text = String::from_utf8(metrics.exposition().unwrap()).unwrap();
        let up = |address| format!("endpoint=\"api.test/{address}\"}} 1");
        assert!(text.contains(&up(other.address)) && !text.contains(&up(one.address)), "{text}");
    });
}

#[test]
fn a_name_without_an_answer_delays_no_other() {
    local(async {
        let server = Server::start(OK).await;
        let (zone, resolve) = zone();
        zone.lock().unwrap().insert("api.test", vec![server.address]);
        let (revive, is_revived) = std::sync::mpsc::channel::<()>();
        let is_revived = Mutex::new(is_revived);
        let resolve: Arc<Resolve> = Arc::new(move |name: &str, port| {
            if name == "dead.test" {
                is_revived.lock().unwrap().recv().unwrap_or(());
            }
            resolve(name, port)
        });
        let (upstreams, metrics) = upstreams(resolve);
        let urls = ["http://dead.test:80", "http://api.test:80", "http://dead.test:81"];
        let upstream = upstreams.of("test", settings(&urls), None);
        let pool = pool(&upstream, &metrics);
        until("the other is found", || !upstream.endpoints().is_empty()).await;
        assert_eq!(ask(&pool).await, Ok(200));
        let next = Server::start(OK).await;
        zone.lock().unwrap().insert("api.test", vec![next.address]);
        let label = format!("api.test/{}", next.address);
        until("the other is followed", || labels(&upstream) == [label.as_str()]).await;
        let settled = timeout(SHORT / 3, upstream.settled()).await;
        assert!(settled.is_err(), "not every name is looked up");
        drop(revive);
        upstream.settled().await;
    });
}

#[test]
fn addresses_of_a_name_are_bounded_and_their_order_does_not_matter() {
    local(async {
        let (zone, resolve) = zone();
        let all: Vec<SocketAddr> =
            (1..=40).map(|n| SocketAddr::from(([127, 0, 0, n], 1))).collect();
        zone.lock().unwrap().insert("api.test", all.clone());
        let (upstreams, _) = upstreams(resolve);
        let upstream =
            upstreams.of("test", settings(&["http://api.test", "http://127.0.0.1:1"]), None);
        upstreams.settled(std::iter::once(&upstream)).await;
        let before = upstream.endpoints();
        assert_eq!(before.len(), crate::upstream::ADDRESSES_MAX, "one of them is there twice");
        let turned = all.iter().rev().copied().collect();
        zone.lock().unwrap().insert("api.test", turned);
        sleep(SHORT).await;
        assert!(Arc::ptr_eq(&before, &upstream.endpoints()), "nothing has changed");
    });
}
