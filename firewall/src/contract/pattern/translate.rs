//! ECMA-262 patterns in the syntax of Rust's engines, with their meaning kept where the two differ:
//! `\d`, `\w`, `\b` are ASCII, `\s` is ECMA's white space, `.` stops at four line terminators, `$` is
//! the very end, and brackets, `&&`, `~~` and `--` within a class are plain characters. What ECMA-262
//! does not know is refused.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// A pattern in the words of Rust's engines.
pub(super) struct Translated {
    pub(super) pattern: String,
    /// Look-around or a back-reference is used.
    pub(super) backtracks: bool,
}

const DIGIT: &str = "0-9";
const WORD: &str = "A-Za-z0-9_";
/// ECMA-262's `WhiteSpace` and `LineTerminator`.
const SPACE: &str =
    r"\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";
const ANY_BUT_LINE_END: &str = r"[^\n\r\x{2028}\x{2029}]";

/// # Errors
///
/// What of `source` ECMA-262 does not know, in words. The engines find the other faults.
pub(super) fn translate(source: &str) -> Result<Translated, String> {
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
