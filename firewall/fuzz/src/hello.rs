//! A client's first message of TLS: what the library accepts, our reader has read as the library did.

use firewall::tls::hello::{ClientHello, Gathering, NoHello};
use firewall::tls::ja4::Ja4;
use rustls::server::{Accepted, Acceptor};

use super::Target;

pub(crate) const TARGET: Target = Target {
    name: "hello",
    run,
    seeds,
    words: &["h2", "http/1.1", "\u{16}\u{3}\u{1}", "a.example"],
};

/// What our reader makes of a stream; none where it ends too early.
fn ours(stream: &[u8]) -> Option<Result<Gathering, NoHello>> {
    let mut gathering = Gathering::default();
    let mut rest = stream;
    while let Some(wanted) = gathering.wants() {
        // In pieces of uneven size: how it comes must not matter.
        let (read, after) = rest.split_at(wanted.min(rest.len()).min(1 + stream.len() % 97));
        if read.is_empty() {
            return None;
        }
        rest = after;
        if let Err(none) = gathering.take(read) {
            return Some(Err(none));
        }
    }
    Some(Ok(gathering))
}

/// Whether the library accepts it, and what it reads.
fn accepted(stream: &[u8]) -> Option<Accepted> {
    let (mut acceptor, mut rest) = (Acceptor::default(), stream);
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
    }
    None
}

fn run(data: &[u8]) {
    let found = ours(data);
    if let Some(Ok(gathering)) = &found
        && let Some(hello) = ClientHello::parse(gathering.message())
    {
        let ja4 = Ja4::of(&hello);
        assert_eq!(ja4.as_str().len(), 36);
        assert!(ja4.as_str().starts_with(Ja4::offered(&hello)));
    }
    let Some(accepted) = accepted(data) else { return };
    let gathering = match found {
        // Our own bounds.
        Some(Err(NoHello::TooLarge)) => return,
        Some(Ok(gathering)) => gathering,
        other => panic!("the library accepts it, and we say {other:?}"),
    };
    let hello = ClientHello::parse(gathering.message()).expect("what the library has parsed");
    let theirs = accepted.client_hello();
    let suites: Vec<u16> = theirs.cipher_suites().iter().map(|suite| u16::from(*suite)).collect();
    assert_eq!(hello.suites().collect::<Vec<_>>(), suites);
    if theirs.server_name().is_some() {
        assert!(hello.extension(0).is_some(), "a name that we do not see");
    }
    assert_eq!(theirs.alpn().is_some(), hello.extension(16).is_some(), "protocols");
}

/// Records around one message: what the reader's own tests begin with.
fn seeds() -> Vec<Vec<u8>> {
    let extensions: [&[u8]; 6] = [
        b"\0\0\0\x0e\0\x0c\0\0\x09a.example",
        b"\0\x10\0\x0e\0\x0c\x02h2\x08http/1.1",
        b"\0\x2b\0\x05\x04\x03\x04\x03\x03",
        b"\0\x0d\0\x06\0\x04\x04\x03\x08\x04",
        b"\0\x0a\0\x04\0\x02\0\x1d",
        b"\0\x0b\0\x02\x01\0",
    ];
    let message = |extensions: &[u8]| {
        let length = u16::try_from(extensions.len()).unwrap_or_default().to_be_bytes();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0, 0, 8, 0x13, 1, 0xc0, 0x2f, 0xc0, 0x2b, 0x0a, 0x0a, 1, 0],
            &length,
            extensions,
        ]
        .concat();
        let [_, a, b, c] = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
        [&[1, a, b, c], &body[..]].concat()
    };
    let records = |message: &[u8], octets: usize| -> Vec<u8> {
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap_or_default().to_be_bytes();
            [&[22, 3, 1], &length[..], piece].concat()
        };
        message.chunks(octets).flat_map(record).collect()
    };
    let whole = message(&extensions.concat());
    let bare = message(&[]);
    vec![
        records(&whole, 16_384),
        records(&whole, 11),
        [records(&whole, 16_384), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat(),
        records(&bare, 16_384),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_they_seem() {
        let seeds = seeds();
        for seed in &seeds {
            run(seed);
        }
        let read: Vec<bool> = seeds.iter().map(|seed| matches!(ours(seed), Some(Ok(_)))).collect();
        assert_eq!(read, [true, true, true, true, false]);
        let taken: Vec<bool> = seeds.iter().map(|seed| accepted(seed).is_some()).collect();
        assert_eq!(taken[..3], [true; 3], "the library compares something");
    }
}
