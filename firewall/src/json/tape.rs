//! `TapeJson`: jsonschema's view of a simd-json tape, so that a schema is checked without a tree.

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node as JsonNode, NodeIdentity, Object, cmp};
use jsonschema_value::LazyInstance;
use serde_json::{Number, Value};
use simd_json::{Node, StaticNode};

use super::parse::cells;

/// The JSON representation that lies on a simd-json tape.
pub enum TapeJson {}

/// One value on a tape: its first cell, and whatever lies behind it.
#[derive(Clone, Copy)]
pub struct TapeNode<'a> {
    tape: &'a [Node<'a>],
    scope: Option<&'a Scope<'a>>,
}

/// What a value is looked at in: an object made up around it, of which it is the only member.
///
/// A schema that has one property for each of many schemas is so asked for one of them, and the value
/// need not be copied behind cells of its own.
pub struct Scope<'a> {
    head: [Node<'a>; 2],
    content: &'a [Node<'a>],
    /// How many values may still be looked at, where explaining an error is bounded.
    fuel: Option<Cell<u32>>,
}

impl<'a> Scope<'a> {
    /// Around `content`, as the member `name`.
    pub fn new(name: &'a str, content: TapeNode<'a>) -> Self {
        let head = [Node::Object { len: 1, count: content.tape.len() + 1 }, Node::String(name)];
        Self { head, content: content.tape, fuel: None }
    }

    /// The same, in which at most `fuel` values can be visited: then containers look empty.
    #[must_use]
    pub fn with_fuel(self, fuel: u32) -> Self {
        Self { fuel: Some(Cell::new(fuel)), ..self }
    }

    /// The values that may still be visited; none where that is not bounded.
    pub fn fuel(&self) -> Option<u32> {
        self.fuel.as_ref().map(Cell::get)
    }

    /// The object.
    pub fn root(&'a self) -> TapeNode<'a> {
        TapeNode { tape: &self.head, scope: Some(self) }
    }

    fn content(&'a self) -> TapeNode<'a> {
        TapeNode { tape: self.content, scope: self.fuel.is_some().then_some(self) }
    }
}

impl<'a> TapeNode<'a> {
    /// The value whose first cell is the first of `tape`. Names of an object must be unique.
    pub fn new(tape: &'a [Node<'a>]) -> Self {
        Self { tape, scope: None }
    }

    /// The cells of this value alone.
    pub fn cells(&self) -> &'a [Node<'a>] {
        let count = self.tape.first().map_or(0, cells);
        self.tape.get(..count).unwrap_or_default()
    }

    fn cell(&self) -> Node<'a> {
        self.tape.first().copied().unwrap_or(Node::Static(StaticNode::Null))
    }

    /// The cells behind the first `count`.
    fn behind(&self, count: usize) -> Self {
        Self { tape: self.tape.get(count..).unwrap_or_default(), scope: self.scope }
    }

    /// The value itself, or, behind the name in a made-up object, what that is around.
    fn or_content(self) -> Self {
        match self.scope {
            Some(scope) if self.tape.is_empty() => scope.content(),
            _ => self,
        }
    }

    fn spend(&self) -> bool {
        let Some(fuel) = self.scope.and_then(|scope| scope.fuel.as_ref()) else { return true };
        let left = fuel.get();
        fuel.set(left.saturating_sub(1));
        left > 0
    }

    fn number(&self) -> Option<TapeNumber> {
        match self.cell() {
            Node::Static(StaticNode::I64(number)) => Some(TapeNumber::I64(number)),
            Node::Static(StaticNode::U64(number)) => Some(TapeNumber::U64(number)),
            Node::Static(StaticNode::F64(number)) => Some(TapeNumber::F64(number)),
            _ => None,
        }
    }

    /// Its members, if it is an object.
    pub fn members(&self) -> Members<'a> {
        let len = if let Node::Object { len, .. } = self.cell() { len } else { 0 };
        Members { rest: self.behind(1), left: len }
    }

    /// Whether no two of its elements are equal.
    pub(crate) fn has_unique_elements(&self) -> bool {
        is_unique(*self)
    }

    /// Its elements, if it is an array.
    pub fn elements(&self) -> Elements<'a> {
        let len = if let Node::Array { len, .. } = self.cell() { len } else { 0 };
        Elements { rest: self.behind(1), left: len }
    }
}

impl Json for TapeJson {
    type Node<'a> = TapeNode<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(TapeNode<'_>) -> T) -> T {
        f(TapeNode::new(&[Node::String(string)]))
    }
}

impl<'a> JsonNode<'a, TapeJson> for TapeNode<'a> {
    type Object = Self;
    type Array = Self;
    type Number = TapeNumber;

    fn as_object(&self) -> Option<Self> {
        (matches!(self.cell(), Node::Object { .. }) && self.spend()).then_some(*self)
    }

    fn as_array(&self) -> Option<Self> {
        (matches!(self.cell(), Node::Array { .. }) && self.spend()).then_some(*self)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        if let Node::String(string) = self.cell() { Some(Cow::Borrowed(string)) } else { None }
    }

    fn as_number(&self) -> Option<TapeNumber> {
        self.number()
    }

    fn as_boolean(&self) -> Option<bool> {
        if let Node::Static(StaticNode::Bool(boolean)) = self.cell() { Some(boolean) } else { None }
    }

    fn is_null(&self) -> bool {
        matches!(self.cell(), Node::Static(StaticNode::Null))
    }

    fn json_type(&self) -> JsonType {
        match self.cell() {
            Node::String(_) => JsonType::String,
            Node::Object { .. } => JsonType::Object,
            Node::Array { .. } => JsonType::Array,
            Node::Static(StaticNode::Bool(_)) => JsonType::Boolean,
            Node::Static(StaticNode::Null) => JsonType::Null,
            Node::Static(_) => JsonType::Number,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match (self.cell(), expected) {
            (Node::String(string), Value::String(expected)) => string == expected,
            (Node::Static(StaticNode::Bool(boolean)), Value::Bool(expected)) => {
                boolean == *expected
            }
            (Node::Static(StaticNode::Null), Value::Null) => true,
            (Node::Static(_), Value::Number(expected)) => {
                self.number().is_some_and(|number| cmp::equal_numbers(&number, expected))
            }
            (Node::Array { len, .. }, Value::Array(expected)) => {
                len == expected.len()
                    && self.elements().zip(expected).all(|(item, other)| item.equals_value(other))
            }
            (Node::Object { len, .. }, Value::Object(expected)) => {
                len == expected.len()
                    && self.members().all(|(name, value)| {
                        expected.get(name).is_some_and(|other| value.equals_value(other))
                    })
            }
            _ => false,
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(match self.cell() {
            Node::String(string) => Value::String(string.to_owned()),
            Node::Static(StaticNode::Bool(boolean)) => Value::Bool(boolean),
            Node::Static(StaticNode::Null) => Value::Null,
            Node::Static(_) => self
                .number()
                .map_or(Value::Null, |number| Value::Number(number.to_number().into_owned())),
            Node::Array { .. } => {
                Value::Array(self.elements().map(|item| item.to_value().into_owned()).collect())
            }
            Node::Object { .. } => Value::Object(
                self.members()
                    .map(|(name, value)| (name.to_owned(), value.to_value().into_owned()))
                    .collect(),
            ),
        })
    }

    /// Nothing: a copy of the instance in every error would let the sender choose our cost.
    fn lazy_value(&self) -> LazyInstance<'a> {
        LazyInstance::Ready(Cow::Owned(Value::Null))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(self.tape.as_ptr() as usize))
    }
}

impl<'a> Object<'a, TapeJson> for TapeNode<'a> {
    type Node = Self;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        if let Node::Object { len, .. } = self.cell() { len } else { 0 }
    }

    fn get(&self, key: &Box<str>) -> Option<Self> {
        let [Node::Object { len, .. }, rest @ ..] = self.tape else { return None };
        let (mut rest, key) = (rest, key.as_bytes());
        for _ in 0..*len {
            let [Node::String(name), value @ ..] = rest else { return None };
            if is_same_name(name.as_bytes(), key) {
                let value = TapeNode { tape: value, scope: self.scope }.or_content();
                return value.spend().then_some(value);
            }
            rest = value.get(value.first().map_or(0, cells)..)?;
        }
        None
    }

    fn members(&self) -> Members<'a> {
        TapeNode::members(self)
    }
}

impl<'a> Array<'a, TapeJson> for TapeNode<'a> {
    type Node = Self;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        if let Node::Array { len, .. } = self.cell() { len } else { 0 }
    }

    fn elements(&self) -> Elements<'a> {
        TapeNode::elements(self)
    }

    fn is_unique(&self) -> bool {
        is_unique(*self)
    }
}

/// Whether two names are the same. Names are short: two comparisons that may overlap are faster than
/// a call.
#[inline]
pub(crate) fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.first_chunk::<8>(), one.last_chunk::<8>()) {
        (Some(start), Some(end)) if one.len() <= 16 => {
            other.first_chunk() == Some(start) && other.last_chunk() == Some(end)
        }
        _ if one.len() > 16 => one == other,
        _ => match (one.first_chunk::<4>(), one.last_chunk::<4>()) {
            (Some(start), Some(end)) => {
                other.first_chunk() == Some(start) && other.last_chunk() == Some(end)
            }
            _ => one.iter().zip(other).all(|(one, other)| one == other),
        },
    }
}

/// The members of an object, in the order of the document.
pub struct Members<'a> {
    rest: TapeNode<'a>,
    left: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, TapeNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let Node::String(name) = self.rest.cell() else { return None };
        let value = self.rest.behind(1).or_content();
        self.rest = value.behind(cells(&value.cell()));
        value.spend().then_some((name, value))
    }
}

/// The elements of an array, in order.
pub struct Elements<'a> {
    rest: TapeNode<'a>,
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = TapeNode<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let value = self.rest;
        self.rest = value.behind(cells(&value.cell()));
        value.spend().then_some(value)
    }
}

/// A number as simd-json reads it: exact within 64 bits, else a finite double.
#[derive(Clone, Copy, Debug)]
pub enum TapeNumber {
    I64(i64),
    U64(u64),
    F64(f64),
}

impl TapeNumber {
    /// The integer, where the number is one that 64 bits can hold; `1.0` is one.
    pub(crate) fn integer(self) -> Option<i128> {
        match self {
            Self::I64(number) => Some(number.into()),
            Self::U64(number) => Some(number.into()),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and within 2^64 by the guard"
            )]
            Self::F64(number)
                if number.fract() == 0.0 && number.abs() <= 18_446_744_073_709_551_616.0 =>
            {
                Some(number as i128)
            }
            Self::F64(_) => None,
        }
    }

    fn equals(self, other: Self) -> bool {
        match (self, other) {
            #[expect(clippy::float_cmp, reason = "JSON Schema compares numbers by value")]
            (Self::F64(one), Self::F64(other)) => one == other,
            _ => self.integer().is_some_and(|one| other.integer() == Some(one)),
        }
    }
}

impl JsonNumber for TapeNumber {
    fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::I64(number) => number.try_into().ok(),
            Self::U64(number) => Some(number),
            Self::F64(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I64(number) => Some(number),
            Self::U64(number) => number.try_into().ok(),
            Self::F64(_) => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    fn as_f64(&self) -> Option<f64> {
        Some(match *self {
            Self::I64(number) => number as f64,
            Self::U64(number) => number as f64,
            Self::F64(number) => number,
        })
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_number().to_string())
    }

    fn to_number(&self) -> Cow<'_, Number> {
        Cow::Owned(match *self {
            Self::I64(number) => number.into(),
            Self::U64(number) => number.into(),
            // simd-json refuses what is not finite.
            Self::F64(number) => Number::from_f64(number).unwrap_or_else(|| 0.into()),
        })
    }

    fn is_integer(&self) -> bool {
        if let Self::F64(number) = self { number.fract() == 0.0 } else { true }
    }
}

/// Up to so many elements, they are compared pairwise; beyond, by hash.
const PAIRWISE_ELEMENTS: usize = 12;

fn is_unique(array: TapeNode<'_>) -> bool {
    let len = Array::len(&array);
    if len <= PAIRWISE_ELEMENTS {
        let mut elements = array.elements();
        while let Some(one) = elements.next() {
            let rest = Elements { rest: elements.rest, left: elements.left };
            for other in rest {
                if equal(one, other) {
                    return false;
                }
            }
        }
        return true;
    }
    // Keyed at random, so that nobody can choose elements whose hashes collide.
    let state = RandomState::new();
    let mut hashed: Vec<_> =
        array.elements().map(|element| (hash(&state, element), element)).collect();
    hashed.sort_unstable_by_key(|(hash, _)| *hash);
    hashed.chunk_by(|(one, _), (other, _)| one == other).all(|same| {
        same.iter()
            .enumerate()
            .all(|(i, (_, one))| same.iter().skip(i + 1).all(|(_, other)| !equal(*one, *other)))
    })
}

fn equal(one: TapeNode<'_>, other: TapeNode<'_>) -> bool {
    match (one.cell(), other.cell()) {
        (Node::String(one), Node::String(other)) => one == other,
        (Node::Array { len: one_len, .. }, Node::Array { len: other_len, .. }) => {
            one_len == other_len
                && one.elements().zip(other.elements()).all(|(one, other)| equal(one, other))
        }
        (Node::Object { len: one_len, .. }, Node::Object { len: other_len, .. }) => {
            one_len == other_len && equal_objects(one, other)
        }
        (Node::Static(a), Node::Static(b)) => match (one.number(), other.number()) {
            (Some(one), Some(other)) => one.equals(other),
            (None, None) => a == b,
            _ => false,
        },
        _ => false,
    }
}

fn equal_objects(one: TapeNode<'_>, other: TapeNode<'_>) -> bool {
    let mut one: Vec<_> = one.members().collect();
    let mut other: Vec<_> = other.members().collect();
    one.sort_unstable_by_key(|(name, _)| *name);
    other.sort_unstable_by_key(|(name, _)| *name);
    one.iter().zip(&other).all(|((name, value), (other_name, other_value))| {
        name == other_name && equal(*value, *other_value)
    })
}

fn hash(state: &RandomState, node: TapeNode<'_>) -> u64 {
    let mut hasher = state.build_hasher();
    match node.cell() {
        Node::String(string) => (0_u8, string).hash(&mut hasher),
        Node::Array { .. } => {
            hasher.write_u8(1);
            for element in node.elements() {
                hasher.write_u64(hash(state, element));
            }
        }
        // The order of members does not count.
        Node::Object { .. } => {
            hasher.write_u8(2);
            let members =
                node.members().map(|(name, value)| state.hash_one((name, hash(state, value))));
            hasher.write_u64(members.fold(0, u64::wrapping_add));
        }
        Node::Static(StaticNode::Bool(boolean)) => (3_u8, boolean).hash(&mut hasher),
        Node::Static(StaticNode::Null) => hasher.write_u8(4),
        Node::Static(_) => match node.number().map(|number| (number.integer(), number)) {
            Some((Some(integer), _)) => (5_u8, integer).hash(&mut hasher),
            Some((None, TapeNumber::F64(number))) => (6_u8, number.to_bits()).hash(&mut hasher),
            _ => {}
        },
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
