//! Each format of ours: accepted, refused and boundary texts.

use super::*;
use crate::json::TapeJson;

#[track_caller]
fn check(name: &str, accepted: &[&str], refused: &[&str]) {
    let (_, check) = text_checks().find(|(known, _)| *known == name).expect(name);
    for text in accepted {
        assert!(check(text), "{name} refuses {text:?}");
    }
    for text in refused {
        assert!(!check(text), "{name} accepts {text:?}");
    }
}

/// The names of the registry, each enforced.
#[test]
fn the_registry_is_known() {
    let standard = [
        "date",
        "date-time",
        "duration",
        "hostname",
        "idn-email",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "iri",
        "iri-reference",
        "json-pointer",
        "relative-json-pointer",
        "time",
        "uri",
        "uri-reference",
        "uri-template",
        "uuid",
    ];
    let options = jsonschema::options_for::<TapeJson>();
    for name in standard {
        assert!(matches!(format(name), Some(Format::Text)), "{name}");
        assert!(text_checks().all(|(ours, _)| ours != name), "{name}");
        assert!(options.is_known_format(jsonschema::Draft::Draft202012, name), "{name}");
    }
    for name in [
        "base64url",
        "binary",
        "byte",
        "char",
        "commonmark",
        "date-time-local",
        "decimal",
        "decimal128",
        "double",
        "double-int",
        "email",
        "float",
        "html",
        "http-date",
        "int16",
        "int32",
        "int64",
        "int8",
        "ipv4-cidr",
        "ipv6-cidr",
        "language",
        "media-range",
        "password",
        "regex",
        "sf-binary",
        "sf-boolean",
        "sf-decimal",
        "sf-integer",
        "sf-string",
        "sf-token",
        "time-local",
        "uint16",
        "uint32",
        "uint64",
        "uint8",
        "unixtime",
    ] {
        assert!(format(name).is_some(), "{name}");
    }
    for name in ["", "Date", "date ", "int128", "phone", "boolean"] {
        assert!(format(name).is_none(), "{name}");
    }
    // Of strings, what has bounds as a number has a check.
    for (name, _) in text_checks() {
        let format = format(name).expect(name);
        let is_checked =
            matches!(format, Format::Text | Format::Integer { .. } | Format::Decimal { .. });
        assert!(is_checked, "{name} is {format:?}");
    }
}

#[test]
fn octets_and_characters() {
    check(
        "byte",
        &["", "Zg==", "Zm8=", "Zm9v", "+/+/"],
        &[
            "Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "====", "=", "Z m9", "-_-_", "Zg==Zg==", "Zm9é",
            "A===",
        ],
    );
    check(
        "base64url",
        &["", "Zg", "Zg==", "Zm8", "Zm8=", "Zm9v", "-_-_"],
        &["Z", "Zg=", "Zh", "Zm9", "+/+/", "Zm9v=", "Zm9v====", "Zg===", "=", "Z\n"],
    );
    check("char", &["a", "é", "😀", "\0"], &["", "ab", "e\u{301}"]);
}

#[test]
fn unused_bits_must_be_zero() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (value, last) in ALPHABET.iter().enumerate() {
        let last = char::from(*last);
        assert_eq!(base64::is_base64(&format!("A{last}==")), value % 16 == 0, "{last}");
        assert_eq!(base64::is_base64(&format!("AA{last}=")), value % 4 == 0, "{last}");
        assert!(base64::is_base64(&format!("AAA{last}")), "{last}");
    }
    for octet in 0..128_u8 {
        let text = format!("AAA{}", char::from(octet));
        let is_sound = ALPHABET.contains(&octet) || octet == b'=';
        assert_eq!(base64::is_base64(&text), is_sound, "{text:?}");
    }
}

#[test]
fn numerals() {
    check(
        "int8",
        &["-128", "0", "-0", "127"],
        &["-129", "128", "", "-", "+1", "01", "-01", "1.0", "1e1", " 1", "1 ", "١"],
    );
    check("int16", &["-32768", "32767"], &["-32769", "32768"]);
    check("int32", &["-2147483648", "2147483647"], &["-2147483649", "2147483648"]);
    check(
        "int64",
        &["9223372036854775807", "-9223372036854775808"],
        &[
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999999999999999999999",
        ],
    );
    check("uint8", &["0", "255"], &["256", "-1"]);
    check("uint16", &["65535"], &["65536", "-1"]);
    check("uint32", &["4294967295"], &["4294967296", "-1"]);
    check("uint64", &["0", "18446744073709551615"], &["-1", "18446744073709551616"]);
    check(
        "double-int",
        &["9007199254740991", "-9007199254740991"],
        &["9007199254740992", "-9007199254740992", "1.0"],
    );
    check(
        "decimal",
        &[
            "0",
            "-1.50",
            "+1.5",
            "1.",
            ".5",
            "007",
            "1e5",
            "1.5E-300",
            "99999999999999999999999999999999999999.1",
        ],
        &[
            "", ".", "-", "+", "e5", ".e5", "1e", "1e+", "1e5.0", "1,5", "1 000", "--1", "0x1",
            "NaN", "١",
        ],
    );
    check("unixtime", &["0", "-1", "1764000000", "1764000000.25"], &["", "now", "2026-01-01"]);
    check(
        "decimal128",
        &[
            "0",
            "-1.50",
            "NaN",
            "INF",
            "-INF",
            "0e99999999999",
            "9.999999999999999999999999999999999e6144",
            "1e6144",
            "1e-6176",
            "1234567890123456789012345678901234",
            "0.0000000001234567890123456789012345678901234",
            "10000000000000000000000000000000000000000",
            "1.0000000000000000000000000000000000000000",
        ],
        &[
            "",
            "+INF",
            "inf",
            "nan",
            "Infinity",
            "1e6145",
            "10e6144",
            "1e-6177",
            "0.1e-6176",
            "12345678901234567890123456789012345",
            "1.0000000000000000000000000000000001",
            "1e99999999999",
            "1e-99999999999",
        ],
    );
    check(
        "ipv4-cidr",
        &["10.0.0.0/8", "192.168.1.7/24", "0.0.0.0/0", "1.2.3.4/32"],
        &[
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::/8",
            "10.0.0.0/8/8",
        ],
    );
    check(
        "ipv6-cidr",
        &["2001:db8::/32", "::/0", "::1/128", "::ffff:1.2.3.4/96"],
        &["2001:db8::", "::/129", "::/256", "::/032", "1.2.3.4/8", "fe80::1%eth0/64", "[::]/0"],
    );
}

#[test]
fn dates_without_an_offset() {
    check(
        "date-time-local",
        &[
            "2026-02-03T04:05:06",
            "2024-02-29t23:59:60.5",
            "0000-01-01T00:00:00.000000000001",
            "2000-02-29T00:00:00",
        ],
        &[
            "2026-02-03T04:05:06Z",
            "2026-02-03T04:05:06+01:00",
            "2026-02-03 04:05:06",
            "2026-02-03",
            "2026-02-29T00:00:00",
            "1900-02-29T00:00:00",
            "2026-04-31T00:00:00",
            "2026-13-01T00:00:00",
            "2026-00-01T00:00:00",
            "2026-01-00T00:00:00",
            "2026-2-3T04:05:06",
            "+2026-02-03T04:05:06",
            "2026-02-03T24:00:00",
            "2026-02-03T04:60:06",
            "2026-02-03T04:05:61",
            "2026-02-03T04:05",
            "2026-02-03T04:05:06.",
            "2026-02-03T04:05:06.1.2",
            "2026-02-03T04:05:06,5",
            "2026-02-03-01T00:00:00",
            "٢026-02-03T04:05:06",
            "",
        ],
    );
    check(
        "time-local",
        &["00:00:00", "23:59:60", "04:05:06.789"],
        &["04:05:06Z", "04:05", "4:05:06", "24:00:00", "04:05:06.", "04:05:06:07", "-4:05:06", ""],
    );
}

#[test]
fn http_dates() {
    check(
        "http-date",
        &[
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Wed Nov 16 08:49:37 1994",
            "Thu, 29 Feb 2024 23:59:60 GMT",
            // Of 2000, not of 1900.
            "Tuesday, 29-Feb-00 00:00:00 GMT",
        ],
        &[
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Thu, 30 Feb 2023 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 6-Nov-94 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sunday, 31-Nov-94 08:49:37 GMT",
            "Sunday, 29-Feb-01 00:00:00 GMT",
            "Sunday, 06-Nov-94-95 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov 06 08:49:37 94",
            "Mon Nov  6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 ",
            "Sun Nov  6 08:49:37  1994",
            "Sun Nov  0 08:49:37 1994",
            "Sun Növ  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
        ],
    );
}

#[test]
fn the_day_of_the_week_is_that_of_the_date() {
    // From a known Thursday on, over leap years of every kind.
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut passed = 0;
    for year in 1970..=2101_u32 {
        for (month, name) in months.iter().enumerate() {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length =
                [31, 28 + u32::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            for day in 1..=length {
                let date = |week: usize| {
                    calendar::is_http_date(&format!(
                        "{}, {day:02} {name} {year} 00:00:00 GMT",
                        days[week % 7]
                    ))
                };
                assert!(date(passed), "{year} {name} {day}");
                assert!(!date(passed + 1), "{year} {name} {day}");
                passed += 1;
            }
        }
    }
    assert_eq!(passed, 48_212);
}

#[test]
fn parts_of_fields() {
    check(
        "media-range",
        &[
            "*/*",
            "text/*",
            "text/html",
            "application/vnd.shop+json",
            "text/html;charset=utf-8",
            "text/html ; charset=\"a;\\\"b\" ;;q=0.5; ",
            "*/*;q=0",
            "a/b;x=\"\"",
            "a/b;x=\"é\"",
        ],
        &[
            "",
            "text",
            "text/",
            "/html",
            "*/html",
            "text/html/x",
            "text/html, */*",
            "te xt/html",
            "text/html;charset",
            "text/html;charset=",
            "text/html;=x",
            "text/html;a=b c",
            "text/html;a=\"b",
            "text/html;a=\"b\"c",
            "text/html ",
            " text/html",
            "text/html;a=\"\n\"",
            "text/html;a=\"\\\n\"",
            "text/html;a=\"\\",
            "tëxt/html",
        ],
    );
    check(
        "sf-integer",
        &["0", "-0", "007", "999999999999999", "-999999999999999"],
        &["", "-", "+1", "1.0", "1000000000000000", "--1", "1 ", "١"],
    );
    check(
        "sf-decimal",
        &["0.0", "-1.5", "999999999999.999", "00.100"],
        &["", "1", "1.", ".5", "1.1234", "1000000000000.0", "1.5.5", "-", "1e5"],
    );
    check(
        "sf-string",
        &["\"\"", "\"a b\"", "\"a\\\"b\\\\\"", "\"~!\""],
        &[
            "",
            "\"",
            "a",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"\\a\"",
            "\"\\\"",
            "\"é\"",
            "\"\t\"",
            "\"\u{7f}\"",
        ],
    );
    check(
        "sf-token",
        &["a", "*", "*a", "a/b:c", "Foo123!#"],
        &["", "1a", "/a", ":a", "a b", "a\"", "é", "a,b"],
    );
    check(
        "sf-binary",
        &["::", ":Zg==:", ":Zg:", ":Zh==:", ":Zm9v:"],
        &[
            "",
            ":",
            "Zg==",
            ":Zg==",
            ":Z:",
            ":Zg=:",
            ":Z===:",
            ":-_-_:",
            ":Zg==Zg==:",
            ":====:",
            ":a b:",
        ],
    );
    check("sf-boolean", &["?0", "?1"], &["", "?", "?2", "?01", "0", "true", "?1 "]);
}

#[test]
fn languages() {
    check(
        "language",
        &[
            "de",
            "de-DE",
            "zh-Hant-TW",
            "sr-Latn-RS",
            "sl-rozaj-biske-1994",
            "de-CH-1901",
            "es-419",
            "zh-cmn-Hans-CN",
            "de-DE-u-co-phonebk",
            "en-a-bbb-x-a-ccc",
            "x-whatever",
            "i-klingon",
            "I-KLINGON",
            "art-lojban",
            "zh-min-nan",
            "abcdefgh",
            "qaa-Qaaa-QM-x-southern",
        ],
        &[
            "",
            "d",
            "de-",
            "-de",
            "de--DE",
            "de_DE",
            "abcdefghi",
            "de-419-DE",
            "de-x",
            "x",
            "x-",
            "de-u",
            "de-u-a",
            "i-unknown",
            "de-DE-DE",
            "de-é",
            "a-DE",
            "de-abc-abc-abc-abc",
            "de-123456789",
        ],
    );
}

#[test]
fn texts_as_patterns() {
    check("regex", &["", "^a+$", "(?=a)b"], &["(", "\\a", "[a"]);
}
