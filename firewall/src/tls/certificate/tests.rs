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
