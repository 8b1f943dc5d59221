//! Numbers as text: integers of a width, decimals, and address ranges.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An integer as JSON writes it, no plus sign and no leading zero, that a `T` holds.
pub(super) fn is_integer<T: FromStr>(text: &str) -> bool {
    is_written_plainly(text) && text.parse::<T>().is_ok()
}

/// The same of a size of at most `LARGEST`.
pub(super) fn is_integer_to<const LARGEST: i64>(text: &str) -> bool {
    is_written_plainly(text)
        && text.parse().is_ok_and(|number: i64| (-LARGEST..=LARGEST).contains(&number))
}

fn is_written_plainly(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|digit| digit.is_ascii_digit())
        && (digits == "0" || !digits.is_empty() && !digits.starts_with('0'))
}

/// The parts of a decimal: the digits before the point and behind it, and the exponent.
struct Numeral<'t> {
    whole: &'t str,
    fraction: &'t str,
    exponent: &'t str,
}

/// A signed numeric literal of SQL (ISO/IEC 9075-2, 5.3), which the registry names for `decimal`: a
/// sign, digits on one side of a point at least, and perhaps an exponent.
fn numeral(text: &str) -> Option<Numeral<'_>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (significand, exponent) =
        unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(one, other)| (one, Some(other)));
    let (whole, fraction) = significand.split_once('.').unwrap_or((significand, ""));
    let is_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let has_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    let is_numeral =
        is_digits(whole) && is_digits(fraction) && whole.len() + fraction.len() > 0 && has_exponent;
    is_numeral.then_some(Numeral { whole, fraction, exponent: exponent.unwrap_or("0") })
}

/// `decimal`, and `unixtime` as text.
pub(super) fn is_decimal(text: &str) -> bool {
    numeral(text).is_some()
}

/// What IEEE 754's decimal128 holds without rounding: 34 significant digits, the first of which is
/// worth 10^6144 at most and the last 10^-6176 at least; or one of the special values that the
/// registry names.
pub(super) fn is_decimal128(text: &str) -> bool {
    const DIGITS: usize = 34;
    if matches!(text, "NaN" | "INF" | "-INF") {
        return true;
    }
    let Some(Numeral { whole, fraction, exponent }) = numeral(text) else { return false };
    let mut significant = None;
    for (index, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if digit != b'0' {
            significant = Some((significant.map_or(index, |(first, _)| first), index));
        }
    }
    let Some((first, last)) = significant else { return true };
    let (Ok(exponent), Ok(whole)) = (exponent.parse::<i32>(), i64::try_from(whole.len())) else {
        return false;
    };
    let worth = |index: usize| {
        i64::try_from(index).map_or(i64::MIN, |index| i64::from(exponent) + whole - 1 - index)
    };
    last - first < DIGITS && worth(first) <= 6_144 && worth(last) >= -6_176
}

/// An IPv4 address and the length of its prefix (RFC 4632 section 3.1).
pub(super) fn is_ipv4_range(text: &str) -> bool {
    is_range::<Ipv4Addr>(text, 32)
}

/// An IPv6 address and the length of its prefix (RFC 4291 section 2.3).
pub(super) fn is_ipv6_range(text: &str) -> bool {
    is_range::<Ipv6Addr>(text, 128)
}

fn is_range<A: FromStr>(text: &str, longest: u8) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<A>().is_ok()
            && is_written_plainly(length)
            && length.parse().is_ok_and(|length: u8| length <= longest)
    })
}
