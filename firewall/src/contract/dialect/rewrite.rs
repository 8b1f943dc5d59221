//! One Schema Object to JSON Schema 2020-12, keyword by keyword.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::super::compile::Version;
use super::super::compile::reader::At;
use super::super::document::{escape, unescape};
use super::super::documents::Place;
use super::super::media_type::MediaType;
use super::super::policy::{ClosedObjects, Strength};
use super::super::problem::Problem;
use super::super::schema::{Direction, Discriminator};
use super::constraints::count;
use super::{Schemas, Variant, Within, kind, uri};

/// One walk through one definition.
pub(super) struct Rewriting<'s, 'd> {
    /// The definition's, and the pointer to where it stands.
    pub(super) key: usize,
    pub(super) base: &'s str,
    pub(super) schemas: &'s mut Schemas<'d>,
    pub(super) direction: Direction,
    /// Whether the schemas in hand are conditions, as [`Within::is_condition`] has it.
    pub(super) is_condition: bool,
    /// The keys of the definitions that it refers to.
    pub(super) references: BTreeSet<usize>,
}

/// Keywords that only describe, or only hold what others refer to.
fn is_annotation(keyword: &str, version: Version) -> bool {
    matches!(
        keyword,
        "title" | "description" | "default" | "example" | "externalDocs" | "deprecated" | "xml"
    ) || version > Version::V3_0
        && matches!(keyword, "examples" | "$comment" | "$anchor" | "$id" | "$vocabulary")
        || keyword.starts_with("x-")
}

impl<'d> Rewriting<'_, 'd> {
    pub(super) fn problem(&mut self, at: &At<'_>, problem: Problem) {
        self.schemas.problems.push((at.place(), problem));
    }

    pub(super) fn unexpected(&mut self, at: &At<'_>, expected: &'static str) {
        let found = kind(at.value).into();
        self.problem(at, Problem::Unexpected { expected, found });
    }

    /// The schema at `at` rewritten, to stand alone.
    pub(super) fn definition(&mut self, at: &At<'d>, within: &Within) -> Value {
        let mut schema = self.rewritten(at, within);
        let anchor = at.value.get("$dynamicAnchor").and_then(Value::as_str);
        if let (Some(anchor), Some(object)) = (anchor, schema.as_object_mut())
            && self.schemas.container(&at.place(), self.direction).is_some()
            && *within == Within::default()
        {
            object.insert("$dynamicAnchor".to_owned(), anchor.into());
        }
        schema
    }

    /// The schema at `at` rewritten, to stand within another. What has a name of its own is only
    /// referred to, so that the name is given once.
    fn schema(&mut self, at: &At<'d>, within: &Within) -> Value {
        let has_name = ["$id", "$dynamicAnchor"]
            .iter()
            .any(|name| at.value.get(name).is_some_and(Value::is_string));
        if has_name && self.schemas.version > Version::V3_0 {
            return json!({"$ref": self.refer(at, within.clone())});
        }
        self.rewritten(at, within)
    }

    fn rewritten(&mut self, at: &At<'d>, within: &Within) -> Value {
        let is_old = self.schemas.version == Version::V3_0;
        let object = match at.value {
            Value::Object(object) => object,
            // 3.0 has booleans in this place alone.
            Value::Bool(all) if !is_old || at.pointer.ends_with("/additionalProperties") => {
                return Value::Bool(*all);
            }
            _ => {
                self.unexpected(at, "a schema");
                return Value::Bool(false);
            }
        };
        if is_old && object.contains_key("$ref") {
            return self.reference(at, within);
        }
        let mut hidden = within.hidden.clone();
        if !self.is_condition {
            self.hide(at, &mut hidden, &mut HashSet::new());
        }
        let within = Within { hidden, ..*within };
        let mut out = Map::new();
        for (keyword, field) in at.members() {
            self.keyword(at, keyword, &field, &within, &mut out);
        }
        self.bounds(at, &mut out);
        self.types(at, &mut out);
        self.content(at, &mut out);
        if !within.is_branch && !self.is_condition {
            self.close(at, &mut out);
        }
        Value::Object(out)
    }

    /// A Reference Object of 3.0: what stands beside `$ref` has no effect.
    fn reference(&mut self, at: &At<'d>, within: &Within) -> Value {
        for (sibling, field) in at.members() {
            let is_prose = matches!(sibling, "$ref" | "description" | "title" | "summary")
                || is_annotation(sibling, Version::V3_0);
            if !is_prose {
                self.problem(&field, Problem::BesideReference(sibling.into()));
            }
        }
        match self.referred(at, "$ref", within.clone()) {
            Some(uri) => json!({"$ref": uri}),
            None => Value::Bool(false),
        }
    }

    /// The URI of the definition of what `$ref` leads to.
    fn referred(&mut self, at: &At<'d>, keyword: &str, within: Within) -> Option<String> {
        let field = at.get(keyword)?;
        let Some(text) = field.value.as_str() else {
            self.unexpected(&field, "a string");
            return None;
        };
        match self.schemas.documents.resolve(at, text) {
            Ok(target) if self.is_cycle(&target) => {
                self.problem(&field, Problem::ReferenceCycle);
                None
            }
            Ok(target) => Some(self.refer(&target, within)),
            Err(problem) => {
                self.problem(&field, problem);
                None
            }
        }
    }

    /// Whether `$ref` alone leads from here back to here, so that no instance could ever be decided.
    fn is_cycle(&self, start: &At<'d>) -> bool {
        let mut seen = HashSet::from([start.place()]);
        let mut at = start.clone();
        while let Some(target) = self.target(&at) {
            if !seen.insert(target.place()) {
                return true;
            }
            at = target;
        }
        false
    }

    /// The URI of the definition of what stands at `target`.
    fn refer(&mut self, target: &At<'d>, within: Within) -> String {
        let variant = self.variant(target.place(), within);
        let container = self.schemas.container(&variant.place, variant.direction);
        let key = self.schemas.refer(variant);
        self.references.insert(key);
        uri(container, key)
    }

    fn variant(&mut self, place: Place, mut within: Within) -> Variant {
        self.keep_apart(&place, &mut within.hidden);
        let closes = self.schemas.options.policy.closed_objects != ClosedObjects::Off;
        within.is_branch &= closes;
        within.is_condition =
            self.is_condition && (closes || self.schemas.documents.is_directional(&place));
        self.schemas.variant(place, self.direction, within)
    }

    /// A schema that an instance may fail without being refused for it.
    fn condition(&mut self, at: &At<'d>, within: &Within) -> Value {
        let is_within_one = std::mem::replace(&mut self.is_condition, true);
        let schema = self.schema(at, within);
        self.is_condition = is_within_one;
        schema
    }

    fn keyword(
        &mut self,
        parent: &At<'d>,
        keyword: &str,
        at: &At<'d>,
        within: &Within,
        out: &mut Map<String, Value>,
    ) {
        let is_modern = self.schemas.version > Version::V3_0;
        let alone = Within::default();
        let beside = Within { is_branch: true, ..Within::default() };
        let value = match keyword {
            // Together with others, in `types` and `bounds`.
            "type" | "format" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                None
            }
            "nullable" if !is_modern => self.boolean(at).and(None),
            "readOnly" | "writeOnly" => self.boolean(at).and(None),
            "uniqueItems" => self.boolean(at),
            "multipleOf" => self.taken(at, "a number above 0", |value| {
                value.as_f64().is_some_and(|number| number > 0.0).then(|| value.clone())
            }),
            "maxLength" | "minLength" | "maxItems" | "minItems" | "maxProperties"
            | "minProperties" => {
                self.taken(at, "a whole number from 0", |v| Some(count(v)?.into()))
            }
            "enum" => self.taken(at, "a list of at least one value", |value| {
                value.as_array().filter(|v| !v.is_empty() || is_modern).map(|_| value.clone())
            }),
            "pattern" => match at.value.as_str() {
                Some(source) => self.pattern(source, at).map(|_| source.into()),
                None => self.taken(at, "a pattern", |_| None),
            },
            "required" => self.required(at, within),
            "properties" => self.properties(at, within),
            "allOf" => {
                let hidden = within.hidden.clone();
                self.branches(at, &Within { hidden, ..beside })
            }
            "anyOf" | "oneOf" => self.branches(at, &beside),
            "additionalProperties" if at.value.is_boolean() => Some(at.value.clone()),
            "items" | "additionalProperties" => Some(self.schema(at, &alone)),
            "not" => Some(self.condition(at, &beside)),
            "discriminator" => {
                self.discriminator(parent, at);
                None
            }
            _ if is_annotation(keyword, self.schemas.version) => None,
            _ if is_modern => self.modern(parent, keyword, at, within),
            _ => self.unknown(keyword, at),
        };
        if let Some(value) = value {
            out.insert(keyword.to_owned(), value);
        }
    }

    /// The keywords that 3.1 has beyond 3.0: those of JSON Schema 2020-12.
    fn modern(
        &mut self,
        parent: &At<'d>,
        keyword: &str,
        at: &At<'d>,
        within: &Within,
    ) -> Option<Value> {
        let alone = Within::default();
        let beside = Within { is_branch: true, ..Within::default() };
        match keyword {
            "$ref" => {
                // Alone, it is its target; beside others, one of several.
                let is_alone = parent
                    .members()
                    .all(|(name, _)| name == "$ref" || is_annotation(name, self.schemas.version));
                let is_branch = within.is_branch || !is_alone;
                let within = Within { is_branch, ..within.clone() };
                self.referred(parent, "$ref", within).map(Value::from)
            }
            "$dynamicRef" => self.dynamic(parent, at),
            "$dynamicAnchor" => {
                self.taken(at, "a name", |v| v.as_str().map(|_| json!(null))).and(None)
            }
            "$schema" => self.schema_dialect(at),
            "$defs" | "definitions" => {
                for (_, schema) in self.map(at).iter().flat_map(At::members) {
                    for direction in [Direction::Request, Direction::Response] {
                        self.schemas.check_later(&schema, direction);
                    }
                }
                None
            }
            "const" => Some(at.value.clone()),
            "minContains" | "maxContains" => {
                self.taken(at, "a whole number from 0", |value| Some(count(value)?.into()))
            }
            "propertyNames" | "unevaluatedItems" | "unevaluatedProperties" => {
                Some(self.schema(at, &alone))
            }
            "contains" => Some(self.condition(at, &alone)),
            "if" => Some(self.condition(at, &beside)),
            "then" | "else" => Some(self.schema(at, &beside)),
            "prefixItems" => self.branches(at, &alone),
            "dependentSchemas" => {
                let at = self.map(at)?;
                let schemas = at.members().map(|(name, schema)| {
                    self.schemas.vocabulary.names.insert(name.into());
                    (name.to_owned(), self.schema(&schema, &beside))
                });
                Some(Value::Object(schemas.collect()))
            }
            "dependentRequired" => self.dependent_required(at, within),
            "patternProperties" => self.pattern_properties(at),
            "contentEncoding" | "contentMediaType" | "contentSchema" => {
                // Together, in `content`.
                None
            }
            _ => self.unknown(keyword, at),
        }
    }

    fn unknown(&mut self, keyword: &str, at: &At<'d>) -> Option<Value> {
        self.problem(at, Problem::NotEnforced(format!("keyword:{keyword}").into()));
        None
    }

    fn taken(
        &mut self,
        at: &At<'d>,
        expected: &'static str,
        take: impl Fn(&Value) -> Option<Value>,
    ) -> Option<Value> {
        let taken = take(at.value);
        if taken.is_none() {
            self.unexpected(at, expected);
        }
        taken
    }

    fn boolean(&mut self, at: &At<'d>) -> Option<Value> {
        self.taken(at, "a boolean", |value| value.is_boolean().then(|| value.clone()))
    }

    fn map(&mut self, at: &At<'d>) -> Option<At<'d>> {
        if !at.value.is_object() {
            self.unexpected(at, "schemas by name");
            return None;
        }
        Some(at.clone())
    }

    fn branches(&mut self, at: &At<'d>, within: &Within) -> Option<Value> {
        if at.value.as_array().is_none_or(Vec::is_empty) {
            self.unexpected(at, "a list of at least one schema");
            return None;
        }
        Some(at.items().map(|branch| self.schema(&branch, within)).collect())
    }

    fn names(&mut self, at: &At<'d>) -> Option<Vec<&'d str>> {
        let names = at.value.as_array();
        let names: Option<Vec<&str>> =
            names.and_then(|names| names.iter().map(Value::as_str).collect());
        if names.is_none() {
            self.unexpected(at, "a list of member names");
        }
        let mut unique = HashSet::new();
        let names = names?.into_iter().filter(|name| unique.insert(*name));
        Some(names.collect())
    }

    fn required(&mut self, at: &At<'d>, within: &Within) -> Option<Value> {
        let names = self.names(at)?.into_iter();
        let names = names.filter(|name| !within.hidden.contains(*name)).map(|name| {
            self.schemas.vocabulary.names.insert(name.into());
            Value::from(name)
        });
        Some(names.collect())
    }

    fn dependent_required(&mut self, at: &At<'d>, within: &Within) -> Option<Value> {
        let mut out = Map::new();
        for (name, names) in self.map(at)?.members() {
            out.insert(name.to_owned(), self.required(&names, within)?);
        }
        Some(Value::Object(out))
    }

    fn properties(&mut self, at: &At<'d>, within: &Within) -> Option<Value> {
        let mut out = Map::new();
        for (name, property) in self.map(at)?.members() {
            self.schemas.vocabulary.names.insert(name.into());
            let mut schema = self.schema(&property, &Within::default());
            if within.hidden.contains(name) && self.refuses_hidden() {
                schema = json!({self.marker(): true});
            }
            out.insert(name.to_owned(), schema);
        }
        Some(Value::Object(out))
    }

    fn pattern_properties(&mut self, at: &At<'d>) -> Option<Value> {
        let mut out = Map::new();
        for (source, property) in self.map(at)?.members() {
            let schema = self.schema(&property, &Within::default());
            match self.pattern(source, &property)?.linear_source() {
                // Two patterns may be one once they are translated, and both schemas hold.
                Some(translated) => match out.get_mut(translated) {
                    Some(other) => *other = json!({"allOf": [other.take(), schema]}),
                    None => drop(out.insert(translated.to_owned(), schema)),
                },
                None => {
                    self.unknown("patternProperties", &property);
                }
            }
        }
        Some(Value::Object(out))
    }

    /// A reference whose target may be another in an instance's course: only where it leads to a
    /// dynamic anchor by name (JSON Schema 2020-12 section 8.2.3.2), else it is `$ref`.
    fn dynamic(&mut self, parent: &At<'d>, at: &At<'d>) -> Option<Value> {
        let referred = self.referred(parent, "$dynamicRef", Within::default())?;
        let name = at.value.as_str()?.rsplit_once('#').map(|(_, name)| name)?;
        let target = self.schemas.documents.resolve(parent, at.value.as_str()?).ok()?;
        let resource = self.schemas.documents.resource(&target.place());
        let is_anchor = self
            .schemas
            .documents
            .dynamic_anchors(resource)
            .any(|(known, place)| known == name && place == target.place());
        match self.schemas.container(&target.place(), self.direction) {
            Some(container) if is_anchor => {
                let uri = uri(Some(container), 0);
                let (base, _) = uri.split_once('#')?;
                Some(format!("{base}#{name}").into())
            }
            _ => Some(referred.into()),
        }
    }

    fn schema_dialect(&mut self, at: &At<'d>) -> Option<Value> {
        match at.value.as_str() {
            Some(text) if is_known_dialect(text) => {}
            Some(text) => self.problem(at, Problem::Dialect(text.into())),
            None => self.unexpected(at, "a URI"),
        }
        None
    }

    /// `contentEncoding`, `contentMediaType` and `contentSchema`, where they are assertions.
    fn content(&mut self, at: &At<'d>, out: &mut Map<String, Value>) {
        if self.schemas.version == Version::V3_0
            || self.schemas.options.policy.content_keywords == Strength::Annotate
        {
            return;
        }
        let mut content = Map::new();
        if let Some(field) = at.get("contentEncoding") {
            match field.value.as_str().filter(|name| matches!(*name, "base64" | "base64url")) {
                Some(name) => {
                    content.insert("encoding".to_owned(), name.into());
                }
                None => {
                    self.unknown("contentEncoding", &field);
                }
            }
        }
        if let Some(field) = at.get("contentMediaType") {
            if field.value.as_str().and_then(MediaType::parse).is_some_and(|media| media.is_json())
            {
                content.insert("json".to_owned(), Value::Bool(true));
                if let Some(schema) = at.get("contentSchema") {
                    let variant = self.variant(schema.place(), Within::default());
                    let key = self.schemas.refer(variant);
                    self.references.insert(key);
                    self.schemas.alternatives.insert(key);
                    content.insert("schema".to_owned(), key.to_string().into());
                }
            } else {
                self.unknown("contentMediaType", &field);
            }
        }
        if !content.is_empty() {
            let is_json = content.contains_key("json");
            // Under other names, since these hold more than the keywords may.
            let keyword = if is_json { "x-contentMediaType" } else { "x-contentEncoding" };
            out.insert(keyword.to_owned(), Value::Object(content));
        }
    }

    /// A discriminator never changes the outcome (OpenAPI 3.1.1, section 4.8.25); it must only make
    /// sense.
    fn discriminator(&mut self, parent: &At<'d>, at: &At<'d>) {
        if !at.value.is_object() {
            return self.unexpected(at, "an object");
        }
        if !at.value.get("propertyName").is_some_and(Value::is_string) {
            self.problem(at, Problem::Missing("propertyName".into()));
        }
        let mut targets: Vec<(&str, At<'d>)> =
            at.get("mapping").iter().flat_map(At::members).collect();
        if self.schemas.version >= Version::V3_2 {
            targets.extend(at.get("defaultMapping").map(|target| ("", target)));
        }
        let mut named = Vec::new();
        for (name, target) in targets {
            let Some(text) = target.value.as_str() else {
                self.unexpected(&target, "a schema's name or reference");
                continue;
            };
            // A name wins over a reference where the text could be either.
            let component = format!("#/components/schemas/{}", escape(text));
            let root = self.schemas.documents.start();
            let documents = self.schemas.documents;
            match documents.resolve(&root, &component).or_else(|_| documents.resolve(at, text)) {
                Ok(found) => named.push((name, found)),
                Err(_) => self.problem(&target, Problem::Discriminator(text.into())),
            }
        }
        for keyword in ["oneOf", "anyOf"] {
            self.alternatives(parent, keyword, at, &named);
        }
    }

    /// Remembers which of the alternatives a value of the discriminator means.
    fn alternatives(
        &mut self,
        parent: &At<'d>,
        keyword: &str,
        discriminator: &At<'d>,
        named: &[(&str, At<'d>)],
    ) {
        let Some(property) = discriminator.value.get("propertyName").and_then(Value::as_str) else {
            return;
        };
        let mut branches = HashMap::new();
        for branch in parent.get(keyword).iter().flat_map(At::items) {
            let Some(target) = self.target(&branch) else { continue };
            let within = Within { is_branch: true, ..Within::default() };
            let variant = self.variant(target.place(), within);
            let key = self.schemas.key(&variant);
            let implied = target.pointer.strip_prefix("/components/schemas/").map(unescape);
            let mapped = named.iter().filter(|(_, place)| place.place() == target.place());
            let mapped = mapped.map(|(name, _)| (*name).to_owned());
            for name in mapped.chain(implied) {
                branches.entry(name.into()).or_insert_with(|| key.to_string().into());
            }
            self.schemas.alternatives.insert(key);
        }
        let rest = parent.pointer.strip_prefix(self.base).unwrap_or_default();
        let pointer = format!("/$defs/{}{rest}/{keyword}", self.key);
        let property = property.into();
        self.schemas
            .vocabulary
            .discriminators
            .insert(pointer, Discriminator { property, branches });
    }
}

/// The dialects that this reader knows: JSON Schema 2020-12, and OpenAPI's vocabulary upon it.
pub(crate) fn is_known_dialect(uri: &str) -> bool {
    let uri = uri.trim_end_matches('#');
    uri == "https://json-schema.org/draft/2020-12/schema"
        || [
            "https://spec.openapis.org/oas/3.1/dialect/",
            "https://spec.openapis.org/oas/3.2/dialect/",
        ]
        .iter()
        .any(|base| uri.starts_with(base))
}
