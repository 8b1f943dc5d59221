//! Decimals as they are written: which of them every receiver reads alike, and exact multiples.
//!
//! Doubles are what most receivers make of a number, and the shortest decimal that names a double is
//! how they write it again. A number whose receivers could disagree is one that this pair of
//! conversions does not give back.

use std::fmt::{self, Write};

use serde_json::Number;

use super::tape::TapeNumber;

/// Significant digits that any decimal may have and still be named by its double, within
/// [`EXACT_EXPONENTS`].
const EXACT_DIGITS: usize = 15;
/// Significant digits beyond which no shortest decimal goes.
const SHORTEST_DIGITS: usize = 17;
/// Exponents of the first digit, in scientific notation, for which every double is normal.
const EXACT_EXPONENTS: std::ops::RangeInclusive<i64> = -307..=307;

/// A decimal number, exactly: its digits times a power of ten. Equal values are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    is_negative: bool,
    /// Without trailing zeros, unless it is zero.
    digits: u64,
    /// Zero for the number zero.
    exponent: i32,
}

impl Decimal {
    fn new(is_negative: bool, mut digits: u64, mut exponent: i32) -> Self {
        if digits == 0 {
            return Self { is_negative: false, digits, exponent: 0 };
        }
        while digits.is_multiple_of(10) {
            digits /= 10;
            exponent += 1;
        }
        Self { is_negative, digits, exponent }
    }

    /// The shortest decimal that names `double`, nearest to it where there are several, as
    /// ECMA-262's `Number::toString` writes it; none for what is not finite.
    pub fn shortest(double: f64) -> Option<Self> {
        short_fraction(double).or_else(|| shortest_by_text(double))
    }

    /// Whether `self` is a whole multiple of `divisor`, without rounding. Zero is a multiple of
    /// everything but zero, of which nothing is one. Takes a few dozen steps at most, whatever the
    /// exponents.
    pub fn is_multiple_of(&self, divisor: &Self) -> bool {
        if divisor.digits == 0 {
            return false;
        }
        // Digits end in no zero: where the divisor's unit is the larger, ten divides only one side.
        let Ok(power) = u32::try_from(self.exponent - divisor.exponent) else {
            return self.digits == 0;
        };
        let modulus = u128::from(divisor.digits);
        // Every factor is below 2^64, so that no product exceeds 128 bits.
        let (mut rest, mut base, mut power) =
            (u128::from(self.digits) % modulus, 10 % modulus, power);
        while power > 0 && rest > 0 {
            if power % 2 == 1 {
                rest = rest * base % modulus;
            }
            base = base * base % modulus;
            power /= 2;
        }
        rest == 0
    }
}

impl From<TapeNumber> for Decimal {
    fn from(number: TapeNumber) -> Self {
        match number {
            TapeNumber::I64(integer) => Self::new(integer < 0, integer.unsigned_abs(), 0),
            TapeNumber::U64(integer) => Self::new(false, integer, 0),
            // simd-json refuses what is not finite.
            TapeNumber::F64(double) => Self::shortest(double).unwrap_or(Self::new(false, 0, 0)),
        }
    }
}

impl From<&Number> for Decimal {
    fn from(number: &Number) -> Self {
        let number = if let Some(integer) = number.as_u64() {
            TapeNumber::U64(integer)
        } else if let Some(integer) = number.as_i64() {
            TapeNumber::I64(integer)
        } else {
            // A Number is finite.
            TapeNumber::F64(number.as_f64().unwrap_or_default())
        };
        number.into()
    }
}

/// The decimal of a double that a whole number below 10^15 divided by a small power of ten names, as
/// prices are: such a division is rounded once, and no other decimal of so few digits is rounded to
/// the same double.
fn short_fraction(double: f64) -> Option<Decimal> {
    let size = double.abs();
    for (exponent, power) in [(0, 1.0), (-1, 10.0), (-2, 1e2), (-3, 1e3), (-4, 1e4), (-6, 1e6)] {
        let whole = (size * power).round();
        #[expect(clippy::float_cmp, reason = "the quotient must be this double and no other")]
        let is_named = whole < 1e15 && whole / power == size;
        if is_named {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative and below 10^15"
            )]
            return Some(Decimal::new(double < 0.0, whole as u64, exponent));
        }
    }
    None
}

#[cold]
fn shortest_by_text(double: f64) -> Option<Decimal> {
    if !double.is_finite() {
        return None;
    }
    let mut text = ShortText { octets: [0; 32], len: 0 };
    write!(text, "{double:e}").ok()?;
    let Written { is_negative, digits, count: _, exponent } =
        Written::read(text.octets.get(..text.len)?)?;
    Some(Decimal::new(is_negative, digits, i32::try_from(exponent).ok()?))
}

/// Room for the longest scientific notation of a double: sign, 17 digits, point, `e-308`.
struct ShortText {
    octets: [u8; 32],
    len: usize,
}

impl Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.octets.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A JSON number's text, as digits and a power of ten.
struct Written {
    is_negative: bool,
    /// The significant digits, without leading and trailing zeros; meaningless beyond 17 of them.
    digits: u64,
    count: usize,
    exponent: i64,
}

impl Written {
    /// None where `text` holds anything but digits, a sign, a point and an exponent. Exponents of
    /// any length are read as ±10^9 at most, which no double reaches.
    fn read(text: &[u8]) -> Option<Self> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let mut written = Self { is_negative, digits: 0, count: 0, exponent: 0 };
        // Zeros are held back until a digit behind them shows that they are significant.
        let (mut zeros, mut is_fraction) = (0_usize, false);
        let mut octets = text.iter();
        for octet in octets.by_ref() {
            match octet {
                b'0'..=b'9' => {
                    written.exponent -= i64::from(is_fraction);
                    if *octet == b'0' {
                        zeros += usize::from(written.count > 0);
                        continue;
                    }
                    written.count += zeros + 1;
                    for _ in 0..zeros.min(SHORTEST_DIGITS) {
                        written.digits = written.digits.wrapping_mul(10);
                    }
                    zeros = 0;
                    written.digits =
                        written.digits.wrapping_mul(10).wrapping_add(u64::from(octet - b'0'));
                }
                b'.' if !is_fraction => is_fraction = true,
                b'e' | b'E' => {
                    written.exponent += exponent(octets.as_slice())?;
                    break;
                }
                _ => return None,
            }
        }
        written.exponent += i64::try_from(zeros).ok()?;
        Some(written)
    }
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut exponent = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        exponent = (exponent * 10 + i64::from(digit - b'0')).min(1_000_000_000);
    }
    Some(if is_negative { -exponent } else { exponent })
}

/// Whether every receiver of the JSON number `text` gets the value that is written: an integer
/// within 64 bits, or, with a fraction or an exponent, a decimal equal to the shortest one that names
/// its double (`1.50` and `1e2` are; `0.1000000000000000055` and `1e-400` are not). False for what is
/// not a number of RFC 8259 section 6.
pub fn is_exact(text: &str) -> bool {
    match syntax(text.as_bytes()) {
        None => false,
        Some(Syntax::Integer) => text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok(),
        Some(Syntax::Decimal) => is_exact_decimal(text),
    }
}

/// The same of a number that is known to be one and to have a fraction or an exponent.
pub(super) fn is_exact_decimal(text: &str) -> bool {
    let Some(written) = Written::read(text.as_bytes()) else { return false };
    if written.count == 0 {
        return true;
    }
    let behind_first = i64::try_from(written.count).unwrap_or(i64::MAX) - 1;
    let first = written.exponent.saturating_add(behind_first);
    if written.count <= EXACT_DIGITS && EXACT_EXPONENTS.contains(&first) {
        return true;
    }
    if written.count > SHORTEST_DIGITS || !(-400..=400).contains(&first) {
        return false;
    }
    let shortest = text.parse().ok().and_then(Decimal::shortest);
    i32::try_from(written.exponent).is_ok_and(|exponent| {
        shortest == Some(Decimal::new(written.is_negative, written.digits, exponent))
    })
}

/// The two kinds of JSON numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Integer,
    Decimal,
}

/// RFC 8259 section 6.
fn syntax(text: &[u8]) -> Option<Syntax> {
    let digits = |text: &[u8]| text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || whole > 1 && text.starts_with(b"0") {
        return None;
    }
    let mut rest = text.get(whole..)?;
    let mut found = Syntax::Integer;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        rest = fraction.get(count..).filter(|_| count > 0)?;
        found = Syntax::Decimal;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            _ => exponent,
        };
        let count = digits(exponent);
        rest = exponent.get(count..).filter(|_| count > 0)?;
        found = Syntax::Decimal;
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests;
