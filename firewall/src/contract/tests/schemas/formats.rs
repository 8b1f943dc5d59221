//! Formats: what each accepts and refuses, and which types it is about.

use super::*;

#[track_caller]
fn check_format(schema: &Value, accepted: &[&str], refused: &[&str]) {
    let document = document(schema, &json!({}));
    for body in accepted {
        assert_eq!(verdict(&document, body), "ok", "{schema} of {body}");
    }
    for body in refused {
        assert_ne!(verdict(&document, body), "ok", "{schema} of {body}");
    }
}

#[test]
fn formats_are_asserted() {
    for (schema, accepted, refused) in [
        (
            json!({"type": "integer", "format": "int32"}),
            vec!["2147483647", "-2147483648", "1.0"],
            vec!["2147483648", "-2147483649", "1.5"],
        ),
        (
            json!({"type": "integer", "format": "int64"}),
            vec!["9223372036854775807", "-9223372036854775808"],
            vec!["9223372036854775808", "18446744073709551615", "1e19"],
        ),
        (
            json!({"type": "integer", "format": "int32", "minimum": 5}),
            vec!["5", "2147483647"],
            vec!["4", "2147483648"],
        ),
        (
            json!({"type": "integer", "format": "int32", "minimum": -9e18}),
            vec!["-2147483648"],
            vec!["-2147483649"],
        ),
        (json!({"type": "integer", "format": "uint8"}), vec!["0", "255"], vec!["-1", "256"]),
        (json!({"type": "number", "format": "int32"}), vec!["1"], vec!["1.5"]),
        (json!({"type": "number", "format": "float"}), vec!["1.5", "3.4e38"], vec!["3.5e38"]),
        (json!({"type": "number", "format": "double"}), vec!["1.7e308"], vec!["\"1\""]),
        (
            json!({"type": "string", "format": "int64"}),
            vec!["\"9223372036854775807\""],
            vec!["\"9223372036854775808\"", "\"x\"", "1"],
        ),
        (
            json!({"type": "integer", "format": "int32", "nullable": true}),
            vec!["null", "1"],
            vec!["2147483648"],
        ),
        (
            json!({"type": "string", "format": "byte"}),
            vec!["\"Zm9v\""],
            vec!["\"Zm9\"", "\"Zm 9\""],
        ),
        (json!({"type": "string", "format": "password"}), vec!["\"x\""], vec!["1"]),
        (
            json!({"type": "string", "format": "date"}),
            vec!["\"2024-02-29\""],
            vec!["\"2023-02-29\"", "\"2024-2-9\"", "\"2024-02-29T00:00:00Z\""],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            vec!["\"2024-02-29T12:00:00.5+02:00\""],
            vec!["\"2024-02-29 12:00:00Z\"", "\"2024-02-29T12:00:00\""],
        ),
        (
            json!({"type": "string", "format": "uuid"}),
            vec!["\"0d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607\""],
            vec!["\"0d5b2a3c7d6e4f009a11b2c3d4e5f607\""],
        ),
        (
            json!({"type": "string", "format": "email"}),
            vec!["\"a@b.cd\""],
            vec!["\"a\"", "\"a@\"", "\"A <a@b.cd>\""],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            vec!["\"192.0.2.1\""],
            vec!["\"192.0.2.256\"", "\"192.0.2.01\""],
        ),
        (
            json!({"type": "string", "format": "ipv6"}),
            vec!["\"2001:db8::1\""],
            vec!["\"2001:db8:::1\""],
        ),
        (
            json!({"type": "string", "format": "uri"}),
            vec!["\"https://example.org/a\""],
            vec!["\"/a\"", "\"a b\""],
        ),
        (
            json!({"type": "string", "format": "hostname"}),
            vec!["\"a.example\""],
            vec!["\"-a.example\""],
        ),
        (json!({"type": "string", "format": "duration"}), vec!["\"P1DT2H\""], vec!["\"1 day\""]),
    ] {
        check_format(&schema, &accepted, &refused);
    }
}

#[test]
fn formats_of_the_registry_are_asserted() {
    for (schema, accepted, refused) in [
        (
            json!({"type": "integer", "format": "double-int"}),
            vec!["9007199254740991"],
            vec!["9007199254740992", "-9007199254740992"],
        ),
        (json!({"type": "number", "format": "decimal"}), vec!["1.5"], vec!["\"1.5\""]),
        (json!({"type": "string", "format": "decimal"}), vec!["\"1.50\""], vec!["\"1,5\"", "1.5"]),
        (
            json!({"type": "number", "format": "sf-decimal"}),
            vec!["1.5", "-1.125", "999999999999"],
            vec!["1.0625", "1000000000000", "-1e12"],
        ),
        (json!({"type": "string", "format": "sf-decimal"}), vec!["\"1.5\""], vec!["\"1\"", "1.5"]),
        (
            json!({"type": "string", "format": "idn-hostname"}),
            vec!["\"b\u{fc}cher.example\""],
            vec!["\"b\u{fc}cher..example\"", "\"\u{302e}.example\""],
        ),
        (
            json!({"type": "string", "format": "idn-email"}),
            vec!["\"ad\u{e4}@b\u{fc}cher.example\""],
            vec!["\"ad\u{e4}\""],
        ),
        (json!({"type": "string", "format": "regex"}), vec!["\"^a+$\""], vec!["\"(\""]),
        (json!({"type": "string", "format": "html"}), vec!["\"<p>\""], vec!["1"]),
    ] {
        check_format(&schema, &accepted, &refused);
    }
}
