//! A certificate's status as its authority has signed it (OCSP, RFC 6960), to be stapled: whether it is
//! about this certificate, says that it is good, and until when. The signature is the clients' to verify:
//! a forged one could only harm whoever put it here.

#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};

use super::certificate::Certificate;
use super::der::{
    self, Der, ENUMERATED, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, Value,
};

/// `responseStatus`: successful.
const SUCCESSFUL: &[u8] = &[0];
/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// `certStatus`: good.
const GOOD: u8 = der::field(0, false);

/// Which digests name an issuer.
const DIGESTS: [(&[u8], &Algorithm); 4] = [
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &SHA1_FOR_LEGACY_USE_ONLY),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512),
];

/// Why a response is not stapled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("not an OCSP response in DER")]
    Malformed,
    #[error("the responder could not answer")]
    Unsuccessful,
    #[error("of another certificate")]
    OtherCertificate,
    #[error("it says that the certificate is revoked, or unknown")]
    NotGood,
}

/// Until when the response says that the certificate is good, in seconds since 1970; none: for as long as
/// nobody knows better. The issuer is unknown where the chain ends with the certificate.
pub fn good_until(
    response: &[u8],
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) -> Result<Option<i64>, Unfit> {
    let mut outer = Der(response).expect(SEQUENCE).ok_or(Unfit::Malformed)?.inside();
    if outer.expect(ENUMERATED).ok_or(Unfit::Malformed)?.content != SUCCESSFUL {
        return Err(Unfit::Unsuccessful);
    }
    let mut found = Err(Unfit::OtherCertificate);
    let mut responses = responses(outer).ok_or(Unfit::Malformed)?;
    while !responses.0.is_empty() {
        let single = responses.expect(SEQUENCE).ok_or(Unfit::Malformed)?;
        let mut fields = single.inside();
        let id = fields.expect(SEQUENCE).ok_or(Unfit::Malformed)?;
        if !is_about(id, certificate, issuer).ok_or(Unfit::Malformed)? {
            continue;
        }
        if fields.next().ok_or(Unfit::Malformed)?.tag != GOOD {
            return Err(Unfit::NotGood);
        }
        let _this_update = fields.time().ok_or(Unfit::Malformed)?;
        found = Ok(match fields.optional(der::field(0, true)) {
            Some(next) => Some(next.inside().time().ok_or(Unfit::Malformed)?),
            None => None,
        });
    }
    found
}

fn responses(mut outer: Der<'_>) -> Option<Der<'_>> {
    let mut typed = outer.expect(der::field(0, true))?.inside().expect(SEQUENCE)?.inside();
    (typed.expect(OBJECT_IDENTIFIER)?.content == BASIC).then_some(())?;
    let mut basic = typed.expect(OCTET_STRING)?.inside().expect(SEQUENCE)?.inside();
    let mut data = basic.expect(SEQUENCE)?.inside();
    data.optional(der::field(0, true));
    let _responder = data.next()?;
    let _produced_at = data.time()?;
    Some(data.expect(SEQUENCE)?.inside())
}

/// Whether a `CertID` is this certificate's.
fn is_about(
    id: Value<'_>,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) -> Option<bool> {
    let mut fields = id.inside();
    let algorithm = fields.expect(SEQUENCE)?.inside().expect(OBJECT_IDENTIFIER)?.content;
    let name = fields.expect(OCTET_STRING)?.content;
    let key = fields.expect(OCTET_STRING)?.content;
    let serial = fields.expect(INTEGER)?.content;
    let Some((_, algorithm)) = DIGESTS.iter().find(|(known, _)| *known == algorithm) else {
        return Some(false);
    };
    let is = |digested: &[u8], of: &[u8]| digest(algorithm, of).as_ref() == digested;
    let is_issuers = issuer.is_none_or(|issuer| is(key, issuer.key));
    Some(serial == certificate.serial && is(name, certificate.issuer) && is_issuers)
}
