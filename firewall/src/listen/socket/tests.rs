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

/// Connections that wait in one socket are not all taken by who wakes first.
#[tokio::test]
async fn workers_that_share_a_socket_take_turns() {
    const CONNECTIONS: usize = 60;
    let socket = bind((Ipv4Addr::LOCALHOST, 0).into(), workers(1), 128).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    for (is_shared, least) in [(true, CONNECTIONS / 2 - 2), (false, 0)] {
        let (told, mut accepted) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..2 {
            let mut listener = Listener::new(vec![socket.try_clone().unwrap()], is_shared).unwrap();
            let told = told.clone();
            tasks.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await;
                    told.send((worker, stream)).unwrap();
                }
            });
        }
        let mut counts = [0; 2];
        for _ in 0..CONNECTIONS {
            let (worker, _stream) = accepted.recv().await.unwrap();
            counts[worker] += 1;
        }
        assert!(counts.iter().all(|count| *count >= least), "{is_shared}: {counts:?}");
        tasks.shutdown().await;
        clients.clear();
        for _ in 0..CONNECTIONS {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_worker_accepts_from_all_of_its_sockets() {
    let sockets: Vec<_> = (0..3)
        .map(|_| bind((Ipv4Addr::LOCALHOST, 0).into(), workers(1), 16).unwrap().remove(0))
        .collect();
    let addresses: Vec<_> = sockets.iter().map(|one| one.local_addr().unwrap()).collect();
    let mut listener = Listener::new(sockets, false).unwrap();
    let mut clients = Vec::new();
    for address in addresses.iter().chain(&addresses) {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let mut found = Vec::new();
    for _ in &clients {
        found.push(listener.accept().await.0.local_addr().unwrap());
    }
    // One after the other, though each has another one waiting.
    assert_eq!(found, [addresses.clone(), addresses].concat());
}
