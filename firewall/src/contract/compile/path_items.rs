//! Path Item Objects: references to them, their methods, and where their operations are found.

use std::sync::Arc;

use http::Method;

use super::super::claim::Claim;
use super::super::document::escape;
use super::super::documents::Place;
use super::super::operation::{Operation, OperationIndex};
use super::super::paths::Declared;
use super::super::policy::Verdict;
use super::super::problem::Problem;
use super::reader::At;
use super::{Compiler, OPERATION, PATH_ITEM, PathItem, Version};

/// The methods that every version has a field for.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
/// Octets of a method that is let into a request line.
const METHOD_OCTETS: usize = 32;
/// Whether a segment of the operation's path may hold an encoded slash.
const ENCODED_SLASH: &str = "x-firewall-encoded-slash";

/// The name by which operations by reference are accepted.
pub(crate) const OPERATION_REFERENCE: &str = "operation-reference";

impl<'d> Compiler<'d> {
    /// Follows the references from a Path Item Object. What a field means that stands on both sides
    /// is undefined, and some tools take those beside `$ref` alone for the whole; so none may.
    pub(super) fn follow_path_item(&mut self, at: &At<'d>) -> Option<At<'d>> {
        self.follow_telling(at, |name| {
            Problem::Path(format!("what `{name}` means beside `$ref` is undefined").into())
        })
    }

    /// Reads a path item that no path may refer to.
    pub(super) fn unplaced_path_item(&mut self, at: &At<'d>) {
        let Some(at) = self.follow_path_item(at) else { return };
        self.fields(&at, PATH_ITEM);
        self.servers(&at);
        let inherited = self.parameters(&at, &[]);
        for (method, operation) in self.methods(&at) {
            self.fields(&operation, OPERATION);
            self.security(&operation);
            self.servers(&operation);
            self.parameters(&operation, &inherited);
            if let Some(body) = operation.get("requestBody") {
                self.request_body(&body);
            }
            let responses = self.responses(&operation);
            self.upgrade(&operation, &method, &responses);
        }
    }

    /// The operations of a path item, each with its method.
    pub(super) fn methods(&mut self, at: &At<'d>) -> Vec<(Method, At<'d>)> {
        let fixed: &[&str] = if self.version >= Version::V3_2 { &["query"] } else { &[] };
        let mut methods = Vec::new();
        for name in METHODS.iter().chain(fixed) {
            let operation = self.object(at, name).and_then(|at| self.referred_operation(&at));
            let method = name.to_ascii_uppercase().parse();
            methods.extend(method.ok().zip(operation));
        }
        if self.version < Version::V3_2 {
            return methods;
        }
        let additional = self.object(at, "additionalOperations");
        for (name, operation) in additional.iter().flat_map(At::members) {
            // In no case, since some readers make one method of what differs in case alone.
            let is_fixed =
                METHODS.iter().chain(fixed).any(|known| known.eq_ignore_ascii_case(name));
            let reason = if is_fixed {
                "has a field of its own"
            } else if name.eq_ignore_ascii_case("connect") {
                "asks for a tunnel and is never passed on"
            } else if name.len() > METHOD_OCTETS {
                "is longer than a method may be"
            } else if !operation.value.is_object() {
                self.unexpected(&operation, "an object");
                continue;
            } else if let Ok(method) = Method::from_bytes(name.as_bytes()) {
                methods.push((method, operation));
                continue;
            } else {
                "cannot name a method"
            };
            self.problem(&operation, Problem::Path(format!("`{name}` {reason}").into()));
        }
        methods
    }

    /// An operation by reference, which no version has and many bundlers resolve: followed where that
    /// is accepted by name, and told as the one problem that it is.
    fn referred_operation(&mut self, at: &At<'d>) -> Option<At<'d>> {
        if at.value.get("$ref").is_none() {
            return Some(at.clone());
        }
        self.not_enforced(at, OPERATION_REFERENCE);
        if self.options.unenforced.contains(OPERATION_REFERENCE) { self.follow(at) } else { None }
    }

    /// What the extension says at `at`, if it stands there.
    pub(super) fn encoded_slash(&mut self, at: &At<'d>) -> Option<bool> {
        let field = at.get(ENCODED_SLASH)?;
        if field.value.as_bool().is_none() {
            self.unexpected(&field, "a boolean");
        }
        field.value.as_bool()
    }

    /// Puts the operation that comes next where requests find it: below each of its servers.
    pub(super) fn place(&mut self, at: &At<'d>, item: &PathItem<'d>, operation: &Operation) {
        let index = OperationIndex(u32::try_from(self.operations.len()).unwrap_or(u32::MAX));
        let takes_encoded_slash = self.encoded_slash(at).unwrap_or(item.takes_encoded_slash);
        let servers = self.servers(at).unwrap_or_else(|| Arc::clone(&item.servers));
        let refuses_deprecated = self.options.policy.deprecated_operations == Verdict::Refuse;
        for base in &servers.bases {
            let claim = Claim::new(&base.segments, &base.hosts);
            if !self.claims.iter().any(|known| known.is_like(&claim)) {
                self.claims.push(claim);
            }
            let declared = Declared {
                method: operation.method.clone(),
                operation: index,
                hosts: Arc::clone(&base.hosts),
                servers: servers.index,
                takes_encoded_slash,
                is_withdrawn: operation.is_deprecated && refuses_deprecated,
            };
            let placed =
                self.paths.insert(&base.segments, &item.segments, &item.template, declared);
            let second = Box::from(&*item.template);
            let problem = match placed {
                Ok(None) => continue,
                Ok(Some(first)) => Problem::SameHierarchy { first: Box::from(&*first), second },
                Err(first) => Problem::PathsCollide { first: Box::from(&*first), second },
            };
            self.problem(at, problem);
        }
    }

    /// Tells which templates match the same requests although they are not of the same hierarchy.
    pub(super) fn overlaps(&mut self) {
        for (first, second) in self.paths.overlaps() {
            let pointer = format!("/paths/{}", escape(&second));
            let (first, second) = (Box::from(&*first), Box::from(&*second));
            let problem = Problem::PathsCollide { first, second };
            let file = self.documents.start().file;
            self.problems.push((Place { file, pointer }, problem));
        }
    }
}
