//! The lab's promises, each tried on the kernel; without the capability they are skipped by name.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// The topology, or none if this process may not have one.
fn topology(test: &str) -> Option<Topology> {
    match Topology::new() {
        Ok(topology) => Some(topology),
        Err(error) if error.is_unavailable() => {
            crate::skip::skipped(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

fn speak(from: &NetNs, source: IpAddr, to: &NetNs, destination: IpAddr) {
    let listener = to.bind((destination, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sent = from.connect((source, 0).into(), address, PATIENCE).unwrap().unwrap();
    let (mut received, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), source);
    sent.write_all(b"ping").unwrap();
    let mut octets = [0; 4];
    received.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"ping");
}

#[test]
fn every_client_reaches_the_gateway_at_once_and_the_gateway_the_api() {
    let Some(lab) = topology("every_client_reaches_the_gateway_at_once_and_the_gateway_the_api")
    else {
        return;
    };
    for n in 0..Topology::CLIENTS {
        speak(
            &lab.client,
            Topology::client_v4(n).into(),
            &lab.gateway,
            Topology::GATEWAY_V4.into(),
        );
        if lab.ipv6 {
            let gateway = Topology::GATEWAY_V6.into();
            speak(&lab.client, Topology::client_v6(n).into(), &lab.gateway, gateway);
        }
    }
    speak(&lab.gateway, Ipv4Addr::new(10, 77, 1, 1).into(), &lab.api, Topology::API_V4.into());
}

#[test]
fn no_client_reaches_the_api_past_the_gateway() {
    let Some(lab) = topology("no_client_reaches_the_api_past_the_gateway") else { return };
    let listener = lab.api.bind((Topology::API_V4, 0).into()).unwrap();
    let error = lab
        .client
        .connect(
            (Topology::client_v4(0), 0).into(),
            listener.local_addr().unwrap(),
            Duration::from_millis(200),
        )
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn labs_with_the_same_addresses_do_not_meet() {
    let Some(first) = topology("labs_with_the_same_addresses_do_not_meet") else { return };
    let second = Topology::new().unwrap();
    let address = SocketAddr::from((Topology::GATEWAY_V4, 8080));
    let _listener = first.gateway.bind(address).unwrap();
    let _same_address_again = second.gateway.bind(address).unwrap();
}

#[test]
fn a_process_is_started_inside_and_the_caller_stays_outside() {
    let Some(lab) = topology("a_process_is_started_inside_and_the_caller_stays_outside") else {
        return;
    };
    let outside = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside =
        lab.client.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_ne!(inside, outside);
    let child = lab
        .client
        .spawn(Command::new("readlink").arg("/proc/self/ns/net").stdout(Stdio::piped()))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), inside.to_str().unwrap());
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
    assert_eq!(std::fs::read_link(lab.client.path()).unwrap(), inside);
}

#[test]
fn a_panic_inside_is_a_panic_outside() {
    let Some(lab) = topology("a_panic_inside_is_a_panic_outside") else { return };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lab.client.run(|| panic!("told from inside"))
    }))
    .unwrap_err();
    assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "told from inside");
}

#[test]
fn what_is_dropped_is_gone() {
    let Some(lab) = topology("what_is_dropped_is_gone") else { return };
    let interfaces = |namespace: &NetNs| {
        namespace.run(|| nix::net::if_::if_nametoindex(Topology::PUBLIC_INTERFACE)).unwrap()
    };
    let Topology { client, gateway, api, .. } = lab;
    interfaces(&gateway).unwrap();
    drop(client);
    drop(api);
    // The kernel clears namespaces away in its own time.
    let waiting = crate::report::Stopwatch::start();
    while interfaces(&gateway).is_ok() {
        assert!(waiting.elapsed() < PATIENCE, "the other end of a dropped cable is still there");
        thread::yield_now();
    }
}

#[test]
fn many_labs_are_made_at_once() {
    let Some(_lab) = topology("many_labs_are_made_at_once") else { return };
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let lab = Topology::new().unwrap();
                let gateway = Topology::GATEWAY_V4.into();
                speak(&lab.client, Topology::client_v4(7).into(), &lab.gateway, gateway);
            });
        }
    });
}
