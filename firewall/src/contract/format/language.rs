//! `language`: well-formed tags (RFC 5646 section 2.2.9), without asking the registry of subtags.

/// The tags of section 2.1 that its grammar would not give, in lower case.
const IRREGULAR: [&str; 17] = [
    "en-gb-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-be-fr",
    "sgn-be-nl",
    "sgn-ch-de",
];

/// RFC 5646 section 2.1's `Language-Tag`, without the subtags that section 2.2 forbids to repeat
/// being compared.
pub(super) fn is_language_tag(text: &str) -> bool {
    if IRREGULAR.iter().any(|tag| tag.eq_ignore_ascii_case(text)) {
        return true;
    }
    let mut subtags = text.split('-').peekable();
    let Some(language) = subtags.next() else { return false };
    if language.eq_ignore_ascii_case("x") {
        return is_private_use(subtags);
    }
    if !is_alphabetic(language, 2, 8) {
        return false;
    }
    if language.len() < 4 {
        // `extlang`, which the regular grandfathered tags have the form of.
        for _ in 0..3 {
            if subtags.next_if(|subtag| is_alphabetic(subtag, 3, 3)).is_none() {
                break;
            }
        }
    }
    subtags.next_if(|subtag| is_alphabetic(subtag, 4, 4));
    subtags
        .next_if(|subtag| is_alphabetic(subtag, 2, 2) || subtag.len() == 3 && is_numeric(subtag));
    while subtags.next_if(|subtag| is_variant(subtag)).is_some() {}
    while let Some(singleton) = subtags.next() {
        if singleton.eq_ignore_ascii_case("x") {
            return is_private_use(subtags);
        }
        if !is_alphanumeric(singleton, 1, 1) {
            return false;
        }
        if subtags.next_if(|subtag| is_alphanumeric(subtag, 2, 8)).is_none() {
            return false;
        }
        while subtags.next_if(|subtag| is_alphanumeric(subtag, 2, 8)).is_some() {}
    }
    true
}

fn is_private_use<'t>(mut subtags: impl Iterator<Item = &'t str>) -> bool {
    subtags.next().is_some_and(|subtag| is_alphanumeric(subtag, 1, 8))
        && subtags.all(|subtag| is_alphanumeric(subtag, 1, 8))
}

fn is_variant(subtag: &str) -> bool {
    is_alphanumeric(subtag, 5, 8)
        || is_alphanumeric(subtag, 4, 4) && subtag.starts_with(|c: char| c.is_ascii_digit())
}

fn is_alphabetic(subtag: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&subtag.len()) && subtag.bytes().all(|c| c.is_ascii_alphabetic())
}

fn is_alphanumeric(subtag: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&subtag.len()) && subtag.bytes().all(|c| c.is_ascii_alphanumeric())
}

fn is_numeric(subtag: &str) -> bool {
    subtag.bytes().all(|c| c.is_ascii_digit())
}
