//! `ParameterRule`: one parameter's or header's text, split by its style, decoded once, typed by its
//! schema, and checked on a tape of a few cells.
//!
//! Delimiters are split before decoding, so that an escaped one is data. Numbers are written as JSON
//! writes them; a text is never null.

use std::borrow::Cow;
use std::sync::Arc;

use crate::json::{Node, StaticNode};

use super::schema::{Mismatch, Schema};
use super::uri::{Plus, decode};
use crate::json::TapeNode;
use crate::violation::{Location, Rule, Violation};

/// What a parameter's text must be.
pub(crate) struct ParameterRule {
    pub(crate) name: Arc<str>,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
    /// None where anything of the shape is accepted.
    pub(crate) schema: Option<Arc<Schema>>,
    /// An empty value is accepted whatever the schema says (`allowEmptyValue`).
    pub(crate) allows_empty: bool,
}

/// How the text is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Scalar(Types),
    Array {
        items: Types,
        /// In a query, one occurrence for each item.
        explode: bool,
    },
    Object {
        properties: Vec<(Box<str>, Types)>,
        /// Of members that are not declared.
        additional: Types,
        /// `name=value` instead of `name,value`; in a query, members stand beside parameters.
        explode: bool,
    },
}

/// The JSON types that a text may stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four types")]
pub(crate) struct Types {
    pub(crate) boolean: bool,
    pub(crate) integer: bool,
    pub(crate) number: bool,
    pub(crate) string: bool,
}

impl Types {
    pub(crate) const ANY: Self = Self { boolean: true, integer: true, number: true, string: true };

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            boolean: self.boolean || other.boolean,
            integer: self.integer || other.integer,
            number: self.number || other.number,
            string: self.string || other.string,
        }
    }

    /// The value that `text` stands for if not for itself.
    fn typed<'t>(self, text: &str) -> Option<Node<'t>> {
        let node = match text {
            "true" if self.boolean => StaticNode::Bool(true),
            "false" if self.boolean => StaticNode::Bool(false),
            _ if self.integer || self.number => number(text, self.number)?,
            _ => return None,
        };
        Some(Node::Static(node))
    }

    /// The value that `text` stands for first: another type's before the string.
    fn first(self, text: &str) -> Option<Node<'_>> {
        self.typed(text).or_else(|| self.string.then_some(Node::String(text)))
    }
}

/// A number as JSON writes it (RFC 8259 section 6), exact: an integer of 64 bits, or, where fractions
/// are allowed, a finite double.
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
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(StaticNode::F64)
}

/// How the parts of a text are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Percent-encoded.
    Uri(Plus),
    /// A field value: as it is, with optional white space around commas.
    Field,
}

impl Encoding {
    fn decode(self, text: &str) -> Result<Cow<'_, str>, Fault> {
        match self {
            Self::Uri(plus) => decode(text, plus).ok_or(Fault::Encoding),
            Self::Field => Ok(Cow::Borrowed(text.trim_matches([' ', '\t']))),
        }
    }
}

/// Why a parameter is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Repeated,
    Encoding,
    Type,
    Schema(Mismatch),
}

impl Fault {
    /// As a violation of a request.
    pub(crate) fn at(self, at: Location) -> Violation {
        let (rule, keyword) = match self {
            Self::Missing => (Rule::ParameterMissing, None),
            Self::Repeated => (Rule::ParameterRepeated, None),
            Self::Encoding => (Rule::ParameterEncoding, None),
            Self::Type => (Rule::ParameterType, None),
            Self::Schema(mismatch) => (Rule::ParameterSchema, mismatch.keyword),
        };
        Violation { keyword, ..Violation::at(rule, at) }
    }
}

impl ParameterRule {
    /// Checks the occurrences of the parameter, in order: none, one, or several.
    pub(crate) fn check<'t, I: Iterator<Item = &'t str>>(
        &self,
        occurrences: impl Fn() -> I,
        encoding: Encoding,
    ) -> Result<(), Fault> {
        let mut found = occurrences();
        let Some(first) = found.next() else {
            return if self.required { Err(Fault::Missing) } else { Ok(()) };
        };
        let is_repeated = found.next().is_some();
        if self.allows_empty && !is_repeated && first.is_empty() {
            return Ok(());
        }
        // Several field lines are one list (RFC 9110 section 5.3); in a query only an exploded list
        // is repeated.
        let may_repeat = match &self.shape {
            Shape::Scalar(_) => false,
            Shape::Array { explode, .. } => *explode || encoding == Encoding::Field,
            Shape::Object { .. } => encoding == Encoding::Field,
        };
        if is_repeated && !may_repeat {
            return Err(Fault::Repeated);
        }
        match &self.shape {
            Shape::Scalar(types) => self.check_scalar(*types, &encoding.decode(first)?),
            Shape::Array { items, explode } => {
                let splits = !(*explode && encoding == Encoding::Uri(Plus::Space));
                let texts = occurrences()
                    .flat_map(|text| Split { rest: Some(text), splits })
                    .map(|text| encoding.decode(text))
                    .collect::<Result<Vec<_>, _>>()?;
                self.check_array(*items, &texts)
            }
            Shape::Object { explode, .. } => {
                let mut parts =
                    occurrences().flat_map(|text| Split { rest: Some(text), splits: true });
                let mut members = Vec::new();
                while let Some(part) = parts.next() {
                    let (name, value) = if *explode {
                        part.split_once('=').ok_or(Fault::Type)?
                    } else {
                        (part, parts.next().ok_or(Fault::Type)?)
                    };
                    members.push((encoding.decode(name)?, encoding.decode(value)?));
                }
                self.check_object(&members)
            }
        }
    }

    /// Checks an object whose members stand beside other parameters in a query.
    pub(crate) fn check_members<'t>(
        &self,
        members: impl Iterator<Item = (&'t str, &'t str)>,
    ) -> Result<(), Fault> {
        let members = members
            .map(|(name, value)| {
                Ok((Cow::Borrowed(name), Encoding::Uri(Plus::Space).decode(value)?))
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        match (members.is_empty(), self.required) {
            (true, true) => Err(Fault::Missing),
            (true, false) => Ok(()),
            (false, _) => self.check_object(&members),
        }
    }

    fn check_scalar(&self, types: Types, text: &str) -> Result<(), Fault> {
        let mut fault = Fault::Type;
        // The typed reading is tried first; where a string is allowed too, either may be meant.
        let candidates = [types.typed(text), types.string.then_some(Node::String(text))];
        for candidate in candidates.into_iter().flatten() {
            match self.check_tape(&[candidate]) {
                Ok(()) => return Ok(()),
                Err(refused) => fault = refused,
            }
        }
        Err(fault)
    }

    fn check_array(&self, items: Types, texts: &[Cow<'_, str>]) -> Result<(), Fault> {
        let head = Node::Array { len: texts.len(), count: texts.len() };
        self.check_cells(items.string, &|first| {
            let cells = texts.iter().map(|text| {
                if first { items.first(text) } else { Some(Node::String(text)) }.ok_or(Fault::Type)
            });
            std::iter::once(Ok(head)).chain(cells).collect()
        })
    }

    fn check_object(&self, members: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<(), Fault> {
        let Shape::Object { properties, additional, .. } = &self.shape else {
            return Err(Fault::Type);
        };
        let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err(Fault::Repeated);
        }
        let head = Node::Object { len: members.len(), count: members.len() * 2 };
        let types = |name: &str| {
            properties.iter().find(|(known, _)| **known == *name).map_or(*additional, |(_, t)| *t)
        };
        let has_strings = additional.string || properties.iter().any(|(_, types)| types.string);
        self.check_cells(has_strings, &|first| {
            let mut cells = Vec::with_capacity(1 + members.len() * 2);
            cells.push(head);
            for (name, value) in members {
                let types = types(name);
                let value = if first || !types.string {
                    types.first(value).ok_or(Fault::Type)?
                } else {
                    Node::String(value)
                };
                cells.extend([Node::String(name), value]);
            }
            Ok(cells)
        })
    }

    /// Tries the typed reading of every part, then, where strings are allowed, the literal one.
    fn check_cells<'t>(
        &self,
        has_strings: bool,
        cells: &dyn Fn(bool) -> Result<Vec<Node<'t>>, Fault>,
    ) -> Result<(), Fault> {
        let typed = cells(true)?;
        match self.check_tape(&typed) {
            Err(_) if has_strings => self.check_tape(&cells(false)?),
            checked => checked,
        }
    }

    fn check_tape(&self, cells: &[Node<'_>]) -> Result<(), Fault> {
        match &self.schema {
            Some(schema) => schema.check(TapeNode::new(cells)).map_err(Fault::Schema),
            None => Ok(()),
        }
    }
}

/// The parts of a text between commas, or the text whole.
#[derive(Clone)]
struct Split<'t> {
    rest: Option<&'t str>,
    splits: bool,
}

impl<'t> Iterator for Split<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let rest = self.rest.take()?;
        match rest.split_once(',').filter(|_| self.splits) {
            Some((part, rest)) => {
                self.rest = Some(rest);
                Some(part)
            }
            None => Some(rest),
        }
    }
}

#[cfg(test)]
mod tests;
