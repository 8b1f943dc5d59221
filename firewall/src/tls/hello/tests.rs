//! First messages, whole and cut anywhere, built by hand and by the library.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// A message: version, suites, extensions.
pub(in crate::tls) fn message(
    version: u16,
    suites: &[u16],
    extensions: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.extend([1, 9]);
    body.extend(list(suites));
    body.extend([1, 0]);
    let mut all = Vec::new();
    for (number, content) in extensions {
        all.extend(number.to_be_bytes());
        all.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        all.extend(*content);
    }
    body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend(all);
    headed(CLIENT_HELLO, &body)
}

/// Numbers behind their length, in two octets.
pub(in crate::tls) fn list(numbers: &[u16]) -> Vec<u8> {
    let octets = u16::try_from(numbers.len() * 2).unwrap();
    let mut list = octets.to_be_bytes().to_vec();
    list.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    list
}

fn headed(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, a, b, c], body].concat()
}

/// The message in records of at most so many octets.
fn records(message: &[u8], octets: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, 3, 1], &length[..], piece].concat()
    };
    message.chunks(octets).flat_map(record).collect()
}

/// Gathers from a stream of which each read gives at most so many octets; gives what was left in it.
fn gather(mut stream: &[u8], at_once: usize) -> Result<(Gathering, usize), Option<NoHello>> {
    let mut gathering = Gathering::default();
    while let Some(wanted) = gathering.wants() {
        let (read, rest) = stream.split_at(wanted.min(at_once).min(stream.len()));
        if read.is_empty() {
            return Err(None);
        }
        stream = rest;
        gathering.take(read).map_err(Some)?;
    }
    Ok((gathering, stream.len()))
}

fn sound() -> Vec<u8> {
    message(0x0303, &[0x1301, 0xc02f], &[(0, b"name"), (0x2b, &[2, 3, 4])])
}

#[test]
fn a_message_is_gathered_however_it_comes() {
    let message = sound();
    for in_record in [1000, 64, 7, message.len(), message.len() - 1] {
        let octets = records(&message, in_record);
        let stream = [&octets[..], b"rest"].concat();
        for at_once in [1, 2, 5, 6, 4096] {
            let (gathering, left) = gather(&stream, at_once).unwrap();
            assert_eq!(gathering.message(), message, "{in_record} {at_once}");
            assert_eq!(gathering.octets(), octets);
            assert_eq!(left, 4, "what follows stays in the stream");
        }
    }
    let octets = records(&message, 1000);
    for end in 0..octets.len() {
        assert_eq!(gather(&octets[..end], 4096).unwrap_err(), None, "cut at {end}");
    }
}

#[test]
fn what_is_no_hello_is_told_at_its_first_octets() {
    for (octets, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], NoHello::NotTls),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NoHello::NotTls),
        (&[0x80, 0x2e, 1, 3, 1], NoHello::NotTls),
        (&[22, 2, 0, 0, 1, 1], NoHello::NotTls),
        (&[21, 3, 1, 0, 2, 1, 0], NoHello::NotTls),
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], NoHello::NotHello),
        (&[22, 3, 1, 0, 0, 0, 0, 0], NoHello::TooLarge),
        (&[22, 3, 1, 0x40, 1, 1, 0, 0, 0], NoHello::TooLarge),
        (&[22, 3, 1, 0, 1, 1, 23, 3, 3, 0, 1, 0], NoHello::NotTls),
    ] {
        for at_once in [1, 4096] {
            assert_eq!(gather(octets, at_once).unwrap_err(), Some(expected), "{octets:?}");
        }
    }
}

#[test]
fn messages_at_their_limits() {
    let of = |octets: usize| headed(CLIENT_HELLO, &vec![0; octets - MESSAGE_HEADER_OCTETS]);
    let most = of(MESSAGE_OCTETS_MAX);
    assert!(gather(&records(&most, RECORD_OCTETS_MAX), 4096).is_ok());
    let more = of(MESSAGE_OCTETS_MAX + 1);
    let refused = gather(&records(&more, RECORD_OCTETS_MAX), 4096).unwrap_err();
    assert_eq!(refused, Some(NoHello::TooLarge));
    // It is refused by what its header says, not when so much has come.
    let claimed = [22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    assert_eq!(gather(&claimed, 4096).unwrap_err(), Some(NoHello::TooLarge));

    let in_records = |count: usize| records(&of(count * 4), 4);
    assert!(gather(&in_records(RECORDS_MAX), 4096).is_ok());
    let refused = gather(&in_records(RECORDS_MAX + 1), 4096).unwrap_err();
    assert_eq!(refused, Some(NoHello::TooLarge));
}

#[test]
fn lengths_must_not_lead_out() {
    let message = sound();
    let hello = ClientHello::parse(&message).unwrap();
    assert_eq!(hello.legacy_version, 0x0303);
    assert_eq!(hello.suites().collect::<Vec<_>>(), [0x1301, 0xc02f]);
    assert_eq!(hello.extensions().map(|(n, _)| n).collect::<Vec<_>>(), [0, 0x2b]);
    assert_eq!(hello.extension(0), Some(&b"name"[..]));
    assert_eq!(hello.extension(1), None);
    for end in 0..message.len() {
        assert_eq!(ClientHello::parse(&message[..end]), None, "cut at {end}");
    }
    // Every octet at every extreme: it may read otherwise, but neither panics nor reads beyond.
    for at in 0..message.len() {
        for octet in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = message.clone();
            changed[at] = octet;
            if let Some(hello) = ClientHello::parse(&changed) {
                let octets = hello.extensions().map(|(_, content)| content.len()).sum::<usize>();
                assert!(octets + hello.suites().count() * 2 < changed.len());
            }
        }
    }
    // Without extensions, as of before 2003; and with half a suite.
    let old = headed(CLIENT_HELLO, &[&[3, 1], &[7; 32][..], &[0, 0, 2, 0, 5, 1, 0]].concat());
    assert_eq!(ClientHello::parse(&old).unwrap().extensions().count(), 0);
    let half = headed(CLIENT_HELLO, &[&[3, 1], &[7; 32][..], &[0, 0, 3, 0, 5, 0, 1, 0]].concat());
    assert_eq!(ClientHello::parse(&half), None);
}

/// The octets that the library's client begins with.
pub(in crate::tls) fn of_library(alpn: &[&[u8]]) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(crate::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "api.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut octets = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut octets).unwrap();
    }
    octets
}

#[test]
fn the_librarys_own_message_is_read() {
    let octets = of_library(&[b"h2", b"http/1.1"]);
    let (gathering, left) = gather(&octets, 1000).unwrap();
    assert_eq!(left, 0);
    let hello = ClientHello::parse(gathering.message()).unwrap();
    let suites: Vec<u16> = hello.suites().collect();
    assert!(suites.contains(&0x1301) && suites.contains(&0xc02f), "{suites:x?}");
    let name = hello.extension(0).unwrap();
    assert!(name.ends_with(b"api.example"));
    let offered: Vec<&[u8]> = names(hello.extension(16).unwrap()).collect();
    assert_eq!(offered, [&b"h2"[..], b"http/1.1"]);
    assert_eq!(numbers(hello.extension(43).unwrap(), true).max(), Some(0x0304));
}
