//! What a certificate says of itself (RFC 5280 section 4.1): whose it is, for which names, until when.
//! Nothing here verifies anything: that is the library's, before or afterwards.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::der::{
    self, BIT_STRING, Der, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, Value,
};

/// The longest subject that is told of, in octets.
const SUBJECT_OCTETS_MAX: usize = 512;
const BOOLEAN: u8 = 0x01;
/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Types of names that have a short one (RFC 4514 section 3, and some that are as common).
const SHORT: [(&[u8], &str); 11] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
];

/// One certificate's facts.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The number's octets.
    pub serial: &'a [u8],
    /// The issuer's name, encoded.
    pub issuer: &'a [u8],
    /// The name of whose it is, encoded.
    pub subject: &'a [u8],
    /// In seconds since 1970.
    pub not_before: i64,
    /// In seconds since 1970.
    pub not_after: i64,
    /// The public key's octets.
    pub key: &'a [u8],
    /// Of what its extensions say, the alternative names.
    pub(super) names: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads one; none where it is malformed.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let signed = Der(der).expect(SEQUENCE)?.inside().expect(SEQUENCE)?;
        let mut fields = signed.inside();
        fields.optional(der::field(0, true));
        let serial = fields.expect(INTEGER)?.content;
        let _algorithm = fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.whole;
        let mut validity = fields.expect(SEQUENCE)?.inside();
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = fields.expect(SEQUENCE)?.whole;
        let mut key = fields.expect(SEQUENCE)?.inside();
        let _algorithm = key.expect(SEQUENCE)?;
        // Behind the octet that counts unused bits, of which keys have none.
        let key = key.expect(BIT_STRING)?.content.get(1..)?;
        fields.optional(der::field(1, false));
        fields.optional(der::field(2, false));
        let extensions = fields.optional(der::field(3, true));
        let names = extensions.and_then(alternative_names).unwrap_or_default();
        Some(Self { serial, issuer, subject, not_before, not_after, key, names })
    }

    /// The DNS names that it is for, in lower case, in its order.
    pub fn dns_names(&self) -> Vec<String> {
        const DNS_NAME: u8 = der::field(2, false);
        let mut names = Der(self.names);
        let names = std::iter::from_fn(|| names.next()).filter(|name| name.tag == DNS_NAME);
        let names = names.filter_map(|name| std::str::from_utf8(name.content).ok());
        names.filter(|name| name.is_ascii()).map(str::to_ascii_lowercase).collect()
    }

    /// Whose it is, as text (RFC 4514): the most particular first, what could deceive a reader escaped,
    /// cut at a limit.
    pub fn subject_text(&self) -> String {
        let mut text = String::new();
        let mut parts = Vec::new();
        if let Some(name) = Der(self.subject).expect(SEQUENCE) {
            let mut sets = name.inside();
            parts.extend(std::iter::from_fn(|| sets.expect(SET)));
        }
        for set in parts.into_iter().rev() {
            let mut pairs = set.inside();
            for (index, pair) in std::iter::from_fn(|| pairs.expect(SEQUENCE)).enumerate() {
                if !text.is_empty() {
                    text.push(if index == 0 { ',' } else { '+' });
                }
                write_pair(&mut text, pair);
            }
            if text.len() > SUBJECT_OCTETS_MAX {
                let end = text.floor_char_boundary(SUBJECT_OCTETS_MAX);
                text.truncate(end);
                break;
            }
        }
        text
    }
}

fn alternative_names(extensions: Value<'_>) -> Option<&[u8]> {
    let mut extensions = extensions.inside().expect(SEQUENCE)?.inside();
    let named = std::iter::from_fn(|| extensions.expect(SEQUENCE)).find_map(|extension| {
        let mut fields = extension.inside();
        let is_meant = fields.expect(OBJECT_IDENTIFIER)?.content == SUBJECT_ALTERNATIVE_NAME;
        is_meant.then_some(fields)
    });
    let mut fields = named?;
    fields.optional(BOOLEAN);
    Some(fields.expect(OCTET_STRING)?.inside().expect(SEQUENCE)?.content)
}

/// A type and its value. What is neither ASCII nor UTF-8 is written in hexadecimal.
fn write_pair(text: &mut String, pair: Value<'_>) {
    let mut pair = pair.inside();
    let (Some(kind), Some(value)) = (pair.expect(OBJECT_IDENTIFIER), pair.next()) else { return };
    match SHORT.iter().find(|(known, _)| *known == kind.content) {
        Some((_, name)) => text.push_str(name),
        None => write_hex(text, "oid.", kind.content),
    }
    text.push('=');
    // UTF8String, NumericString, PrintableString, TeletexString, IA5String.
    let is_text = matches!(value.tag, 0x0c | 0x12 | 0x13 | 0x14 | 0x16);
    match std::str::from_utf8(value.content) {
        Ok(value) if is_text => value.chars().for_each(|c| write_escaped(text, c)),
        _ => write_hex(text, "#", value.whole),
    }
}

fn write_escaped(text: &mut String, c: char) {
    if c.is_control() || is_unseen(c) {
        let mut octets = [0; 4];
        for octet in c.encode_utf8(&mut octets).as_bytes() {
            write_hex(text, "\\", &[*octet]);
        }
        return;
    }
    if matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
        text.push('\\');
    }
    text.push(c);
}

/// Whether a character shows nothing, ends a line, or turns the order of others round (Unicode's
/// `Default_Ignorable_Code_Point`, `Bidi_Control`, line and paragraph separators, annotations, tags).
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn write_hex(text: &mut String, before: &str, octets: &[u8]) {
    text.push_str(before);
    for octet in octets.iter().take(SUBJECT_OCTETS_MAX) {
        // A string takes whatever is written.
        write!(text, "{octet:02x}").unwrap_or(());
    }
}

/// When the next revocation list is due, in seconds since 1970 (RFC 5280 section 5.1.2.5); none where the
/// list does not say.
pub fn next_update(revocation_list: &[u8]) -> Option<i64> {
    let mut fields = Der(revocation_list).expect(SEQUENCE)?.inside().expect(SEQUENCE)?.inside();
    fields.optional(INTEGER);
    let _algorithm = fields.expect(SEQUENCE)?;
    let _issuer = fields.expect(SEQUENCE)?;
    let _this_update = fields.time()?;
    fields.time()
}
