//! `Types`: the JSON types that a text may stand for, and the value that it stands for.

use serde_json::Value;

use crate::json::{Node, StaticNode, is_exact};

/// A set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types(u8);

impl Types {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOLEAN: Self = Self(1 << 1);
    pub(crate) const INTEGER: Self = Self(1 << 2);
    /// With fraction or exponent; and so the integers.
    pub(crate) const NUMBER: Self = Self(1 << 3 | Self::INTEGER.0);
    pub(crate) const STRING: Self = Self(1 << 4);
    pub(crate) const ARRAY: Self = Self(1 << 5);
    pub(crate) const OBJECT: Self = Self(1 << 6);
    pub(crate) const ANY: Self = Self((1 << 7) - 1);
    /// Those that a text has a form for. Null has none: an empty text is a string.
    pub(crate) const SCALAR: Self = Self(Self::BOOLEAN.0 | Self::NUMBER.0 | Self::STRING.0);

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The type that a schema names so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => return None,
        })
    }

    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            // 1 and 1.0 are the same number.
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// Whether a text may have two readings: as a string, and as what it looks like.
    pub(crate) const fn is_ambiguous(self) -> bool {
        self.overlaps(Self::STRING) && self.overlaps(Self(Self::BOOLEAN.0 | Self::NUMBER.0))
    }

    /// The value that `text` stands for if not for itself.
    pub(crate) fn typed<'t>(self, text: &str) -> Option<Node<'t>> {
        let node = match text {
            "true" if self.overlaps(Self::BOOLEAN) => StaticNode::Bool(true),
            "false" if self.overlaps(Self::BOOLEAN) => StaticNode::Bool(false),
            _ if self.overlaps(Self::NUMBER) => {
                number(text, self.intersection(Self::NUMBER) == Self::NUMBER)?
            }
            _ => return None,
        };
        Some(Node::Static(node))
    }

    /// `text` as a string.
    pub(crate) fn literal(self, text: &str) -> Option<Node<'_>> {
        self.overlaps(Self::STRING).then_some(Node::String(text))
    }
}

/// A number as JSON writes it (RFC 8259 section 6): an integer of 64 bits, or, where fractions are
/// allowed, a finite double. What bodies accept of numbers is accepted here.
fn number(text: &str, allows_fraction: bool) -> Option<StaticNode> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole_length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = digits.split_at_checked(whole_length)?;
    if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    if rest.is_empty() {
        return match text.parse() {
            Ok(number) => Some(StaticNode::I64(number)),
            Err(_) => text.parse().ok().map(StaticNode::U64),
        };
    }
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let is_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let is_fraction = fraction.is_empty() || fraction.strip_prefix('.').is_some_and(is_digits);
    let is_exponent =
        exponent.is_none_or(|text| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    if !allows_fraction || !is_fraction || !is_exponent {
        return None;
    }
    // Whoever reads it as a double must read what was checked.
    is_exact(text).then(|| text.parse().ok().map(StaticNode::F64)).flatten()
}
