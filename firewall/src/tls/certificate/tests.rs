//! Certificates as the generator makes them, and cut anywhere.

use rcgen::{CertificateParams, DnType, DnValue, KeyPair, date_time_ymd};

use super::*;

fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let names = ["API.example".into(), "*.api.example".into(), "192.0.2.1".into()];
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.not_before = date_time_ymd(2024, 2, 29);
    params.not_after = date_time_ymd(2054, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn what_a_certificate_says() {
    let der = made(|params| {
        let name = &mut params.distinguished_name;
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "Example, Inc. + \"Sons\"\n");
        name.push(DnType::CommonName, "zähler-1");
    });
    let found = Certificate::parse(&der).unwrap();
    assert_eq!(found.not_before, 1_709_164_800);
    assert_eq!(found.not_after, 2_650_838_400, "a generalized time, after 2049");
    assert_eq!(found.dns_names(), ["api.example", "*.api.example"]);
    assert_eq!(found.subject, found.issuer);
    assert_eq!(found.subject_text(), "CN=zähler-1,O=Example\\, Inc. \\+ \\\"Sons\\\"\\0a,C=DE");
    for end in 0..der.len() {
        assert!(Certificate::parse(&der[..end]).is_none(), "cut at {end}");
    }
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0xff;
        if let Some(certificate) = Certificate::parse(&changed) {
            drop((certificate.subject_text(), certificate.dns_names()));
        }
    }
}

#[test]
fn what_could_deceive_a_reader_is_escaped() {
    for (name, expected) in [
        ("a\u{202e}b", r"CN=a\e2\80\aeb"),
        ("a\u{2066}b\u{2069}", r"CN=a\e2\81\a6b\e2\81\a9"),
        ("\u{200b}admin\u{feff}", r"CN=\e2\80\8badmin\ef\bb\bf"),
        ("a\u{2028}b\u{85}c\u{7f}", r"CN=a\e2\80\a8b\c2\85c\7f"),
        ("\u{e0041}", r"CN=\f3\a0\81\81"),
        // The neighbours, and letters that are written from right to left.
        ("\u{200a}\u{2010}\u{2027}\u{202f}", "CN=\u{200a}\u{2010}\u{2027}\u{202f}"),
        ("\u{5d0}\u{5d1}", "CN=\u{5d0}\u{5d1}"),
    ] {
        let der = made(|params| params.distinguished_name.push(DnType::CommonName, name));
        assert_eq!(Certificate::parse(&der).unwrap().subject_text(), expected, "{name:?}");
    }
}

#[test]
fn subjects_are_cut() {
    let der = made(|params| {
        params.distinguished_name.push(DnType::CommonName, "ü".repeat(400));
    });
    let text = Certificate::parse(&der).unwrap().subject_text();
    assert!(
        text.len() <= SUBJECT_OCTETS_MAX && text.len() > SUBJECT_OCTETS_MAX - 4,
        "{}",
        text.len()
    );
    let der = made(|params| {
        let custom = DnType::CustomDnType(vec![1, 2, 3, 4]);
        params.distinguished_name.push(custom, DnValue::Utf8String("a".into()));
    });
    assert_eq!(Certificate::parse(&der).unwrap().subject_text(), "oid.2a0304=a");
    let der = made(|_| {});
    assert_eq!(Certificate::parse(&der).unwrap().subject_text(), "");
}
