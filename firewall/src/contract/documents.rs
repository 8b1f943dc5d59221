//! `Documents`: every file that a contract is made of, and references from place to place
//! (RFC 3986 for the URI, RFC 6901 or an anchor for the fragment).
//!
//! Nothing is fetched. A relative reference leads to a file below the directory of the first one, an
//! absolute one to a directory that the configuration names for its prefix.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluent_uri::{Uri, UriRef};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::document::{Document, hexadecimal};
use super::problem::{ContractError, Problem};
use super::uri::{Plus, decode};
use reading::Reading;

mod reading;
mod walk;

/// One of the files of a contract, in the order of their reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileIndex(pub(crate) usize);

/// A place in one of the files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) file: FileIndex,
    /// A JSON Pointer (RFC 6901).
    pub(crate) pointer: String,
}

impl Place {
    /// The whole of the first file.
    pub(crate) fn root() -> Self {
        Self { file: FileIndex(0), pointer: String::new() }
    }
}

/// A JSON Schema resource: a whole file, or a schema with an `$id` (2020-12, section 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ResourceIndex(pub(crate) usize);

struct Resource {
    base: Uri<String>,
    root: Place,
    /// Names to pointers; the flag tells `$dynamicAnchor`.
    anchors: BTreeMap<Box<str>, (String, bool)>,
}

struct File {
    document: Document,
    path: PathBuf,
    /// Under which it was asked for.
    uri: Uri<String>,
    /// Those within the file, the whole first.
    resources: Vec<ResourceIndex>,
    /// Schemas that a direction does not see alike, and references to them: sorted.
    directional: Vec<String>,
}

/// Every file, read and indexed; never changes afterwards.
pub(crate) struct Documents {
    files: Vec<File>,
    resources: Vec<Resource>,
    by_uri: HashMap<Uri<String>, ResourceIndex>,
    /// Files that a reference names and that cannot be had; their problems are told already.
    missing: HashSet<Uri<String>>,
    has_dynamic_references: bool,
}

impl Documents {
    /// Reads `path` and whatever it refers to. `remotes` maps prefixes of URIs to directories. With
    /// it come the files that cannot be read, and the references to none.
    ///
    /// # Errors
    ///
    /// The first file cannot be read.
    pub(crate) fn read(
        path: &Path,
        remotes: &BTreeMap<String, PathBuf>,
    ) -> Result<(Self, Vec<ContractError>), Vec<ContractError>> {
        let mut reading = Reading::new(path, remotes)?;
        reading.all();
        Ok((reading.documents, reading.errors))
    }

    /// Whether the schema at `place`, or one that it refers to, holds members that only one direction
    /// may carry.
    pub(crate) fn is_directional(&self, place: &Place) -> bool {
        self.files.get(place.file.0).is_some_and(|file| {
            let start = file.directional.partition_point(|known| *known < place.pointer);
            file.directional
                .get(start..)
                .unwrap_or_default()
                .iter()
                .take_while(|known| known.starts_with(&*place.pointer))
                .any(|known| {
                    known
                        .get(place.pointer.len()..)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
        })
    }

    pub(crate) fn has_dynamic_references(&self) -> bool {
        self.has_dynamic_references
    }

    pub(crate) fn root(&self, file: FileIndex) -> &Value {
        self.files.get(file.0).map_or(&Value::Null, |file| &file.document.root)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The digest of all files; that of the octets where there is one.
    pub(crate) fn sha256(&self) -> String {
        if let [only] = &*self.files {
            return only.document.sha256.clone();
        }
        let mut digest = Sha256::new();
        for file in &self.files {
            digest.update(file.document.sha256.as_bytes());
        }
        hexadecimal(&digest.finalize())
    }

    /// The problems with file and line, in the order of the files and their lines.
    pub(crate) fn locate(&self, problems: Vec<(Place, Problem)>) -> Vec<ContractError> {
        let mut by_file: BTreeMap<FileIndex, Vec<(String, Problem)>> = BTreeMap::new();
        for (place, problem) in problems {
            by_file.entry(place.file).or_default().push((place.pointer, problem));
        }
        let mut located = Vec::new();
        for (index, problems) in by_file {
            let Some(file) = self.files.get(index.0) else { continue };
            let lines = file.document.lines(problems.iter().map(|(pointer, _)| &**pointer));
            let mut errors: Vec<_> = problems
                .into_iter()
                .zip(lines)
                .map(|((pointer, problem), line)| ContractError {
                    file: Arc::clone(&file.document.file),
                    line,
                    pointer: pointer.into(),
                    problem,
                })
                .collect();
            errors.sort_by_key(|error| error.line);
            located.append(&mut errors);
        }
        located
    }

    pub(crate) fn value(&self, place: &Place) -> Option<&Value> {
        self.root(place.file).pointer(&place.pointer)
    }

    /// The innermost resource that holds `place`.
    pub(crate) fn resource(&self, place: &Place) -> ResourceIndex {
        let within = |resource: &&ResourceIndex| {
            self.resources.get(resource.0).is_some_and(|resource| {
                let rest = place.pointer.strip_prefix(&*resource.root.pointer);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let file = self.files.get(place.file.0);
        let depth = |resource: &&ResourceIndex| {
            self.resources.get(resource.0).map_or(0, |resource| resource.root.pointer.len())
        };
        file.and_then(|file| match &*file.resources {
            [only] => Some(*only),
            several => several.iter().filter(within).max_by_key(depth).copied(),
        })
        .unwrap_or(ResourceIndex(0))
    }

    /// The dynamic anchors of a resource, with their places.
    pub(crate) fn dynamic_anchors(
        &self,
        resource: ResourceIndex,
    ) -> impl Iterator<Item = (&str, Place)> {
        self.resources.get(resource.0).into_iter().flat_map(|resource| {
            resource.anchors.iter().filter(|(_, (_, is_dynamic))| *is_dynamic).map(
                |(name, (pointer, _))| {
                    (&**name, Place { file: resource.root.file, pointer: pointer.clone() })
                },
            )
        })
    }

    /// The place that `reference`, written at `from`, leads to.
    ///
    /// # Errors
    ///
    /// It leads to nothing that was read.
    pub(crate) fn find(&self, from: &Place, reference: &str) -> Result<Place, Problem> {
        let unknown = || Problem::UnknownReference(reference.into());
        let base = self.resources.get(self.resource(from).0).ok_or_else(unknown)?;
        let (resource, fragment) = if let Some(fragment) = reference.strip_prefix('#') {
            (base, fragment)
        } else {
            let (uri, fragment) = absolute(&base.base, reference).ok_or_else(unknown)?;
            let Some(index) = self.by_uri.get(&uri) else {
                let is_told = self.missing.contains(&uri);
                return Err(if is_told { Problem::MissingFile } else { unknown() });
            };
            (self.resources.get(index.0).ok_or_else(unknown)?, fragment)
        };
        let fragment = decode(fragment, Plus::Literal).ok_or_else(unknown)?;
        let pointer = if fragment.is_empty() || fragment.starts_with('/') {
            format!("{}{fragment}", resource.root.pointer)
        } else {
            resource.anchors.get(&*fragment).ok_or_else(unknown)?.0.clone()
        };
        let place = Place { file: resource.root.file, pointer };
        if self.value(&place).is_some() { Ok(place) } else { Err(unknown()) }
    }
}

/// `reference` resolved against `base`: a URI without a fragment, and the fragment.
fn absolute<'r>(base: &Uri<String>, reference: &'r str) -> Option<(Uri<String>, &'r str)> {
    let (rest, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let uri = UriRef::parse(rest).ok()?.resolve_against(&base.borrow()).ok()?;
    Some((uri.normalize(), fragment))
}
