//! The reading of files, from the first one to all that it refers to.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluent_uri::Uri;
use serde_json::Value;

use super::super::document::Document;
use super::super::problem::{ContractError, Problem};
use super::super::uri::{Plus, decode, encode};
use super::walk::Walk;
use super::{Documents, File, FileIndex, Place, ResourceIndex, absolute};

/// Files that one contract may be made of.
const FILES_LIMIT: usize = 10_000;
/// Octets of all of them.
const TOTAL_LIMIT: u64 = 256 * 1024 * 1024;

/// The reading of a contract's files.
pub(super) struct Reading<'r> {
    pub(super) documents: Documents,
    pub(super) errors: Vec<ContractError>,
    /// Files must lie below.
    top: PathBuf,
    remotes: &'r BTreeMap<String, PathBuf>,
    octets: u64,
    /// References that are still to be followed, with the file and pointer that hold them.
    queue: VecDeque<(Place, Uri<String>)>,
    /// Every reference between schemas.
    edges: Vec<(Place, String)>,
    /// How many of them were looked at.
    followed: usize,
    /// Those that led to nothing then.
    waiting: Vec<(Place, String)>,
    /// Places that hold data, and whether they were walked through for a reference's sake.
    data: HashMap<Place, bool>,
}

impl<'r> Reading<'r> {
    pub(super) fn new(
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
            followed: 0,
            waiting: Vec::new(),
            data: HashMap::new(),
        };
        let uri = file_uri(&real).ok_or_else(|| {
            unreadable(std::io::Error::other("the path is not one that a URI can name"))
        })?;
        reading.add(document, path.to_owned(), uri);
        Ok(reading)
    }

    /// Reads every file that is referred to.
    pub(super) fn all(&mut self) {
        loop {
            self.files();
            self.referenced_data();
            if self.queue.is_empty() {
                break;
            }
        }
        self.spread_directions();
    }

    fn files(&mut self) {
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
        let walk = Walk::through(&document.root, &root, base);
        let resources = Vec::new();
        let name = uri.clone();
        let directional = Vec::new();
        self.documents.files.push(File { document, path, uri: name, resources, directional });
        self.take(file, walk, None);
        if let Some(whole) = self.documents.files.get(file.0).and_then(|f| f.resources.first()) {
            self.documents.by_uri.entry(uri).or_insert(*whole);
        }
    }

    /// Takes what a walk has found. `enclosing` is the resource that holds what was walked, where it
    /// is known already.
    fn take(&mut self, file: FileIndex, walk: Walk, enclosing: Option<ResourceIndex>) {
        let at = |pointer| Place { file, pointer };
        let mut problems: Vec<_> =
            walk.problems.into_iter().map(|(pointer, problem)| (at(pointer), problem)).collect();
        let mut enclosing = enclosing;
        for resource in walk.resources {
            if let Some(known) = enclosing.take() {
                if let Some(known) = self.documents.resources.get_mut(known.0) {
                    known.anchors.extend(resource.anchors);
                }
                continue;
            }
            let index = ResourceIndex(self.documents.resources.len());
            if let Some(other) = self.documents.by_uri.insert(resource.base.clone(), index)
                && self.documents.resources.get(other.0).is_some_and(|o| o.root != resource.root)
            {
                let id = resource.base.as_str().into();
                problems.push((resource.root.clone(), Problem::IdentifierRepeated(id)));
            }
            if let Some(file) = self.documents.files.get_mut(file.0) {
                file.resources.push(index);
            }
            self.documents.resources.push(resource);
        }
        if let Some(file) = self.documents.files.get_mut(file.0) {
            file.directional.extend(walk.directional);
            file.directional.sort_unstable();
        }
        self.documents.has_dynamic_references |= walk.has_dynamic_references;
        self.data.extend(walk.data.into_iter().map(|pointer| (at(pointer), false)));
        self.edges.extend(walk.edges.into_iter().map(|(pointer, text)| (at(pointer), text)));
        self.queue.extend(walk.references.into_iter().map(|(pointer, uri)| (at(pointer), uri)));
        self.errors.append(&mut self.documents.locate(problems));
    }

    /// Walks through data that a reference makes a schema of.
    fn referenced_data(&mut self) {
        // What led to nothing may lead to a file that has been read since.
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some((from, text)) = waiting
            .pop()
            .or_else(|| self.edges.get(self.followed).cloned().inspect(|_| self.followed += 1))
        {
            let Ok(place) = self.documents.find(&from, &text) else {
                self.waiting.push((from, text));
                continue;
            };
            if !self.is_data(&place) {
                continue;
            }
            let resource = self.documents.resource(&place);
            let base = self.documents.resources.get(resource.0).map(|resource| &resource.base);
            if let (Some(value), Some(base)) = (self.documents.value(&place), base) {
                let walk = Walk::through(value, &place, base.clone());
                self.data.insert(place.clone(), true);
                self.take(place.file, walk, Some(resource));
            }
        }
    }

    /// Whether the place lies in data that was never walked through.
    fn is_data(&self, place: &Place) -> bool {
        let mut at = place.clone();
        loop {
            if let Some(is_walked) = self.data.get(&at) {
                return !is_walked;
            }
            match at.pointer.rfind('/') {
                Some(end) => at.pointer.truncate(end),
                None => return false,
            }
        }
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
