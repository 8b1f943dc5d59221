//! ECMA-262 patterns on a linear engine; look-around and back-references on a bounded one that
//! fails closed.
//!
//! The translation keeps ECMA-262's meaning where Rust's differs: `\d`, `\w`, `\b` are ASCII, `\s`
//! is ECMA's white space, `.` stops at four line terminators, `$` is the very end, and brackets,
//! `&&`, `~~` and `--` within a class are plain characters. What ECMA-262 does not know is refused.

use std::cell::Cell;
use std::fmt::Write;
use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::Chars;

/// Steps the fallback engine may go back, per match.
const BACKTRACK_LIMIT: usize = 100_000;
/// Octets beyond which the fallback engine is not asked.
const FALLBACK_INPUT_LIMIT: usize = 16 * 1024;
/// Octets that one compiled pattern may take.
const COMPILED_LIMIT: usize = 32 * 1024 * 1024;

thread_local! {
    static UNDECIDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a match since the last call was left undecided; forgets it. A verdict that depends on
/// such a match is worth nothing, whether it accepts or, below a `not`, refuses.
pub(crate) fn take_undecided() -> bool {
    UNDECIDED.replace(false)
}

/// A compiled pattern, unanchored as JSON Schema demands.
#[derive(Debug)]
pub(crate) struct Pattern(Engine);

#[derive(Debug)]
enum Engine {
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// # Errors
    ///
    /// What is wrong with `source`, in words.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let translated = translate(source)?;
        if !translated.backtracks {
            return regex::RegexBuilder::new(&translated.pattern)
                .size_limit(COMPILED_LIMIT)
                .build()
                .map(|regex| Self(Engine::Linear(regex)))
                .map_err(|error| reason(&error.to_string()));
        }
        fancy_regex::RegexBuilder::new(&translated.pattern)
            .backtrack_limit(BACKTRACK_LIMIT)
            .delegate_size_limit(COMPILED_LIMIT)
            .build()
            .map(|regex| Self(Engine::Backtracking(Box::new(regex))))
            .map_err(|error| reason(&error.to_string()))
    }

    /// Whether the pattern matches anywhere in `text`; false, and [`take_undecided`] true, where
    /// that could not be found out within the bounds.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let matched = match &self.0 {
            // rust-lang/regex#1344: some pattern and input pairs panic inside the engine.
            Engine::Linear(regex) => catch_unwind(AssertUnwindSafe(|| regex.is_match(text))).ok(),
            Engine::Backtracking(_) if text.len() > FALLBACK_INPUT_LIMIT => None,
            Engine::Backtracking(regex) => {
                catch_unwind(AssertUnwindSafe(|| regex.is_match(text).ok())).ok().flatten()
            }
        };
        matched.unwrap_or_else(|| {
            UNDECIDED.set(true);
            false
        })
    }

    /// The pattern as the linear engine reads it; none where it needs the other.
    pub(crate) fn linear_source(&self) -> Option<&str> {
        match &self.0 {
            Engine::Linear(regex) => Some(regex.as_str()),
            Engine::Backtracking(_) => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn is_linear(&self) -> bool {
        matches!(self.0, Engine::Linear(_))
    }
}

/// The engines draw the pattern and a caret over several lines; the last says what is wrong.
fn reason(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

struct Translated {
    pattern: String,
    /// Look-around or a back-reference is used.
    backtracks: bool,
}

const DIGIT: &str = "0-9";
const WORD: &str = "A-Za-z0-9_";
/// ECMA-262's `WhiteSpace` and `LineTerminator`.
const SPACE: &str =
    r"\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";
const ANY_BUT_LINE_END: &str = r"[^\n\r\x{2028}\x{2029}]";

fn translate(source: &str) -> Result<Translated, String> {
    let mut out = String::with_capacity(source.len() + 16);
    let mut backtracks = false;
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' => out.push_str(ANY_BUT_LINE_END),
            '[' => class(&mut chars, &mut out)?,
            '\\' => backtracks |= escape(&mut chars, &mut out)?,
            '(' => {
                out.push('(');
                if chars.next_if_eq(&'?').is_some() {
                    out.push('?');
                    backtracks |= group(&mut chars, &mut out)?;
                }
            }
            _ => out.push(c),
        }
    }
    Ok(Translated { pattern: out, backtracks })
}

/// What stands behind `(?`; true for look-around.
fn group(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<bool, String> {
    match chars.next() {
        Some(':') => {
            out.push(':');
            Ok(false)
        }
        Some(c @ ('=' | '!')) => {
            out.push(c);
            Ok(true)
        }
        Some('<') => {
            out.push('<');
            Ok(chars.peek().is_some_and(|c| matches!(c, '=' | '!')))
        }
        _ => Err("a group starts with (?: (?= (?! (?<= (?<! or (?<name>".to_owned()),
    }
}

/// What stands behind a backslash outside a class; true for a back-reference.
fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<bool, String> {
    let Some(c) = chars.next() else { return Err("it ends in a backslash".to_owned()) };
    match c {
        'd' => wrap(out, "[", DIGIT),
        'D' => wrap(out, "[^", DIGIT),
        'w' => wrap(out, "[", WORD),
        'W' => wrap(out, "[^", WORD),
        's' => wrap(out, "[", SPACE),
        'S' => wrap(out, "[^", SPACE),
        'b' => out.push_str(r"(?-u:\b)"),
        'B' => out.push_str(r"(?-u:\B)"),
        '1'..='9' | 'k' => {
            out.push('\\');
            out.push(c);
            return Ok(true);
        }
        _ => character_escape(c, chars, out)?,
    }
    Ok(false)
}

fn wrap(out: &mut String, open: &str, members: &str) {
    out.push_str(open);
    out.push_str(members);
    out.push(']');
}

/// The escapes that stand for one character, or a property, in a class and outside.
fn character_escape(
    c: char,
    chars: &mut Peekable<Chars<'_>>,
    out: &mut String,
) -> Result<(), String> {
    match c {
        't' | 'n' | 'v' | 'f' | 'r' | 'x' | 'u' | 'p' | 'P' => {
            if matches!(c, 'p' | 'P') && chars.peek() != Some(&'{') {
                return Err(format!("\\{c} is not followed by {{"));
            }
            if c == 'x' && chars.peek() == Some(&'{') {
                return Err("\\x is not followed by two digits".to_owned());
            }
            out.push('\\');
            out.push(c);
            if matches!(c, 'p' | 'P') {
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '}' {
                        return Ok(());
                    }
                }
                return Err(format!("\\{c}{{ is not closed"));
            }
        }
        '0' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str(r"\x00"),
        'c' => match chars.next() {
            Some(letter) if letter.is_ascii_alphabetic() => {
                push_code(out, u32::from(letter) % 32);
            }
            _ => return Err("\\c is not followed by a letter".to_owned()),
        },
        _ if c.is_ascii_alphanumeric() => {
            return Err(format!("\\{c} is not an escape of ECMA-262"));
        }
        _ => push_literal(out, c),
    }
    Ok(())
}

fn push_code(out: &mut String, code: u32) {
    // Writing to a String cannot fail.
    write!(out, "\\x{{{code:X}}}").unwrap_or_default();
}

/// A character that has no meaning, wherever it stands.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() { out.push(c) } else { push_code(out, c.into()) }
}

/// A bracketed class, from behind its `[` to its `]`.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    let negated = chars.next_if_eq(&'^').is_some();
    if chars.next_if_eq(&']').is_some() {
        // `[]` matches nothing and `[^]` anything.
        out.push_str(if negated { r"[\x{0}-\x{10FFFF}]" } else { r"[^\x{0}-\x{10FFFF}]" });
        return Ok(());
    }
    out.push_str(if negated { "[^" } else { "[" });
    // Whether a hyphen here would start a range: behind a single character that ends none.
    let mut starts_range = false;
    while let Some(c) = chars.next() {
        match c {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '-' if starts_range && chars.peek().is_some_and(|next| *next != ']') => {
                out.push('-');
                match chars.next() {
                    Some('\\') => {
                        if class_escape(chars, out)? {
                            return Err("a range ends in a class".to_owned());
                        }
                    }
                    Some(end) => push_literal(out, end),
                    None => break,
                }
                starts_range = false;
            }
            '\\' => starts_range = !class_escape(chars, out)?,
            _ => {
                push_literal(out, c);
                starts_range = true;
            }
        }
    }
    Err("a class is not closed".to_owned())
}

/// What stands behind a backslash in a class; true where it stands for several characters.
fn class_escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<bool, String> {
    let Some(c) = chars.next() else { return Err("it ends in a backslash".to_owned()) };
    match c {
        'd' => out.push_str(DIGIT),
        'w' => out.push_str(WORD),
        's' => out.push_str(SPACE),
        'D' => wrap(out, "[^", DIGIT),
        'W' => wrap(out, "[^", WORD),
        'S' => wrap(out, "[^", SPACE),
        'b' => {
            push_code(out, 8);
            return Ok(false);
        }
        _ => {
            character_escape(c, chars, out)?;
            if matches!(c, 'x' | 'u') {
                code_point(c, chars, out)?;
            }
            return Ok(matches!(c, 'p' | 'P'));
        }
    }
    Ok(true)
}

/// The digits of `\xHH`, `\uHHHH` or `\u{…}`, so that a hyphen behind them is seen as one.
fn code_point(c: char, chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    let braced = c == 'u' && chars.peek() == Some(&'{');
    let digits = if c == 'x' { 2 } else { 4 };
    for count in 0.. {
        match chars.next() {
            Some(digit) => {
                out.push(digit);
                if braced && digit == '}' || !braced && count + 1 == digits {
                    return Ok(());
                }
            }
            None => break,
        }
    }
    Err(format!("\\{c} lacks digits"))
}

#[cfg(test)]
mod tests {
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
        assert!(Pattern::new(r"^a(?:b)$").unwrap().is_linear());
        for (pattern, accepted, refused) in [
            (r"^(?=.*\d)(?=.*[a-z]).{4,}$", "abc1", "abcd"),
            (r"^(?!admin)\w+$", "user", "admin1"),
            (r"(?<=a)b", "ab", "cb"),
            (r"(?<!a)b", "cb", "ab"),
            (r"^(a|b)\1$", "aa", "ab"),
            (r"^(?=\d)\d$", "1", "١"),
        ] {
            assert!(!Pattern::new(pattern).unwrap().is_linear(), "{pattern}");
            check(pattern, &[accepted], &[refused]);
        }
    }

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        for pattern in [
            "(", "[a", r"\", r"\A", r"\z", r"\Qa\E", "(?i)a", "(?>a)", "(?P<n>a)", r"\p", r"\pL",
            r"[\", "(?#c)", "*a", r"\c1", r"[z-a]", r"(?=a", r"\x{41}", "(?", r"[\u12]",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern} is accepted");
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
}
