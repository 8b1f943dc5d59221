//! `Documents`: every file that a contract is made of, and references from place to place
//! (RFC 3986 for the URI, RFC 6901 or an anchor for the fragment).
//!
//! Nothing is fetched. A relative reference leads to a file below the directory of the first one, an
//! absolute one to a directory that the configuration names for its prefix.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluent_uri::{Uri, UriRef};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::document::{Document, escape, hexadecimal};
use super::problem::{ContractError, Problem};
use super::uri::{Plus, decode, encode};

/// Files that one contract may be made of.
const FILES_LIMIT: usize = 1_000;
/// Octets of all of them.
const TOTAL_LIMIT: u64 = 256 * 1024 * 1024;

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
        reading.spread_directions();
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

/// What of a URI stands below a prefix, which ends where a part of it does.
fn below<'u>(uri: &'u str, prefix: &str) -> Option<&'u str> {
    let rest = uri.strip_prefix(prefix)?;
    let is_whole = prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']);
    is_whole.then_some(rest)
}

/// The `file` URI of a path.
fn file_uri(path: &Path) -> Option<Uri<String>> {
    let mut text = "file://".to_owned();
    for part in path.to_str()?.split('/').skip(1) {
        text.push('/');
        encode(part, &mut text);
    }
    Uri::parse(text).ok().map(|uri| uri.normalize())
}

struct Reading<'r> {
    documents: Documents,
    errors: Vec<ContractError>,
    /// Files must lie below.
    top: PathBuf,
    remotes: &'r BTreeMap<String, PathBuf>,
    octets: u64,
    /// References that are still to be followed, with the file and pointer that hold them.
    queue: VecDeque<(Place, Uri<String>)>,
    /// Every reference between schemas.
    edges: Vec<(Place, String)>,
}

/// What one walk through a file finds.
struct Walk {
    file: FileIndex,
    resources: Vec<Resource>,
    references: Vec<(String, Uri<String>)>,
    edges: Vec<(String, String)>,
    directional: Vec<String>,
    has_dynamic_references: bool,
    problems: Vec<(String, Problem)>,
    seen: HashSet<Uri<String>>,
}

impl<'r> Reading<'r> {
    fn new(
        path: &Path,
        remotes: &'r BTreeMap<String, PathBuf>,
    ) -> Result<Self, Vec<ContractError>> {
        let unreadable = |error: std::io::Error| {
            vec![ContractError {
                file: path.display().to_string().into(),
                line: None,
                pointer: "".into(),
                problem: Problem::Unreadable(error.to_string().into()),
            }]
        };
        let document = Document::read(path).map_err(|error| vec![error])?;
        let real = path.canonicalize().map_err(unreadable)?;
        let top = real.parent().unwrap_or(Path::new("/")).to_owned();
        let documents = Documents {
            files: Vec::new(),
            resources: Vec::new(),
            by_uri: HashMap::new(),
            missing: HashSet::new(),
            has_dynamic_references: false,
        };
        let mut reading = Self {
            documents,
            errors: Vec::new(),
            top,
            remotes,
            octets: 0,
            queue: VecDeque::new(),
            edges: Vec::new(),
        };
        let uri = file_uri(&real).ok_or_else(|| {
            unreadable(std::io::Error::other("the path is not one that a URI can name"))
        })?;
        reading.add(document, path.to_owned(), uri);
        Ok(reading)
    }

    fn all(&mut self) {
        while let Some((from, uri)) = self.queue.pop_front() {
            if self.is_disputed(from.file, &uri) {
                let problem = Problem::IdentifierRepeated(uri.as_str().into());
                self.errors.append(&mut self.documents.locate(vec![(from, problem)]));
                continue;
            }
            if self.documents.by_uri.contains_key(&uri)
                || !self.documents.missing.insert(uri.clone())
            {
                continue;
            }
            let problem = match self.path(&uri) {
                Ok(path) if self.documents.files.len() < FILES_LIMIT => {
                    match Document::read(&path) {
                        Ok(document) => {
                            self.documents.missing.remove(&uri);
                            self.add(document, path, uri);
                            continue;
                        }
                        Err(error) => {
                            if matches!(error.problem, Problem::Unreadable(_)) {
                                Problem::UnreadableReference {
                                    file: path.display().to_string().into(),
                                    reason: error.problem.to_string().into(),
                                }
                            } else {
                                self.errors.push(error);
                                continue;
                            }
                        }
                    }
                }
                Ok(_) => Problem::TooManyFiles { limit: FILES_LIMIT },
                Err(problem) => problem,
            };
            self.errors.append(&mut self.documents.locate(vec![(from, problem)]));
        }
    }

    /// Whether a third file claims the URI that `file` asks for, although there is a file of that name:
    /// whichever came first would stand for the other.
    fn is_disputed(&self, file: FileIndex, uri: &Uri<String>) -> bool {
        let resource = self.documents.by_uri.get(uri);
        let resource = resource.and_then(|index| self.documents.resources.get(index.0));
        let Some(owner) = resource.map(|resource| resource.root.file) else { return false };
        let Some(claimant) = self.documents.files.get(owner.0) else { return false };
        let real = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
        let named = || self.path(uri).ok().and_then(|path| real(&path));
        owner != file
            && claimant.uri != *uri
            && named().is_some_and(|named| real(&claimant.path) != Some(named))
    }

    /// The file that a URI without a fragment stands for.
    fn path(&self, uri: &Uri<String>) -> Result<PathBuf, Problem> {
        let text = uri.as_str();
        let mapped = self
            .remotes
            .iter()
            .filter_map(|(prefix, directory)| Some((below(text, prefix)?, directory)))
            .min_by_key(|(rest, _)| rest.len());
        let (path, top) = match mapped {
            Some((rest, directory)) => {
                let rest = rest.split('?').next().unwrap_or_default();
                let rest = decode(rest, Plus::Literal);
                let rest = rest.ok_or_else(|| Problem::UnknownReference(text.into()))?;
                (directory.join(rest.trim_start_matches('/')), directory.clone())
            }
            // RFC 8089 section 2: a file of another host is not here.
            None if uri.scheme().as_str() == "file"
                && uri.authority().is_none_or(|at| matches!(at.as_str(), "" | "localhost")) =>
            {
                let path = decode(uri.path().as_str(), Plus::Literal)
                    .ok_or_else(|| Problem::UnknownReference(text.into()))?;
                (PathBuf::from(&*path), self.top.clone())
            }
            None => return Err(Problem::RemoteReference(text.into())),
        };
        let Ok(real) = path.canonicalize() else { return Ok(path) };
        // Whoever opens a pipe waits for its other end.
        if !real.is_file() {
            let (file, reason) = (path.display().to_string().into(), "it is no file".into());
            return Err(Problem::UnreadableReference { file, reason });
        }
        let top = top.canonicalize().unwrap_or(top);
        if real.starts_with(&top) {
            Ok(path)
        } else {
            Err(Problem::OutsideReference {
                file: path.display().to_string().into(),
                top: top.display().to_string().into(),
            })
        }
    }

    fn add(&mut self, document: Document, path: PathBuf, uri: Uri<String>) {
        let file = FileIndex(self.documents.files.len());
        self.octets += document.octets();
        if self.octets > TOTAL_LIMIT {
            let problem = Problem::TooLarge { limit: TOTAL_LIMIT };
            self.errors.push(ContractError {
                file: Arc::clone(&document.file),
                line: None,
                pointer: "".into(),
                problem,
            });
            self.queue.clear();
            return;
        }
        // A file knows itself by the URI under which it was asked for, and by the one it claims.
        let mut base = uri.clone();
        for name in ["$self", "$id"] {
            let claimed = document.root.get(name).and_then(Value::as_str);
            if let Some((own, _)) = claimed.and_then(|text| absolute(&uri, text)) {
                base = own;
                break;
            }
        }
        let root = Place { file, pointer: String::new() };
        let whole = Resource { base, root, anchors: BTreeMap::new() };
        let mut walk = Walk {
            file,
            resources: vec![whole],
            references: Vec::new(),
            edges: Vec::new(),
            directional: Vec::new(),
            has_dynamic_references: false,
            problems: Vec::new(),
            seen: HashSet::new(),
        };
        walk.value(&document.root, &mut String::new(), 0, false);
        let Walk {
            resources,
            references,
            edges,
            mut directional,
            has_dynamic_references,
            problems,
            ..
        } = walk;
        directional.sort_unstable();
        self.documents.has_dynamic_references |= has_dynamic_references;
        self.edges.extend(edges.into_iter().map(|(pointer, text)| (Place { file, pointer }, text)));
        let mut indices = Vec::new();
        let mut problems: Vec<_> = problems
            .into_iter()
            .map(|(pointer, problem)| (Place { file, pointer }, problem))
            .collect();
        for resource in resources {
            let index = ResourceIndex(self.documents.resources.len());
            if let Some(other) = self.documents.by_uri.insert(resource.base.clone(), index)
                && self.documents.resources.get(other.0).is_some_and(|o| o.root != resource.root)
            {
                let id = resource.base.as_str().into();
                problems.push((resource.root.clone(), Problem::IdentifierRepeated(id)));
            }
            indices.push(index);
            self.documents.resources.push(resource);
        }
        if let Some(whole) = indices.first() {
            self.documents.by_uri.entry(uri.clone()).or_insert(*whole);
        }
        let references = references.into_iter();
        self.queue.extend(references.map(|(pointer, uri)| (Place { file, pointer }, uri)));
        self.documents.files.push(File { document, path, uri, resources: indices, directional });
        self.errors.append(&mut self.documents.locate(problems));
    }

    /// A reference to a schema that a direction sees otherwise is one itself.
    fn spread_directions(&mut self) {
        let edges = std::mem::take(&mut self.edges).into_iter();
        let mut edges: Vec<_> = edges
            .filter_map(|(from, text)| Some((self.documents.find(&from, &text).ok()?, from)))
            .collect();
        loop {
            let (spreading, rest): (Vec<_>, Vec<_>) =
                edges.into_iter().partition(|(target, _)| self.documents.is_directional(target));
            if spreading.is_empty() {
                return;
            }
            for (_, from) in spreading {
                if let Some(file) = self.documents.files.get_mut(from.file.0) {
                    file.directional.push(from.pointer);
                }
            }
            for file in &mut self.documents.files {
                file.directional.sort_unstable();
            }
            edges = rest;
        }
    }
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
    /// `resource` is the place in [`Walk::resources`] of the one that holds the value; `names` tells
    /// that its members are named by the author.
    fn value(&mut self, value: &Value, pointer: &mut String, resource: usize, names: bool) {
        match value {
            Value::Object(object) => {
                let resource = if names { resource } else { self.schema(value, pointer, resource) };
                for (name, member) in object {
                    let is_data = !names && holds_data(name);
                    let end = pointer.len();
                    pointer.push('/');
                    pointer.push_str(&escape(name));
                    // `components` holds maps of names; so does `parameters` there.
                    let is_named = !names && (holds_names(name) || is_component_map(pointer));
                    if is_data {
                        self.data(member, pointer);
                    } else {
                        self.value(member, pointer, resource, is_named);
                    }
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

    /// Notes of data what would be overlooked if a reference should lead there, and does no harm if
    /// none does: `#/x-schemas/A` is a place like another.
    fn data(&mut self, value: &Value, pointer: &mut String) {
        if value.is_object() {
            self.directions(value, pointer);
        }
        let members = value.as_object().into_iter().flatten();
        let members = members.map(|(name, member)| (escape(name), member));
        let items = value.as_array().into_iter().flatten().enumerate();
        for (name, part) in members.chain(items.map(|(index, item)| (index.to_string(), item))) {
            let end = pointer.len();
            pointer.push('/');
            pointer.push_str(&name);
            self.data(part, pointer);
            pointer.truncate(end);
        }
    }

    /// Notes which directions see a schema, and what it refers to.
    fn directions(&mut self, value: &Value, pointer: &str) {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if ["readOnly", "writeOnly"].iter().any(|name| value.get(name) == Some(&Value::Bool(true)))
        {
            self.directional.push(pointer.to_owned());
        }
        self.has_dynamic_references |= text("$dynamicRef").is_some();
        let references = ["$ref", "$dynamicRef"].into_iter().filter_map(text);
        self.edges.extend(references.map(|text| (pointer.to_owned(), text.to_owned())));
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
        self.directions(value, pointer);
        for name in ["$ref", "$dynamicRef"] {
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
