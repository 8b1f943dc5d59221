//! Headers of both versions in tables, cut anywhere, and taken off a real stream.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

fn peer(address: &str) -> PeerAddr {
    PeerAddr::new(address.parse().unwrap())
}

/// The header has this source, whatever follows it, and no beginning of it is taken for it.
#[track_caller]
fn accepted(header: &[u8], source: Option<&str>) {
    let expected = Header { octets: header.len(), source: source.map(peer) };
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(None), "the first {end} octets of {header:?}");
    }
    for following in [&b""[..], b"G", b"\n", b"PROXY UNKNOWN\r\n", &[0; 5000]] {
        assert_eq!(parse(&[header, following].concat()), Ok(Some(expected)), "{header:?}");
    }
}

/// Some beginning is refused, none is accepted, and more octets do not change the verdict.
#[track_caller]
fn refused(octets: &[u8], expected: Malformed) {
    let verdicts = (0..=octets.len()).map(|end| parse(&octets[..end]));
    let mut verdicts = verdicts.skip_while(|verdict| *verdict == Ok(None)).peekable();
    assert!(verdicts.peek().is_some(), "{octets:?} is waited for");
    assert!(verdicts.all(|verdict| verdict == Err(expected)), "{octets:?}: {:?}", parse(octets));
    assert_eq!(parse(&[octets, &[0; 5000]].concat()), Err(expected));
}

#[test]
fn lines_of_version_1() {
    let ffff = ["ffff"; 8].join(":");
    let longest = format!("PROXY TCP6 {ffff} {ffff} 65535 65535\r\n");
    let unknown = format!("PROXY UNKNOWN {ffff} {ffff} 65535 65535\r\n");
    assert_eq!(unknown.len(), LINE_OCTETS_MAX, "the standard's longest");
    for (line, source) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
        ("PROXY TCP4 192.0.2.1 198.51.100.1 0 0\r\n", Some("192.0.2.1")),
        ("PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n", Some("2001:db8::1")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Some("192.0.2.1")),
        ("PROXY TCP6 ::ffff:c000:201 ::1 1 2\r\n", Some("192.0.2.1")),
        (&longest, Some(&ffff)),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN \r\n", None),
        ("PROXY UNKNOWN \u{e9} whatever\r it says\r\n", None),
        (&unknown, None),
    ] {
        accepted(line.as_bytes(), source);
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n",
        "PROXY TCP4\t192.0.2.1\t198.51.100.1\t1\t2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\r\n",
        "PROXY UNKNOWN\n",
        "PROXY \n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
        "PROXY TCP4 3221225985 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 victim 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] [2001:db8::2] 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 0x1 2\r\n",
        "PROXY TCP4 192.0.2.1\0 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\u{e9}\r\n",
    ] {
        refused(line.as_bytes(), Malformed::Line);
    }
    for octets in
        ["GET / HTTP/1.1\r\n", "proxy UNKNOWN\r\n", "PROPFIND / HTTP/1.1\r\n", " PROXY", "\n"]
    {
        refused(octets.as_bytes(), Malformed::Signature);
    }
    let line = |octets: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(octets - 16));
    accepted(line(LINE_OCTETS_MAX).as_bytes(), None);
    refused(line(LINE_OCTETS_MAX + 1).as_bytes(), Malformed::TooLong);
}

/// A version 2 header with the length that fits what follows.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

fn v6(source: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&address(source)[..], &address("2001:db8::2"), &[0xdc, 4, 1, 0xbb]].concat()
}

fn value(kind: u8, octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, octets].concat()
}

#[test]
fn binary_headers() {
    let values = [value(0x01, b"h2"), value(0x04, b""), value(0x20, &[0; 300])].concat();
    let with_values = |addresses: &[u8]| [addresses, &values].concat();
    for (command, family, rest, source) in [
        (0x21, 0x11, V4.to_vec(), Some("192.0.2.1")),
        (0x21, 0x12, V4.to_vec(), Some("192.0.2.1")),
        (0x21, 0x21, v6("2001:db8::1"), Some("2001:db8::1")),
        (0x21, 0x22, v6("2001:db8::1"), Some("2001:db8::1")),
        (0x21, 0x21, v6("::ffff:192.0.2.1"), Some("192.0.2.1")),
        (0x21, 0x11, with_values(&V4), Some("192.0.2.1")),
        (0x21, 0x21, with_values(&v6("2001:db8::1")), Some("2001:db8::1")),
        (0x21, 0x31, vec![b'/'; 216], None),
        (0x21, 0x32, with_values(&[0; 216]), None),
        (0x21, 0x00, Vec::new(), None),
        (0x21, 0x00, vec![1, 2], None),
        (0x20, 0x00, Vec::new(), None),
        // A balancer's own connection is its own, whatever else it says.
        (0x20, 0x11, V4.to_vec(), None),
        (0x20, 0x11, Vec::new(), None),
        (0x20, 0xff, vec![3, 0, 4, 0, 0, 0, 0], None),
    ] {
        accepted(&binary(command, family, &rest), source);
    }
}

#[test]
fn binary_headers_that_are_none() {
    let after_v4 = |octets: &[u8]| binary(0x21, 0x11, &[&V4[..], octets].concat());
    for (header, expected) in [
        (binary(0x11, 0x11, &V4), Malformed::Version),
        (binary(0x31, 0x11, &V4), Malformed::Version),
        (binary(0x01, 0x11, &V4), Malformed::Version),
        (binary(0x22, 0x11, &V4), Malformed::Command),
        (binary(0x2f, 0x11, &V4), Malformed::Command),
        (binary(0x21, 0x01, &V4), Malformed::Family),
        (binary(0x21, 0x10, &V4), Malformed::Family),
        (binary(0x21, 0x13, &V4), Malformed::Family),
        (binary(0x21, 0x41, &V4), Malformed::Family),
        (binary(0x21, 0xff, &V4), Malformed::Family),
        (binary(0x21, 0x11, &V4[..11]), Malformed::Length),
        (binary(0x21, 0x11, b""), Malformed::Length),
        (binary(0x21, 0x21, &[0; 35]), Malformed::Length),
        (binary(0x21, 0x31, &[0; 215]), Malformed::Length),
        (after_v4(&[4]), Malformed::Value),
        (after_v4(&[4, 0]), Malformed::Value),
        (after_v4(&[4, 0, 1]), Malformed::Value),
        (after_v4(&[4, 0, 2, 0]), Malformed::Value),
        (after_v4(&[4, 0xff, 0xff, 0]), Malformed::Value),
        (after_v4(&[4, 0, 0, 4, 0]), Malformed::Value),
        (after_v4(&value(CRC32C_TYPE, &[0; 3])), Malformed::Value),
        (after_v4(&value(CRC32C_TYPE, &[0; 5])), Malformed::Value),
    ] {
        refused(&header, expected);
    }
    for at in 0..SIGNATURE.len() {
        let mut header = binary(0x21, 0x11, &V4);
        header[at] ^= 0x80;
        refused(&header, Malformed::Signature);
    }
}

#[test]
fn binary_headers_have_a_length() {
    let header = |octets: usize| {
        let noop = value(0x04, &vec![0; octets - FIXED_OCTETS - V4.len() - 3]);
        binary(0x21, 0x11, &[&V4[..], &noop].concat())
    };
    for command in [0x20, 0x21] {
        let with = |octets: usize| {
            let mut header = header(octets);
            header[SIGNATURE.len()] = command;
            header
        };
        let source = (command == 0x21).then_some("192.0.2.1");
        let header = with(BINARY_OCTETS_MAX);
        let parsed = Header { octets: BINARY_OCTETS_MAX, source: source.map(peer) };
        assert_eq!(parse(&header), Ok(Some(parsed)));
        assert_eq!(parse(&header[..BINARY_OCTETS_MAX - 1]), Ok(None));
        // It is known from the length, before the rest is there.
        assert_eq!(parse(&with(BINARY_OCTETS_MAX + 1)[..FIXED_OCTETS]), Err(Malformed::TooLong));
    }
}

#[test]
fn checksums() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283, "the check value of CRC-32C");
    assert_eq!(crc32c([0; 32].iter()), 0x8a91_36aa, "RFC 3720 appendix B.4");
    for addresses in [V4.to_vec(), v6("2001:db8::1")] {
        let family = if addresses.len() == 12 { 0x11 } else { 0x21 };
        let (before, after) = (value(0x02, b"a.example"), value(0x05, b"id"));
        let rest = |sum: [u8; 4]| [&*addresses, &before, &value(3, &sum), &after].concat();
        let right = crc32c(binary(0x21, family, &rest([0; 4])).iter()).to_be_bytes();
        let header = binary(0x21, family, &rest(right));
        assert!(matches!(parse(&header), Ok(Some(Header { source: Some(_), .. }))));
        // Each octet counts, the checksum's own too, but for those that say whether it is there.
        let kind = FIXED_OCTETS + addresses.len() + before.len();
        for at in (FIXED_OCTETS..header.len()).filter(|at| *at != kind) {
            let mut damaged = header.clone();
            damaged[at] ^= 1;
            assert!(parse(&damaged).is_err(), "octet {at} of {header:?}");
        }
        let twice = [&*addresses, &value(3, &[0; 4]), &value(3, &[0; 4])].concat();
        refused(&binary(0x21, family, &twice), Malformed::Value);
    }
}

/// Both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn what_follows_the_header_stays_in_the_stream() {
    let long = binary(0x21, 0x11, &[&V4[..], &value(0x04, &[7; 1000])].concat());
    for header in [&b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n"[..], &long] {
        let (mut client, mut stream) = connection().await;
        client.write_all(&[header, b"PROXY UNKNOWN\r\n"].concat()).await.unwrap();
        drop(client);
        assert_eq!(read(&mut stream).await.unwrap().source, Some(peer("192.0.2.1")));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"PROXY UNKNOWN\r\n");
    }
}

#[tokio::test]
async fn a_header_may_come_octet_by_octet() {
    let (mut client, mut stream) = connection().await;
    let reading = read(&mut stream);
    let writing = async {
        for octet in binary(0x21, 0x11, &V4) {
            client.write_all(&[octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (header, ()) = tokio::join!(reading, writing);
    assert_eq!(header.unwrap(), Header { octets: 28, source: Some(peer("192.0.2.1")) });
}

#[tokio::test]
async fn a_stream_that_ends_or_says_something_else() {
    for octets in [&b""[..], b"PROXY TCP4 192.0.2.1", SIGNATURE] {
        let (mut client, mut stream) = connection().await;
        client.write_all(octets).await.unwrap();
        drop(client);
        assert!(matches!(read(&mut stream).await, Err(HeaderError::Ended)), "{octets:?}");
    }
    let (mut client, mut stream) = connection().await;
    client.write_all(b"GET /").await.unwrap();
    let error = read(&mut stream).await;
    assert!(matches!(error, Err(HeaderError::Malformed(Malformed::Signature))), "{error:?}");
}

#[test]
fn only_the_configured_are_balancers() {
    let networks = ["192.0.2.0/24", "2001:db8::/32"].map(|net| net.parse().unwrap());
    let balancers = Balancers { networks: networks.into(), ..Balancers::default() };
    for (address, is_one) in [
        ("192.0.2.0", true),
        ("::ffff:192.0.2.255", true),
        ("192.0.3.0", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::", false),
    ] {
        assert_eq!(balancers.contain(peer(address)), is_one, "{address}");
    }
    assert!(!Balancers::default().contain(peer("127.0.0.1")));
}
