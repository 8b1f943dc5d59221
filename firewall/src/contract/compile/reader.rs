//! Reading the parts of a document: what each Object may hold, and references from part to part.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::dialect::kind;
use super::super::document::escape;
use super::super::documents::{Documents, FileIndex, Place};
use super::super::problem::Problem;
use super::Compiler;

/// A part of a document, and where it stands.
#[derive(Clone)]
pub(in super::super) struct At<'d> {
    pub(in super::super) value: &'d Value,
    pub(in super::super) pointer: String,
    pub(in super::super) file: FileIndex,
}

impl<'d> At<'d> {
    pub(in super::super) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        let pointer = format!("{}/{}", self.pointer, escape(name));
        Some(Self { value, pointer, file: self.file })
    }

    pub(in super::super) fn place(&self) -> Place {
        Place { file: self.file, pointer: self.pointer.clone() }
    }

    /// The place named `name` below this one, holding `value`.
    pub(in super::super) fn below(&self, value: &'d Value, name: &str) -> Self {
        Self { value, pointer: format!("{}/{}", self.pointer, escape(name)), file: self.file }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// The members of an object.
    pub(in super::super) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> {
        let (pointer, file) = (self.pointer.clone(), self.file);
        self.value.as_object().into_iter().flatten().map(move |(name, value)| {
            (&**name, Self { value, pointer: format!("{pointer}/{}", escape(name)), file })
        })
    }

    pub(in super::super) fn items(&self) -> impl Iterator<Item = Self> {
        let (pointer, file) = (self.pointer.clone(), self.file);
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| Self { value, pointer: format!("{pointer}/{index}"), file })
    }
}

impl Documents {
    /// The first document as a whole.
    pub(in super::super) fn start(&self) -> At<'_> {
        let Place { file, pointer } = Place::root();
        At { value: self.root(file), pointer, file }
    }

    /// The part that `reference`, written at `from`, leads to.
    ///
    /// # Errors
    ///
    /// It leads to nothing that was read.
    pub(in super::super) fn resolve<'d>(
        &'d self,
        from: &At<'_>,
        reference: &str,
    ) -> Result<At<'d>, Problem> {
        let Place { file, pointer } = self.find(&from.place(), reference)?;
        let value = self.root(file).pointer(&pointer);
        let value = value.ok_or_else(|| Problem::UnknownReference(reference.into()))?;
        Ok(At { value, pointer, file })
    }
}

impl<'d> Compiler<'d> {
    pub(super) fn problem(&mut self, at: &At<'_>, problem: Problem) {
        self.problems.push((at.place(), problem));
    }

    pub(super) fn not_enforced(&mut self, at: &At<'_>, kind: &str) {
        self.problem(at, Problem::NotEnforced(kind.into()));
    }

    pub(super) fn unexpected(&mut self, at: &At<'_>, expected: &'static str) {
        let found = kind(at.value).into();
        self.problem(at, Problem::Unexpected { expected, found });
    }

    /// An object with no fields but these and extensions; `name@3.1` is one from that version on.
    pub(super) fn fields(&mut self, at: &At<'d>, known: &str) -> Option<&'d Map<String, Value>> {
        let Some(object) = at.value.as_object() else {
            self.unexpected(at, "an object");
            return None;
        };
        for name in object.keys().filter(|name| !name.starts_with("x-")) {
            let is_known = known.split(' ').any(|known| match known.split_once('@') {
                Some((known, since)) => known == name && self.version.name() >= since,
                None => known == name,
            });
            if !is_known {
                let version = self.version.name();
                let problem = Problem::UnknownField { name: name.as_str().into(), version };
                self.problem(&at.below(at.value, name), problem);
            }
        }
        Some(object)
    }

    pub(super) fn string(&mut self, at: &At<'d>, name: &str) -> Option<&'d str> {
        let Some(field) = at.get(name) else {
            self.problem(at, Problem::Missing(name.into()));
            return None;
        };
        if field.value.as_str().is_none() {
            self.unexpected(&field, "a string");
        }
        field.value.as_str()
    }

    pub(super) fn object(&mut self, at: &At<'d>, name: &str) -> Option<At<'d>> {
        let field = at.get(name)?;
        if field.value.is_object() {
            return Some(field);
        }
        self.unexpected(&field, "an object");
        None
    }

    /// Follows Reference Objects; what stands beside one is told to have no effect.
    pub(super) fn follow(&mut self, at: &At<'d>) -> Option<At<'d>> {
        self.follow_telling(at, |sibling| Problem::BesideReference(sibling.into()))
    }

    /// Follows references; `beside` is what there is to tell of a field that stands beside one.
    pub(super) fn follow_telling(
        &mut self,
        at: &At<'d>,
        beside: impl Fn(&str) -> Problem,
    ) -> Option<At<'d>> {
        let mut at = at.clone();
        let mut seen = BTreeSet::new();
        while let Some(reference) = at.value.get("$ref") {
            let place = at.below(reference, "$ref");
            let Some(text) = reference.as_str() else {
                self.unexpected(&place, "a string");
                return None;
            };
            for (name, field) in at.members() {
                if !matches!(name, "$ref" | "description" | "summary") && !name.starts_with("x-") {
                    self.problem(&field, beside(name));
                }
            }
            if !seen.insert(at.place()) {
                self.problem(&place, Problem::ReferenceCycle);
                return None;
            }
            match self.documents.resolve(&at, text) {
                Ok(target) => at = target,
                Err(problem) => {
                    self.problem(&place, problem);
                    return None;
                }
            }
        }
        Some(at)
    }
}
