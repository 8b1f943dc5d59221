//! `Schema`: a validator over the tape, and how its refusal is told without the sender's words.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};

use jsonschema::error::ValidationErrorKind;
use jsonschema::json::Node;
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::LoadOptions;
use super::document::escape;
use super::format;
use super::pattern::{Pattern, take_undecided};
use super::policy::Strength;
use super::walk::Walks;
use crate::json::{Decimal, JsonRules, Scope, TapeJson, TapeNode, with_tape};

/// Values that may be visited to explain a refusal; beyond, it is told without its place. Errors of
/// `anyOf` and `oneOf` hold those of every branch, which nested deeply would cost exponentially.
const EXPLAINED_VISITS: u32 = 20_000;
/// Alternatives within alternatives that are followed to explain a refusal.
const EXPLAINED_ALTERNATIVES: usize = 8;
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
    number: usize,
}

/// All schemas of a contract, compiled as one whose properties they are.
#[derive(Default)]
pub(crate) struct SchemaSet(OnceLock<Built>);

struct Built {
    validator: Validator<TapeJson>,
    walks: Walks,
    vocabulary: Vocabulary,
}

/// What is known of the schemas of a set beyond their keywords: how a refusal is told.
#[derive(Default)]
pub(crate) struct Vocabulary {
    /// Every member name that a schema declares.
    pub(crate) names: HashSet<Box<str>>,
    /// By the pointer to a `oneOf` or `anyOf`.
    pub(crate) discriminators: HashMap<String, Discriminator>,
}

/// Which of several schemas a sender meant, by the value of one member.
pub(crate) struct Discriminator {
    pub(crate) property: Box<str>,
    /// The keys of the schemas.
    pub(crate) branches: HashMap<Box<str>, Box<str>>,
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
    /// `patterns` has each of its patterns.
    ///
    /// # Errors
    ///
    /// What jsonschema finds wrong with the schema, with the pointer to it.
    pub(crate) fn build(
        self: &Arc<Self>,
        schema: &Value,
        vocabulary: Vocabulary,
        patterns: &Patterns,
        options: &LoadOptions,
    ) -> Result<(), (String, String)> {
        let walks = Walks::compile(schema, patterns, options.policy.formats == Strength::Assert);
        let patterns = patterns.clone();
        let (formats, rules) = (options.policy.formats, options.json_rules());
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
        options = options.with_keyword("multipleOf", |_, divisor, _| {
            let divisor = divisor.as_number().map(Decimal::from);
            let divisor = divisor.ok_or_else(|| ValidationError::schema("no divisor"))?;
            Ok(Box::new(MultipleOf(divisor)))
        });
        for marker in ["readOnly", "writeOnly"] {
            options = options.with_keyword(marker, |_, _, _| Ok(Box::new(Hidden)));
        }
        for keyword in ["x-contentEncoding", "x-contentMediaType"] {
            // The set holds the keyword, which must not hold the set.
            let set = Arc::downgrade(self);
            options = options.with_keyword(keyword, move |_, content, _| {
                Ok(Box::new(ContentKeyword::new(content, Weak::clone(&set), rules)))
            });
        }
        for (name, check) in format::text_checks() {
            options = options.with_format(name, check);
        }
        let validator = options
            .build(schema)
            .map_err(|error| (error.instance_path().to_string(), error.to_string()))?;
        // A set is built once; a second schema would not be taken.
        let built = Built { validator, walks, vocabulary };
        self.0.set(built).map_err(|_built| (String::new(), String::new()))
    }
}

impl Schema {
    pub(crate) fn new(set: Arc<SchemaSet>, key: usize) -> Self {
        Self { set, key: key.to_string().into(), number: key }
    }

    /// The name of the schema among the properties of the set's.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What the walk says, if there is one, and what jsonschema does.
    #[cfg(test)]
    pub(crate) fn verdicts(&self, instance: TapeNode<'_>) -> (Option<bool>, bool) {
        let built = self.set.0.get().unwrap();
        (built.walks.verdict(self.number, instance), built.is_valid(&self.key, instance))
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
        let walked = built.walks.verdict(self.number, instance);
        // A pattern that jsonschema would perhaps not have asked.
        let walked = walked.filter(|_| !take_undecided());
        let is_valid = walked.unwrap_or_else(|| built.is_valid(&self.key, instance));
        if take_undecided() {
            return Err(Mismatch { pointer: "".into(), keyword: Some("pattern".into()) });
        }
        debug_assert!(
            walked.is_none_or(|walked| walked == built.is_valid(&self.key, instance))
                || take_undecided(),
            "the walk and jsonschema differ: {walked:?}"
        );
        if is_valid { Ok(()) } else { Err(built.explain(&self.key, instance)) }
    }
}

impl Built {
    fn is_valid(&self, key: &str, instance: TapeNode<'_>) -> bool {
        self.validator.is_valid(Scope::new(key, instance).root())
    }

    /// Where a sender named the alternative that it meant, what is wrong with that one is told.
    #[cold]
    fn explain(&self, key: &str, instance: TapeNode<'_>) -> Mismatch {
        let mut told = Mismatch { pointer: "".into(), keyword: None };
        let (mut key, mut instance) = (key, instance);
        for _ in 0..EXPLAINED_ALTERNATIVES {
            let scope = Scope::new(key, instance).with_fuel(EXPLAINED_VISITS);
            let result = self.validator.validate(scope.root());
            take_undecided();
            let Err(error) = result else { break };
            if scope.fuel() == Some(0) {
                break;
            }
            let pointer = format!("{}{}", told.pointer, self.pointer(&error, instance));
            if pointer.len() > POINTER_LIMIT {
                break;
            }
            told = Mismatch { pointer: pointer.into(), keyword: Some(keyword(&error)) };
            let Some((branch, place)) = self.meant(&error, instance) else { break };
            (key, instance) = (branch, place);
        }
        told
    }

    /// The schema that the discriminator of the failed alternatives names, and the instance that it
    /// is for.
    fn meant<'s, 'i>(
        &'s self,
        error: &ValidationError<'_>,
        instance: TapeNode<'i>,
    ) -> Option<(&'s str, TapeNode<'i>)> {
        let discriminator = self.vocabulary.discriminators.get(error.schema_path().as_str())?;
        let mut place = instance;
        for segment in error.instance_path().segments().skip(1) {
            place = step(place, &segment)?;
        }
        let (_, value) = place.members().find(|(name, _)| **name == *discriminator.property)?;
        let branch = discriminator.branches.get(&*value.as_string()?)?;
        Some((branch, place))
    }

    fn pointer(&self, error: &ValidationError<'_>, instance: TapeNode<'_>) -> String {
        let mut pointer = String::new();
        let mut place = Some(instance);
        // The first is the schema's key.
        for segment in error.instance_path().segments().skip(1) {
            let end = pointer.len();
            let is_item = place.is_some_and(|place| place.elements().next().is_some());
            let text = segment.to_string();
            // A member's name may look like an index, and is its sender's word all the same.
            if is_item || self.vocabulary.names.contains(&*text) {
                pointer.push('/');
                pointer.push_str(&escape(&text));
            } else {
                pointer.push_str("/*");
            }
            place = place.and_then(|place| step(place, &segment));
            if pointer.len() > POINTER_LIMIT {
                pointer.truncate(end);
                break;
            }
        }
        pointer
    }
}

/// The member or element of `place` that the segment names.
fn step<'i>(place: TapeNode<'i>, segment: &LocationSegment<'_>) -> Option<TapeNode<'i>> {
    let name = match segment {
        LocationSegment::Index(index) => {
            if let Some(element) = place.elements().nth(*index) {
                return Some(element);
            }
            Cow::Owned(index.to_string())
        }
        LocationSegment::Property(name) => Cow::Borrowed(&**name),
    };
    place.members().find(|(known, _)| **known == *name).map(|(_, value)| value)
}

fn keyword(error: &ValidationError<'_>) -> Box<str> {
    let ValidationErrorKind::FalseSchema = error.kind() else {
        let keyword = error.kind().keyword();
        return keyword.strip_prefix("x-").unwrap_or(keyword).into();
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

/// What a text holds: octets in base64, JSON, or JSON in base64, and the schema of that JSON.
struct ContentKeyword {
    /// Whether the alphabet is that of URLs.
    encoding: Option<bool>,
    is_json: bool,
    schema: Option<Box<str>>,
    set: Weak<SchemaSet>,
    rules: JsonRules,
}

impl ContentKeyword {
    fn new(content: &Value, set: Weak<SchemaSet>, rules: JsonRules) -> Self {
        let text = |name: &str| content.get(name).and_then(Value::as_str);
        Self {
            encoding: text("encoding").map(|name| name == "base64url"),
            is_json: content.get("json").is_some(),
            schema: text("schema").map(Box::from),
            set,
            rules,
        }
    }

    fn holds(&self, text: &str) -> bool {
        let decoded;
        let octets = match self.encoding {
            None => text.as_bytes(),
            Some(is_url) => match format::decoded(text, is_url) {
                Some(octets) => {
                    decoded = octets;
                    &decoded
                }
                None => return false,
            },
        };
        !self.is_json
            || with_tape(octets, self.rules, |root| match &self.schema {
                // Whatever is left undecided stays so for the whole.
                Some(key) => self
                    .set
                    .upgrade()
                    .is_some_and(|set| set.0.get().is_some_and(|built| built.is_valid(key, root))),
                None => true,
            })
            .unwrap_or(false)
    }
}

impl<'i> Keyword<'i, TapeJson> for ContentKeyword {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("")) }
    }

    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        instance.as_string().is_none_or(|text| self.holds(&text))
    }
}

/// `multipleOf` without rounding: 19.99 is a multiple of 0.01.
struct MultipleOf(Decimal);

impl<'i> Keyword<'i, TapeJson> for MultipleOf {
    fn validate(&self, instance: TapeNode<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("")) }
    }

    fn is_valid(&self, instance: TapeNode<'i>) -> bool {
        instance.as_number().is_none_or(|number| Decimal::from(number).is_multiple_of(&self.0))
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
