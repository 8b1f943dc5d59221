//! From a set's schema, as jsonschema compiles it, to rules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::super::format;
use super::super::schema::Patterns;
use super::{
    Beside, Bound, FEW_NAMES, Items, Kinds, Limit, Members, Named, Numeric, Other, Rule, RuleIndex,
    Side, Text, TextFormat, Walks,
};
use crate::json::{Decimal, TapeJson};

/// What a reference to a definition begins with.
const DEFINITIONS: &str = "contract:///#/$defs/";
/// Members that one object may require, as many as there are bits.
const REQUIRED_MAX: usize = 64;

/// A schema uses what is not walked.
struct Unknown;

/// Rules in the making.
struct Compiling<'s> {
    patterns: &'s Patterns,
    are_formats_asserted: bool,
    rules: Vec<Rule>,
    /// The rules of the definitions, by their keys.
    definitions: HashMap<usize, RuleIndex>,
    /// What the definition in hand refers to.
    references: Vec<Reference>,
    /// jsonschema's own formats, by their names.
    formats: HashMap<String, Arc<Validator<TapeJson>>>,
    /// How far within the value in hand the schema speaks of another.
    steps: usize,
}

/// From one definition to another.
struct Reference {
    target: RuleIndex,
    /// Both speak of the same value.
    is_in_place: bool,
}

impl Walks {
    /// The rules of those definitions of `schema` that can be walked, with all that they refer to.
    pub(in super::super) fn compile(
        schema: &Value,
        patterns: &Patterns,
        are_formats_asserted: bool,
    ) -> Self {
        let empty = Map::new();
        let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
        let keys: Option<Vec<usize>> = definitions.keys().map(|key| key.parse().ok()).collect();
        // Other names are those of resources, whose schemas mean what the way to them makes of them.
        let Some(keys) = keys else { return Self::default() };
        let mut compiling = Compiling {
            patterns,
            are_formats_asserted,
            rules: keys.iter().map(|_| Rule::open()).collect(),
            definitions: (0..).map(RuleIndex).zip(&keys).map(|(rule, key)| (*key, rule)).collect(),
            references: Vec::new(),
            formats: HashMap::new(),
            steps: 0,
        };
        let mut references = Vec::new();
        let mut lost = Vec::new();
        for (place, definition) in definitions.values().enumerate() {
            let rule = compiling.rule(definition);
            references.push(std::mem::take(&mut compiling.references));
            match (rule, compiling.rules.get_mut(place)) {
                (Ok(rule), Some(reserved)) => *reserved = rule,
                _ => lost.push(place),
            }
        }
        lost.extend(endless(&references));
        let lost = leading_to(lost, &references);
        let len = keys.iter().max().map_or(0, |key| key + 1);
        let mut entries = vec![None; len];
        for (key, rule) in &compiling.definitions {
            if let Some(entry) = entries.get_mut(*key) {
                *entry = Some(*rule).filter(|rule| !lost.contains(&rule.place()));
            }
        }
        Self { rules: compiling.rules, entries }
    }
}

impl Compiling<'_> {
    /// The rule of a schema that stands within another.
    fn place(&mut self, schema: &Value) -> Result<RuleIndex, Unknown> {
        if let Some(target) = schema.get("$ref")
            && schema.as_object().is_some_and(|schema| schema.len() == 1)
        {
            return self.target(target);
        }
        let rule = self.rule(schema)?;
        let index = u32::try_from(self.rules.len()).map_err(|_too_many| Unknown)?;
        self.rules.push(rule);
        Ok(RuleIndex(index))
    }

    /// The same, of a schema that speaks of a member, a name or an item.
    fn part(&mut self, schema: &Value) -> Result<RuleIndex, Unknown> {
        self.steps += 1;
        let place = self.place(schema);
        self.steps -= 1;
        place
    }

    fn places(&mut self, schemas: &Value) -> Result<Box<[RuleIndex]>, Unknown> {
        schemas.as_array().ok_or(Unknown)?.iter().map(|schema| self.place(schema)).collect()
    }

    fn target(&mut self, reference: &Value) -> Result<RuleIndex, Unknown> {
        let key = reference.as_str().and_then(|text| text.strip_prefix(DEFINITIONS));
        let key: usize = key.and_then(|key| key.parse().ok()).ok_or(Unknown)?;
        let target = *self.definitions.get(&key).ok_or(Unknown)?;
        self.references.push(Reference { target, is_in_place: self.steps == 0 });
        Ok(target)
    }

    fn rule(&mut self, schema: &Value) -> Result<Rule, Unknown> {
        let mut rule = Rule::open();
        let schema = match schema {
            Value::Bool(true) => return Ok(rule),
            Value::Bool(false) => return Ok(Rule { kinds: Kinds::NONE, ..rule }),
            schema => schema.as_object().ok_or(Unknown)?,
        };
        let mut beside = Vec::new();
        for (keyword, value) in schema {
            match &**keyword {
                "type" => rule.kinds = kinds(value)?,
                // Members that this direction does not carry.
                "readOnly" | "writeOnly" => return Ok(Rule { kinds: Kinds::NONE, ..rule }),
                "enum" => beside.push(among(value.as_array().ok_or(Unknown)?)),
                "const" => beside.push(among(std::slice::from_ref(value))),
                "$ref" => beside.push(Beside::All(self.target(value)?)),
                "allOf" => beside.extend(self.places(value)?.into_iter().map(Beside::All)),
                "anyOf" => beside.push(Beside::Any(self.places(value)?)),
                "oneOf" => beside.push(Beside::One(self.places(value)?)),
                "not" => beside.push(Beside::Not(self.place(value)?)),
                "if" => {
                    let condition = self.place(value)?;
                    let mut branch =
                        |name: &str| schema.get(name).map(|branch| self.place(branch)).transpose();
                    let (then, otherwise) = (branch("then")?, branch("else")?);
                    beside.push(Beside::If { condition, then, otherwise });
                }
                // With the keyword that they belong to; without it they say nothing.
                "then"
                | "else"
                | "minimum"
                | "maximum"
                | "exclusiveMinimum"
                | "exclusiveMaximum"
                | "multipleOf"
                | "minLength"
                | "maxLength"
                | "pattern"
                | "format"
                | "properties"
                | "required"
                | "additionalProperties"
                | "propertyNames"
                | "minProperties"
                | "maxProperties"
                | "items"
                | "prefixItems"
                | "minItems"
                | "maxItems"
                | "uniqueItems" => {}
                _ => return Err(Unknown),
            }
        }
        rule.beside = beside.into();
        rule.text = self.text(schema)?.map(Box::new);
        rule.number = numeric(schema)?.map(Box::new);
        rule.object = self.members(schema)?.map(Box::new);
        rule.array = self.items(schema)?.map(Box::new);
        Ok(rule)
    }

    fn text(&mut self, schema: &Map<String, Value>) -> Result<Option<Text>, Unknown> {
        if !has_any(schema, &["minLength", "maxLength", "pattern", "format"]) {
            return Ok(None);
        }
        let pattern = |source: &Value| {
            let pattern = source.as_str().and_then(|source| self.patterns.get(source));
            pattern.map(Arc::clone).ok_or(Unknown)
        };
        let name = schema.get("format").filter(|_| self.are_formats_asserted);
        Ok(Some(Text {
            at_least: count(schema, "minLength", 0)?,
            at_most: count(schema, "maxLength", usize::MAX)?,
            patterns: schema.get("pattern").map(pattern).into_iter().collect::<Result<_, _>>()?,
            format: name.map(|name| self.text_format(name.as_str().ok_or(Unknown)?)).transpose()?,
        }))
    }

    fn text_format(&mut self, name: &str) -> Result<TextFormat, Unknown> {
        if let Some((_, check)) = format::text_checks().find(|(known, _)| *known == name) {
            return Ok(TextFormat::Own(check));
        }
        if let Some(known) = self.formats.get(name) {
            return Ok(TextFormat::Theirs(Arc::clone(known)));
        }
        let validator = jsonschema::options_for::<TapeJson>()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .build(&json!({"format": name}));
        let validator = Arc::new(validator.map_err(|_unknown| Unknown)?);
        self.formats.insert(name.to_owned(), Arc::clone(&validator));
        Ok(TextFormat::Theirs(validator))
    }

    fn members(&mut self, schema: &Map<String, Value>) -> Result<Option<Members>, Unknown> {
        let keywords = [
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
        ];
        if !has_any(schema, &keywords) {
            return Ok(None);
        }
        let mut named = Vec::new();
        for (name, member) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let rule = Some(self.part(member)?);
            named.push(Named { name: name.as_str().into(), rule, bit: 0 });
        }
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.map(Vec::as_slice).unwrap_or_default();
        if required.len() > REQUIRED_MAX {
            return Err(Unknown);
        }
        let mut bits = 0;
        for (place, name) in required.iter().enumerate() {
            let name = name.as_str().ok_or(Unknown)?;
            let bit = 1 << place;
            bits |= bit;
            match named.iter_mut().find(|named| *named.name == *name) {
                // Told twice, one bit is enough.
                Some(named) => named.bit |= bit,
                None => named.push(Named { name: name.into(), rule: None, bit }),
            }
        }
        let other = match schema.get("additionalProperties") {
            None | Some(Value::Bool(true)) => Other::Anything,
            Some(Value::Bool(false)) => Other::Absent,
            Some(other) => Other::As(self.part(other)?),
        };
        let mut sorted = Vec::new();
        if named.len() > FEW_NAMES {
            let places = 0..u16::try_from(named.len()).map_err(|_too_many| Unknown)?;
            sorted = places.collect();
            let name = |place: &u16| named.get(usize::from(*place)).map(|named| &*named.name);
            sorted.sort_unstable_by(|one, other| name(one).cmp(&name(other)));
        }
        Ok(Some(Members {
            named: named.into(),
            sorted: sorted.into(),
            required: bits,
            other,
            names: schema.get("propertyNames").map(|names| self.part(names)).transpose()?,
            at_least: count(schema, "minProperties", 0)?,
            at_most: count(schema, "maxProperties", usize::MAX)?,
        }))
    }

    fn items(&mut self, schema: &Map<String, Value>) -> Result<Option<Items>, Unknown> {
        if !has_any(schema, &["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]) {
            return Ok(None);
        }
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.into_iter().flatten().map(|schema| self.part(schema));
        let first = first.collect::<Result<_, _>>()?;
        Ok(Some(Items {
            first,
            rest: schema.get("items").map(|schema| self.part(schema)).transpose()?,
            at_least: count(schema, "minItems", 0)?,
            at_most: count(schema, "maxItems", usize::MAX)?,
            is_unique: schema.get("uniqueItems") == Some(&Value::Bool(true)),
        }))
    }
}

/// Those definitions from which references about the same value alone lead on and on: jsonschema ends
/// there, a walk would not.
fn endless(references: &[Vec<Reference>]) -> Vec<usize> {
    let in_place = |place: usize| {
        let references: &[Reference] = references.get(place).map_or(&[], Vec::as_slice);
        references.iter().filter(|reference| reference.is_in_place)
    };
    let mut left: Vec<usize> = (0..references.len()).map(|at| in_place(at).count()).collect();
    let referring = referring(references, |reference| reference.is_in_place);
    let mut ended: Vec<usize> = (0..left.len()).filter(|at| left.get(*at) == Some(&0)).collect();
    while let Some(place) = ended.pop() {
        for source in referring.get(place).into_iter().flatten() {
            if let Some(left) = left.get_mut(*source) {
                *left -= 1;
                if *left == 0 {
                    ended.push(*source);
                }
            }
        }
    }
    left.iter().enumerate().filter(|(_, left)| **left > 0).map(|(place, _)| place).collect()
}

/// These definitions, and all that lead to one of them.
fn leading_to(mut queue: Vec<usize>, references: &[Vec<Reference>]) -> HashSet<usize> {
    let referring = referring(references, |_any| true);
    let mut found = HashSet::new();
    while let Some(place) = queue.pop() {
        if found.insert(place) {
            queue.extend(referring.get(place).into_iter().flatten());
        }
    }
    found
}

/// By the place of a definition, those that refer to it, as often as they do.
fn referring(
    references: &[Vec<Reference>],
    counts: impl Fn(&Reference) -> bool,
) -> Vec<Vec<usize>> {
    let mut referring = vec![Vec::new(); references.len()];
    for (source, references) in references.iter().enumerate() {
        for reference in references.iter().filter(|reference| counts(reference)) {
            if let Some(sources) = referring.get_mut(reference.target.place()) {
                sources.push(source);
            }
        }
    }
    referring
}

fn has_any(schema: &Map<String, Value>, keywords: &[&str]) -> bool {
    keywords.iter().any(|keyword| schema.contains_key(*keyword))
}

/// A count; one that no instance reaches is as good as the largest.
fn count(schema: &Map<String, Value>, keyword: &str, absent: usize) -> Result<usize, Unknown> {
    let Some(count) = schema.get(keyword) else { return Ok(absent) };
    let count = count.as_u64().ok_or(Unknown)?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn kinds(types: &Value) -> Result<Kinds, Unknown> {
    let kind = |name: &Value| {
        Ok(match name.as_str().ok_or(Unknown)? {
            "null" => Kinds::NULL,
            "boolean" => Kinds::BOOLEAN,
            "string" => Kinds::STRING,
            "array" => Kinds::ARRAY,
            "object" => Kinds::OBJECT,
            "integer" => Kinds::INTEGER,
            "number" => Kinds::INTEGER.with(Kinds::FRACTION),
            _ => return Err(Unknown),
        })
    };
    match types {
        Value::Array(names) => {
            names.iter().try_fold(Kinds::NONE, |kinds, name| Ok(kinds.with(kind(name)?)))
        }
        name => kind(name),
    }
}

fn among(values: &[Value]) -> Beside {
    let texts = values.iter().filter_map(Value::as_str);
    let mut texts: Vec<Box<str>> = texts.map(Box::from).collect();
    texts.sort_unstable();
    let mut integers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    integers.sort_unstable();
    let is_other = |value: &&Value| !value.is_string() && !value.is_i64();
    let others = values.iter().filter(is_other).cloned().collect();
    Beside::Among { texts: texts.into(), integers: integers.into(), others }
}

fn numeric(schema: &Map<String, Value>) -> Result<Option<Numeric>, Unknown> {
    let mut numeric = Numeric::default();
    for (keyword, side) in [
        ("minimum", Side::AtLeast),
        ("exclusiveMinimum", Side::Above),
        ("maximum", Side::AtMost),
        ("exclusiveMaximum", Side::Below),
    ] {
        let Some(bound) = schema.get(keyword) else { continue };
        let bound = match (bound.as_i64(), bound.as_u64(), bound.as_f64()) {
            (Some(integer), ..) => Bound::Integer(integer.into()),
            (None, Some(integer), _) => Bound::Integer(integer.into()),
            (None, None, Some(float)) => Bound::Float(float),
            _ => return Err(Unknown),
        };
        numeric.limits.push(Limit { bound, side });
    }
    if let Some(divisor) = schema.get("multipleOf") {
        numeric.divisor = Some(Decimal::from(divisor.as_number().ok_or(Unknown)?));
    }
    let says_something = !numeric.limits.is_empty() || numeric.divisor.is_some();
    Ok(says_something.then_some(numeric))
}
