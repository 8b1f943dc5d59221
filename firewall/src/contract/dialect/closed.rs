//! What a schema's members mean for the schemas beside it: members kept from a direction, and
//! objects that are closed as a whole.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::super::compile::reader::At;
use super::super::documents::Place;
use super::super::policy::{ClosedObjects, Verdict};
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::rewrite::Rewriting;

/// Keywords whose schemas speak of the same instance.
const BESIDE: [&str; 8] =
    ["allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "$ref"];

/// Names hidden from schemas that stand elsewhere, counted for each: where members are required in
/// many places and hidden in others, each combination is another schema.
const HIDDEN_NAMES_LIMIT: usize = 100_000;

impl<'d> Rewriting<'_, 'd> {
    /// The keyword that marks the members that this direction must not carry.
    pub(super) fn marker(&self) -> &'static str {
        match self.direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        }
    }

    pub(super) fn refuses_hidden(&self) -> bool {
        self.schemas.options.policy.read_and_write_only == Verdict::Refuse
    }

    /// Adds the members that the schema, a branch of its `allOf` or what it refers to keeps from this
    /// direction.
    pub(super) fn hide(
        &self,
        at: &At<'d>,
        hidden: &mut BTreeSet<Box<str>>,
        seen: &mut HashSet<Place>,
    ) {
        if !self.schemas.documents.is_directional(&at.place()) || !seen.insert(at.place()) {
            return;
        }
        for (name, property) in at.get("properties").iter().flat_map(At::members) {
            if self.is_marked(&property, &mut HashSet::new()) {
                hidden.insert(name.into());
            }
        }
        for branch in at.get("allOf").iter().flat_map(At::items) {
            self.hide(&branch, hidden, seen);
        }
        if let Some(target) = self.target(at) {
            self.hide(&target, hidden, seen);
        }
    }

    /// Whether the schema, a branch of its `allOf` or what it refers to has this direction's marker.
    fn is_marked(&self, at: &At<'d>, seen: &mut HashSet<Place>) -> bool {
        if !self.schemas.documents.is_directional(&at.place()) || !seen.insert(at.place()) {
            return false;
        }
        at.value.get(self.marker()) == Some(&Value::Bool(true))
            || at
                .get("allOf")
                .iter()
                .flat_map(At::items)
                .any(|branch| self.is_marked(&branch, seen))
            || self.target(at).is_some_and(|target| self.is_marked(&target, seen))
    }

    /// Leaves of the names hidden beside a schema those alone that make another of it: those that it
    /// demands, and does not hide itself in any case.
    pub(super) fn keep_apart(&mut self, place: &Place, hidden: &mut BTreeSet<Box<str>>) {
        if hidden.is_empty() {
            return;
        }
        let value = self.schemas.documents.value(place).unwrap_or(&Value::Null);
        let at = At { value, pointer: place.pointer.clone(), file: place.file };
        let (mut own, mut demanded) = (BTreeSet::new(), HashSet::new());
        self.hide(&at, &mut own, &mut HashSet::new());
        self.demand(&at, &mut demanded, &mut HashSet::new());
        hidden.retain(|name| demanded.contains(&**name) && !own.contains(name));
        if hidden.is_empty() {
            return;
        }
        self.schemas.hidden_names += hidden.len();
        if self.schemas.hidden_names > HIDDEN_NAMES_LIMIT {
            hidden.clear();
            let message =
                "too many members are required apart from where they are `readOnly` or `writeOnly`";
            self.problem(&at, Problem::Schema(message.into()));
        }
    }

    /// Adds the members that the schema, a branch of its `allOf` or what it refers to demands.
    fn demand(&self, at: &At<'d>, names: &mut HashSet<&'d str>, seen: &mut HashSet<Place>) {
        if !seen.insert(at.place()) {
            return;
        }
        let required = at.value.get("required");
        let dependent = at.value.get("dependentRequired").and_then(Value::as_object);
        let lists = required.into_iter().chain(dependent.into_iter().flat_map(Map::values));
        names.extend(lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str));
        for branch in at.get("allOf").iter().flat_map(At::items) {
            self.demand(&branch, names, seen);
        }
        if let Some(target) = self.target(at) {
            self.demand(&target, names, seen);
        }
    }

    /// What `$ref` leads to.
    pub(super) fn target(&self, at: &At<'d>) -> Option<At<'d>> {
        let reference = at.value.get("$ref")?.as_str()?;
        self.schemas.documents.resolve(at, reference).ok()
    }

    /// Closes the object that the schema describes, where the policy says so and the schema nothing.
    pub(super) fn close(&self, at: &At<'d>, out: &mut Map<String, Value>) {
        let policy = self.schemas.options.policy.closed_objects;
        let says = |keyword: &str| at.value.get(keyword).is_some();
        if policy == ClosedObjects::Off
            || says("additionalProperties")
            || says("unevaluatedProperties")
            || !may_be_object(at.value)
            || policy == ClosedObjects::Declared && !self.declares(at, &mut HashSet::new())
        {
            return;
        }
        // Only where other schemas speak of the same object must it be asked what they evaluated.
        let is_alone = !BESIDE.iter().any(|keyword| says(keyword)) && !says("$dynamicRef");
        let keyword = if is_alone { "additionalProperties" } else { "unevaluatedProperties" };
        out.insert(keyword.to_owned(), Value::Bool(false));
    }

    /// Whether the schema, or one beside it, declares a member.
    fn declares(&self, at: &At<'d>, seen: &mut HashSet<Place>) -> bool {
        if !seen.insert(at.place()) {
            return false;
        }
        if ["properties", "patternProperties"].iter().any(|keyword| {
            at.value.get(keyword).and_then(Value::as_object).is_some_and(|map| !map.is_empty())
        }) {
            return true;
        }
        if self.target(at).is_some_and(|target| self.declares(&target, seen)) {
            return true;
        }
        BESIDE.iter().filter_map(|keyword| at.get(keyword)).any(|beside| match beside.value {
            Value::Array(_) => beside.items().any(|branch| self.declares(&branch, seen)),
            Value::Object(_) if beside.pointer.ends_with("/dependentSchemas") => {
                beside.members().any(|(_, branch)| self.declares(&branch, seen))
            }
            _ => self.declares(&beside, seen),
        })
    }
}

fn may_be_object(schema: &Value) -> bool {
    match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    }
}
