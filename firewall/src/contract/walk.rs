//! `Walks`: the verdict on an instance in one walk over its tape, for schemas of common keywords.
//!
//! jsonschema asks each keyword for itself: for each declared member it searches the object, and for
//! each member of the object the declared ones. Here an object's members are met once, in their order.
//! The verdict is the same, which every check in a development build asserts; what is refused is
//! explained by jsonschema, and what is made of other keywords is left to it whole.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use jsonschema::Validator;
use jsonschema::json::Node as _;
use serde_json::Value;

use super::format::Check;
use super::pattern::Pattern;
use crate::json::{Decimal, Node, StaticNode, TapeJson, TapeNode, TapeNumber, is_same_name};

mod compile;

/// Declared names that are compared one after another; more are searched by halves.
const FEW_NAMES: usize = 12;
/// How much work a walk may do: so many visits for each cell of the tape, and so many beyond.
const VISITS_OF_A_CELL: usize = 4;
const VISITS: usize = 256;
/// Octets of a text that take as long to look at as a visit.
const OCTETS_OF_A_VISIT: usize = 16;

/// The schemas of a set that can be walked.
#[derive(Default)]
pub(super) struct Walks {
    rules: Vec<Rule>,
    /// By the key of the schema.
    entries: Vec<Option<RuleIndex>>,
}

/// One walk.
struct Walk<'w> {
    rules: &'w [Rule],
    /// How many visits are left.
    fuel: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RuleIndex(u32);

impl RuleIndex {
    const fn place(self) -> usize {
        self.0 as usize
    }
}

/// What one value must be.
struct Rule {
    kinds: Kinds,
    text: Option<Box<Text>>,
    number: Option<Box<Numeric>>,
    object: Option<Box<Members>>,
    array: Option<Box<Items>>,
    beside: Box<[Beside]>,
}

/// A set of the types that a value may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(1 << 1);
    const STRING: Self = Self(1 << 2);
    const ARRAY: Self = Self(1 << 3);
    const OBJECT: Self = Self(1 << 4);
    const INTEGER: Self = Self(1 << 5);
    /// A number that is no integer.
    const FRACTION: Self = Self(1 << 6);
    const ALL: Self = Self(0x7f);
    const NONE: Self = Self(0);

    const fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }

    const fn with(self, kind: Self) -> Self {
        Self(self.0 | kind.0)
    }
}

/// What a string must be.
struct Text {
    /// In code points.
    at_least: usize,
    at_most: usize,
    patterns: Box<[Arc<Pattern>]>,
    format: Option<TextFormat>,
}

enum TextFormat {
    Own(Check),
    Theirs(Arc<Validator<TapeJson>>),
}

/// What a number must be.
#[derive(Default)]
struct Numeric {
    limits: Vec<Limit>,
    divisor: Option<Decimal>,
}

struct Limit {
    bound: Bound,
    side: Side,
}

#[derive(Clone, Copy)]
enum Bound {
    Integer(i128),
    Float(f64),
}

#[derive(Clone, Copy)]
enum Side {
    AtLeast,
    Above,
    AtMost,
    Below,
}

/// What an object must be.
struct Members {
    named: Box<[Named]>,
    /// The places of `named`, by their names; empty while these are few.
    sorted: Box<[u16]>,
    /// The bits of those that must be there.
    required: u64,
    other: Other,
    /// What names must be.
    names: Option<RuleIndex>,
    at_least: usize,
    at_most: usize,
}

/// A member that the schema knows by name.
struct Named {
    name: Box<str>,
    /// None where it is only required, so that it is as the others.
    rule: Option<RuleIndex>,
    /// Of [`Members::required`].
    bit: u64,
}

/// What members must be that are not declared.
#[derive(Clone, Copy)]
enum Other {
    Anything,
    Absent,
    As(RuleIndex),
}

/// What an array must be.
struct Items {
    first: Box<[RuleIndex]>,
    rest: Option<RuleIndex>,
    at_least: usize,
    at_most: usize,
    is_unique: bool,
}

/// What else is said of the same value.
enum Beside {
    All(RuleIndex),
    Any(Box<[RuleIndex]>),
    One(Box<[RuleIndex]>),
    Not(RuleIndex),
    If { condition: RuleIndex, then: Option<RuleIndex>, otherwise: Option<RuleIndex> },
    Among { texts: Box<[Box<str>]>, integers: Box<[i64]>, others: Box<[Value]> },
}

impl Walks {
    /// Whether the schema of that key accepts the instance; none where it cannot be walked, or where
    /// that takes too long: alternatives within alternatives judge the same values again and again,
    /// which jsonschema remembers.
    pub(super) fn verdict(&self, key: usize, instance: TapeNode<'_>) -> Option<bool> {
        let entry = self.entries.get(key).copied().flatten()?;
        let tape = instance.cells();
        let fuel = tape.len().saturating_mul(VISITS_OF_A_CELL).saturating_add(VISITS);
        let walk = Walk { rules: &self.rules, fuel: Cell::new(fuel) };
        let is_accepted = walk.accepts(entry, tape);
        (walk.fuel.get() > 0).then_some(is_accepted)
    }
}

impl Walk<'_> {
    /// Whether there are `visits` left.
    fn spend(&self, visits: usize) -> bool {
        let left = self.fuel.get().saturating_sub(visits);
        self.fuel.set(left);
        left > 0
    }

    /// Recurses as deep as the instance is nested and, at each level, the schemas that speak of one
    /// value are: both are bounded, by `json_depth` and when the contract is compiled.
    fn accepts(&self, rule: RuleIndex, tape: &[Node<'_>]) -> bool {
        let (Some(rule), Some(cell)) = (self.rules.get(rule.place()), tape.first()) else {
            return false;
        };
        if !self.spend(1) {
            return false;
        }
        let is_own = match *cell {
            Node::String(text) => {
                rule.kinds.has(Kinds::STRING)
                    && rule.text.as_ref().is_none_or(|rule| rule.accepts(self, text))
            }
            Node::Object { len, .. } => {
                rule.kinds.has(Kinds::OBJECT)
                    && rule.object.as_ref().is_none_or(|rule| rule.accepts(self, len, tape))
            }
            Node::Array { len, .. } => {
                rule.kinds.has(Kinds::ARRAY)
                    && rule.array.as_ref().is_none_or(|rule| rule.accepts(self, len, tape))
            }
            Node::Static(StaticNode::Null) => rule.kinds.has(Kinds::NULL),
            Node::Static(StaticNode::Bool(_)) => rule.kinds.has(Kinds::BOOLEAN),
            Node::Static(StaticNode::I64(number)) => rule.counts(TapeNumber::I64(number)),
            Node::Static(StaticNode::U64(number)) => rule.counts(TapeNumber::U64(number)),
            Node::Static(StaticNode::F64(number)) => rule.counts(TapeNumber::F64(number)),
        };
        is_own && rule.beside.iter().all(|beside| beside.accepts(self, tape))
    }
}

impl Rule {
    /// Nothing is said yet.
    fn open() -> Self {
        let beside = Box::default();
        Self { kinds: Kinds::ALL, text: None, number: None, object: None, array: None, beside }
    }

    fn counts(&self, number: TapeNumber) -> bool {
        let kind = match number {
            TapeNumber::F64(number) if number.fract() != 0.0 => Kinds::FRACTION,
            _ => Kinds::INTEGER,
        };
        self.kinds.has(kind) && self.number.as_ref().is_none_or(|rule| rule.accepts(number))
    }
}

impl Text {
    fn accepts(&self, walk: &Walk<'_>, text: &str) -> bool {
        let read = || walk.spend(text.len() / OCTETS_OF_A_VISIT);
        self.is_long_enough(walk, text)
            && self.patterns.iter().all(|pattern| read() && pattern.is_match(text))
            && (self.format.is_none() || read())
            && match &self.format {
                None => true,
                Some(TextFormat::Own(check)) => check(text),
                Some(TextFormat::Theirs(format)) => {
                    format.is_valid(TapeNode::new(&[Node::String(text)]))
                }
            }
    }

    /// A code point has one to four octets, so that most texts need not be counted.
    fn is_long_enough(&self, walk: &Walk<'_>, text: &str) -> bool {
        let octets = text.len();
        if octets.div_ceil(4) >= self.at_least && octets <= self.at_most {
            return true;
        }
        walk.spend(octets / OCTETS_OF_A_VISIT)
            && (self.at_least..=self.at_most).contains(&text.chars().count())
    }
}

impl Numeric {
    fn accepts(&self, number: TapeNumber) -> bool {
        self.limits.iter().all(|limit| limit.accepts(number))
            && self.divisor.is_none_or(|divisor| Decimal::from(number).is_multiple_of(&divisor))
    }
}

impl Limit {
    fn accepts(&self, number: TapeNumber) -> bool {
        let order = match (number, self.bound) {
            (TapeNumber::I64(number), Bound::Integer(bound)) => i128::from(number).cmp(&bound),
            (TapeNumber::U64(number), Bound::Integer(bound)) => i128::from(number).cmp(&bound),
            (TapeNumber::I64(number), Bound::Float(bound)) => {
                order_of_integer(i128::from(number), bound)
            }
            (TapeNumber::U64(number), Bound::Float(bound)) => {
                order_of_integer(i128::from(number), bound)
            }
            (TapeNumber::F64(number), Bound::Integer(bound)) => {
                order_of_integer(bound, number).reverse()
            }
            // Both are finite.
            (TapeNumber::F64(number), Bound::Float(bound)) => {
                number.partial_cmp(&bound).unwrap_or(Ordering::Equal)
            }
        };
        match self.side {
            Side::AtLeast => order.is_ge(),
            Side::Above => order.is_gt(),
            Side::AtMost => order.is_le(),
            Side::Below => order.is_lt(),
        }
    }
}

/// How an integer of at most 65 bits compares with a finite double, without rounding either.
fn order_of_integer(integer: i128, double: f64) -> Ordering {
    /// 2^65, which no integer here reaches.
    const BEYOND: f64 = 36_893_488_147_419_103_232.0;
    if double >= BEYOND {
        return Ordering::Less;
    }
    if double <= -BEYOND {
        return Ordering::Greater;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within 2^65")]
    let whole = double.trunc() as i128;
    let rest = double.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal);
    integer.cmp(&whole).then(rest.reverse())
}

impl Members {
    fn accepts(&self, walk: &Walk<'_>, len: usize, tape: &[Node<'_>]) -> bool {
        if len < self.at_least || len > self.at_most || !walk.spend(len) {
            return false;
        }
        let (mut seen, mut place) = (0, 0);
        let mut rest = tape.get(1..).unwrap_or_default();
        for _ in 0..len {
            let [Node::String(name), value @ ..] = rest else { return false };
            let named = self.find(name, &mut place);
            seen |= named.map_or(0, |named| named.bit);
            let is_right = match (named.and_then(|named| named.rule), self.other) {
                (Some(rule), _) | (None, Other::As(rule)) => walk.accepts(rule, value),
                (None, Other::Anything) => true,
                (None, Other::Absent) => false,
            };
            let is_named = |rule| walk.accepts(rule, &[Node::String(name)]);
            if !is_right || !self.names.is_none_or(is_named) {
                return false;
            }
            rest = behind(value);
        }
        seen & self.required == self.required
    }

    /// The member of that name. `place` is where it is looked for first: whoever writes objects mostly
    /// keeps to the order in which they are described.
    fn find(&self, name: &str, place: &mut usize) -> Option<&Named> {
        let is_it = |named: &&Named| is_same_name(named.name.as_bytes(), name.as_bytes());
        let found = match self.named.get(*place).filter(is_it) {
            Some(_) => *place,
            None if self.sorted.is_empty() => self.named.iter().position(|named| is_it(&named))?,
            None => {
                let place_of = |place: &u16| usize::from(*place);
                let by_name = |place: &u16| {
                    self.named.get(place_of(place)).map_or("", |named| &named.name).cmp(name)
                };
                let found = self.sorted.binary_search_by(by_name).ok()?;
                self.sorted.get(found).map(place_of)?
            }
        };
        *place = found + 1;
        self.named.get(found)
    }
}

impl Items {
    fn accepts(&self, walk: &Walk<'_>, len: usize, tape: &[Node<'_>]) -> bool {
        if len < self.at_least || len > self.at_most {
            return false;
        }
        if !self.first.is_empty() || self.rest.is_some() {
            let mut first = self.first.iter();
            let mut rest = tape.get(1..).unwrap_or_default();
            for _ in 0..len {
                let Some(rule) = first.next().copied().or(self.rest) else { break };
                if !walk.accepts(rule, rest) {
                    return false;
                }
                rest = behind(rest);
            }
        }
        !self.is_unique
            || walk.spend(weight(TapeNode::new(tape).cells()))
                && TapeNode::new(tape).has_unique_elements()
    }
}

impl Beside {
    fn accepts(&self, walk: &Walk<'_>, tape: &[Node<'_>]) -> bool {
        let accepts = |rule: &RuleIndex| walk.accepts(*rule, tape);
        match self {
            Self::All(rule) => accepts(rule),
            Self::Any(rules) => rules.iter().any(accepts),
            Self::One(rules) => {
                let mut accepting = rules.iter().filter(|rule| accepts(rule));
                accepting.next().is_some() && accepting.next().is_none()
            }
            Self::Not(rule) => !accepts(rule),
            Self::If { condition, then, otherwise } => {
                let branch = if accepts(condition) { then } else { otherwise };
                branch.as_ref().is_none_or(accepts)
            }
            Self::Among { texts, integers, others } => {
                if let Some(Node::String(text)) = tape.first() {
                    if texts.len() > FEW_NAMES {
                        return texts.binary_search_by(|known| (**known).cmp(text)).is_ok();
                    }
                    return texts
                        .iter()
                        .any(|known| is_same_name(known.as_bytes(), text.as_bytes()));
                }
                let node = TapeNode::new(tape);
                let integer = node.as_number().and_then(TapeNumber::integer);
                let integer = integer.and_then(|integer| i64::try_from(integer).ok());
                integer.is_some_and(|integer| integers.binary_search(&integer).is_ok())
                    || walk.spend(others.len())
                        && others.iter().any(|other| node.equals_value(other))
            }
        }
    }
}

/// The visits that reading all of these cells is worth.
fn weight(cells: &[Node<'_>]) -> usize {
    let weight = |cell: &Node<'_>| match cell {
        Node::String(text) => 1 + text.len() / OCTETS_OF_A_VISIT,
        _ => 1,
    };
    cells.iter().map(weight).sum()
}

/// What lies behind the value that `tape` begins with.
fn behind<'t, 'i>(tape: &'t [Node<'i>]) -> &'t [Node<'i>] {
    let count = TapeNode::new(tape).cells().len();
    tape.get(count..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
