//! Mailboxes: a table, the bounds, and jsonschema's own check over mutated addresses.

use super::*;

const MAILBOXES: &[&str] = &[
    "ada@shop.example",
    "a@b",
    "ada.lovelace+tag@sub.shop.example",
    "!#$%&'*+-/=?^_`{|}~@shop.example",
    "\"ada lovelace\"@shop.example",
    "\"\"@shop.example",
    "\"a@b\"@shop.example",
    "\"a\\\"b\\\\\"@shop.example",
    "ada@[192.0.2.1]",
    "ada@[IPv6:2001:db8::1]",
    "ada@[ipv6:::1]",
    "ada@xn--bcher-kva.example",
    "1@1.2",
];

#[test]
fn mailboxes() {
    for text in MAILBOXES {
        assert!(is_mailbox(text), "{text:?} is refused");
    }
    for text in [
        "",
        "@",
        "ada",
        "ada@",
        "@shop.example",
        "ada@@shop.example",
        "ada@shop@example",
        ".ada@shop.example",
        "ada.@shop.example",
        "a..b@shop.example",
        "ada @shop.example",
        "ada@ shop.example",
        "ada@shop..example",
        "ada@shop.example.",
        "ada@-shop.example",
        "ada@shop-.example",
        "ada@sh_op.example",
        "ada@shop.example\n",
        "\nada@shop.example",
        "ada@shop.example,bob@shop.example",
        "ada@shop.example>",
        "<ada@shop.example>",
        "Ada <ada@shop.example>",
        "adä@shop.example",
        "ada@shöp.example",
        "\"ada@shop.example",
        "\"a\"b\"@shop.example",
        "\"a\\\"@shop.example",
        "\"a\nb\"@shop.example",
        "\"a\tb\"@shop.example",
        "a\"b\"@shop.example",
        "ada@[192.0.2.256]",
        "ada@[192.0.2.1",
        "ada@192.0.2.1]",
        "ada@[2001:db8::1]",
        "ada@[IPv6:192.0.2.1]",
        "ada@[IPv6:::g]",
        "ada@[]",
        "ada@ab--cd.example",
        "ada@xn--.example",
        "ada@xn--a",
        "\"@shop.example",
        "ada(x)@shop.example",
    ] {
        assert!(!is_mailbox(text), "{text:?} is accepted");
    }
    let local = |count: usize| format!("{}@shop.example", "a".repeat(count));
    assert!(is_mailbox(&local(64)) && !is_mailbox(&local(65)));
    let label = |count: usize| format!("ada@{}.example", "a".repeat(count));
    assert!(is_mailbox(&label(63)) && !is_mailbox(&label(64)));
    let domain = |last: usize| format!("ada@{}{}", "abcdefg.".repeat(31), "a".repeat(last));
    assert!(is_mailbox(&domain(5)) && !is_mailbox(&domain(6)), "253 octets and 254");
}

/// `SplitMix64` (Steele, Lea and Flood 2014), below `bound`.
fn random(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
}

/// The differences are meant: jsonschema takes a display name before an address, and thereby refuses
/// a quoted local part that looks like one; it takes a tab within quotes, which RFC 5322 allows and
/// RFC 5321 does not; and it does not take an escaped space, which RFC 5321 allows.
#[test]
fn mailboxes_are_those_of_jsonschema_but_for_the_differences_that_are_meant() {
    let options = jsonschema::options_for::<TapeJson>().should_validate_formats(true);
    let theirs: Validator<TapeJson> = options.offline().build(&json!({"format": "email"})).unwrap();
    let theirs =
        |text: &str| TapeJson::with_string_node(&mut (), text, |node| theirs.is_valid(node));
    for (text, ours) in [
        ("Ada <ada@shop.example>", false),
        ("\"a <b\"@shop.example", true),
        ("\"a\tb\"@shop.example", false),
        ("\"a\\ b\"@shop.example", true),
    ] {
        assert_eq!(is_mailbox(text), ours, "{text:?}");
        assert_eq!(theirs(text), !ours, "no difference any more: {text:?}");
    }
    let pieces = [
        "a",
        "Z",
        "0",
        ".",
        "@",
        "-",
        "--",
        "xn--",
        "\"",
        "\\",
        " ",
        "<",
        ">",
        "[",
        "]",
        "IPv6:",
        ":",
        "::",
        "1",
        "192.0.2.1",
        "é",
        "+",
        "_",
        "\n",
        "(",
        ",",
        "shop",
        "example",
    ];
    let mut state = 9;
    let mut accepted = 0;
    for round in 0..60_000 {
        let mut text = MAILBOXES[round % MAILBOXES.len()].to_owned();
        for _ in 0..=random(&mut state, 3) {
            let ends: Vec<usize> =
                text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (one, other) = (random(&mut state, ends.len()), random(&mut state, 2));
            let range = ends[one]..ends[(one + other).min(ends.len() - 1)];
            text.replace_range(range, pieces[random(&mut state, pieces.len())]);
        }
        if text.contains(" <") || text.contains("\\ ") {
            continue;
        }
        accepted += u32::from(is_mailbox(&text));
        assert_eq!(is_mailbox(&text), theirs(&text), "{text:?}");
    }
    assert!(accepted > 5_000, "only {accepted} are accepted");
}
