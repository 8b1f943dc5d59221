//! Real sockets: shared ports, both families, inherited options, and the rest after errors.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

fn workers(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

async fn accept(listeners: Vec<std::net::TcpListener>) -> (TcpStream, PeerAddr) {
    let mut listeners = listeners
        .into_iter()
        .map(|one| Listener::new(vec![one], false).unwrap())
        .collect::<Vec<_>>();
    let mut tasks = tokio::task::JoinSet::new();
    for mut listener in listeners.drain(..) {
        tasks.spawn(async move { listener.accept().await });
    }
    tasks.join_next().await.unwrap().unwrap()
}

#[tokio::test]
async fn workers_share_the_port_that_the_first_one_got() {
    let listeners = bind((Ipv4Addr::LOCALHOST, 0).into(), workers(3), 16).unwrap();
    let ports: Vec<_> = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), 3);
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    let address = listeners[0].local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (stream, peer) = accept(listeners).await;
    assert_eq!(peer, PeerAddr::new(client.local_addr().unwrap().ip()));
    assert!(stream.nodelay().unwrap(), "the option is inherited");
}

#[tokio::test]
async fn unspecified_ipv6_takes_ipv4_and_folds_it() {
    let listeners = bind((Ipv6Addr::UNSPECIFIED, 0).into(), workers(1), 16).unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (_stream, peer) = accept(listeners).await;
    assert_eq!(peer.0, IpAddr::V4(Ipv4Addr::LOCALHOST));
    drop(client);
}

#[test]
fn a_port_in_use_elsewhere_is_an_error() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = bind(taken.local_addr().unwrap(), workers(2), 16).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_shortage_makes_accepting_rest_longer_each_time() {
    let shortage = io::Error::from(Errno::MFILE);
    let mut rest = Rest::default();
    let pauses: Vec<_> = (0..9).map(|_| rest.after(&shortage).unwrap().as_millis()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
    for errno in [Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF] {
        assert!(Rest::default().after(&io::Error::from(errno)).is_some(), "{errno}");
    }
}

#[test]
fn a_lost_connection_is_passed_over_unless_it_is_every_one() {
    let lost = io::Error::from(Errno::CONNABORTED);
    let mut rest = Rest::default();
    for _ in 0..ERRORS_PASSED_OVER {
        assert_eq!(rest.after(&lost), None);
    }
    assert_eq!(rest.after(&lost), Some(PAUSE_MIN));
}
