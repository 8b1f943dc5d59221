//! `Schema`: a validator over the tape, and how its refusal is told without the sender's words.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use jsonschema::error::ValidationErrorKind;
use jsonschema::json::Node;
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::format;
use super::pattern::{Pattern, take_undecided};
use super::policy::Strength;
use crate::json::{Scope, TapeJson, TapeNode};

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

/// One schema of a contract, ready to check instances once its set is built.
pub(crate) struct Schema {
    set: Arc<SchemaSet>,
    key: Box<str>,
}

/// All schemas of a contract, compiled as one whose properties they are.
#[derive(Default)]
pub(crate) struct SchemaSet(OnceLock<Built>);

struct Built {
    validator: Validator<TapeJson>,
    /// Every member name that a schema declares.
    names: HashSet<Box<str>>,
}

/// Where and by which keyword an instance was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// A JSON Pointer of declared names; others are written `*`.
    pub(crate) pointer: Box<str>,
    pub(crate) keyword: Option<Box<str>>,
}

impl SchemaSet {
    /// Compiles `schema`, JSON Schema 2020-12, whose properties are the schemas by their keys;
    /// `patterns` has each of its patterns, `names` each of its members' names.
    ///
    /// # Errors
    ///
    /// What jsonschema finds wrong with the schema, with the pointer to it.
    pub(crate) fn build(
        &self,
        schema: &Value,
        names: HashSet<Box<str>>,
        patterns: &Patterns,
        formats: Strength,
    ) -> Result<(), (String, String)> {
        let patterns = patterns.clone();
        let mut options = jsonschema::options_for::<TapeJson>()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(formats == Strength::Assert)
            .should_ignore_unknown_formats(false)
            .with_keyword("pattern", move |_, source, _| {
                let pattern = source.as_str().and_then(|source| patterns.get(source));
                let pattern = pattern.ok_or_else(|| ValidationError::schema("unknown pattern"))?;
                Ok(Box::new(PatternKeyword(Arc::clone(pattern))))
            });
        for marker in ["readOnly", "writeOnly"] {
            options = options.with_keyword(marker, |_, _, _| Ok(Box::new(Hidden)));
        }
        for (name, check) in format::text_checks() {
            options = options.with_format(name, check);
        }
        let validator = options
            .build(schema)
            .map_err(|error| (error.instance_path().to_string(), error.to_string()))?;
        // A set is built once; a second schema would not be taken.
        self.0.set(Built { validator, names }).map_err(|_built| (String::new(), String::new()))
    }
}

impl Schema {
    pub(crate) fn new(set: Arc<SchemaSet>, key: usize) -> Self {
        Self { set, key: key.to_string().into() }
    }

    /// The name of the schema among the properties of the set's.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Checks an instance; allocates only to refuse.
    ///
    /// # Errors
    ///
    /// The first mismatch found; any instance, where the set was never built.
    pub(crate) fn check(&self, instance: TapeNode<'_>) -> Result<(), Mismatch> {
        let Some(built) = self.set.0.get() else {
            return Err(Mismatch { pointer: "".into(), keyword: None });
        };
        take_undecided();
        let is_valid = built.validator.is_valid(Scope::new(&self.key, instance).root());
        if take_undecided() {
            return Err(Mismatch { pointer: "".into(), keyword: Some("pattern".into()) });
        }
        if is_valid { Ok(()) } else { Err(built.explain(&self.key, instance)) }
    }
}

impl Built {
    #[cold]
    fn explain(&self, key: &str, instance: TapeNode<'_>) -> Mismatch {
        let scope = Scope::new(key, instance).with_fuel(EXPLAINED_VISITS);
        let result = self.validator.validate(scope.root());
        take_undecided();
        match result {
            Err(error) if scope.fuel() > Some(0) => {
                Mismatch { pointer: self.pointer(&error).into(), keyword: Some(keyword(&error)) }
            }
            _ => Mismatch { pointer: "".into(), keyword: None },
        }
    }

    fn pointer(&self, error: &ValidationError<'_>) -> String {
        let mut pointer = String::new();
        // The first is the schema's key.
        for segment in error.instance_path().segments().skip(1) {
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
}

fn keyword(error: &ValidationError<'_>) -> Box<str> {
    let ValidationErrorKind::FalseSchema = error.kind() else {
        return error.kind().keyword().into();
    };
    // `false` stands where such a keyword closes an object or a list.
    match error.schema_path().segments().last() {
        Some(LocationSegment::Property(name))
            if matches!(
                &*name,
                "additionalProperties" | "items" | "unevaluatedProperties" | "unevaluatedItems"
            ) =>
        {
            name.into()
        }
        _ => "falseSchema".into(),
    }
}

/// A member that this direction must not carry, whatever its value.
struct Hidden;

impl<'i> Keyword<'i, TapeJson> for Hidden {
    fn validate(&self, _: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        Err(ValidationError::custom(""))
    }

    fn is_valid(&self, _: TapeNode<'i>) -> bool {
        false
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
