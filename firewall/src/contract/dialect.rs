//! `Schemas`: the Schema Objects of a contract, rewritten to one dialect, JSON Schema 2020-12, and
//! compiled together, so that what many places refer to is compiled once.
//!
//! What the version of the document does not define is a problem, never passed on: a keyword that a
//! reader ignores would leave open what its author meant to close.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::LoadOptions;
use super::compile::Version;
use super::compile::reader::At;
use super::documents::{Documents, Place, ResourceIndex};
use super::problem::Problem;
use super::schema::{Direction, Patterns, Schema, SchemaSet, Vocabulary};
use rewrite::Rewriting;

mod closed;
mod constraints;
mod nesting;
mod rewrite;

pub(crate) use nesting::LEVELS_LIMIT;
pub(crate) use rewrite::is_known_dialect;

/// The identifier of the one schema that holds all others.
const ROOT: &str = "contract:///";

/// A schema as it is compiled: the same place may mean several.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Variant {
    place: Place,
    direction: Direction,
    within: Within,
}

/// What the schemas around a schema make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Within {
    /// Members that a schema beside it keeps from this direction, so that it cannot require them.
    hidden: BTreeSet<Box<str>>,
    /// It is one of several that speak of the same instance, so that it alone closes no object.
    is_branch: bool,
    /// It only decides what else is demanded, so that it keeps no member from a direction and closes
    /// nothing: whoever sends such a member would otherwise choose the outcome.
    is_condition: bool,
}

/// A schema resource in which names are looked up while an instance is checked (`$dynamicRef`).
type Container = (ResourceIndex, Direction);

struct Definition {
    schema: Value,
    references: BTreeSet<usize>,
    container: Option<Container>,
}

/// The schemas of one contract.
pub(crate) struct Schemas<'d> {
    documents: &'d Documents,
    options: &'d LoadOptions,
    version: Version,
    set: Arc<SchemaSet>,
    keys: HashMap<Variant, usize>,
    places: Vec<Place>,
    definitions: BTreeMap<usize, Definition>,
    /// Variants that something refers to and that are still to be rewritten.
    queue: VecDeque<Variant>,
    handles: HashMap<usize, Option<Arc<Schema>>>,
    /// Equal schemas in different places are one.
    equals: HashMap<String, usize>,
    patterns: Patterns,
    vocabulary: Vocabulary,
    /// Schemas that a discriminator names.
    alternatives: BTreeSet<usize>,
    /// How many names are hidden from the schemas that are referred to.
    hidden_names: usize,
    problems: Vec<(Place, Problem)>,
}

impl<'d> Schemas<'d> {
    pub(crate) fn new(
        documents: &'d Documents,
        options: &'d LoadOptions,
        version: Version,
    ) -> Self {
        Self {
            documents,
            options,
            version,
            set: Arc::new(SchemaSet::default()),
            keys: HashMap::new(),
            places: Vec::new(),
            definitions: BTreeMap::new(),
            queue: VecDeque::new(),
            handles: HashMap::new(),
            equals: HashMap::new(),
            patterns: Patterns::new(),
            vocabulary: Vocabulary::default(),
            alternatives: BTreeSet::new(),
            hidden_names: 0,
            problems: Vec::new(),
        }
    }

    /// The schema there, to be checked with once [`Schemas::build`] has succeeded; none where it
    /// accepts everything.
    pub(crate) fn compile(&mut self, at: &At<'d>, direction: Direction) -> Option<Arc<Schema>> {
        let variant = self.variant(at.place(), direction, Within::default());
        let key = self.key(&variant);
        if let Some(handle) = self.handles.get(&key) {
            return handle.clone();
        }
        self.define(&variant);
        let entry = self.definitions.get(&key).and_then(|definition| {
            let accepts_all = definition.schema == Value::Bool(true)
                || definition.schema.as_object().is_some_and(Map::is_empty);
            if accepts_all { None } else { Some(definition) }
        });
        let entry = entry.map(|definition| {
            // A mere reference leads straight to its target.
            let target = definition.references.first().filter(|target| {
                definition.schema.as_object().is_some_and(|schema| schema.len() == 1)
                    && definition.schema.get("$ref").is_some()
                    && definition.references.len() == 1
                    && self.keys.len() > **target
            });
            match (target, definition.container) {
                (Some(target), None) => *target,
                (None, None) => *self.equals.entry(definition.schema.to_string()).or_insert(key),
                (_, Some(_)) => key,
            }
        });
        let handle = entry.map(|key| match self.handles.get(&key) {
            Some(Some(handle)) => Arc::clone(handle),
            _ => Arc::new(Schema::new(Arc::clone(&self.set), key)),
        });
        if let Some(entry) = entry {
            self.handles.entry(entry).or_insert_with(|| handle.clone());
        }
        self.handles.insert(key, handle.clone());
        handle
    }

    /// Looks for problems in the schema there.
    pub(crate) fn check(&mut self, at: &At<'d>, direction: Direction) {
        let variant = self.variant(at.place(), direction, Within::default());
        self.key(&variant);
        self.define(&variant);
    }

    /// The same, in its turn.
    fn check_later(&mut self, at: &At<'d>, direction: Direction) {
        let variant = self.variant(at.place(), direction, Within::default());
        self.refer(variant);
    }

    /// Rewrites what is still only referred to, and compiles all that a message can meet. Gives the
    /// problems found from the beginning; with a grave one nothing is compiled.
    pub(crate) fn build(mut self) -> Vec<(Place, Problem)> {
        while let Some(variant) = self.queue.pop_front() {
            self.define(&variant);
        }
        if self.problems.iter().any(|(_, problem)| is_grave(problem)) {
            return self.problems;
        }
        let surveyed = nesting::survey(&self.definitions);
        let places = surveyed.cyclic.iter().filter_map(|key| self.places.get(*key)).cloned();
        self.problems.extend(places.map(|place| (place, Problem::CyclicSchema)));
        if let Some(key) = surveyed.beyond_limits {
            let place = self.places.get(key).cloned().unwrap_or_else(Place::root);
            let message = format!(
                "what speaks of one value here is more than {} schemas, or {} within one another",
                nesting::COUNT_LIMIT,
                LEVELS_LIMIT,
            );
            self.problems.push((place, Problem::Schema(message.into())));
            return self.problems;
        }
        let entries: BTreeSet<usize> = self
            .handles
            .values()
            .flatten()
            .filter_map(|handle| handle.key().parse().ok())
            .collect();
        let root = self.root(&entries);
        self.definitions.clear();
        self.equals.clear();
        let vocabulary = std::mem::take(&mut self.vocabulary);
        if let Err((pointer, message)) =
            self.set.build(&root, vocabulary, &self.patterns, self.options)
        {
            let place = self.origin(&pointer);
            self.problems.push((place, Problem::Schema(message.into())));
        }
        self.problems
    }

    /// One schema with a property for each entry.
    fn root(&mut self, entries: &BTreeSet<usize>) -> Value {
        let mut reached = entries.clone();
        let mut queue: VecDeque<usize> = entries.iter().copied().collect();
        while let Some(key) = queue.pop_front() {
            for reference in self.definitions.get(&key).into_iter().flat_map(|d| &d.references) {
                if reached.insert(*reference) {
                    queue.push_back(*reference);
                }
            }
        }
        let mut properties = Map::new();
        for key in entries.union(&self.alternatives).filter(|key| reached.contains(key)) {
            let container = self.definitions.get(key).and_then(|d| d.container);
            properties.insert(key.to_string(), json!({"$ref": uri(container, *key)}));
        }
        let mut own = Map::new();
        let mut resources: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for key in reached {
            let Some(definition) = self.definitions.remove(&key) else { continue };
            let holder = match definition.container {
                Some(container) => resources.entry(container_name(container)).or_default(),
                None => &mut own,
            };
            holder.insert(key.to_string(), definition.schema);
        }
        for (name, definitions) in resources {
            let resource = json!({"$id": format!("{ROOT}{name}"), "$defs": definitions});
            own.insert(name, resource);
        }
        json!({"$id": ROOT, "properties": properties, "$defs": own})
    }

    /// The place that a pointer into the one schema comes from, as far as it can be told.
    fn origin(&self, pointer: &str) -> Place {
        let mut tokens = pointer.split('/').skip(1);
        let key = tokens.find_map(|token| token.parse::<usize>().ok());
        let place = key.and_then(|key| self.places.get(key)).cloned();
        let mut place = place.unwrap_or_else(Place::root);
        let rest: Vec<&str> = tokens.collect();
        if !rest.is_empty() {
            let within = format!("{}/{}", place.pointer, rest.join("/"));
            let within = Place { pointer: within, ..place.clone() };
            if self.documents.value(&within).is_some() {
                place = within;
            }
        }
        place
    }

    /// Both directions see most schemas alike.
    fn variant(&self, place: Place, direction: Direction, within: Within) -> Variant {
        let differs = self.documents.has_dynamic_references()
            || !within.hidden.is_empty()
            || self.documents.is_directional(&place);
        Variant { place, direction: if differs { direction } else { Direction::Request }, within }
    }

    fn key(&mut self, variant: &Variant) -> usize {
        if let Some(key) = self.keys.get(variant) {
            return *key;
        }
        let key = self.places.len();
        self.keys.insert(variant.clone(), key);
        self.places.push(variant.place.clone());
        key
    }

    /// The container of what stands at a place; none where no name is looked up in it.
    fn container(&self, place: &Place, direction: Direction) -> Option<Container> {
        let resource = self.documents.resource(place);
        let has_anchors = self.documents.dynamic_anchors(resource).next().is_some();
        (has_anchors && self.documents.has_dynamic_references()).then_some((resource, direction))
    }

    /// Rewrites a variant, if it is not yet.
    fn define(&mut self, variant: &Variant) {
        let key = self.key(variant);
        if self.definitions.contains_key(&key) {
            return;
        }
        let Place { file, pointer } = variant.place.clone();
        let value = self.documents.value(&variant.place).unwrap_or(&Value::Null);
        let at = At { value, pointer, file };
        let container = self.container(&variant.place, variant.direction);
        // Found before the walk, so that a schema that refers to itself is not defined again.
        let placeholder =
            Definition { schema: Value::Null, references: BTreeSet::new(), container };
        self.definitions.insert(key, placeholder);
        let mut rewriting = Rewriting {
            key,
            base: &at.pointer,
            schemas: self,
            direction: variant.direction,
            is_condition: variant.within.is_condition,
            references: BTreeSet::new(),
        };
        let schema = rewriting.definition(&at, &variant.within);
        let mut references = rewriting.references;
        if let Some((resource, direction)) = container {
            // An anchor of this resource may be what a name stands for.
            let anchors: Vec<_> =
                self.documents.dynamic_anchors(resource).map(|(_, place)| place).collect();
            for place in anchors {
                let anchor = Variant { place, direction, within: Within::default() };
                references.insert(self.refer(anchor));
            }
        }
        if let Some(definition) = self.definitions.get_mut(&key) {
            definition.schema = schema;
            definition.references = references;
        }
    }

    /// The key of a variant that something refers to, which is rewritten in its turn.
    fn refer(&mut self, variant: Variant) -> usize {
        let key = self.key(&variant);
        if !self.definitions.contains_key(&key) {
            self.queue.push_back(variant);
        }
        key
    }
}

fn container_name((resource, direction): Container) -> String {
    let direction = match direction {
        Direction::Request => "request",
        Direction::Response => "response",
    };
    format!("{direction}-{}", resource.0)
}

fn uri(container: Option<Container>, key: usize) -> String {
    match container {
        Some(container) => format!("{ROOT}{}#/$defs/{key}", container_name(container)),
        None => format!("{ROOT}#/$defs/{key}"),
    }
}

/// Whether the problem leaves the schema without a meaning; the others may be accepted.
fn is_grave(problem: &Problem) -> bool {
    !matches!(
        problem,
        Problem::NotEnforced(_) | Problem::BesideReference(_) | Problem::Discriminator(_)
    )
}

/// What a value is, for messages: scalars as they are, containers by name.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        _ => value.to_string().chars().take(80).collect(),
    }
}
