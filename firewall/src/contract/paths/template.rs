//! Path templates: segments of literals and expressions, and how a segment's text is split among
//! them.
//!
//! An expression stands for at least one character. Where a segment holds several, the literals
//! between them are looked for from the left, so that each expression takes as little as it can and
//! the last one the rest: one pass, no backtracking. A text that another reader could split in
//! another way (`a.b.c` by `{name}.{extension}`) is told as such.

use std::collections::HashSet;

use super::super::uri::{Part as Place, Plus, decode, encode, normalize};

/// Segments that a template or a base path may have; matching recurses as deep as both together.
const SEGMENTS_MAX: usize = 64;

/// One segment of a template: literals and expressions in turn, none where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal {
        /// To compare with.
        decoded: Box<str>,
        /// To forward.
        spelling: Box<str>,
    },
    /// By its name.
    Expression(Box<str>),
}

/// What of a segment decides which texts it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Literal(Box<str>),
    Expression,
    Mixed(Pattern),
}

impl Segment {
    /// The names of the expressions, from left to right.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(name) => Some(&**name),
            Part::Literal { .. } => None,
        })
    }

    pub(crate) fn shape(&self) -> Shape {
        match self.parts.as_slice() {
            [] => Shape::Literal("".into()),
            [Part::Literal { decoded, .. }] => Shape::Literal(decoded.clone()),
            [Part::Expression(_)] => Shape::Expression,
            parts => Shape::Mixed(Pattern::new(parts)),
        }
    }

    /// Whether both match the same texts, whatever their expressions are called.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.shape() == other.shape()
    }
}

/// Literals with expressions between them, at least one of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    prefix: Box<str>,
    /// Between two expressions; none of them empty.
    middle: Box<[Box<str>]>,
    suffix: Box<str>,
}

/// How a text is split among a pattern's expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Only,
    /// The leftmost of several.
    First,
}

impl Pattern {
    fn new(parts: &[Part]) -> Self {
        let mut literals = Vec::new();
        let mut literal: Box<str> = "".into();
        for part in parts {
            match part {
                // No two stand side by side.
                Part::Literal { decoded, .. } => literal.clone_from(decoded),
                Part::Expression(_) => literals.push(std::mem::take(&mut literal)),
            }
        }
        literals.push(literal);
        Self::between(literals)
    }

    /// Of the literals before, between and behind the expressions.
    pub(crate) fn between(mut literals: Vec<Box<str>>) -> Self {
        let suffix = literals.pop().unwrap_or_default();
        let prefix = if literals.is_empty() { "".into() } else { literals.remove(0) };
        Self { prefix, middle: literals.into(), suffix }
    }

    /// The greater comes first: the longer literal at the start, then the longer one at the end,
    /// then the more literal text. A pattern whose texts another one matches too, and more, is
    /// greater than that one.
    pub(super) fn rank(&self) -> (usize, usize, usize) {
        let middle: usize = self.middle.iter().map(|literal| literal.len()).sum();
        let (prefix, suffix) = (self.prefix.len(), self.suffix.len());
        (prefix, suffix, prefix + middle + suffix)
    }

    /// Whether the text matches; adds where in it each expression's value stands.
    pub(crate) fn split(&self, text: &str, values: &mut Vec<(usize, usize)>) -> Option<Split> {
        let inner = text.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)?;
        let offset = self.prefix.len();
        let count = values.len();
        let mut start = 0;
        for literal in &self.middle {
            let first = inner.get(start..)?.chars().next()?.len_utf8();
            let end = start + first + inner.get(start + first..)?.find(&**literal)?;
            values.push((offset + start, offset + end));
            start = end + literal.len();
        }
        if start >= inner.len() {
            return None;
        }
        values.push((offset + start, offset + inner.len()));
        let leftmost = values.get(count..).unwrap_or_default();
        Some(if self.is_only(inner, leftmost) { Split::Only } else { Split::First })
    }

    /// Whether the rightmost split is the leftmost one, and so the only one.
    fn is_only(&self, inner: &str, leftmost: &[(usize, usize)]) -> bool {
        let mut end = inner.len();
        self.middle.iter().zip(leftmost).rev().all(|(literal, (_, leftmost))| {
            let text = inner.get(..end).unwrap_or_default();
            let last = text.char_indices().next_back().map_or(0, |(last, _)| last);
            let found = text.get(..last).and_then(|text| text.rfind(&**literal));
            end = found.unwrap_or_default();
            found.is_some_and(|found| found + self.prefix.len() == *leftmost)
        })
    }

    /// Whether some text matches both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        // What begins or ends with both literals does so with the longer one: few patterns come further.
        let (prefix, suffix) = (&*other.prefix, &*other.suffix);
        let may_begin = self.prefix.starts_with(prefix) || prefix.starts_with(&*self.prefix);
        if !may_begin || !(self.suffix.ends_with(suffix) || suffix.ends_with(&*self.suffix)) {
            return false;
        }
        let (left, right) = (self.tokens(), other.tokens());
        let mut seen = HashSet::new();
        let mut open = vec![(0, 0)];
        while let Some((at, beside)) = open.pop() {
            if !seen.insert((at, beside)) {
                continue;
            }
            let (here, there) = (left.get(at), right.get(beside));
            // A run may end before the next character.
            if here == Some(&Token::Run) {
                open.push((at + 1, beside));
            }
            if there == Some(&Token::Run) {
                open.push((at, beside + 1));
            }
            match (here, there) {
                (None, None) => return true,
                (Some(Token::Exactly(one)), Some(Token::Exactly(other))) if one != other => {}
                (Some(here), Some(there)) => {
                    let step = |token: &Token| usize::from(*token != Token::Run);
                    open.push((at + step(here), beside + step(there)));
                }
                _ => {}
            }
        }
        false
    }

    fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<_> = self.prefix.chars().map(Token::Exactly).collect();
        for literal in self.middle.iter().chain([&self.suffix]) {
            tokens.extend([Token::One, Token::Run]);
            tokens.extend(literal.chars().map(Token::Exactly));
        }
        tokens
    }
}

/// What a pattern says of the characters at one place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Exactly(char),
    One,
    /// Any number of any characters.
    Run,
}

/// The segments of a template, or of a server's base path.
///
/// # Errors
///
/// What cannot be matched, in words.
pub(crate) fn segments(template: &str) -> Result<Vec<Segment>, String> {
    let mut rest = template
        .strip_prefix('/')
        .ok_or_else(|| format!("the path {template} does not begin with a slash"))?;
    let mut segments = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    loop {
        let end = rest.find(['/', '{', '}', '?', '#']).unwrap_or(rest.len());
        let (text, mark) = rest.split_at(end);
        if !text.is_empty() {
            parts.push(literal(template, text)?);
        }
        let mut after = mark.chars();
        match after.next() {
            None => break,
            Some('/') => segments.push(Segment { parts: std::mem::take(&mut parts) }),
            Some('{') => {
                let (name, behind) = after
                    .as_str()
                    .split_once('}')
                    .filter(|(name, _)| !name.is_empty() && !name.contains('{'))
                    .ok_or_else(|| format!("{template}: an expression is not `{{name}}`"))?;
                if let Some(Part::Expression(other)) = parts.last() {
                    return Err(format!(
                        "{template}: nothing tells where {{{other}}} ends and {{{name}}} begins"
                    ));
                }
                parts.push(Part::Expression(name.into()));
                after = behind.chars();
            }
            Some('}') => return Err(format!("{template}: a brace closes no expression")),
            Some(_) => return Err(format!("{template}: a path holds no query and no fragment")),
        }
        rest = after.as_str();
    }
    segments.push(Segment { parts });
    if segments.len() > SEGMENTS_MAX {
        return Err(format!("{template}: a path has at most {SEGMENTS_MAX} segments"));
    }
    let unmatched = segments.iter().enumerate().any(|(index, segment)| match segment.shape() {
        Shape::Literal(text) if text.is_empty() => index + 1 < segments.len(),
        Shape::Literal(text) => matches!(&*text, "." | ".."),
        Shape::Expression | Shape::Mixed(_) => false,
    });
    if unmatched {
        return Err(unmatchable(template));
    }
    Ok(segments)
}

fn literal(template: &str, text: &str) -> Result<Part, String> {
    let malformed = || format!("{template}: the path is wrongly encoded");
    let decoded = decode(text, Plus::Literal).ok_or_else(malformed)?;
    if decoded.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()) {
        return Err(unmatchable(template));
    }
    // What a path may not hold as it is, a client has to escape.
    let mut escaped = String::new();
    for character in text.chars() {
        let mut octets = [0; 4];
        let octets = character.encode_utf8(&mut octets);
        if character == '%' || normalize(octets, Place::Segment, &mut String::new()).is_some() {
            escaped.push(character);
        } else {
            encode(octets, &mut escaped);
        }
    }
    let mut spelling = String::new();
    normalize(&escaped, Place::Segment, &mut spelling).ok_or_else(malformed)?;
    Ok(Part::Literal { decoded: (*decoded).into(), spelling: spelling.into() })
}

fn unmatchable(template: &str) -> String {
    format!("{template}: no request that is accepted can match this path")
}
