//! Reading the parts of a document: what each Object may hold, and references from part to part.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::dialect::{kind, resolve};
use super::super::document::escape;
use super::super::problem::Problem;
use super::Compiler;

/// A part of the document, and where it stands.
#[derive(Clone)]
pub(super) struct At<'d> {
    pub(super) value: &'d Value,
    pub(super) pointer: String,
}

impl<'d> At<'d> {
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Self { value, pointer: format!("{}/{}", self.pointer, escape(name)) })
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// The members of an object.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> {
        let pointer = self.pointer.clone();
        self.value.as_object().into_iter().flatten().map(move |(name, value)| {
            (&**name, Self { value, pointer: format!("{pointer}/{}", escape(name)) })
        })
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        let pointer = self.pointer.clone();
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| Self { value, pointer: format!("{pointer}/{index}") })
    }
}

impl<'d> Compiler<'d> {
    pub(super) fn problem(&mut self, at: &At<'_>, problem: Problem) {
        self.problems.push((at.pointer.clone(), problem));
    }

    pub(super) fn not_enforced(&mut self, at: &At<'_>, kind: &str) {
        self.problem(at, Problem::NotEnforced(kind.into()));
    }

    pub(super) fn unexpected(&mut self, at: &At<'_>, expected: &'static str) {
        let found = kind(at.value).into();
        self.problem(at, Problem::Unexpected { expected, found });
    }

    /// An object with no fields but these and extensions.
    pub(super) fn fields(&mut self, at: &At<'d>, known: &str) -> Option<&'d Map<String, Value>> {
        let Some(object) = at.value.as_object() else {
            self.unexpected(at, "an object");
            return None;
        };
        for name in object.keys().filter(|name| !name.starts_with("x-")) {
            if !known.split(' ').any(|known| known == name) {
                let at =
                    At { value: at.value, pointer: format!("{}/{}", at.pointer, escape(name)) };
                self.problem(&at, Problem::UnknownField(name.as_str().into()));
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

    /// Follows Reference Objects.
    pub(super) fn follow(&mut self, at: &At<'d>) -> Option<At<'d>> {
        let mut at = at.clone();
        let mut seen = BTreeSet::new();
        while let Some(reference) = at.value.get("$ref") {
            let place = At { value: reference, pointer: format!("{}/$ref", at.pointer) };
            let Some(text) = reference.as_str() else {
                self.unexpected(&place, "a string");
                return None;
            };
            for (sibling, beside) in at.members() {
                if !matches!(sibling, "$ref" | "description" | "summary")
                    && !sibling.starts_with("x-")
                {
                    self.problem(&beside, Problem::BesideReference(sibling.into()));
                }
            }
            if !seen.insert(at.pointer.clone()) {
                self.problem(&place, Problem::ReferenceCycle);
                return None;
            }
            match resolve(self.root, text) {
                Ok(pointer) => at = At { value: self.root.pointer(&pointer)?, pointer },
                Err(problem) => {
                    self.problem(&place, problem);
                    return None;
                }
            }
        }
        Some(at)
    }
}
