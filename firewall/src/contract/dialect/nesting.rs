//! How deep the schemas that speak of one value stand within one another, and how many they are:
//! bounded, since checking a value recurses as deep, and takes as long, at each level of a body.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::Definition;

/// Levels of references, branches and conditions that speak of one value.
pub(crate) const LEVELS_LIMIT: usize = 64;
/// Schemas that speak of one value, counted as often as they are reached.
pub(super) const COUNT_LIMIT: usize = 10_000;

/// The schemas that speak of the same value as one of them does, itself among them.
#[derive(Clone, Copy, Default)]
struct Extent {
    levels: usize,
    count: usize,
}

/// What a survey of all definitions finds.
pub(super) struct Found {
    /// One from which too many others speak of the same value.
    pub(super) beyond_limits: Option<usize>,
    /// Those that lead back to themselves without a step into the value.
    pub(super) cyclic: BTreeSet<usize>,
}

/// Looks through all definitions, or up to the first that is beyond the limits.
pub(super) fn survey(definitions: &BTreeMap<usize, Definition>) -> Found {
    let known = HashMap::new();
    let mut survey =
        Survey { definitions, known, in_hand: BTreeSet::new(), cyclic: BTreeSet::new() };
    let beyond_limits = definitions.iter().find_map(|(key, definition)| {
        let is_within = survey.definition(*key, 0).is_some() && survey.below(&definition.schema);
        (!is_within).then_some(*key)
    });
    Found { beyond_limits, cyclic: survey.cyclic }
}

struct Survey<'d> {
    definitions: &'d BTreeMap<usize, Definition>,
    /// Nothing yet for those in hand: a cycle ends where it comes back.
    known: HashMap<usize, Extent>,
    in_hand: BTreeSet<usize>,
    cyclic: BTreeSet<usize>,
}

impl Survey<'_> {
    /// The extent of a definition that stands `level` levels deep; none beyond the limits.
    fn definition(&mut self, key: usize, level: usize) -> Option<Extent> {
        if self.in_hand.contains(&key) {
            self.cyclic.insert(key);
        }
        if let Some(known) = self.known.get(&key) {
            return Some(*known).filter(|known| level + known.levels <= LEVELS_LIMIT);
        }
        self.known.insert(key, Extent::default());
        self.in_hand.insert(key);
        let definitions = self.definitions;
        let extent = self.schema(&definitions.get(&key)?.schema, level)?;
        self.in_hand.remove(&key);
        self.known.insert(key, extent);
        Some(extent)
    }

    fn schema(&mut self, schema: &Value, level: usize) -> Option<Extent> {
        let mut extent = Extent { levels: 0, count: 1 };
        let Some(object) = schema.as_object() else { return Some(extent) };
        if level >= LEVELS_LIMIT {
            return None;
        }
        for (keyword, value) in object {
            match (&**keyword, value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                    for branch in branches {
                        extent = extent.with(self.schema(branch, level + 1)?);
                    }
                }
                ("not" | "if" | "then" | "else", branch) => {
                    extent = extent.with(self.schema(branch, level + 1)?);
                }
                ("dependentSchemas", Value::Object(branches)) => {
                    for branch in branches.values() {
                        extent = extent.with(self.schema(branch, level + 1)?);
                    }
                }
                ("$ref", Value::String(target)) => {
                    let key = target.rsplit('/').next().and_then(|key| key.parse().ok());
                    if let Some(key) = key {
                        extent = extent.with(self.definition(key, level + 1)?);
                    }
                }
                _ => {}
            }
        }
        Some(Extent { levels: extent.levels + 1, ..extent }).filter(|e| e.count <= COUNT_LIMIT)
    }

    /// Whether the schemas of members and items that are written out below this one are within the
    /// limits.
    fn below(&mut self, schema: &Value) -> bool {
        let Some(object) = schema.as_object() else { return true };
        object.iter().all(|(keyword, value)| match (&**keyword, value) {
            ("properties" | "patternProperties", Value::Object(members)) => {
                members.values().all(|member| self.starts(member))
            }
            ("prefixItems", Value::Array(items)) => items.iter().all(|item| self.starts(item)),
            (
                "items"
                | "contains"
                | "additionalProperties"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                value,
            ) => self.starts(value),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter().all(|branch| self.below(branch))
            }
            ("dependentSchemas", Value::Object(branches)) => {
                branches.values().all(|branch| self.below(branch))
            }
            ("not" | "if" | "then" | "else", branch) => self.below(branch),
            _ => true,
        })
    }

    fn starts(&mut self, schema: &Value) -> bool {
        self.schema(schema, 0).is_some() && self.below(schema)
    }
}

impl Extent {
    fn with(self, other: Self) -> Self {
        let (levels, count) = (self.levels.max(other.levels), self.count + other.count);
        Self { levels, count }
    }
}
