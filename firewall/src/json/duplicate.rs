//! Objects that name a member twice: found, and resolved to one reading.

use simd_json::Node;

use super::parse::cells;

/// Up to so many members, names are compared pairwise; beyond, they are sorted.
const PAIRWISE_MEMBERS: usize = 16;
/// Up to so many members, names are first told apart by one bit each: the larger the object, the
/// likelier two share one.
const MARKED_MEMBERS: usize = 32;
/// Words of the bits for that.
const MARKS: usize = 8;

/// A member of an object: what its name is told apart by in most cases, and the place of its name
/// on the tape.
#[derive(Clone, Copy)]
pub(super) struct Member {
    digest: u64,
    position: u32,
}

/// Whether an object names a member twice. Every object is visited once, whatever its depth, since
/// the tape is flat; the cost is O(n log n) in the worst case. `members` is room to work in.
pub(super) fn has_duplicates(tape: &[Node<'_>], members: &mut Vec<Member>) -> bool {
    tape.iter().enumerate().any(|(at, cell)| {
        let Node::Object { len, .. } = *cell else { return false };
        if len < 2 || len <= MARKED_MEMBERS && have_own_marks(tape, at, len) {
            return false;
        }
        members_of(tape, at, len, members);
        let same = |one: &Member, other: &Member| {
            one.digest == other.digest && name(tape, one.position) == name(tape, other.position)
        };
        if len <= PAIRWISE_MEMBERS {
            let mut rest = members.as_slice();
            while let [one, others @ ..] = rest {
                if others.iter().any(|other| same(one, other)) {
                    return true;
                }
                rest = others;
            }
            return false;
        }
        members.sort_unstable_by(|one, other| {
            let by_digest = one.digest.cmp(&other.digest);
            by_digest.then_with(|| name(tape, one.position).cmp(name(tape, other.position)))
        });
        members.windows(2).any(|pair| matches!(pair, [one, other] if same(one, other)))
    })
}

/// Whether the names of the object at `at` fall on a bit each, as names that are all different mostly
/// do.
fn have_own_marks(tape: &[Node<'_>], at: usize, len: usize) -> bool {
    let mut marks = [0_u64; MARKS];
    let mut rest = tape.get(at + 1..).unwrap_or_default();
    for _ in 0..len {
        let [Node::String(name), value @ ..] = rest else { break };
        // Fibonacci hashing: the upper bits depend on all the others.
        let mixed = digest(name.as_bytes()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        let bit = 1 << (mixed % 64);
        match marks.get_mut((mixed / 64) as usize) {
            Some(mark) if *mark & bit == 0 => *mark |= bit,
            _ => return false,
        }
        rest = value.get(value.first().map_or(0, cells)..).unwrap_or_default();
    }
    true
}

/// The members of the object at `at`, in the order of the document.
fn members_of(tape: &[Node<'_>], at: usize, len: usize, members: &mut Vec<Member>) {
    members.clear();
    let mut position = at + 1;
    let mut rest = tape.get(position..).unwrap_or_default();
    for _ in 0..len {
        let [Node::String(name), value @ ..] = rest else { break };
        let count = value.first().map_or(0, cells);
        // simd-json refuses inputs of 4 GiB, so that positions fit.
        let place = u32::try_from(position).unwrap_or(u32::MAX);
        members.push(Member { digest: digest(name.as_bytes()), position: place });
        position += 1 + count;
        rest = value.get(count..).unwrap_or_default();
    }
}

/// Length, start and end of a name: equal for equal names, and rarely for others.
fn digest(name: &[u8]) -> u64 {
    let ends = match (name.first_chunk(), name.last_chunk()) {
        (Some(start), Some(end)) => {
            u64::from_le_bytes(*start) ^ u64::from_le_bytes(*end).rotate_left(29)
        }
        _ => name.iter().fold(0, |all, octet| all << 8 | u64::from(*octet)),
    };
    ends ^ (name.len() as u64) << 56
}

fn name<'a>(tape: &[Node<'a>], position: u32) -> &'a str {
    match tape.get(position as usize) {
        Some(Node::String(name)) => name,
        _ => "",
    }
}

/// The same document, in which each object has one member of a name: the last, or the first.
pub(super) fn without_duplicates<'a>(tape: &[Node<'a>], last_counts: bool) -> Vec<Node<'a>> {
    let mut out = Vec::with_capacity(tape.len());
    copy(tape, 0, last_counts, &mut out);
    out
}

/// Copies the value at `at`. As deep as the document, whose depth the parser has bounded.
fn copy<'a>(tape: &[Node<'a>], at: usize, last_counts: bool, out: &mut Vec<Node<'a>>) {
    let Some(cell) = tape.get(at) else { return };
    let start = out.len();
    out.push(*cell);
    match *cell {
        Node::Object { len, .. } => {
            let names = counting(tape, at, len, last_counts);
            for position in &names {
                out.push(Node::String(name(tape, *position)));
                copy(tape, *position as usize + 1, last_counts, out);
            }
            let count = out.len() - start - 1;
            if let Some(cell) = out.get_mut(start) {
                *cell = Node::Object { len: names.len(), count };
            }
        }
        Node::Array { len, .. } => {
            let mut position = at + 1;
            for _ in 0..len {
                copy(tape, position, last_counts, out);
                position += tape.get(position).map_or(1, cells);
            }
            let count = out.len() - start - 1;
            if let Some(cell) = out.get_mut(start) {
                *cell = Node::Array { len, count };
            }
        }
        Node::String(_) | Node::Static(_) => {}
    }
}

/// The names of the object at `at` that count, by their places, in the order of the document.
fn counting(tape: &[Node<'_>], at: usize, len: usize, last_counts: bool) -> Vec<u32> {
    let mut members = Vec::with_capacity(len);
    members_of(tape, at, len, &mut members);
    let mut names: Vec<_> = members.iter().map(|member| member.position).collect();
    // Of equal names the one that counts comes first, and the others are dropped.
    names.sort_unstable_by(|one, other| {
        let by_place = if last_counts { other.cmp(one) } else { one.cmp(other) };
        name(tape, *one).cmp(name(tape, *other)).then(by_place)
    });
    names.dedup_by(|one, other| name(tape, *one) == name(tape, *other));
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{DuplicateNames, JsonError, JsonRules, with_tape};
    use jsonschema::json::Node as _;

    fn read(text: &str, duplicate_names: DuplicateNames) -> Result<String, JsonError> {
        let rules = JsonRules { duplicate_names, ..JsonRules::strict(64) };
        with_tape(text.as_bytes(), rules, |root| {
            assert_eq!(root.cells().len(), root.cells().first().map_or(0, cells), "{text}");
            root.to_value().to_string()
        })
    }

    #[test]
    fn duplicate_members() {
        for text in [
            r#"{"a":1,"b":2}"#,
            r#"{"a":{"a":1},"b":{"a":1}}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":1,"A":2}"#,
        ] {
            for rule in [DuplicateNames::Refuse, DuplicateNames::First, DuplicateNames::Last] {
                assert_eq!(read(text, rule).as_deref(), Ok(text));
            }
        }
        for (text, first, last) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1,"\u0061":2}"#, r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"":1,"":1}"#, r#"{"":1}"#, r#"{"":1}"#),
            (r#"{"a":1,"b":2,"a":3,"a":4}"#, r#"{"a":1,"b":2}"#, r#"{"b":2,"a":4}"#),
            (
                r#"[{"x":{"a":[{}],"b":0,"a":{"c":1,"c":[2,3]}}},7]"#,
                r#"[{"x":{"a":[{}],"b":0}},7]"#,
                r#"[{"x":{"b":0,"a":{"c":[2,3]}}},7]"#,
            ),
        ] {
            assert_eq!(
                read(text, DuplicateNames::Refuse),
                Err(JsonError::DuplicateMember),
                "{text}"
            );
            assert_eq!(read(text, DuplicateNames::First).as_deref(), Ok(first), "{text}");
            assert_eq!(read(text, DuplicateNames::Last).as_deref(), Ok(last), "{text}");
        }
    }

    #[test]
    fn names_with_one_digest_are_told_apart() {
        // Sixteen octets of which the middle does not count.
        let alike = ["abcdefghXabcdefgh", "abcdefghYabcdefgh"];
        assert_eq!(digest(alike[0].as_bytes()), digest(alike[1].as_bytes()));
        let filler = |count| (0..count).map(|i| format!(",\"{i}\":0")).collect::<Vec<_>>().concat();
        for count in [0, PAIRWISE_MEMBERS, MARKED_MEMBERS] {
            let [one, other] = alike;
            let unique = format!("{{\"{one}\":1,\"{other}\":2{}}}", filler(count));
            assert_eq!(read(&unique, DuplicateNames::Refuse).as_ref(), Ok(&unique));
            let twice = format!("{{\"{one}\":1,\"{other}\":2,\"{one}\":3{}}}", filler(count));
            let refused = read(&twice, DuplicateNames::Refuse);
            assert_eq!(refused, Err(JsonError::DuplicateMember), "{count} members more");
        }
    }

    #[test]
    fn many_members() {
        for members in
            [2, PAIRWISE_MEMBERS, PAIRWISE_MEMBERS + 1, MARKED_MEMBERS, MARKED_MEMBERS + 1, 1_000]
        {
            let names = (0..members).map(|i| format!("\"m{i}\":{{\"v\":{i}}}")).collect::<Vec<_>>();
            let unique = format!("{{{}}}", names.join(","));
            assert_eq!(read(&unique, DuplicateNames::Refuse).as_ref(), Ok(&unique));
            let twice = format!("{{{},{}}}", names.join(","), names[members / 2]);
            let refused = read(&twice, DuplicateNames::Refuse);
            assert_eq!(refused, Err(JsonError::DuplicateMember), "{members} members and one again");
            assert_eq!(read(&twice, DuplicateNames::First).as_ref(), Ok(&unique));
        }
    }
}
