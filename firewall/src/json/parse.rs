//! Bytes to tape: well-formedness beyond any schema. Depth is bounded, a member name given twice is
//! refused, and the buffers stay with the thread between documents.

use std::cell::Cell;

use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, Tape};

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
}

/// A scratch whose last document was longer than this, in octets, is freed instead of kept.
const RETAINED_LIMIT: usize = 256 * 1024;

/// Up to so many members, names are compared pairwise; beyond, they are sorted.
const PAIRWISE_MEMBERS: usize = 12;

struct Scratch {
    input: Vec<u8>,
    buffers: Buffers,
    depth_limit: usize,
    tape: Tape<'static>,
    names: Vec<u32>,
}

thread_local! {
    // Taken out while in use, so that a nested call gets a fresh one instead of a panic.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Parses `bytes` and lends the root to `read`. At most `depth_limit` levels of arrays and objects
/// are accepted. The bytes are copied once, because the parser unescapes in place.
///
/// # Errors
///
/// [`JsonError`], before `read` is called.
pub fn with_tape<T>(
    bytes: &[u8],
    depth_limit: usize,
    read: impl FnOnce(TapeNode<'_>) -> T,
) -> Result<T, JsonError> {
    let mut scratch = match SCRATCH.take() {
        Some(scratch) if scratch.depth_limit == depth_limit => scratch,
        _ => Box::new(Scratch {
            input: Vec::new(),
            buffers: Buffers::with_max_depth(bytes.len().min(RETAINED_LIMIT), depth_limit),
            depth_limit,
            tape: Tape(Vec::new()),
            names: Vec::new(),
        }),
    };
    let Scratch { input, buffers, tape, names, .. } = &mut *scratch;
    input.clear();
    input.extend_from_slice(bytes);
    input.resize(bytes.len() + INPUT_PADDING, 0);

    let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
    let result = fill(input, bytes.len(), buffers, &mut filled)
        .and_then(|()| unique_members(&filled.0, names))
        .map(|()| read(TapeNode::new(&filled.0)));
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

/// Refuses a member name that an object gives twice. Every object is visited once, whatever its
/// depth, since the tape is flat; the cost is O(n log n) in the worst case.
fn unique_members(tape: &[Node<'_>], names: &mut Vec<u32>) -> Result<(), JsonError> {
    for (at, cell) in tape.iter().enumerate() {
        let Node::Object { len, .. } = *cell else { continue };
        if len < 2 {
            continue;
        }
        names.clear();
        let mut position = at + 1;
        for _ in 0..len {
            // simd-json refuses inputs of 4 GiB, so that positions fit.
            names.push(u32::try_from(position).unwrap_or(u32::MAX));
            position += 1;
            position += tape.get(position).map_or(1, cells);
        }
        let name = |position: &u32| match tape.get(*position as usize) {
            Some(Node::String(name)) => *name,
            _ => "",
        };
        let duplicate = if len <= PAIRWISE_MEMBERS {
            names.iter().enumerate().any(|(i, one)| {
                let one = name(one);
                names.iter().skip(i + 1).any(|other| name(other) == one)
            })
        } else {
            names.sort_unstable_by(|one, other| name(one).cmp(name(other)));
            names.windows(2).any(|pair| matches!(pair, [one, other] if name(one) == name(other)))
        };
        if duplicate {
            return Err(JsonError::DuplicateMember);
        }
    }
    Ok(())
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
        with_tape(text, 64, |root| root.cells().len())
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
                let result = with_tape(text.as_bytes(), 64, |_| ());
                let expected = if expected { Ok(()) } else { Err(JsonError::TooDeep) };
                assert_eq!(result, expected, "{levels} levels of {open}");
            }
        }
        assert_eq!(with_tape(b"[[1]]", 1, |_| ()), Err(JsonError::TooDeep), "another limit counts");
    }

    #[test]
    fn duplicate_members() {
        for (text, expected) in [
            (r#"{"a":1,"b":2}"#, Ok(())),
            (r#"{"a":{"a":1},"b":{"a":1}}"#, Ok(())),
            (r#"[{"a":1},{"a":1}]"#, Ok(())),
            (r#"{"a":1,"A":2}"#, Ok(())),
            (r#"{"a":1,"a":1}"#, Err(JsonError::DuplicateMember)),
            (r#"{"a":1,"\u0061":1}"#, Err(JsonError::DuplicateMember)),
            (r#"{"":1,"":1}"#, Err(JsonError::DuplicateMember)),
            (r#"[{"x":{"a":[{}],"b":0,"a":0}}]"#, Err(JsonError::DuplicateMember)),
        ] {
            assert_eq!(with_tape(text.as_bytes(), 64, |_| ()), expected, "{text}");
        }
        for members in [PAIRWISE_MEMBERS, PAIRWISE_MEMBERS + 1, 1_000] {
            let names = (0..members).map(|i| format!("\"m{i}\":{{\"v\":{i}}}")).collect::<Vec<_>>();
            let unique = format!("{{{}}}", names.join(","));
            assert_eq!(with_tape(unique.as_bytes(), 64, |_| ()), Ok(()), "{members} members");
            let twice = format!("{{{},{}}}", names.join(","), names[members / 2]);
            let result = with_tape(twice.as_bytes(), 64, |_| ());
            assert_eq!(result, Err(JsonError::DuplicateMember), "{members} members and one again");
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
        let sum = with_tape(b"[1,2]", 64, |outer| {
            outer.cells().len() + with_tape(b"[3]", 64, |inner| inner.cells().len()).unwrap()
        });
        assert_eq!(sum, Ok(5));
        let long = format!("[{}0]", "0,".repeat(RETAINED_LIMIT));
        assert!(parse(long.as_bytes()).is_ok());
        assert!(SCRATCH.take().is_none(), "a long document's buffers are freed");
        assert!(parse(b"1").is_ok());
        assert!(SCRATCH.take().is_some(), "a short document's buffers are kept");
    }
}
