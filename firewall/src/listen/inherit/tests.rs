//! What service managers announce, which sockets will do, and who accepts from which.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn what_a_manager_announces() {
    let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    for (pid, count, names, expected) in [
        (Some("7"), Some("1"), None, named(&["unknown"])),
        (Some("7"), Some("2"), Some("http:more"), named(&["http", "more"])),
        // A name may be empty.
        (Some("7"), Some("2"), Some(":"), named(&["", ""])),
        (Some("7"), Some("0"), None, named(&[])),
        (Some("7"), Some("0"), Some("http"), named(&[])),
        (Some("7"), None, Some("http"), named(&[])),
        (None, Some("1"), None, named(&[])),
        (None, None, None, named(&[])),
        // Meant for the process that started this one.
        (Some("8"), Some("1"), None, named(&[])),
        (Some("8"), Some("nonsense"), None, named(&[])),
        (Some("7"), Some("2"), Some("http"), None),
        (Some("7"), Some("1"), Some("http:more"), None),
        (Some("7"), Some("-1"), None, None),
        (Some("7"), Some("257"), None, None),
        (Some("seven"), Some("1"), None, None),
    ] {
        let found = announced(pid, count, names, 7);
        assert_eq!(found.ok(), expected, "{pid:?} {count:?} {names:?}");
    }
    assert_eq!(announced(Some("7"), Some("256"), None, 7).unwrap().len(), DESCRIPTORS_MAX);
}

#[test]
fn a_descriptor_that_is_not_there_is_an_error() {
    let error = take(1_000_000, "http".into()).unwrap_err();
    assert_eq!(error.to_string(), "descriptor 1000000 (http) was announced, and is not open");
}

fn inherited(descriptor: impl Into<OwnedFd>) -> Vec<Inherited> {
    vec![Inherited { name: "http".into(), descriptor: descriptor.into() }]
}

#[test]
fn only_what_listens_where_it_should_will_do() {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = bound.local_addr().unwrap();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for expected in [address, any_port] {
        let sockets = listeners(inherited(bound.try_clone().unwrap()), expected).unwrap();
        assert_eq!(sockets[0].local_addr().unwrap(), address);
        let error = sockets[0].accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "accepting must not wait");
    }
    let other_port = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port() ^ 1));
    let other_address = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    for expected in [other_port, other_address] {
        let error = listeners(inherited(bound.try_clone().unwrap()), expected).unwrap_err();
        let said = format!("the socket http listens on {address}, the configuration says");
        assert_eq!(error.to_string(), format!("{said} {expected}"));
    }
    let path = std::env::temp_dir().join(format!("firewall-inherit-{}", std::process::id()));
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    for (descriptor, found) in [
        (OwnedFd::from(unbound), "not listening"),
        (UdpSocket::bind(any_port).unwrap().into(), "of another protocol"),
        (UnixListener::bind(&path).unwrap().into(), "of another family"),
        (std::fs::File::open("/dev/null").unwrap().into(), "no socket"),
    ] {
        let error = listeners(inherited(descriptor), any_port).unwrap_err();
        let said = format!("the socket http is {found}, not a listening TCP socket");
        assert_eq!(error.to_string(), said);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn every_worker_has_a_socket_and_every_socket_a_worker() {
    let sockets = |count: usize| -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect()
    };
    for (count, workers, expected) in [
        (1, 1, vec![vec![0]]),
        (3, 3, vec![vec![0], vec![1], vec![2]]),
        (1, 3, vec![vec![0], vec![0], vec![0]]),
        (2, 3, vec![vec![0], vec![1], vec![0]]),
        (5, 2, vec![vec![0, 2, 4], vec![1, 3]]),
        (3, 2, vec![vec![0, 2], vec![1]]),
    ] {
        let sockets = sockets(count);
        let ports: Vec<_> = sockets.iter().map(|one| one.local_addr().unwrap().port()).collect();
        let number = |one: &TcpListener| {
            let port = one.local_addr().unwrap().port();
            ports.iter().position(|other| *other == port).unwrap()
        };
        let spread = spread(&sockets, NonZeroUsize::new(workers).unwrap()).unwrap();
        let found: Vec<Vec<_>> =
            spread.iter().map(|own| own.iter().map(number).collect()).collect();
        assert_eq!(found, expected, "{count} sockets, {workers} workers");
    }
    assert!(spread(&[], NonZeroUsize::MIN).is_err());
}
