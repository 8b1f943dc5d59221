//! Document to `Contract`: every Object of OpenAPI 3.0 read, every problem found, not the first.

use std::collections::HashSet;
use std::sync::Arc;

use super::LoadOptions;
use super::dialect::{Schemas, kind};
use super::documents::{Documents, Place};
use super::operation::{Contract, Operation, OperationIndex};
use super::paths::{PathTable, Segment, segments};
use super::problem::Problem;
use super::query::QueryRules;
use super::schema::Direction;
use http::Method;
use parameters::Parameter;
use reader::At;
use serde_json::Value;

mod contents;
mod description;
mod parameters;
pub(super) mod reader;
mod shape;

/// The version of the specification that a document follows, without its patch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V3_0,
    V3_1,
    V3_2,
}

impl Version {
    /// None for a version that is not supported.
    fn parse(text: &str) -> Option<Self> {
        let (minor, patch) = text.strip_prefix("3.")?.split_once('.')?;
        let patch = patch.split('-').next().unwrap_or_default();
        if patch.is_empty() || !patch.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        Some(match minor {
            "0" => Self::V3_0,
            "1" => Self::V3_1,
            "2" => Self::V3_2,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V3_0 => "3.0",
            Self::V3_1 => "3.1",
            Self::V3_2 => "3.2",
        }
    }
}

/// What was read of a document: the contract, and what is wrong with it, in the order found.
pub(crate) struct Compiled {
    pub(crate) contract: Contract,
    pub(crate) version: Version,
    pub(crate) problems: Vec<(Place, Problem)>,
}

/// Compiles a document. The contract is to be used only if the problems leave no error.
pub(crate) fn compile(documents: &Documents, options: &LoadOptions) -> Compiled {
    let root = documents.start();
    let version = root.value.get("openapi").and_then(Value::as_str).and_then(Version::parse);
    let version = version.unwrap_or(Version::V3_0);
    let mut compiler = Compiler {
        documents,
        version,
        options,
        schemas: Schemas::new(documents, options, version),
        problems: Vec::new(),
        operations: Vec::new(),
        paths: PathTable::new(),
        ids: HashSet::new(),
    };
    compiler.document(&root);
    let mut problems = compiler.problems;
    problems.extend(compiler.schemas.build());
    // A part that several refer to is read for each.
    let mut seen = HashSet::new();
    problems.retain(|(pointer, problem)| seen.insert((pointer.clone(), problem.to_string())));
    let contract = Contract { operations: compiler.operations, paths: compiler.paths };
    Compiled { contract, version, problems }
}

/// What is common to the operations of a path.
struct PathItem<'d> {
    template: Arc<str>,
    segments: Vec<Segment>,
    parameters: Vec<Parameter<'d>>,
    bases: Vec<Vec<Segment>>,
}

struct Compiler<'d> {
    documents: &'d Documents,
    version: Version,
    options: &'d LoadOptions,
    schemas: Schemas<'d>,
    problems: Vec<(Place, Problem)>,
    operations: Vec<Operation>,
    paths: PathTable,
    ids: HashSet<Box<str>>,
}

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl<'d> Compiler<'d> {
    fn document(&mut self, at: &At<'d>) {
        const FIELDS: &str = "openapi info servers paths components security tags externalDocs jsonSchemaDialect@3.1 webhooks@3.1 $self@3.2";
        match at.get("openapi") {
            Some(field) if field.value.as_str().and_then(Version::parse).is_none() => {
                let found = kind(field.value).into();
                // Nothing else can be said of a document whose version is not known.
                return self.problem(&field, Problem::Version { found });
            }
            Some(_) => {}
            None => return self.problem(at, Problem::Missing("openapi".into())),
        }
        self.fields(at, FIELDS);
        self.description(at);
        self.security(at);
        let bases = self.bases(at).unwrap_or_else(|| vec![Vec::new()]);
        if let Some(paths) = self.object(at, "paths") {
            for (template, item) in paths.members().filter(|(name, _)| !name.starts_with("x-")) {
                self.path_item(template, &item, &bases);
            }
        } else if at.get("paths").is_none() && self.version == Version::V3_0 {
            self.problem(at, Problem::Missing("paths".into()));
        }
        if self.operations.is_empty() {
            self.problem(at, Problem::NoOperations);
        }
        if let Some(components) = self.object(at, "components") {
            self.components(&components);
        }
    }

    /// A demand for credentials, which is not enforced yet.
    fn security(&mut self, at: &At<'d>) {
        let Some(security) = at.get("security") else { return };
        if !security.value.is_array() {
            return self.unexpected(&security, "a list of security requirements");
        }
        let demands =
            |requirement: &At<'_>| requirement.value.as_object().is_none_or(|r| !r.is_empty());
        if security.items().any(|requirement| demands(&requirement)) {
            self.not_enforced(&security, "security");
        }
    }

    /// The base paths of `servers`; none where the field is absent or empty.
    fn bases(&mut self, at: &At<'d>) -> Option<Vec<Vec<Segment>>> {
        let servers = at.get("servers")?;
        if !servers.value.is_array() {
            self.unexpected(&servers, "a list of servers");
            return None;
        }
        let mut bases = Vec::new();
        for server in servers.items() {
            self.fields(&server, "url description variables");
            let Some(url) = self.string(&server, "url") else { continue };
            match base_path(url)
                .and_then(|path| if path.is_empty() { Ok(Vec::new()) } else { segments(path) })
            {
                Ok(base) if !bases.contains(&base) => bases.push(base),
                Ok(_) => {}
                Err(reason) => self.problem(&server, Problem::Path(reason.into())),
            }
        }
        Some(bases).filter(|bases| !bases.is_empty())
    }

    fn path_item(&mut self, template: &str, at: &At<'d>, bases: &[Vec<Segment>]) {
        const FIELDS: &str =
            "summary description servers parameters get put post delete options head patch trace";
        let parts = match segments(template) {
            Ok(parts) => parts,
            Err(reason) => return self.problem(at, Problem::Path(reason.into())),
        };
        let names: Vec<_> = expressions(&parts).collect();
        if let Some(name) =
            names.iter().enumerate().find_map(|(i, n)| names.get(..i)?.contains(n).then_some(n))
        {
            let message = format!("{template} names {{{name}}} twice");
            return self.problem(at, Problem::Path(message.into()));
        }
        let Some(at) = self.follow(at) else { return };
        self.fields(&at, FIELDS);
        let item = PathItem {
            template: template.into(),
            segments: parts,
            parameters: self.parameters(&at, &[]),
            bases: self.bases(&at).unwrap_or_else(|| bases.to_vec()),
        };
        for name in METHODS {
            if let Some(operation) = self.object(&at, name) {
                self.operation(name, &operation, &item);
            }
        }
    }

    fn operation(&mut self, name: &str, at: &At<'d>, item: &PathItem<'d>) {
        const FIELDS: &str = "tags summary description externalDocs operationId parameters requestBody responses callbacks deprecated security servers";
        self.fields(at, FIELDS);
        self.security(at);
        let Ok(method) = name.to_ascii_uppercase().parse::<Method>() else { return };
        let id = match at.get("operationId") {
            Some(_) => self.string(at, "operationId").unwrap_or_default().into(),
            None => format!("{method} {}", item.template).into_boxed_str(),
        };
        if !self.ids.insert(id.clone()) {
            self.problem(at, Problem::OperationIdRepeated(id.clone()));
        }
        let mut operation = Operation {
            id,
            method: method.clone(),
            template: Arc::clone(&item.template),
            path: Vec::new(),
            query: QueryRules::default(),
            headers: Vec::new(),
            body: at.get("requestBody").and_then(|body| self.request_body(&body)),
            responses: self.responses(at),
        };
        for parameter in self.parameters(at, &item.parameters) {
            self.parameter(&parameter, item, &mut operation);
        }
        for (index, name) in expressions(&item.segments).enumerate() {
            if !operation.path.iter().any(|(known, _)| *known == index) {
                let message = format!("{{{name}}} of {} has no path parameter", item.template);
                self.problem(at, Problem::Parameter(message.into()));
            }
        }
        let index = OperationIndex(u32::try_from(self.operations.len()).unwrap_or(u32::MAX));
        let own = self.bases(at);
        for base in own.as_ref().unwrap_or(&item.bases) {
            let path: Vec<_> = base.iter().chain(&item.segments).cloned().collect();
            if let Err(first) = self.paths.insert(&path, &item.template, &method, index) {
                let second = Box::from(&*item.template);
                self.problem(at, Problem::PathsCollide { first: Box::from(&*first), second });
            }
        }
        self.operations.push(operation);
    }

    /// Reads what nothing refers to as well, so that its problems are told now.
    fn components(&mut self, at: &At<'d>) {
        const FIELDS: &str = "schemas responses parameters examples requestBodies headers securitySchemes links callbacks pathItems@3.1 mediaTypes@3.2";
        self.fields(at, FIELDS);
        for (_, schema) in self.object(at, "schemas").iter().flat_map(At::members) {
            for direction in [Direction::Request, Direction::Response] {
                self.schemas.check(&schema, direction);
            }
        }
        for (_, response) in self.object(at, "responses").iter().flat_map(At::members) {
            self.response(&response);
        }
        for (_, body) in self.object(at, "requestBodies").iter().flat_map(At::members) {
            self.request_body(&body);
        }
        for (name, entry) in self.object(at, "headers").iter().flat_map(At::members) {
            self.header(name, &entry);
        }
        for (_, parameter) in self.object(at, "parameters").iter().flat_map(At::members) {
            let Some(at) = self.follow(&parameter) else { continue };
            let Some(name) = self.string(&at, "name") else { continue };
            let default = match self.string(&at, "in") {
                Some("query") => "form",
                Some("path" | "header") => "simple",
                _ => continue,
            };
            self.parameter_rule(name, &at, default);
        }
    }
}

fn expressions(segments: &[Segment]) -> impl Iterator<Item = &str> {
    segments.iter().filter_map(|segment| match segment {
        Segment::Expression(name) => Some(&**name),
        Segment::Literal(_) => None,
    })
}

/// The path of a server's URL, without a slash at its end.
fn base_path(url: &str) -> Result<&str, String> {
    if url.contains(['{', '}']) {
        return Err(format!("{url}: server variables are not supported"));
    }
    if url.contains(['?', '#']) {
        return Err(format!("{url}: a server's URL holds no query and no fragment"));
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|start| rest.get(start..)).unwrap_or_default(),
        None if url.starts_with("//") || !url.starts_with('/') => {
            return Err(format!(
                "{url}: a relative URL other than an absolute path is not supported"
            ));
        }
        None => url,
    };
    Ok(path.strip_suffix('/').unwrap_or(path))
}
