//! Exact and inexact numbers, and multiples: tables, then a comparison with arithmetic on texts.

use super::*;

#[test]
fn what_every_receiver_reads_alike() {
    for (text, expected) in [
        // Integers within 64 bits, and the next ones.
        ("0", true),
        ("-0", true),
        ("18446744073709551615", true),
        ("18446744073709551616", false),
        ("-9223372036854775808", true),
        ("-9223372036854775809", false),
        // The same value, however it is written.
        ("0.0", true),
        ("-0.0", true),
        ("0e999999999999999999999", true),
        ("0.000000000000000000000000000000", true),
        ("1.50", true),
        ("1e2", true),
        ("1E+2", true),
        ("100e-2", true),
        ("0.1e1", true),
        ("19.99", true),
        ("-19.99", true),
        ("1.00000000000000000000000000000000", true),
        ("10000000000000000000000000000000.0", true),
        ("0.00000000000000000000000000000001", true),
        // 15 digits, 16 and 17.
        ("0.123456789012345", true),
        ("123456789012345e10", true),
        ("0.1234567890123456", true),
        ("0.30000000000000004", true),
        ("0.30000000000000003", false),
        ("0.3000000000000000444", false),
        ("0.1000000000000000055511151231257827", false),
        ("0.10000000000000000000000000000001", false),
        ("9007199254740993.0", false),
        ("9007199254740992.0", true),
        ("9007199254740993e0", false),
        ("18446744073709551616.0", false),
        ("18446744073709552000.0", true),
        ("1e22", true),
        ("1e23", true),
        ("9.999999999999999e22", false),
        ("99999999999999991611392.0", false),
        ("123456789012345678e3", false),
        // The ends of the range.
        ("1e308", true),
        ("1.7976931348623157e308", true),
        ("1.7976931348623158e308", false),
        ("1.7976931348623159e308", false),
        ("1e309", false),
        ("1e400", false),
        ("1e99999999999999999999", false),
        ("2.2250738585072014e-308", true),
        ("2.2250738585072011e-308", false),
        ("1e-307", true),
        ("5e-324", true),
        ("4.9e-324", false),
        ("4.94e-324", false),
        ("1e-323", true),
        ("1.1e-323", false),
        ("1.5e-323", true),
        ("1.23456789012345e-310", false),
        ("3e-324", false),
        ("2e-324", false),
        ("1e-400", false),
        ("-1e-99999999999999999999", false),
        // Not numbers.
        ("", false),
        ("-", false),
        (".", false),
        ("1.", false),
        (".5", false),
        ("+1.5", false),
        ("01.5", false),
        ("00", false),
        ("1e", false),
        ("1e+", false),
        ("e5", false),
        ("1.5.5", false),
        ("1e5e5", false),
        ("1e5.0", false),
        (" 1.5", false),
        ("1.5 ", false),
        ("0x1p3", false),
        ("NaN", false),
        ("Infinity", false),
        ("1-2", false),
        ("١.٥", false),
    ] {
        assert_eq!(is_exact(text), expected, "{text}");
    }
}

/// `SplitMix64` (Steele, Lea and Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn the_shortest_decimal_of_a_double_is_exact_and_its_neighbours_are_not() {
    let mut state = 3;
    let mut longer_ones = 0;
    for round in 0..20_000 {
        let double = match round % 3 {
            0 => f64::from_bits(random(&mut state)),
            // Few binary digits, and prices: short decimals.
            1 => f64::from_bits(random(&mut state) & 0xfff0_f000_0000_0000),
            _ => f64::from(u32::try_from(random(&mut state) >> 36).unwrap()) / 100.0,
        };
        if !double.is_finite() {
            continue;
        }
        let text = format!("{double:e}");
        assert!(is_exact(&text), "{text}");
        let shortest = Decimal::shortest(double).unwrap();
        let Decimal { is_negative, digits, exponent } = shortest;
        let sign = if is_negative { "-" } else { "" };
        let again = format!("{sign}{digits}e{exponent}");
        #[expect(clippy::float_cmp, reason = "the same double is meant")]
        let is_same = again.parse::<f64>().unwrap() == double;
        assert!(is_same, "{again} of {text}");
        let (mantissa, power) = text.split_once('e').unwrap();
        let digits_of = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        assert!(digits.to_string().len() <= digits_of(mantissa), "{again} of {text}");
        // A longer decimal of the same double is inexact.
        let longer = format!("{mantissa}1e{power}");
        if mantissa.contains('.') && longer.parse::<f64>().unwrap().to_bits() == double.to_bits() {
            assert!(!is_exact(&longer), "{longer}");
            longer_ones += 1;
        }
    }
    assert!(longer_ones > 1_000, "only {longer_ones} doubles have a longer decimal");
}

fn decimal(text: &str) -> Decimal {
    Decimal::from(&serde_json::from_str::<Number>(text).unwrap())
}

#[test]
fn multiples() {
    for (number, divisor, expected) in [
        ("19.99", "0.01", true),
        ("19.995", "0.01", false),
        ("0.30000000000000004", "0.1", false),
        ("0.3", "0.1", true),
        ("1.1", "0.1", true),
        ("4.35", "0.01", true),
        ("0.07", "0.01", true),
        ("8.61", "0.01", true),
        ("1e2", "0.5", true),
        ("0.0075", "0.0001", true),
        ("0.00751", "0.0001", false),
        ("35", "1.5", false),
        ("4.5", "1.5", true),
        ("-4.5", "1.5", true),
        ("4.5", "-1.5", true),
        ("0", "7", true),
        ("-0.0", "0.1", true),
        ("1", "0", false),
        ("0", "0", false),
        ("7", "3", false),
        ("9", "3", true),
        ("3", "9", false),
        ("1", "10", false),
        ("1e20", "10", true),
        ("9007199254740993", "3", true),
        ("9007199254740992", "3", false),
        ("18446744073709551615", "5", true),
        ("18446744073709551615", "18446744073709551615", true),
        ("18446744073709551614", "18446744073709551615", false),
        ("-9223372036854775808", "2", true),
        ("-9223372036854775808", "3", false),
        ("1e308", "1e-300", true),
        ("1e308", "3e-300", false),
        ("3e300", "1.5e-300", true),
        ("1e308", "0.123456789", false),
        ("1.7976931348623157e308", "5e-324", true),
        ("1.7976931348623157e308", "3e-323", false),
        ("5e-324", "5e-324", true),
        ("5e-324", "1e308", false),
        ("1e308", "18446744073709551615", false),
        ("12391239123", "1e-8", true),
    ] {
        assert_eq!(
            decimal(number).is_multiple_of(&decimal(divisor)),
            expected,
            "{number} of {divisor}"
        );
    }
}

#[test]
fn multiples_agree_with_long_division() {
    let mut state = 11;
    let mut multiples = 0;
    for _ in 0..20_000 {
        let mut part = |bound: u64| random(&mut state) % bound;
        let (digits, exponent) = (part(5_000), i32::try_from(part(9)).unwrap() - 4);
        let (divisor, divisor_exponent) = (part(60) + 1, i32::try_from(part(9)).unwrap() - 4);
        let number = Decimal::new(false, digits, exponent);
        let by = Decimal::new(false, divisor, divisor_exponent);
        // Both as multiples of 10^-4, which is the smallest unit there is here.
        let whole =
            |digits: u64, exponent: i32| digits * 10_u64.pow(u32::try_from(exponent + 4).unwrap());
        let expected = whole(digits, exponent).is_multiple_of(whole(divisor, divisor_exponent));
        assert_eq!(number.is_multiple_of(&by), expected, "{number:?} of {by:?}");
        multiples += u32::from(expected);
    }
    assert!((2_000..18_000).contains(&multiples), "{multiples} of 20,000 are multiples");
}
