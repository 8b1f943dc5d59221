//! `Schema`: a validator over the tape, and how its refusal is told without the sender's words.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::json::Node;
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::Value;

use super::format;
use super::pattern::{Pattern, take_undecided};
use crate::json::{TapeJson, TapeNode};

/// Values that may be visited to explain a refusal; beyond, it is told without its place. Errors of
/// `anyOf` and `oneOf` hold those of every branch, which nested deeply would cost exponentially.
const EXPLAINED_VISITS: u32 = 20_000;
/// Octets that a reported pointer may have.
const POINTER_LIMIT: usize = 512;

/// Which way a message goes: `readOnly` and `writeOnly` members bind in one direction each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// Compiled patterns by their source, shared by all schemas of a contract.
pub(crate) type Patterns = HashMap<String, Arc<Pattern>>;

/// One schema, ready to check instances.
pub(crate) struct Schema {
    validator: Validator<TapeJson>,
    /// Every member name that the schema declares.
    names: HashSet<Box<str>>,
    direction: Direction,
}

/// Where and by which keyword an instance was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// A JSON Pointer of declared names; others are written `*`.
    pub(crate) pointer: Box<str>,
    pub(crate) keyword: Option<Box<str>>,
}

impl Schema {
    /// `schema` is JSON Schema 2020-12 and holds all that it refers to; `patterns` has each of its
    /// patterns.
    ///
    /// # Errors
    ///
    /// What jsonschema finds wrong with the schema.
    pub(crate) fn new(
        schema: &Value,
        names: HashSet<Box<str>>,
        direction: Direction,
        patterns: &Patterns,
    ) -> Result<Self, String> {
        let patterns = patterns.clone();
        let mut options = jsonschema::options_for::<TapeJson>()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_keyword("pattern", move |_, source, _| {
                let pattern = source.as_str().and_then(|source| patterns.get(source));
                let pattern = pattern.ok_or_else(|| ValidationError::schema("unknown pattern"))?;
                Ok(Box::new(PatternKeyword(Arc::clone(pattern))))
            });
        for (name, check) in format::text_checks() {
            options = options.with_format(name, check);
        }
        let validator =
            options.build(schema).map_err(|error| format!("{}: {error}", error.instance_path()))?;
        Ok(Self { validator, names, direction })
    }

    /// Checks an instance; allocates only to refuse.
    ///
    /// # Errors
    ///
    /// The first mismatch found.
    pub(crate) fn check(&self, instance: TapeNode<'_>) -> Result<(), Mismatch> {
        take_undecided();
        let is_valid = self.validator.is_valid(instance);
        if take_undecided() {
            return Err(Mismatch { pointer: "".into(), keyword: Some("pattern".into()) });
        }
        if is_valid { Ok(()) } else { Err(self.explain(instance)) }
    }

    #[cold]
    fn explain(&self, instance: TapeNode<'_>) -> Mismatch {
        let fuel = Cell::new(EXPLAINED_VISITS);
        let result = self.validator.validate(instance.with_fuel(&fuel));
        take_undecided();
        match result {
            Err(error) if fuel.get() > 0 => Mismatch {
                pointer: self.pointer(&error).into(),
                keyword: Some(self.keyword(&error)),
            },
            _ => Mismatch { pointer: "".into(), keyword: None },
        }
    }

    fn pointer(&self, error: &ValidationError<'_>) -> String {
        let mut pointer = String::new();
        for segment in error.instance_path().segments() {
            let end = pointer.len();
            match segment {
                LocationSegment::Property(name) if self.names.contains(&*name) => {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                LocationSegment::Property(_) => pointer.push_str("/*"),
                // Writing to a String cannot fail.
                LocationSegment::Index(index) => {
                    write!(pointer, "/{index}").unwrap_or_default();
                }
            }
            if pointer.len() > POINTER_LIMIT {
                pointer.truncate(end);
                break;
            }
        }
        pointer
    }

    fn keyword(&self, error: &ValidationError<'_>) -> Box<str> {
        let ValidationErrorKind::FalseSchema = error.kind() else {
            return error.kind().keyword().into();
        };
        // `false` stands where `additionalProperties` closes an object, and, by our rewriting, in
        // place of the members that this direction must not carry.
        let path = error.schema_path();
        let in_properties = path.segments().any(
            |segment| matches!(segment, LocationSegment::Property(name) if name == "properties"),
        );
        match (path.segments().last(), self.direction) {
            (Some(LocationSegment::Property(name)), _) if name == "additionalProperties" => {
                "additionalProperties".into()
            }
            (_, Direction::Request) if in_properties => "readOnly".into(),
            (_, Direction::Response) if in_properties => "writeOnly".into(),
            _ => "falseSchema".into(),
        }
    }
}

struct PatternKeyword(Arc<Pattern>);

impl<'i> Keyword<'i, TapeJson> for PatternKeyword {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("")) }
    }

    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        instance.as_string().is_none_or(|text| self.0.is_match(&text))
    }
}
