//! `ParameterRule`: one parameter's or header's text, split by its style, decoded once, typed by its
//! schema, and checked on a tape of a few cells.
//!
//! Numbers are written as JSON writes them; a text is never null.

use std::borrow::Cow;
use std::sync::Arc;

use super::policy::Verdict;
use super::schema::{Mismatch, Schema};
use super::uri::{Plus, decode};
use crate::json::{JsonRules, with_tape};
use crate::violation::{Location, Rule, Violation};
use scalar::Types;
use shape::{Shape, check_scalar};
use style::{Split, Style};

pub(crate) mod scalar;
pub(crate) mod shape;
pub(crate) mod style;

/// What a parameter's text must be.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ParameterRule {
    pub(crate) name: Arc<str>,
    pub(crate) required: bool,
    pub(crate) reading: Reading,
    pub(crate) encoding: Encoding,
    pub(crate) spread: Spread,
    /// None where anything of the shape is accepted.
    pub(crate) schema: Option<Arc<Schema>>,
    /// An empty value is accepted whatever the schema says (`allowEmptyValue`).
    pub(crate) allows_empty: bool,
    /// Several occurrences of what is no list are each checked, instead of refused.
    pub(crate) may_repeat: bool,
}

/// How a text becomes a value.
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Reading {
    Styled(Split, Shape),
    /// A text as it is (`text/plain`).
    Text(Types),
    /// JSON, of at most so many levels.
    Json {
        rules: JsonRules,
    },
    /// Not at all: the configuration accepts that this parameter is not enforced.
    Unchecked,
}

/// How many names of a query or of cookies belong to one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// The parameter's own, once; or, for an exploded list, once for each item.
    Name,
    /// The names of an exploded object's members.
    Members,
    /// `name[member]`.
    Brackets,
}

/// How the parts of a text are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Percent-encoded; `reserved` tells what happens to reserved characters that are not.
    Uri { plus: Plus, reserved: Verdict },
    /// A field value: as it is, with optional white space around commas.
    Field,
    /// As it is.
    Raw,
}

impl Encoding {
    pub(crate) fn decode(self, text: &str) -> Result<Cow<'_, str>, Fault> {
        match self {
            Self::Uri { plus, reserved } => {
                if reserved == Verdict::Refuse && has_reserved(text, plus) {
                    return Err(Fault::Encoding);
                }
                decode(text, plus).ok_or(Fault::Encoding)
            }
            Self::Field => Ok(Cow::Borrowed(text.trim_matches([' ', '\t']))),
            Self::Raw => Ok(Cow::Borrowed(text)),
        }
    }
}

/// Whether a reserved character (RFC 3986 section 2.2) stands for itself. Where a plus sign is a
/// space, it is an escape.
fn has_reserved(text: &str, plus: Plus) -> bool {
    text.bytes().any(|octet| match octet {
        b'+' => plus == Plus::Literal,
        octet => b":/?#[]@!$&'()*,;=".contains(&octet),
    })
}

/// Why a parameter is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Repeated,
    Encoding,
    Type,
    /// Not the JSON that it should be.
    Malformed,
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
            Self::Malformed => (Rule::ParameterMalformed, None),
            Self::Schema(mismatch) => (Rule::ParameterSchema, mismatch.keyword),
        };
        Violation { keyword, ..Violation::at(rule, at) }
    }
}

impl ParameterRule {
    /// Whether several pairs of a query or of cookies make one value.
    pub(crate) fn is_gathered(&self) -> bool {
        match &self.reading {
            Reading::Styled(split, shape) => {
                self.spread != Spread::Name || split.explode && shape.array.is_some()
            }
            _ => false,
        }
    }

    /// Whether any number of texts is a value, as they are not looked at.
    pub(crate) fn is_unchecked(&self) -> bool {
        matches!(self.reading, Reading::Unchecked)
    }

    /// Whether semicolons stand in the text by its style.
    pub(crate) fn has_semicolons(&self) -> bool {
        match &self.reading {
            Reading::Styled(split, _) => split.style == Style::Matrix,
            Reading::Unchecked => true,
            Reading::Text(_) | Reading::Json { .. } => false,
        }
    }

    /// Checks the whole of a text that stands once.
    pub(crate) fn check(&self, text: &str) -> Result<(), Fault> {
        if self.allows_empty && text.is_empty() {
            return Ok(());
        }
        let schema = self.schema.as_deref();
        match &self.reading {
            Reading::Unchecked => Ok(()),
            Reading::Text(types) => check_scalar(*types, &self.encoding.decode(text)?, schema),
            Reading::Json { rules } => {
                let text = self.encoding.decode(text)?;
                with_tape(text.as_bytes(), *rules, |root| {
                    schema.map_or(Ok(()), |schema| schema.check(root))
                })
                .map_err(|_any| Fault::Malformed)?
                .map_err(Fault::Schema)
            }
            Reading::Styled(split, shape) if shape.is_scalar() => {
                let text = self.encoding.decode(split.value(text, &self.name)?)?;
                check_scalar(shape.scalar.unwrap_or(Types::NONE), &text, schema)
            }
            Reading::Styled(split, shape) => self.check_texts(*split, shape, &[text]),
        }
    }

    /// Checks the lines of a header field, which are one list (RFC 9110 section 5.3).
    pub(crate) fn check_lines<'t, I: Iterator<Item = &'t str>>(
        &self,
        lines: impl Fn() -> I,
    ) -> Result<(), Fault> {
        let mut found = lines();
        let Some(first) = found.next() else {
            return if self.required { Err(Fault::Missing) } else { Ok(()) };
        };
        if found.next().is_none() {
            return self.check(first);
        }
        match &self.reading {
            Reading::Unchecked => Ok(()),
            Reading::Styled(split, shape) if !shape.is_scalar() => {
                self.check_texts(*split, shape, &lines().collect::<Vec<_>>())
            }
            _ if self.may_repeat => lines().try_for_each(|line| self.check(line)),
            _ => Err(Fault::Repeated),
        }
    }

    /// Checks what may be a list or an object; each text holds some parts of it.
    fn check_texts(&self, split: Split, shape: &Shape, texts: &[&str]) -> Result<(), Fault> {
        let schema = self.schema.as_deref();
        let mut fault = Fault::Type;
        let mut refused = |checked: Result<(), Fault>| match checked {
            Ok(()) => false,
            Err(refused) => {
                fault = refused;
                true
            }
        };
        if let (Some(types), [text]) = (shape.scalar, texts) {
            let scalar = || check_scalar(types, &self.decoded(split, text)?, schema);
            if !refused(scalar()) {
                return Ok(());
            }
        }
        if let Some(array) = &shape.array {
            let items = || {
                let mut items = Vec::new();
                for text in texts {
                    for item in split.items(text, &self.name)? {
                        items.push(self.encoding.decode(item?)?);
                    }
                }
                array.check(&items, schema)
            };
            if !refused(items()) {
                return Ok(());
            }
        }
        if let Some(object) = &shape.object {
            let members = || {
                let mut members = Vec::new();
                for text in texts {
                    split.members(text, &self.name, self.encoding, &mut members)?;
                }
                object.check(&mut members, schema)
            };
            if !refused(members()) {
                return Ok(());
            }
        }
        Err(fault)
    }

    fn decoded<'t>(&self, split: Split, text: &'t str) -> Result<Cow<'t, str>, Fault> {
        self.encoding.decode(split.value(text, &self.name)?)
    }

    /// Checks the pairs of a query or of cookies that make one value, in their order: members of an
    /// object by their names, or items of a list.
    pub(crate) fn check_pairs(&self, pairs: &[(Cow<'_, str>, &str)]) -> Result<(), Fault> {
        let Reading::Styled(_, shape) = &self.reading else { return Ok(()) };
        let schema = self.schema.as_deref();
        let mut fault = Fault::Type;
        if self.spread != Spread::Name {
            let Some(object) = &shape.object else { return Err(fault) };
            let mut members = Vec::with_capacity(pairs.len());
            for (name, value) in pairs {
                members.push((Cow::Borrowed(&**name), self.encoding.decode(value)?));
            }
            return object.check(&mut members, schema);
        }
        if self.allows_empty && matches!(pairs, [(_, "")]) {
            return Ok(());
        }
        if let (Some(types), [(_, text)]) = (shape.scalar, pairs) {
            match check_scalar(types, &self.encoding.decode(text)?, schema) {
                Ok(()) => return Ok(()),
                Err(refused) => fault = refused,
            }
        }
        let Some(array) = &shape.array else { return Err(fault) };
        let items =
            pairs.iter().map(|(_, text)| self.encoding.decode(text)).collect::<Result<Vec<_>, _>>();
        array.check(&items?, schema)
    }
}

#[cfg(test)]
mod tests;
