//! Patterns: ECMA-262's meaning, the bounds, and the table against the engine.

use super::*;

#[track_caller]
fn check(pattern: &str, accepted: &[&str], refused: &[&str]) {
    let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for text in accepted {
        assert!(compiled.is_match(text), "{pattern} refuses {text:?}");
    }
    for text in refused {
        assert!(!compiled.is_match(text), "{pattern} accepts {text:?}");
    }
    assert!(!take_undecided());
}

fn is_linear(pattern: &str) -> bool {
    !matches!(Pattern::new(pattern).unwrap().0, Engine::Backtracking(_))
}

#[test]
fn ecma_262_semantics() {
    check("b", &["abc"], &["ac"]);
    check("^[0-9]+$", &["12"], &["12\n", "\n12", "", "1 2"]);
    check(r"^\d+$", &["12"], &["١٢", "1a"]);
    check(r"^[\d]$", &["1"], &["١"]);
    check(r"^\D$", &["١", "a"], &["1"]);
    check(r"^\w+$", &["aZ_9"], &["é", "-"]);
    check(r"^[\W]$", &["é", "-"], &["a"]);
    check(r"^\s$", &[" ", "\u{FEFF}", "\u{2028}", "\u{B}"], &["\u{85}", "a"]);
    check(r"^\S+$", &["\u{85}a"], &["a b"]);
    check("^.$", &["a", "é", "😀"], &["\n", "\r", "\u{2028}", ""]);
    check(r"\bfoo\b", &["a foo b", "éfoo"], &["afoo"]);
    check(r"^\cJ$", &["\n"], &["J"]);
    check(r"^\0$", &["\0"], &["0"]);
    check(r"^\u00e9[\u00e0-\u00ff]\x41$", &["éèA"], &["éeA"]);
    check(r"^\p{Lu}[\p{Ll}-]+$", &["Éa-"], &["éa"]);
    check(r"^\/a\-b\_\<c\>\@$", &["/a-b_<c>@"], &["a"]);
    check(r"^[a-z&&[b]+$", &["a&[b"], &["]", "-"]);
    check(r"^[a-z&&[b]]$", &["b]", "&]"], &["b"]);
    check(r"^[\w.-]+$", &["a.-b"], &["a+b"]);
    check(r"^[.\-_~]+$", &["-_~."], &["a"]);
    check(r"^[+--]+$", &["+", ",", "-"], &["."]);
    check(r"^[a-]$", &["a", "-"], &["b"]);
    check(r"^[\b]$", &["\u{8}"], &["b"]);
    check(r"^[^]$", &["\n", "a"], &[""]);
    check("[]", &[], &["", "a"]);
    check(r"^(?<year>\d{4})-(?:a|b)$", &["2026-a"], &["2026-c"]);
    check("^[^<>#%\"{}|\\\\^`]+$", &["abc"], &["a<", "a\\", "a^"]);
}

#[test]
fn look_around_and_back_references_fall_back() {
    assert!(is_linear(r"^a(?:b)$"));
    for (pattern, accepted, refused) in [
        (r"^(?=.*\d)(?=.*[a-z]).{4,}$", "abc1", "abcd"),
        (r"^(?!admin)\w+$", "user", "admin1"),
        (r"(?<=a)b", "ab", "cb"),
        (r"(?<!a)b", "cb", "ab"),
        (r"^(a|b)\1$", "aa", "ab"),
        (r"^(?=\d)\d$", "1", "١"),
    ] {
        assert!(!is_linear(pattern), "{pattern}");
        check(pattern, &[accepted], &[refused]);
    }
}

// libopenapi-validator#292, kin-openapi#985: what cannot be compiled must not let every value pass.
#[test]
fn what_cannot_be_enforced_is_refused() {
    for pattern in [
        "(", "[a", r"\", r"\A", r"\z", r"\Qa\E", "(?i)a", "(?>a)", "(?P<n>a)", r"\p", r"\pL",
        r"[\", "(?#c)", "*a", r"\c1", r"[z-a]", r"(?=a", r"\x{41}", "(?", r"[\u12]",
    ] {
        assert!(Pattern::new(pattern).is_err(), "{pattern} is accepted");
    }
}

// fancy-regex 0.19 merges repetitions of one class, and loses those that must match.
#[test]
fn the_fallback_counts_every_repetition() {
    for (pattern, accepted, refused) in [
        (r"^(?=.)[a-z]+[a-z]*[a-z]+[a-z]*[a-z]+$", "abc", "ab"),
        (r"^(?!0)\w+\S*\w+\S*\w+$", "abc", "zb"),
        (r"^(?=a)(?:a?b?a?)+$", "ab", "ac"),
        (r"^(?=\s)(?:\s*\w?\s*)+$", " a b ", " ab-"),
    ] {
        check(pattern, &[accepted], &[refused]);
    }
}

#[test]
fn an_exhausted_fallback_is_undecided() {
    let pattern = Pattern::new(r"^(?:(?=a)(?:a|aa))+c$").unwrap();
    let text = format!("{}b", "a".repeat(40));
    assert!(!pattern.is_match(&text));
    assert!(take_undecided(), "the backtrack limit was not hit");
    assert!(!take_undecided(), "taken once");

    let pattern = Pattern::new("^(?!b)").unwrap();
    assert!(pattern.is_match(&"a".repeat(FALLBACK_INPUT_LIMIT)));
    assert!(!take_undecided());
    assert!(!pattern.is_match(&"a".repeat(FALLBACK_INPUT_LIMIT + 1)));
    assert!(take_undecided());
}

/// `SplitMix64` (Steele, Lea and Flood 2014), below `bound`.
fn random(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
}

#[test]
fn the_table_and_the_engine_agree() {
    let patterns = [
        "",
        "b",
        "^[0-9]+$",
        r"^\d+$",
        r"^\D$",
        r"^\w+$",
        r"^\s$",
        r"^\S+$",
        "^.$",
        r"\bfoo\b",
        r"\Bo\B",
        r"^\u00e9[\u00e0-\u00ff]\x41$",
        r"^[\w.-]+$",
        "^[^]$",
        "[]",
        r"^(?<year>\d{4})-(?:a|b)$",
        "^[A-Z]{2}-[0-9]{4}$",
        "^[a-z0-9-]{1,64}$",
        "^[a-z]+(?:-[a-z]+)*$",
        "(foo|bar)$",
        "a*?b+?",
        "é|😀",
        r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        "^$",
        "$^",
        "^a|b$",
        "(?:^|,)x(?:,|$)",
        "a.{3}b",
        r"^\s*$",
        r"^\p{Lu}",
    ];
    let pieces = [
        "a", "b", "o", "x", "foo", "bar", "foo bar", "0", "12", "2026-", "AB-1234", "-", "_", ".",
        ",", "=", "==", "Zm9v", " ", "\n", "\r", "\t", "\u{85}", "\u{2028}", "\u{FEFF}", "é", "É",
        "è", "😀", "١", "A", "Z",
    ];
    let mut state = 5;
    for source in patterns {
        let pattern = Pattern::new(source).unwrap();
        let Engine::Table(table) = &pattern.0 else { panic!("{source} has no table") };
        assert!(table.states.memory_usage() <= TABLE_LIMIT, "{source}");
        let engine = regex::Regex::new(&translate(source).unwrap().pattern).unwrap();
        for _ in 0..1_000 {
            let text: String = (0..random(&mut state, 6))
                .map(|_| pieces[random(&mut state, pieces.len())])
                .collect();
            assert_eq!(pattern.is_match(&text), engine.is_match(&text), "{source} of {text:?}");
        }
    }
    assert!(!take_undecided());
}

#[test]
fn a_large_table_is_not_made() {
    for (source, accepted, refused) in [
        (r"^\p{L}{1,100}$", "é", "1"),
        ("^.{1,2000}$", "é", ""),
        ("(?:a|b)*a(?:a|b){14}$", "baaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbb"),
    ] {
        let pattern = Pattern::new(source).unwrap();
        assert!(matches!(pattern.0, Engine::Linear(_)), "{source}");
        check(source, &[accepted], &[refused]);
    }
}

#[test]
fn texts_that_are_patterns() {
    for (text, expected) in [
        ("", true),
        ("^a*$", true),
        (r"^\d{1,1000}(?:[a-z]|é)+?$", true),
        (r"(?=a)b(?!c)(?<=d)(?<!e)", true),
        (r"^(a|b)\1$", true),
        ("(?<year>[0-9]{4})", true),
        ("((a{1000}){1000}){1000}", true),
        ("^(abc]", false),
        ("(", false),
        ("*a", false),
        (r"\a", false),
        (r"^\S(|(.|\n)*\S)\Z", false),
        (r"\Qa\E", false),
        ("[z-a]", false),
        ("a{2,1}", false),
        ("(?=a", false),
        ("(?i)a", false),
    ] {
        assert_eq!(is_pattern(text), expected, "{text}");
    }
    assert!(is_pattern(&"a".repeat(SYNTAX_LIMIT)));
    assert!(!is_pattern(&"a".repeat(SYNTAX_LIMIT + 1)));
    assert!(is_pattern(&r"\p{L}".repeat(SYNTAX_PROPERTIES)));
    assert!(!is_pattern(&r"\P{L}".repeat(SYNTAX_PROPERTIES + 1)));
    let nested = |levels: usize| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
    let depth = usize::try_from(SYNTAX_DEPTH_LIMIT).unwrap();
    assert!(is_pattern(&nested(depth - 1)));
    assert!(!is_pattern(&nested(depth + 1)));
    assert!(!is_pattern(&nested(500)));
    assert!(!is_pattern(&format!("(?=a){}", nested(500))), "the fallback's depth is bounded, too");
}
