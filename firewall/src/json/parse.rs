//! Bytes to tape: well-formedness beyond any schema. Depth is bounded, what receivers would read
//! differently is refused, and the buffers stay with the thread between documents.
//!
//! The number of values needs no bound of its own: each takes an octet of the document at least, and
//! a cell of the tape, whose size is [`CELL_OCTETS`].

use std::cell::Cell;

use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, StaticNode, Tape};

use super::duplicate::{Member, has_duplicates, without_duplicates};
use super::number::is_exact_decimal;
use super::tape::TapeNode;

/// Why a document cannot be put on the tape. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not one JSON text in UTF-8 (RFC 8259): a byte-order mark, trailing data, a lone surrogate,
    /// an integer beyond 64 bits and a number beyond a double's range are refused too.
    #[error("not well-formed")]
    Malformed,
    /// More levels of arrays and objects than allowed.
    #[error("nested too deeply")]
    TooDeep,
    /// An object names a member twice: parsers differ in which of them they believe.
    #[error("an object names a member twice")]
    DuplicateMember,
    /// A number that its receivers would read differently, as [`is_exact`](super::is_exact) tells.
    #[error("a number has more digits than a double keeps")]
    Imprecise,
}

/// What is accepted beyond what all parsers read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonRules {
    /// Levels of arrays and objects.
    pub depth_limit: usize,
    pub duplicate_names: DuplicateNames,
    /// Numbers that name a double without being its shortest decimal pass, and are judged as that
    /// double. Integers beyond 64 bits and numbers beyond a double's range are refused all the same.
    pub inexact_numbers: bool,
    /// A byte-order mark before the text is skipped (RFC 8259 section 8.1 lets a parser do so).
    pub byte_order_mark: bool,
}

impl JsonRules {
    /// Nothing beyond, to a depth of `depth_limit`.
    pub const fn strict(depth_limit: usize) -> Self {
        Self {
            depth_limit,
            duplicate_names: DuplicateNames::Refuse,
            inexact_numbers: false,
            byte_order_mark: false,
        }
    }
}

/// What becomes of an object that names a member twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicateNames {
    #[default]
    Refuse,
    /// The last one counts, as ECMA-262's `JSON.parse` and most parsers have it; the others are not
    /// on the tape, and so are not checked.
    Last,
    /// The first one counts, as some streaming parsers have it; otherwise the same.
    First,
}

/// Octets that a value takes on the tape.
pub const CELL_OCTETS: usize = size_of::<Node<'_>>();
const _: () = assert!(CELL_OCTETS <= 32);

/// A scratch whose last document was longer than this, in octets, is freed instead of kept.
const RETAINED_LIMIT: usize = 256 * 1024;
/// UTF-8's (RFC 3629 section 6).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Octets of a number, besides its sign, up to which it cannot have more digits than a double keeps,
/// if it has no exponent.
const EXACT_OCTETS: usize = 16;

struct Scratch {
    input: Vec<u8>,
    buffers: Buffers,
    depth_limit: usize,
    tape: Tape<'static>,
    members: Vec<Member>,
}

thread_local! {
    // Taken out while in use, so that a nested call gets a fresh one instead of a panic.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Parses `bytes` by `rules` and lends the root to `read`. The bytes are copied once, because the
/// parser unescapes in place.
///
/// # Errors
///
/// [`JsonError`], before `read` is called.
pub fn with_tape<T>(
    bytes: &[u8],
    rules: JsonRules,
    read: impl FnOnce(TapeNode<'_>) -> T,
) -> Result<T, JsonError> {
    let bytes = match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) if rules.byte_order_mark => text,
        _ => bytes,
    };
    let mut scratch = match SCRATCH.take() {
        Some(scratch) if scratch.depth_limit == rules.depth_limit => scratch,
        _ => Box::new(Scratch {
            input: Vec::new(),
            buffers: Buffers::with_max_depth(bytes.len().min(RETAINED_LIMIT), rules.depth_limit),
            depth_limit: rules.depth_limit,
            tape: Tape(Vec::new()),
            members: Vec::new(),
        }),
    };
    let Scratch { input, buffers, tape, members, .. } = &mut *scratch;
    input.clear();
    input.extend_from_slice(bytes);
    input.resize(bytes.len() + INPUT_PADDING, 0);
    let start = input.as_ptr().addr();

    let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
    let result = fill(input, bytes.len(), buffers, &mut filled).and_then(|()| {
        if !rules.inexact_numbers && !has_exact_numbers(&filled.0, bytes, start) {
            return Err(JsonError::Imprecise);
        }
        if !has_duplicates(&filled.0, members) {
            return Ok(read(TapeNode::new(&filled.0)));
        }
        let last_counts = match rules.duplicate_names {
            DuplicateNames::Refuse => return Err(JsonError::DuplicateMember),
            DuplicateNames::Last => true,
            DuplicateNames::First => false,
        };
        Ok(read(TapeNode::new(&without_duplicates(&filled.0, last_counts))))
    });
    *tape = filled.reset();

    if bytes.len() <= RETAINED_LIMIT {
        SCRATCH.set(Some(scratch));
    }
    result
}

fn fill<'a>(
    input: &'a mut [u8],
    len: usize,
    buffers: &mut Buffers,
    tape: &mut Tape<'a>,
) -> Result<(), JsonError> {
    match simd_json::fill_tape_padded(input, len, buffers, tape) {
        Ok(()) if tape.0.is_empty() => Err(JsonError::Malformed),
        Ok(()) => Ok(()),
        Err(error) if matches!(error.error(), ErrorType::DepthLimitExceeded) => {
            Err(JsonError::TooDeep)
        }
        Err(_) => Err(JsonError::Malformed),
    }
}

/// Whether every number with a fraction or an exponent is exact. The tape holds no text of numbers,
/// so it is read again in `text`, what was parsed: the strings on the tape still lie where they were
/// in the text, as far behind `start` as there, and a number is found behind the last string
/// before it. Without such numbers the text is not looked at, and no string ever is but one with an
/// escape that stands before one of them.
fn has_exact_numbers(tape: &[Node<'_>], text: &[u8], start: usize) -> bool {
    // Where the search goes on, and how many integers lie between there and the next cell.
    let (mut at, mut integers) = (0, 0);
    let mut string = None;
    for cell in tape {
        match cell {
            Node::String(one) => {
                string = Some((one.as_ptr().addr().wrapping_sub(start), one.len()));
                integers = 0;
            }
            Node::Static(StaticNode::F64(_)) => {
                if let Some((from, len)) = string.take() {
                    at = string_end(text, from, len);
                }
                for _ in 0..integers {
                    at = number(text, at).1;
                }
                integers = 0;
                let (from, end) = number(text, at);
                at = end;
                if !text.get(from..end).is_some_and(is_exact_here) {
                    return false;
                }
            }
            Node::Static(StaticNode::I64(_) | StaticNode::U64(_)) => integers += 1,
            _ => {}
        }
    }
    true
}

/// Whether a number with a fraction or an exponent is exact; false for anything else.
fn is_exact_here(written: &[u8]) -> bool {
    let size = written.strip_prefix(b"-").unwrap_or(written);
    let has_exponent = size.iter().any(|octet| octet | 32 == b'e');
    if !has_exponent && size.len() <= EXACT_OCTETS {
        return size.contains(&b'.');
    }
    std::str::from_utf8(written).is_ok_and(is_exact_decimal)
}

/// The place behind the closing quote of the string whose content starts at `from` and has `len`
/// octets once it is unescaped.
fn string_end(text: &[u8], from: usize, len: usize) -> usize {
    let behind = from.saturating_add(len);
    let has_escape =
        text.get(behind) != Some(&b'"') || len > 0 && text.get(behind - 1) == Some(&b'\\');
    if !has_escape {
        return behind + 1;
    }
    let mut at = from;
    while let Some(octet) = text.get(at) {
        match octet {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Start and end of the first number from `at` on, where no string lies before it.
fn number(text: &[u8], at: usize) -> (usize, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let is_start = |octet: &u8| octet.is_ascii_digit() || *octet == b'-';
    let start = at + rest.iter().take_while(|octet| !is_start(octet)).count();
    let rest = text.get(start..).unwrap_or_default();
    let is_part = |octet: &u8| matches!(octet, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    (start, start + rest.iter().take_while(|octet| is_part(octet)).count())
}

/// The number of cells that the value starting with `cell` takes on the tape.
pub(super) fn cells(cell: &Node<'_>) -> usize {
    match cell {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<usize, JsonError> {
        with_tape(text, JsonRules::strict(64), |root| root.cells().len())
    }

    #[test]
    fn well_formedness() {
        for (text, expected) in [
            (&b"{}"[..], Ok(1)),
            (b"null", Ok(1)),
            (b" [1, \"a\", {\"b\": []}]\r\n\t", Ok(6)),
            (b"18446744073709551615", Ok(1)),
            (b"-9223372036854775808", Ok(1)),
            (b"1e308", Ok(1)),
            (br#""\ud83d\ude00""#, Ok(1)),
            (b"", Err(JsonError::Malformed)),
            (b" ", Err(JsonError::Malformed)),
            (b"{} {}", Err(JsonError::Malformed)),
            (b"{}x", Err(JsonError::Malformed)),
            (b"nul", Err(JsonError::Malformed)),
            (b"NaN", Err(JsonError::Malformed)),
            (b"01", Err(JsonError::Malformed)),
            (b"+1", Err(JsonError::Malformed)),
            (b".5", Err(JsonError::Malformed)),
            (b"1.", Err(JsonError::Malformed)),
            (b"[1,]", Err(JsonError::Malformed)),
            (b"{\"a\":1,}", Err(JsonError::Malformed)),
            (b"{a:1}", Err(JsonError::Malformed)),
            (b"'a'", Err(JsonError::Malformed)),
            (b"/**/1", Err(JsonError::Malformed)),
            (b"\"a\nb\"", Err(JsonError::Malformed)),
            (b"\"a\x00b\"", Err(JsonError::Malformed)),
            (b"{}\x00", Err(JsonError::Malformed)),
            (b"\xef\xbb\xbf{}", Err(JsonError::Malformed)),
            (b"\xff\xfe{\x00}\x00", Err(JsonError::Malformed)),
            (b"\"\xc0\xaf\"", Err(JsonError::Malformed)),
            (b"\"\xed\xa0\x80\"", Err(JsonError::Malformed)),
            (br#""\ud800""#, Err(JsonError::Malformed)),
            (br#""\udc00\ud800""#, Err(JsonError::Malformed)),
            (br#""\x41""#, Err(JsonError::Malformed)),
            (b"18446744073709551616", Err(JsonError::Malformed)),
            (b"-9223372036854775809", Err(JsonError::Malformed)),
            (b"1e400", Err(JsonError::Malformed)),
        ] {
            assert_eq!(parse(text), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn depth_at_the_limit_and_beyond() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (levels, expected) in [(64, true), (65, false), (5_000, false)] {
                let text = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                let result = with_tape(text.as_bytes(), JsonRules::strict(64), |_| ());
                let expected = if expected { Ok(()) } else { Err(JsonError::TooDeep) };
                assert_eq!(result, expected, "{levels} levels of {open}");
            }
        }
        assert_eq!(
            with_tape(b"[[1]]", JsonRules::strict(1), |_| ()),
            Err(JsonError::TooDeep),
            "another limit counts"
        );
    }

    #[test]
    fn inexact_numbers() {
        let strings = [
            r#""a""#,
            r#""1.5e""#,
            r#""\"""#,
            r#""\\""#,
            r#""a\\\"1\u0022""#,
            r#""é😀\ud83d\ude00\"x""#,
        ];
        for (number, is_exact) in [
            ("1.5", true),
            ("-0.0", true),
            ("1e2", true),
            ("-19.99E0", true),
            ("0.12345678901234", true),
            ("0.123456789012345", true),
            ("0.30000000000000004", true),
            ("0.30000000000000003", false),
            ("0.1000000000000000055511151231257827", false),
            ("-9007199254740993.0", false),
            ("9007199254740993e0", false),
            ("5e-324", true),
            ("4e-324", false),
            ("1e-400", false),
        ] {
            let mut texts = vec![
                number.to_owned(),
                format!("[{number}]"),
                format!(" [ 12 , true,-3 ,\tfalse,null , 0,{number} , 4 ]"),
                format!("[1.25,[],{{}},2,3.5,{{\"a\":[7,8]}},9,{number}]"),
                format!("[{number},{number}]"),
            ];
            for string in strings {
                texts.push(format!("[{string},{number},{string}]"));
                texts.push(format!("{{{string}:{number},\"b\":{string},\"c\":{string}}}"));
                texts.push(format!("[{string},{string},12,-7, {number},1.5,{string}]"));
                texts.push(format!("[1.5,{string},[{{\"\":{{{string}:[12,{number}]}}}}]]"));
            }
            for text in texts {
                let strict = JsonRules::strict(64);
                let expected = if is_exact { Ok(()) } else { Err(JsonError::Imprecise) };
                assert_eq!(with_tape(text.as_bytes(), strict, |_| ()), expected, "{text}");
                let lenient = JsonRules { inexact_numbers: true, ..strict };
                assert_eq!(with_tape(text.as_bytes(), lenient, |_| ()), Ok(()), "{text}");
            }
        }
        for string in ["0.30000000000000003", "\\\\0.30000000000000003", "[1e-400,"] {
            let text = format!("[\"{string}\",1.5,\"{string}\",2.5]");
            assert_eq!(with_tape(text.as_bytes(), JsonRules::strict(64), |_| ()), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark() {
        let skipping = JsonRules { byte_order_mark: true, ..JsonRules::strict(64) };
        for (text, expected) in [
            (&b"\xef\xbb\xbf[1.5]"[..], Ok(())),
            (b"[1.5]", Ok(())),
            (b"\xef\xbb\xbf", Err(JsonError::Malformed)),
            (b"\xef\xbb\xbf\xef\xbb\xbf1", Err(JsonError::Malformed)),
            (b" \xef\xbb\xbf1", Err(JsonError::Malformed)),
            (b"1\xef\xbb\xbf", Err(JsonError::Malformed)),
            (b"\xfe\xff\x001", Err(JsonError::Malformed)),
            (b"\xff\xfe1\x00", Err(JsonError::Malformed)),
        ] {
            assert_eq!(with_tape(text, skipping, |_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn the_tape_is_bounded_by_the_document() {
        for text in ["[[],[],[],[]]", "[1,1,1,1,1,1]", "{\"\":{\"\":{}}}", "7"] {
            let count = parse(text.as_bytes()).unwrap();
            assert!(count <= text.len(), "{count} cells of {text}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let text = br#"{"a":[1,-2.5e3,"b\u00e9\n",true,null,{"c":{}}]}"#;
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), Err(JsonError::Malformed), "cut at {end}");
        }
        assert!(parse(text).is_ok());
    }

    #[test]
    fn calls_may_nest_and_buffers_are_reused() {
        let sum = with_tape(b"[1,2]", JsonRules::strict(64), |outer| {
            outer.cells().len()
                + with_tape(b"[3]", JsonRules::strict(64), |inner| inner.cells().len()).unwrap()
        });
        assert_eq!(sum, Ok(5));
        let long = format!("[{}0]", "0,".repeat(RETAINED_LIMIT));
        assert!(parse(long.as_bytes()).is_ok());
        assert!(SCRATCH.take().is_none(), "a long document's buffers are freed");
        assert!(parse(b"1").is_ok());
        assert!(SCRATCH.take().is_some(), "a short document's buffers are kept");
    }
}
