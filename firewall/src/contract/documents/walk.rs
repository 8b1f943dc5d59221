//! One walk through a file: what it says of its schemas, and what it refers to.

use std::collections::{BTreeMap, HashSet};

use fluent_uri::Uri;
use serde_json::Value;

use super::super::document::escape;
use super::super::problem::Problem;
use super::{FileIndex, Place, Resource, absolute};

/// What one walk through a file, or a part of it, finds.
pub(super) struct Walk {
    file: FileIndex,
    /// The one that holds what is walked first, then those within.
    pub(super) resources: Vec<Resource>,
    /// Places of references to other files, with the URIs of those.
    pub(super) references: Vec<(String, Uri<String>)>,
    /// Every reference between schemas.
    pub(super) edges: Vec<(String, String)>,
    /// Schemas that a direction does not see alike.
    pub(super) directional: Vec<String>,
    /// What was passed over, since it holds data.
    pub(super) data: Vec<String>,
    pub(super) has_dynamic_references: bool,
    pub(super) problems: Vec<(String, Problem)>,
    seen: HashSet<Uri<String>>,
}

/// Whether the members of this field are named by the document's author.
fn holds_names(field: &str) -> bool {
    matches!(
        field,
        "properties"
            | "patternProperties"
            | "dependentSchemas"
            | "$defs"
            | "definitions"
            | "paths"
            | "webhooks"
            | "responses"
            | "headers"
            | "content"
            | "encoding"
            | "callbacks"
            | "links"
            | "variables"
            | "schemas"
            | "securitySchemes"
            | "requestBodies"
            | "pathItems"
            | "mediaTypes"
            | "additionalOperations"
    )
}

/// Whether the field holds data, in which nothing is a reference.
fn holds_data(field: &str) -> bool {
    matches!(field, "example" | "examples" | "default" | "enum" | "const" | "value" | "dataValue")
        || field.starts_with("x-")
}

impl Walk {
    /// A walk through `value`, which stands at `pointer` in a resource of this base.
    pub(super) fn through(value: &Value, place: &Place, base: Uri<String>) -> Self {
        let root = Place { file: place.file, pointer: String::new() };
        let mut walk = Self {
            file: place.file,
            resources: vec![Resource { base, root, anchors: BTreeMap::new() }],
            references: Vec::new(),
            edges: Vec::new(),
            directional: Vec::new(),
            data: Vec::new(),
            has_dynamic_references: false,
            problems: Vec::new(),
            seen: HashSet::new(),
        };
        walk.value(value, &mut place.pointer.clone(), 0, false);
        walk
    }

    /// `resource` is the place in [`Walk::resources`] of the one that holds the value; `names` tells
    /// that its members are named by the author.
    fn value(&mut self, value: &Value, pointer: &mut String, resource: usize, names: bool) {
        match value {
            Value::Object(object) => {
                let resource = if names { resource } else { self.schema(value, pointer, resource) };
                for (name, member) in object {
                    let end = pointer.len();
                    pointer.push('/');
                    pointer.push_str(&escape(name));
                    if !names && holds_data(name) {
                        if member.is_object() || member.is_array() {
                            self.data.push(pointer.clone());
                        }
                        pointer.truncate(end);
                        continue;
                    }
                    // `components` holds maps of names; so does `parameters` there.
                    let is_named = !names && (holds_names(name) || is_component_map(pointer));
                    self.value(member, pointer, resource, is_named);
                    pointer.truncate(end);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let end = pointer.len();
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                    self.value(item, pointer, resource, false);
                    pointer.truncate(end);
                }
            }
            _ => {}
        }
    }

    /// Notes what an object says of itself; gives the resource that its members belong to.
    fn schema(&mut self, value: &Value, pointer: &str, mut resource: usize) -> usize {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if let Some(id) = text("$id").filter(|_| !pointer.is_empty()) {
            let base = self.resources.get(resource).map(|resource| &resource.base);
            match base.and_then(|base| absolute(base, id)) {
                Some((base, "")) => {
                    resource = self.resources.len();
                    let root = Place { file: self.file, pointer: pointer.to_owned() };
                    self.resources.push(Resource { base, root, anchors: BTreeMap::new() });
                }
                _ => self.problems.push((
                    format!("{pointer}/$id"),
                    Problem::Schema(format!("`{id}` cannot identify a schema").into()),
                )),
            }
        }
        for (name, is_dynamic) in [("$anchor", false), ("$dynamicAnchor", true)] {
            if let (Some(anchor), Some(owner)) = (text(name), self.resources.get_mut(resource)) {
                let known = owner.anchors.insert(anchor.into(), (pointer.to_owned(), is_dynamic));
                if known.is_some_and(|(other, _)| other != pointer) {
                    let problem = Problem::IdentifierRepeated(anchor.into());
                    self.problems.push((format!("{pointer}/{name}"), problem));
                }
            }
        }
        if ["readOnly", "writeOnly"].iter().any(|name| value.get(name) == Some(&Value::Bool(true)))
        {
            self.directional.push(pointer.to_owned());
        }
        self.has_dynamic_references |= text("$dynamicRef").is_some();
        for name in ["$ref", "$dynamicRef"] {
            self.edges.extend(text(name).map(|text| (pointer.to_owned(), text.to_owned())));
            self.reference(text(name), || format!("{pointer}/{name}"), resource);
        }
        // Names are more usual here, so that only what can be no name is taken for a file's.
        let mapping = value.get("discriminator").and_then(|d| d.get("mapping"));
        for (name, target) in mapping.and_then(Value::as_object).into_iter().flatten() {
            let target = target.as_str().filter(|target| target.contains(['/', '#']));
            let at = || format!("{pointer}/discriminator/mapping/{}", escape(name));
            self.reference(target, at, resource);
        }
        resource
    }

    fn reference(&mut self, text: Option<&str>, at: impl Fn() -> String, resource: usize) {
        let Some(text) = text.filter(|text| !text.starts_with('#')) else { return };
        let base = self.resources.get(resource).map(|resource| &resource.base);
        // What is no reference at all is told where it is followed.
        if let Some((uri, _)) = base.and_then(|base| absolute(base, text))
            && self.seen.insert(uri.clone())
        {
            self.references.push((at(), uri));
        }
    }
}

/// Whether the pointer is that of one of the maps of an OpenAPI document's components that have the
/// name of a list elsewhere.
fn is_component_map(pointer: &str) -> bool {
    pointer == "/components/parameters" || pointer == "/components/examples"
}
