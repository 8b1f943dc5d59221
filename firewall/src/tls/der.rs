//! The little of DER (X.690) that certificates and their statuses need: values one after another, each
//! within the one that holds it, and times.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The tag of a field that its number in the structure names, constructed or not.
pub(super) const fn field(number: u8, is_constructed: bool) -> u8 {
    0x80 | number | if is_constructed { 0x20 } else { 0 }
}

/// Values, from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Der<'a> {
    /// The next value; none at the end, or where its length leads out.
    pub(super) fn next(&mut self) -> Option<Value<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (octets, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // Four octets of length are more than any file that is read.
            long @ 0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                let read = |sum: usize, octet: &u8| (sum << 8) | usize::from(*octet);
                (length.iter().fold(0, read), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(octets)?;
        let whole = self.0.get(..self.0.len() - after.len())?;
        self.0 = after;
        Some(Value { tag: *tag, content, whole })
    }

    /// The next value, which must be of this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next().filter(|value| value.tag == tag)
    }

    /// The next value, if it is of this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Value<'a>> {
        (self.0.first() == Some(&tag)).then(|| self.next()).flatten()
    }

    /// The next value, a time, in seconds since 1970.
    pub(super) fn time(&mut self) -> Option<i64> {
        let value = self.next()?;
        time(value)
    }
}

impl<'a> Value<'a> {
    /// What is inside.
    pub(super) fn inside(self) -> Der<'a> {
        Der(self.content)
    }
}

/// A time in seconds since 1970 (RFC 5280 section 4.1.2.5: to the second, in UTC).
pub(super) fn time(value: Value<'_>) -> Option<i64> {
    let text = value.content.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (year, rest) = match (value.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(text.get(..2)?);
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        (GENERALIZED_TIME, 14) => (number(text.get(..4)?), text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).map(number);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, years counted from March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_within_what_holds_them() {
        for (octets, expected) in [
            (&[0x04, 0x00][..], Some(&[][..])),
            (&[0x04, 0x01, 7], Some(&[7])),
            (&[0x04, 0x01, 7, 8], Some(&[7])),
            (&[0x04, 0x81, 0x01, 7], Some(&[7])),
            (&[0x04, 0x84, 0, 0, 0, 1, 7], Some(&[7])),
            (&[], None),
            (&[0x04], None),
            (&[0x04, 0x02, 7], None),
            (&[0x04, 0x80, 7, 0, 0], None),
            (&[0x04, 0x82, 1], None),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 1], None),
            (&[0x04, 0x85, 0, 0, 0, 0, 1, 7], None),
        ] {
            assert_eq!(Der(octets).next().map(|value| value.content), expected, "{octets:?}");
        }
        let mut two = Der(&[0x02, 0x01, 5, 0x04, 0x00]);
        assert!(two.optional(OCTET_STRING).is_none());
        assert_eq!(two.expect(INTEGER).map(|value| value.whole), Some(&[0x02, 0x01, 5][..]));
        assert!(two.expect(INTEGER).is_none());
    }

    #[test]
    fn times() {
        let at = |tag, text: &str| time(Value { tag, content: text.as_bytes(), whole: &[] });
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "700101000000", None),
            (UTC_TIME, "70010100000aZ", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "700100000000Z", None),
            (UTC_TIME, "700101240000Z", None),
            (GENERALIZED_TIME, "700101000000Z", None),
            (SEQUENCE, "700101000000Z", None),
        ] {
            assert_eq!(at(tag, text), expected, "{text}");
        }
    }
}
