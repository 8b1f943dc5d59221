//! OpenAPI 3.0's Schema Objects rewritten to JSON Schema 2020-12, one form for each direction.
//!
//! What 3.0 does not define is a problem, never passed on: a keyword that a reader ignores would
//! leave open what its author meant to close.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::compile::reader::At;
use super::documents::{Documents, FileIndex, Place};
use super::problem::Problem;
use super::schema::{Direction, Patterns, Schema};
use super::uri::{Plus, decode};
use rewrite::Rewriting;

mod rewrite;

/// The schemas of one document, rewritten when asked for and compiled once for each direction.
pub(crate) struct Schemas<'d> {
    root: &'d Value,
    /// The short names of places, as `$defs` of compiled schemas have them.
    keys: HashMap<String, usize>,
    rewritten: HashMap<(String, Direction), Rewritten>,
    compiled: HashMap<(String, Direction), Option<Arc<Schema>>>,
    patterns: Patterns,
    problems: Vec<(String, Problem)>,
}

#[derive(Default)]
struct Rewritten {
    schema: Value,
    references: Vec<String>,
    names: HashSet<Box<str>>,
    is_sound: bool,
}

impl<'d> Schemas<'d> {
    pub(crate) fn new(documents: &'d Documents) -> Self {
        Self {
            root: documents.root(FileIndex(0)),
            keys: HashMap::new(),
            rewritten: HashMap::new(),
            compiled: HashMap::new(),
            patterns: Patterns::new(),
            problems: Vec::new(),
        }
    }

    /// The problems found so far, each with its pointer; leaves none.
    pub(crate) fn take_problems(&mut self) -> Vec<(Place, Problem)> {
        std::mem::take(&mut self.problems)
            .into_iter()
            .map(|(pointer, problem)| (Place { file: FileIndex(0), pointer }, problem))
            .collect()
    }

    /// The schema there, ready to check; none if it, or one that it refers to, has a problem.
    pub(crate) fn compile(&mut self, at: &At<'d>, direction: Direction) -> Option<Arc<Schema>> {
        let pointer = &*at.pointer;
        // For the problems of a reference itself, which compiling its target does not see.
        self.rewrite(pointer, direction);
        let pointer = self.target(pointer)?;
        let key = (pointer.clone(), direction);
        if let Some(compiled) = self.compiled.get(&key) {
            return compiled.clone();
        }
        let compiled = self.build(&pointer, direction).map(Arc::new);
        self.compiled.insert(key, compiled.clone());
        compiled
    }

    /// Looks for problems in the schema there, without compiling it.
    pub(crate) fn check(&mut self, at: &At<'d>, direction: Direction) {
        let pointer = &*at.pointer;
        self.rewrite(pointer, direction);
        self.target(pointer);
    }

    /// Follows `$ref` from schema to schema.
    fn target(&mut self, pointer: &str) -> Option<String> {
        let mut seen = HashSet::new();
        let mut at = pointer.to_owned();
        loop {
            let value = self.root.pointer(&at)?;
            let Some(reference) = value.get("$ref") else { return Some(at) };
            if !seen.insert(at.clone()) {
                self.problems.push((pointer.to_owned(), Problem::ReferenceCycle));
                return None;
            }
            match reference.as_str().map(|reference| resolve(self.root, reference)) {
                Some(Ok(next)) => at = next,
                // Told by the rewriting of that schema.
                _ => return None,
            }
        }
    }

    fn build(&mut self, pointer: &str, direction: Direction) -> Option<Schema> {
        let mut queue = VecDeque::from([pointer.to_owned()]);
        let mut reached = HashSet::from([pointer.to_owned()]);
        let mut names = HashSet::new();
        let mut definitions = Map::new();
        let mut is_sound = true;
        while let Some(at) = queue.pop_front() {
            let rewritten = self.rewrite(&at, direction);
            is_sound &= rewritten.is_sound;
            names.extend(rewritten.names.iter().cloned());
            let schema = rewritten.schema.clone();
            for reference in rewritten.references.clone() {
                if reached.insert(reference.clone()) {
                    queue.push_back(reference);
                }
            }
            definitions.insert(self.key(&at).to_string(), schema);
        }
        if !is_sound {
            return None;
        }
        let root = json!({"$ref": format!("#/$defs/{}", self.key(pointer)), "$defs": definitions});
        Schema::new(&root, names, direction, &self.patterns)
            .map_err(|message| {
                self.problems.push((pointer.to_owned(), Problem::Schema(message.into())));
            })
            .ok()
    }

    fn key(&mut self, pointer: &str) -> usize {
        let next = self.keys.len();
        *self.keys.entry(pointer.to_owned()).or_insert(next)
    }

    /// The schema at `pointer` as 2020-12; what it refers to is only named.
    fn rewrite(&mut self, pointer: &str, direction: Direction) -> &Rewritten {
        let key = (pointer.to_owned(), direction);
        if !self.rewritten.contains_key(&key) {
            let known = self.problems.len();
            let mut rewriting = Rewriting {
                schemas: self,
                direction,
                references: Vec::new(),
                names: HashSet::new(),
            };
            let value = rewriting.schemas.root.pointer(pointer).unwrap_or(&Value::Null);
            let schema = rewriting.schema(value, pointer, &HashSet::new());
            let Rewriting { references, names, .. } = rewriting;
            let is_sound = self
                .problems
                .get(known..)
                .is_none_or(|found| found.iter().all(|(_, problem)| !is_grave(problem)));
            self.rewritten.insert(key.clone(), Rewritten { schema, references, names, is_sound });
        }
        self.rewritten.entry(key).or_default()
    }
}

/// Whether the problem leaves the schema without a meaning; the others may be accepted.
fn is_grave(problem: &Problem) -> bool {
    !matches!(problem, Problem::NotEnforced(_) | Problem::BesideReference(_))
}

/// The place in this document that a reference names.
pub(crate) fn resolve(root: &Value, reference: &str) -> Result<String, Problem> {
    let unknown = || Problem::UnknownReference(reference.into());
    let fragment = reference.strip_prefix('#').ok_or_else(unknown)?;
    let pointer = decode(fragment, Plus::Literal).ok_or_else(unknown)?.into_owned();
    if pointer.starts_with('/') && root.pointer(&pointer).is_some() {
        Ok(pointer)
    } else {
        Err(unknown())
    }
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
