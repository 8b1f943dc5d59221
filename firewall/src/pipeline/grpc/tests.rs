//! Heads and trailers of calls.

use super::*;

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, HeaderValue::from_static(value));
    }
    fields
}

#[test]
fn trailers_are_accepted_in_one_way() {
    for (lines, expected) in [
        (&[("te", "trailers")][..], true),
        (&[], false),
        (&[("te", "")], false),
        (&[("te", "gzip")], false),
        (&[("te", "trailers, gzip")], false),
        (&[("te", "trailers"), ("te", "trailers")], false),
    ] {
        assert_eq!(accepts_trailers(&fields(lines)), expected, "{lines:?}");
    }
}

#[test]
fn calls_by_their_type() {
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;a=b", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(is_grpc(&fields(&[("content-type", value)])), expected, "{value}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

#[test]
fn calls_end_with_one_status() {
    let wrong = Err(Violation::new(Rule::ResponseGrpcTrailers));
    for (lines, is_sound) in [
        (&[("grpc-status", "0")][..], true),
        (&[("grpc-status", "16"), ("grpc-message", "what%20happened"), ("x-a", "b")], true),
        (&[("grpc-status", "0"), ("grpc-status-details-bin", "CgR0ZXN0,YQ==")], true),
        (&[("grpc-status", "9999999999")], true),
        (&[], false),
        (&[("grpc-status", "")], false),
        (&[("grpc-status", "-1")], false),
        (&[("grpc-status", "OK")], false),
        (&[("grpc-status", "99999999999")], false),
        (&[("grpc-status", "0"), ("grpc-status", "0")], false),
        (&[("grpc-status", "0"), ("grpc-message", "a\tb")], false),
        (&[("grpc-status", "0"), ("grpc-message", "a"), ("grpc-message", "b")], false),
        (&[("grpc-status", "0"), ("x-bin", "a b")], false),
    ] {
        let expected = if is_sound { Ok(()) } else { wrong.clone() };
        assert_eq!(trailers(&fields(lines), true), expected, "{lines:?}");
    }
}

#[test]
fn exceptions_in_messages_are_seen_through_their_escapes() {
    let python = "Traceback %28most recent call last%29:%0A  File %22/app/a.py%22, line 1, in f";
    let lines = [("grpc-status", "2"), ("grpc-message", python)];
    let found = trailers(&fields(&lines), true).unwrap_err();
    assert_eq!(found.rule, Rule::ResponseException);
    assert_eq!(trailers(&fields(&lines), false), Ok(()));
    assert_eq!(unescaped(b"%zz%4"), b"%zz%4");
}

#[test]
fn refusals_are_answers_of_grpc() {
    let refused = refusal(Rule::CredentialsMissing, RequestId::new(7));
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()[STATUS]),
        (200, &"16".parse().unwrap())
    );
    assert_eq!(refused.headers()["firewall-rule"], "auth.missing");
    assert_eq!(trailers(refused.headers(), true), Ok(()));
    for (error, code) in [(UpstreamError::Connect, "14"), (UpstreamError::ReadTimeout, "4")] {
        let failed = failure(error, RequestId::new(7));
        assert_eq!(failed.headers()[STATUS], code, "{error:?}");
        assert_eq!(trailers(failed.headers(), true), Ok(()));
    }
}
