//! Sessions as the library encodes them, and cut anywhere.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

fn counted(octets_of_length: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[4 - octets_of_length..], content].concat()
}

fn session(name: Option<&str>, shown: Option<&[u8]>) -> Vec<u8> {
    let name = name.map_or(vec![0], |name| [&[1][..], &counted(1, name.as_bytes())].concat());
    let chain = |der: &[u8]| counted(3, &[counted(3, der), counted(3, b"issuer")].concat());
    let shown = shown.map_or(vec![0], |der| [&[1][..], &chain(der)].concat());
    // TLS 1.3, a suite, a secret, with the extended one; no protocol, no data, two times.
    let middle = [&[3, 4, 0x13, 2][..], &counted(1, &[7; 48]), &[1]].concat();
    [name, middle, shown, vec![0; 15]].concat()
}

#[test]
fn who_has_shown_what_is_over_begins_anew() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_after = date_time_ymd(2026, 1, 1);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let last = 1_767_225_600;
    for name in [None, Some("api.example")] {
        for (shown, now, expected) in [
            (Some(&der[..]), last - 1, true),
            (Some(&der), last, true),
            (Some(&der), last + 1, false),
            (Some(&der[1..]), last - 1, false),
            (None, last + 1, true),
        ] {
            let session = session(name, shown);
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            assert_eq!(goes_on(&session, now), expected, "{name:?} {shown:?} {now:?}");
            // Behind the certificates nothing is read.
            for end in 0..session.len() - 15 {
                assert!(!goes_on(&session[..end], now), "cut at {end}");
            }
        }
    }
}
