//! How a parameter's text is split and typed, read off its schema before it is rewritten.
//!
//! A schema says what types a value may have in many places: its own `type`, `enum` and `const`, those
//! of what it refers to and is composed of. What it does not say, it allows.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::super::documents::{Documents, Place};
use super::super::parameter::scalar::Types;
use super::Version;
use super::reader::At;

/// The forms that a value of a schema may have, with the schemas of its parts.
#[derive(Default)]
pub(super) struct Outline<'d> {
    pub(super) scalar: Option<Types>,
    pub(super) array: Option<Items<'d>>,
    pub(super) object: Option<Members<'d>>,
}

/// An item or a member.
#[derive(Clone)]
pub(super) struct Piece<'d> {
    pub(super) types: Types,
    /// The schema, where there is but one.
    pub(super) at: Option<At<'d>>,
    /// A list of what the rest says.
    pub(super) is_list: bool,
}

#[derive(Clone)]
pub(super) struct Items<'d> {
    pub(super) prefix: Vec<Piece<'d>>,
    pub(super) rest: Piece<'d>,
}

#[derive(Clone)]
pub(super) struct Members<'d> {
    pub(super) named: BTreeMap<&'d str, Piece<'d>>,
    pub(super) rest: Piece<'d>,
    /// Whether the document says that there may be others, or says nothing of any.
    pub(super) is_open: bool,
    says_of_others: Option<bool>,
}

/// Which parts may be lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// None: no style writes them.
    None,
    /// Members of an object, which a form repeats.
    Lists,
}

/// A part for which no style has a form.
pub(super) struct Nested {
    /// Of an object, else of a list.
    pub(super) in_object: bool,
}

impl Piece<'_> {
    const ANY: Self = Self { types: Types::ANY, at: None, is_list: false };
}

/// The outline of a value of this schema, as far as it is among `wanted`.
///
/// # Errors
///
/// A part would have to be an array or an object.
pub(super) fn outline<'d>(
    documents: &'d Documents,
    version: Version,
    schema: &At<'d>,
    wanted: Types,
    nesting: Nesting,
) -> Result<Outline<'d>, Nested> {
    let mut survey = Survey { documents, version, known: HashMap::new() };
    let mut types = survey.types(schema);
    if types == Types::ANY {
        types = survey.hinted(schema, wanted);
    }
    let types = types.intersection(wanted);
    let mut outline = Outline::default();
    let scalar = types.intersection(Types::SCALAR);
    // Null alone, or nothing, is a scalar that no text is.
    if scalar != Types::NONE || !types.overlaps(Types::ARRAY.union(Types::OBJECT)) {
        outline.scalar = Some(scalar);
    }
    if types.overlaps(Types::ARRAY) {
        let mut items = survey.items(schema, &mut HashSet::new());
        for piece in items.prefix.iter_mut().chain([&mut items.rest]) {
            survey.settle(piece, Nesting::None).map_err(|()| Nested { in_object: false })?;
        }
        outline.array = Some(items);
    }
    if types.overlaps(Types::OBJECT) {
        let mut members = survey.members(schema, &mut HashSet::new());
        members.is_open = members.says_of_others.unwrap_or(members.named.is_empty());
        for piece in members.named.values_mut().chain([&mut members.rest]) {
            survey.settle(piece, nesting).map_err(|()| Nested { in_object: true })?;
        }
        outline.object = Some(members);
    }
    Ok(outline)
}

struct Survey<'d> {
    documents: &'d Documents,
    version: Version,
    /// What has been found; what is being looked for says nothing of itself.
    known: HashMap<Place, Types>,
}

impl<'d> Survey<'d> {
    /// The types that the schema allows.
    fn types(&mut self, at: &At<'d>) -> Types {
        if let Some(known) = self.known.get(&at.place()) {
            return *known;
        }
        self.known.insert(at.place(), Types::ANY);
        let types = self.types_here(at);
        self.known.insert(at.place(), types);
        types
    }

    fn types_here(&mut self, at: &At<'d>) -> Types {
        if at.value == &Value::Bool(false) {
            return Types::NONE;
        }
        let mut types = Types::ANY;
        if let Some(target) = self.reference(at) {
            types = self.types(&target);
            if self.version == Version::V3_0 {
                return types;
            }
        }
        match at.value.get("type") {
            Some(Value::String(name)) => {
                types = types.intersection(Types::named(name).unwrap_or(Types::ANY));
            }
            Some(Value::Array(names)) => {
                let all = names.iter().filter_map(|name| Types::named(name.as_str()?));
                types = types.intersection(all.fold(Types::NONE, Types::union));
            }
            _ => {}
        }
        if let Some(Value::Array(values)) = at.value.get("enum") {
            let of = values.iter().map(Types::of).fold(Types::NONE, Types::union);
            types = types.intersection(of);
        }
        if let Some(value) = at.value.get("const") {
            types = types.intersection(Types::of(value));
        }
        for branch in branches(at, "allOf") {
            types = types.intersection(self.types(&branch));
        }
        for keyword in ["oneOf", "anyOf"] {
            let branches = branches(at, keyword);
            if !branches.is_empty() {
                let any = branches.iter().map(|branch| self.types(branch));
                types = types.intersection(any.fold(Types::NONE, Types::union));
            }
        }
        if at.value.get("if").is_some() {
            let branch = |survey: &mut Self, keyword| {
                at.get(keyword).map_or(Types::ANY, |branch| survey.types(&branch))
            };
            let any = branch(self, "then").union(branch(self, "else"));
            types = types.intersection(any);
        }
        types
    }

    /// What is meant by a schema that allows every type: an object where it tells of members, a list
    /// where it tells of items, else a scalar.
    fn hinted(&self, at: &At<'d>, wanted: Types) -> Types {
        let mut at = at.clone();
        let mut seen = HashSet::new();
        while let Some(target) = self.reference(&at).filter(|target| seen.insert(target.place())) {
            at = target;
        }
        let has = |names: &[&str]| names.iter().any(|name| at.value.get(name).is_some());
        if has(&["properties", "additionalProperties", "patternProperties"]) {
            Types::OBJECT
        } else if has(&["items", "prefixItems"]) {
            Types::ARRAY
        } else if wanted.overlaps(Types::SCALAR) {
            Types::SCALAR
        } else {
            wanted
        }
    }

    fn reference(&self, at: &At<'d>) -> Option<At<'d>> {
        let reference = at.value.get("$ref")?.as_str()?;
        self.documents.resolve(at, reference).ok()
    }

    /// The schemas that say something of the same value: what is referred to, and `allOf`; then those
    /// of which some hold.
    fn beside(&self, at: &At<'d>) -> (Vec<At<'d>>, Vec<Vec<At<'d>>>, bool) {
        let target = self.reference(at);
        let is_alone = target.is_some() && self.version == Version::V3_0;
        let mut all: Vec<_> = target.into_iter().collect();
        let mut any = Vec::new();
        if !is_alone {
            all.extend(branches(at, "allOf"));
            all.extend(at.get("dependentSchemas").iter().flat_map(At::members).map(|(_, at)| at));
            any.extend(["oneOf", "anyOf"].map(|keyword| branches(at, keyword)));
            any.push(["then", "else"].iter().filter_map(|keyword| at.get(keyword)).collect());
        }
        (all, any, is_alone)
    }

    fn items(&mut self, at: &At<'d>, seen: &mut HashSet<Place>) -> Items<'d> {
        let mut found = Items { prefix: Vec::new(), rest: Piece::ANY };
        if !seen.insert(at.place()) {
            return found;
        }
        let (all, any, is_alone) = self.beside(at);
        if !is_alone {
            found.prefix = branches(at, "prefixItems").iter().map(|at| self.piece(at)).collect();
            if let Some(items) = at.get("items") {
                found.rest = self.piece(&items);
            }
        }
        for other in all {
            found = found.combine(&self.items(&other, seen), Piece::and);
        }
        for branches in any {
            let branches = self.those_of(Types::ARRAY, branches);
            let branches = branches.iter().map(|branch| self.items(branch, seen));
            if let Some(other) = branches.reduce(|one, other| one.combine(&other, Piece::or)) {
                found = found.combine(&other, Piece::and);
            }
        }
        found
    }

    fn members(&mut self, at: &At<'d>, seen: &mut HashSet<Place>) -> Members<'d> {
        let mut found = Members {
            named: BTreeMap::new(),
            rest: Piece::ANY,
            is_open: false,
            says_of_others: None,
        };
        if !seen.insert(at.place()) {
            return found;
        }
        let (all, any, is_alone) = self.beside(at);
        if !is_alone {
            let properties = at.get("properties");
            for (name, property) in properties.iter().flat_map(At::members) {
                found.named.insert(name, self.piece(&property));
            }
            let patterns = at.get("patternProperties");
            for keyword in ["additionalProperties", "unevaluatedProperties"] {
                let Some(others) = at.get(keyword) else { continue };
                found.says_of_others = Some(others.value != &Value::Bool(false));
                if patterns.is_none() {
                    found.rest = found.rest.and(&self.piece(&others));
                }
            }
            if patterns.is_some_and(|at| at.value.as_object().is_some_and(|all| !all.is_empty())) {
                found.says_of_others = Some(true);
            }
        }
        for other in all {
            found = found.combine(self.members(&other, seen), Piece::and);
        }
        for branches in any {
            let branches = self.those_of(Types::OBJECT, branches);
            let branches = branches.iter().map(|branch| self.members(branch, seen));
            if let Some(other) = branches.reduce(|one, other| one.combine(other, Piece::or)) {
                found = found.combine(other, Piece::and);
            }
        }
        found
    }

    /// The schemas that a value of this type can be of.
    fn those_of(&mut self, wanted: Types, mut branches: Vec<At<'d>>) -> Vec<At<'d>> {
        branches.retain(|branch| self.types(branch).overlaps(wanted));
        branches
    }

    fn piece(&mut self, at: &At<'d>) -> Piece<'d> {
        let of = at.value.is_object().then(|| at.clone());
        Piece { types: self.types(at), at: of, is_list: false }
    }

    /// Keeps of a piece what a text can be.
    fn settle(&mut self, piece: &mut Piece<'d>, nesting: Nesting) -> Result<(), ()> {
        let scalar = piece.types.intersection(Types::SCALAR);
        let structures = piece.types.intersection(Types::ARRAY.union(Types::OBJECT));
        if scalar != Types::NONE || structures == Types::NONE {
            // What nothing can be, the schema refuses with the better reason.
            piece.types = if piece.types == Types::NONE { Types::SCALAR } else { scalar };
            return Ok(());
        }
        let lists = nesting == Nesting::Lists && structures == Types::ARRAY;
        let Some(at) = piece.at.take().filter(|_| lists) else { return Err(()) };
        let items = self.items(&at, &mut HashSet::new());
        let mut item = items.rest;
        for other in items.prefix {
            item = item.or(&other);
        }
        self.settle(&mut item, Nesting::None)?;
        *piece = Piece { is_list: true, ..item };
        Ok(())
    }
}

impl Piece<'_> {
    /// What both say.
    fn and(mut self, other: &Self) -> Self {
        self.types = self.types.intersection(other.types);
        self.at = match (self.at, &other.at) {
            (Some(one), None) => Some(one),
            (None, Some(one)) => Some(one.clone()),
            _ => None,
        };
        self
    }

    /// What either says.
    fn or(mut self, other: &Self) -> Self {
        self.types = self.types.union(other.types);
        self.at = None;
        self
    }

    /// The piece joined with one of which nothing is said: its schema stays the only one.
    fn beside_nothing(self, both: fn(Self, &Self) -> Self) -> Self {
        let at = self.at.clone();
        Self { at, ..both(self, &Self::ANY) }
    }
}

impl<'d> Items<'d> {
    fn combine(self, other: &Self, both: fn(Piece<'d>, &Piece<'d>) -> Piece<'d>) -> Self {
        let length = self.prefix.len().max(other.prefix.len());
        let at =
            |items: &Self, index: usize| items.prefix.get(index).unwrap_or(&items.rest).clone();
        let prefix = (0..length).map(|index| both(at(&self, index), &at(other, index))).collect();
        Self { prefix, rest: both(self.rest, &other.rest) }
    }
}

impl<'d> Members<'d> {
    fn combine(mut self, other: Self, both: fn(Piece<'d>, &Piece<'d>) -> Piece<'d>) -> Self {
        let mut others = other.named;
        let mut named = BTreeMap::new();
        // A schema that does not name a member says nothing of it.
        for (name, piece) in std::mem::take(&mut self.named) {
            let joined = match others.remove(name) {
                Some(other) => both(piece, &other),
                None => piece.beside_nothing(both),
            };
            named.insert(name, joined);
        }
        for (name, piece) in others {
            named.insert(name, piece.beside_nothing(both));
        }
        self.named = named;
        self.rest = both(self.rest, &other.rest);
        self.says_of_others = match (self.says_of_others, other.says_of_others) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        self
    }
}

fn branches<'d>(schema: &At<'d>, keyword: &str) -> Vec<At<'d>> {
    schema.get(keyword).iter().flat_map(At::items).collect()
}
