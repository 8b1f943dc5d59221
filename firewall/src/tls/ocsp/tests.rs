//! Responses built by hand: of this certificate and of others, good and not, malformed anywhere.

use super::*;

const THIS_UPDATE: &[u8] = b"20260101000000Z";
const NEXT_UPDATE: &[u8] = b"20260108000000Z";
const NEXT_UPDATE_SECONDS: i64 = 1_767_830_400;
const IS_GOOD: &[u8] = &[0x80, 0];
const IS_REVOKED: &[u8] = &[
    0xa1, 17, 0x18, 15, b'2', b'0', b'2', b'6', b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0',
    b'0', b'0', b'Z',
];

const LEAF: Certificate<'_> = certificate(&[7], b"issuer", b"leaf", b"leaf's key");
const ISSUER: Certificate<'_> = certificate(&[1], b"issuer", b"issuer", b"issuer's key");

const fn certificate<'a>(
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    key: &'a [u8],
) -> Certificate<'a> {
    Certificate { serial, issuer, subject, not_before: 0, not_after: 0, key, names: &[] }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], &content].concat()
}

/// One certificate's status.
fn single(
    algorithm: usize,
    issuer: &Certificate<'_>,
    serial: &[u8],
    status: &[u8],
    next: Option<&[u8]>,
) -> Vec<u8> {
    let (identifier, algorithm) = DIGESTS[algorithm];
    let id = tlv(
        SEQUENCE,
        &[
            &tlv(SEQUENCE, &[&tlv(OBJECT_IDENTIFIER, &[identifier]), &[5, 0]]),
            &tlv(OCTET_STRING, &[digest(algorithm, issuer.subject).as_ref()]),
            &tlv(OCTET_STRING, &[digest(algorithm, issuer.key).as_ref()]),
            &tlv(INTEGER, &[serial]),
        ],
    );
    let next = next.map(|next| tlv(0xa0, &[&tlv(0x18, &[next])])).unwrap_or_default();
    tlv(SEQUENCE, &[&id, status, &tlv(0x18, &[THIS_UPDATE]), &next])
}

fn response(status: u8, singles: &[&[u8]]) -> Vec<u8> {
    let data = tlv(
        SEQUENCE,
        &[&tlv(0xa1, &[&tlv(SEQUENCE, &[])]), &tlv(0x18, &[THIS_UPDATE]), &tlv(SEQUENCE, singles)],
    );
    let basic = tlv(SEQUENCE, &[&data, &tlv(SEQUENCE, &[]), &tlv(BIT_STRING, &[&[0, 1]])]);
    let typed = tlv(SEQUENCE, &[&tlv(OBJECT_IDENTIFIER, &[BASIC]), &tlv(OCTET_STRING, &[&basic])]);
    tlv(SEQUENCE, &[&tlv(ENUMERATED, &[&[status]]), &tlv(0xa0, &[&typed])])
}

const BIT_STRING: u8 = der::BIT_STRING;

#[test]
fn statuses() {
    let good = single(0, &ISSUER, &[7], IS_GOOD, Some(NEXT_UPDATE));
    let for_ever = single(1, &ISSUER, &[7], IS_GOOD, None);
    let other = single(0, &ISSUER, &[8], IS_GOOD, Some(NEXT_UPDATE));
    let revoked = single(0, &ISSUER, &[7], IS_REVOKED, None);
    let unknown = single(0, &ISSUER, &[7], &[0x82, 0], None);
    let stranger = certificate(&[1], b"issuer", b"issuer", b"another key");
    let of_stranger = single(0, &stranger, &[7], IS_GOOD, None);
    let namesake = certificate(&[1], b"other", b"other", b"issuer's key");
    let of_namesake = single(0, &namesake, &[7], IS_GOOD, None);
    let until = Ok(Some(NEXT_UPDATE_SECONDS));
    for (response, issuer, expected) in [
        (response(0, &[&good]), Some(&ISSUER), until),
        (response(0, &[&good]), None, until),
        (response(0, &[&other, &good]), Some(&ISSUER), until),
        (response(0, &[&for_ever]), Some(&ISSUER), Ok(None)),
        (response(0, &[&other]), Some(&ISSUER), Err(Unfit::OtherCertificate)),
        (response(0, &[]), Some(&ISSUER), Err(Unfit::OtherCertificate)),
        (response(0, &[&of_stranger]), Some(&ISSUER), Err(Unfit::OtherCertificate)),
        (response(0, &[&of_namesake]), Some(&ISSUER), Err(Unfit::OtherCertificate)),
        (response(0, &[&revoked]), Some(&ISSUER), Err(Unfit::NotGood)),
        (response(0, &[&unknown]), Some(&ISSUER), Err(Unfit::NotGood)),
        (response(6, &[&good]), Some(&ISSUER), Err(Unfit::Unsuccessful)),
        (b"-----BEGIN".to_vec(), Some(&ISSUER), Err(Unfit::Malformed)),
        (Vec::new(), Some(&ISSUER), Err(Unfit::Malformed)),
    ] {
        assert_eq!(good_until(&response, &LEAF, issuer), expected);
    }
    let whole = response(0, &[&good]);
    for end in 0..whole.len() {
        assert_eq!(good_until(&whole[..end], &LEAF, None), Err(Unfit::Malformed), "cut at {end}");
    }
}
