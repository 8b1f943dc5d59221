//! `Shape`: what a parameter's parts may be, typed and laid on a tape of a few cells.
//!
//! A part that may be a string and something else is read as its own schema has it: first as what it
//! looks like, then as the string that it is.

use std::borrow::Cow;
use std::sync::Arc;

use super::Fault;
use super::scalar::Types;
use crate::contract::schema::Schema;
use crate::json::{Node, TapeNode};

/// The forms that a value may have, tried in this order.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Shape {
    pub(crate) scalar: Option<Types>,
    pub(crate) array: Option<ArrayShape>,
    pub(crate) object: Option<ObjectShape>,
}

/// A list.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ArrayShape {
    /// Of the first items, by their place.
    pub(crate) prefix: Vec<Part>,
    /// Of the others.
    pub(crate) items: Part,
}

/// An object of scalars.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ObjectShape {
    /// Sorted by name.
    pub(crate) properties: Vec<(Box<str>, Part)>,
    /// Of members that are not declared.
    pub(crate) additional: Part,
    /// Whether the document itself says that there may be others, which are members although nothing
    /// but their being there tells so.
    pub(crate) is_open: bool,
}

/// One item or member.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Part {
    pub(crate) types: Types,
    /// For choosing between two readings, where one schema alone describes the part.
    pub(crate) schema: Option<Arc<Schema>>,
    /// A list of such parts, each with the name of the member (in a form).
    pub(crate) is_list: bool,
}

impl Part {
    fn read<'t>(&self, text: &'t str, is_literal: bool) -> Result<Node<'t>, Fault> {
        let literal = || self.types.literal(text);
        let typed = || self.types.typed(text);
        let read = match &self.schema {
            _ if is_literal => literal().or_else(typed),
            Some(schema) if self.types.is_ambiguous() => {
                let fits = |node: &Node<'_>| schema.check(TapeNode::new(&[*node])).is_ok();
                typed().filter(fits).or_else(literal)
            }
            _ => typed().or_else(literal),
        };
        read.ok_or(Fault::Type)
    }
}

impl Shape {
    pub(crate) fn is_scalar(&self) -> bool {
        self.array.is_none() && self.object.is_none()
    }
}

/// Checks a value against the schema of the parameter whole; none takes anything.
fn check(schema: Option<&Schema>, cells: &[Node<'_>]) -> Result<(), Fault> {
    match schema {
        Some(schema) => schema.check(TapeNode::new(cells)).map_err(Fault::Schema),
        None => Ok(()),
    }
}

/// Checks a scalar. Where a string is allowed beside other types, either may be meant.
pub(crate) fn check_scalar(types: Types, text: &str, schema: Option<&Schema>) -> Result<(), Fault> {
    let mut fault = Fault::Type;
    for candidate in [types.typed(text), types.literal(text)].into_iter().flatten() {
        match check(schema, &[candidate]) {
            Ok(()) => return Ok(()),
            Err(refused) => fault = refused,
        }
    }
    Err(fault)
}

impl ArrayShape {
    pub(crate) fn check(
        &self,
        texts: &[Cow<'_, str>],
        schema: Option<&Schema>,
    ) -> Result<(), Fault> {
        let part = |index| self.prefix.get(index).unwrap_or(&self.items);
        let is_ambiguous = self.items.types.is_ambiguous()
            || self.prefix.iter().any(|part| part.types.is_ambiguous());
        check_cells(schema, is_ambiguous, &|is_literal| {
            let mut cells = Vec::with_capacity(1 + texts.len());
            cells.push(Node::Array { len: texts.len(), count: texts.len() });
            for (index, text) in texts.iter().enumerate() {
                cells.push(part(index).read(text, is_literal)?);
            }
            Ok(cells)
        })
    }
}

impl ObjectShape {
    /// Whether a member of this name is declared.
    pub(crate) fn part(&self, name: &str) -> &Part {
        self.properties
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()
            .and_then(|at| self.properties.get(at))
            .map_or(&self.additional, |(_, part)| part)
    }

    pub(crate) fn check(
        &self,
        members: &mut [(Cow<'_, str>, Cow<'_, str>)],
        schema: Option<&Schema>,
    ) -> Result<(), Fault> {
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let members = &*members;
        let groups = || members.chunk_by(|(one, _), (other, _)| one == other);
        let mut is_ambiguous = false;
        for group in groups() {
            let part = group.first().map_or(&self.additional, |(name, _)| self.part(name));
            if group.len() > 1 && !part.is_list {
                return Err(Fault::Repeated);
            }
            is_ambiguous |= part.types.is_ambiguous();
        }
        check_cells(schema, is_ambiguous, &|is_literal| {
            let mut cells = Vec::with_capacity(1 + members.len() * 2);
            cells.push(Node::Object { len: 0, count: 0 });
            for group in groups() {
                let Some((name, _)) = group.first() else { continue };
                let part = self.part(name);
                cells.push(Node::String(name));
                if part.is_list {
                    cells.push(Node::Array { len: group.len(), count: group.len() });
                }
                for (_, value) in group {
                    cells.push(part.read(value, is_literal)?);
                }
            }
            let (len, count) = (groups().count(), cells.len() - 1);
            if let Some(head) = cells.first_mut() {
                *head = Node::Object { len, count };
            }
            Ok(cells)
        })
    }
}

/// Tries the typed reading of every part, then, where that may be another, the literal one.
fn check_cells<'t>(
    schema: Option<&Schema>,
    is_ambiguous: bool,
    cells: &dyn Fn(bool) -> Result<Vec<Node<'t>>, Fault>,
) -> Result<(), Fault> {
    match check(schema, &cells(false)?) {
        Err(_) if is_ambiguous => check(schema, &cells(true)?),
        checked => checked,
    }
}
