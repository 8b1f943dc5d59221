//! `pattern`: any text is compiled or refused; and a pattern built from parts, each written as
//! ECMA-262 has it and as a backtracking engine has it, gets the same answer from both.

use firewall::contract::Contract;
use firewall::violation::Rule;
use http::{HeaderValue, Method};
use serde_json::json;

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "pattern", run, seeds, words: WORDS };

/// Parts that one pattern may have, and characters that one text may have.
const PARTS: usize = 24;
const CHARACTERS: usize = 32;

/// What texts are made of: whatever the classes below tell apart.
const ALPHABET: [char; 16] =
    ['a', 'b', 'Z', '0', '9', '_', '-', '.', ' ', '\t', '\n', '\u{2028}', '\u{85}', 'é', '١', '😀'];

fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 {
        any_text(rest);
    } else {
        built(rest);
    }
}

/// The text as a pattern: compiled or refused, and once compiled, it decides.
fn any_text(data: &[u8]) {
    let Ok(pattern) = std::str::from_utf8(data) else { return };
    let Some(contract) = compile(pattern) else { return };
    for text in ["", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "é\u{2028}😀", "0-9 \n"] {
        is_match(&contract, text);
    }
}

fn built(data: &[u8]) {
    let mut octets = data.iter().copied();
    let mut pattern = Twin::default();
    let mut parts = PARTS;
    alternatives(&mut octets, &mut parts, 3, &mut pattern);
    let contract = compile(&pattern.ecma)
        .unwrap_or_else(|| panic!("a simple pattern is refused: {}", pattern.ecma));
    // It refuses to repeat what is empty, which ECMA-262 allows.
    let Some(reference) = reference(&pattern) else { return };
    let rest: Vec<u8> = octets.collect();
    for text in rest.chunks(CHARACTERS).take(4).chain([&[][..]]) {
        let character = |octet: &u8| ALPHABET.get(usize::from(*octet) % ALPHABET.len());
        let text: String = text.iter().filter_map(character).collect();
        // The reference may give up; the linear engine may not.
        let Ok(expected) = reference.is_match(&text) else { continue };
        assert_eq!(is_match(&contract, &text), expected, "{} on {text:?}", pattern.ecma);
    }
}

/// The empty look-ahead keeps it from handing the whole to the linear engine.
fn reference(pattern: &Twin) -> Option<fancy_regex::Regex> {
    fancy_regex::Regex::new(&format!("(?=){}", pattern.plain)).ok()
}

fn compile(pattern: &str) -> Option<Contract> {
    let schema = json!({"type": "string", "pattern": pattern});
    let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    let operation = json!({"requestBody": body, "responses": {"200": {"description": "d"}}});
    let info = json!({"title": "t", "version": "v"});
    let document = json!({"openapi": "3.0.3", "info": info, "paths": {"/": {"post": operation}}});
    specimen::compile(document.to_string().as_bytes()).ok()
}

fn is_match(contract: &Contract, text: &str) -> bool {
    let matched = contract.route(&Method::POST, "/", None).expect("the only path");
    let body = matched.operation.body().expect("it has one");
    let content = body.content(Some(&HeaderValue::from_static("application/json")));
    match content.expect("JSON is declared").check(json!(text).to_string().as_bytes()) {
        Ok(()) => true,
        Err(violation) => {
            assert_eq!(violation.rule, Rule::BodySchema, "{text:?} is JSON");
            false
        }
    }
}

/// One pattern in two notations.
#[derive(Default)]
struct Twin {
    ecma: String,
    /// With every class written out, so that nothing is left to what an engine takes it for.
    plain: String,
}

impl Twin {
    fn push(&mut self, ecma: &str, plain: &str) {
        self.ecma.push_str(ecma);
        self.plain.push_str(plain);
    }

    fn both(&mut self, text: &str) {
        self.push(text, text);
    }
}

const SPACE: &str =
    r"\t\n\x0B\f\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";

/// What stands for one character: as ECMA-262 writes it, as any engine reads it.
const ATOMS: [(&str, &str); 20] = [
    ("a", "a"),
    ("b", "b"),
    ("0", "[0]"),
    ("_", "_"),
    ("-", r"\x2D"),
    (r"\.", r"\x2E"),
    (" ", r"\x20"),
    (r"\u00e9", "é"),
    (r"\x61", "a"),
    (r"\n", r"\x0A"),
    (".", r"[^\x0A\x0D\x{2028}\x{2029}]"),
    (r"\d", "[0-9]"),
    (r"\D", "[^0-9]"),
    (r"\w", "[0-9A-Za-z_]"),
    (r"\W", "[^0-9A-Za-z_]"),
    ("[a-c]", "[abc]"),
    ("[^a0-9-]", r"[^a0123456789\x2D]"),
    ("[.[]", r"[\x2E\x5B]"),
    ("[]", r"[^\x{0}-\x{10FFFF}]"),
    ("[^]", r"[\x{0}-\x{10FFFF}]"),
];

const QUANTIFIERS: [&str; 8] = ["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"];

fn alternatives(
    octets: &mut impl Iterator<Item = u8>,
    parts: &mut usize,
    depth: usize,
    out: &mut Twin,
) {
    loop {
        sequence(octets, parts, depth, out);
        match octets.next() {
            Some(octet) if octet % 4 == 0 && *parts > 0 => out.both("|"),
            _ => return,
        }
    }
}

fn sequence(
    octets: &mut impl Iterator<Item = u8>,
    parts: &mut usize,
    depth: usize,
    out: &mut Twin,
) {
    while let Some(octet) = octets.next() {
        *parts = parts.saturating_sub(1);
        if *parts == 0 || octet % 16 == 15 {
            return;
        }
        match octet % 16 {
            0 => return out.both("$"),
            1 => {
                out.both("^");
                continue;
            }
            2 => out.push(r"\s", &format!("[{SPACE}]")),
            3 => out.push(r"[\S]", &format!("[^{SPACE}]")),
            4 | 5 if depth > 0 => {
                out.both(if octet % 16 == 4 { "(?:" } else { "(" });
                alternatives(octets, parts, depth - 1, out);
                out.both(")");
            }
            _ => {
                let (ecma, plain) = ATOMS
                    .get(usize::from(octet) / 16 + usize::from(octet) % 5)
                    .unwrap_or(&ATOMS[0]);
                out.push(ecma, plain);
            }
        }
        if let Some(octet) = octets.next()
            && let Some(quantifier) = QUANTIFIERS.get(usize::from(octet) % 16)
        {
            out.both(quantifier);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = PATTERNS.iter().map(|text| {
        let mut seed = vec![0];
        seed.extend(text.bytes());
        seed
    });
    let built = (0..24_u8).map(|start| {
        let walk = (0..96_u8)
            .map(move |step| start.wrapping_mul(29).wrapping_add(step.wrapping_mul(start | 1)));
        std::iter::once(1).chain(walk).collect()
    });
    texts.chain(built).collect()
}

const PATTERNS: [&str; 12] = [
    "^[a-z0-9]+(?:-[a-z0-9]+)*$",
    r"^(?=.*\d)(?=.*[a-z]).{4,}$",
    r"^(a|b)\1$",
    r"(?<year>\d{4})-\k<year>",
    r"[\w.-]+@[\w-]+\.[a-z]{2,}",
    r"^\p{Lu}[\p{Ll}-]+$",
    r"[a-z&&[b]~~--]",
    r"[\b\0\cJ\u{1F600}-\u{1F64F}]",
    "(a*)*b",
    "((((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9})",
    r"(?<!a)b(?!c)",
    r"\ud83d\ude00",
];

const WORDS: &[&str] = &[
    "(?:",
    "(?=",
    "(?!",
    "(?<=",
    "(?<!",
    "(?<n>",
    r"\k<n>",
    r"\1",
    r"\d",
    r"\p{L}",
    r"\u{1F600}",
    r"\x41",
    r"\cA",
    "{1,3}",
    "{99999}",
    "[^]",
    "[]",
    "&&",
    "--",
    r"\b",
    r"\s",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_notations() {
        let mut twins = Vec::new();
        for seed in seeds().iter().filter(|seed| seed[0] == 1) {
            let mut twin = Twin::default();
            alternatives(&mut seed[1..].iter().copied(), &mut PARTS.clone(), 3, &mut twin);
            twins.push(twin);
        }
        let all: String = twins.iter().map(|twin| twin.ecma.as_str()).collect();
        for part in ["(?:", "(", "|", "^", "$", r"\d", r"\s", ".", "*", "{1,3}", "[]"] {
            assert!(all.contains(part), "no seed has {part}: {all}");
        }
        let compared = twins.iter().filter(|twin| reference(twin).is_some()).count();
        assert!(compared * 4 > twins.len() * 3, "{compared} of {}", twins.len());
    }
}
