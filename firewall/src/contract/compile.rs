//! Document to `Contract`: every Object of OpenAPI 3.0, 3.1 and 3.2 read, every problem found, not
//! the first.

use std::collections::HashSet;
use std::sync::Arc;

use super::LoadOptions;
use super::claim::Claim;
use super::cookie::CookieRules;
use super::dialect::{Schemas, kind};
use super::documents::{Documents, Place};
use super::header::HeaderRules;
use super::operation::{Contract, Operation};
use super::paths::{PathTable, Segment, segments};
use super::policy::Verdict;
use super::problem::Problem;
use super::query::QueryRules;
use super::schema::Direction;
use http::Method;
use parameters::Parameter;
use reader::At;
use serde_json::Value;
use servers::Servers;

mod contents;
mod description;
mod grpc;
mod parameters;
pub(super) mod path_items;
pub(super) mod reader;
mod security;
mod servers;
mod shape;
mod upgrades;

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
        paths: PathTable::new(&options.policy),
        ids: HashSet::new(),
        server_lists: 0,
        claims: Vec::new(),
        security: security::Security::default(),
        is_grpc: false,
    };
    compiler.document(&root);
    compiler.overlaps();
    let mut problems = compiler.problems;
    problems.extend(compiler.schemas.build());
    // A part that several refer to is read for each.
    let mut seen = HashSet::new();
    problems.retain(|(pointer, problem)| seen.insert((pointer.clone(), problem.to_string())));
    let preflight = options.policy.preflight;
    let Compiler { operations, paths, claims, .. } = compiler;
    let has_grpc = operations.iter().any(|operation| operation.grpc.is_some());
    let contract = Contract { operations, paths, preflight, claims, has_grpc };
    Compiled { contract, version, problems }
}

/// What is common to the operations of a path.
struct PathItem<'d> {
    template: Arc<str>,
    segments: Vec<Segment>,
    parameters: Vec<Parameter<'d>>,
    servers: Arc<Servers>,
    takes_encoded_slash: bool,
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
    server_lists: usize,
    claims: Vec<Claim>,
    security: security::Security<'d>,
    /// The operation that is being read is a method of gRPC.
    is_grpc: bool,
}

/// The fields of a Path Item Object.
const PATH_ITEM: &str = "summary description servers parameters get put post delete options head patch trace query@3.2 additionalOperations@3.2";
/// The fields of an Operation Object.
const OPERATION: &str = "tags summary description externalDocs operationId parameters requestBody responses callbacks deprecated security servers";

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
        let servers = self.root_servers(at);
        if let Some(paths) = self.object(at, "paths") {
            for (template, item) in paths.members().filter(|(name, _)| !name.starts_with("x-")) {
                self.path_item(template, &item, &servers);
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

    fn path_item(&mut self, template: &str, at: &At<'d>, servers: &Arc<Servers>) {
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
        let beside = self.encoded_slash(at);
        let Some(at) = self.follow_path_item(at) else { return };
        self.fields(&at, PATH_ITEM);
        let takes_encoded_slash = beside.or_else(|| self.encoded_slash(&at)).unwrap_or_default();
        let item = PathItem {
            template: template.into(),
            segments: parts,
            parameters: self.parameters(&at, &[]),
            servers: self.servers(&at).unwrap_or_else(|| Arc::clone(servers)),
            takes_encoded_slash,
        };
        for (method, operation) in self.methods(&at) {
            self.operation(&method, &operation, &item);
        }
    }

    fn operation(&mut self, method: &Method, at: &At<'d>, item: &PathItem<'d>) {
        self.fields(at, OPERATION);
        let id = match at.get("operationId") {
            Some(_) => self.string(at, "operationId").unwrap_or_default().into(),
            None => format!("{method} {}", item.template).into_boxed_str(),
        };
        if !self.ids.insert(id.clone()) {
            self.problem(at, Problem::OperationIdRepeated(id.clone()));
        }
        if let Some(field) = at.get("deprecated").filter(|field| !field.value.is_boolean()) {
            self.unexpected(&field, "a boolean");
        }
        let security = self.operation_security(at);
        let grpc = self.grpc(at, method, item);
        self.is_grpc = grpc.is_some();
        let (body, responses) = (self.operation_body(at, method), self.responses(at));
        self.is_grpc = false;
        let mut operation = Operation {
            id,
            method: method.clone(),
            template: Arc::clone(&item.template),
            is_deprecated: at.flag("deprecated"),
            path: Vec::new(),
            query: QueryRules::new(self.options.policy.undeclared_query),
            headers: HeaderRules::new(&self.options.policy),
            cookies: CookieRules::new(self.options.policy.undeclared_cookies),
            security,
            passes_preflight: self.options.policy.preflight == Verdict::Pass,
            body,
            responses,
            grpc,
            upgrade: None,
        };
        for parameter in self.parameters(at, &item.parameters) {
            self.parameter(&parameter, item, &mut operation);
        }
        self.allow_keys(at, &mut operation);
        for (index, name) in expressions(&item.segments).enumerate() {
            if !operation.path.iter().any(|(known, _)| *known == index) {
                let problem = Problem::ParameterNotEnforced {
                    parameter: format!("{{{name}}} of {}", item.template).into(),
                    kind: "path-parameter".into(),
                    reason: "it has no path parameter".into(),
                };
                self.problem(at, problem);
            }
        }
        operation.upgrade = self.upgrade(at, method, &operation.responses);
        self.place(at, item, &operation);
        self.operations.push(operation);
    }

    /// Reads what nothing refers to as well, so that its problems are told now.
    fn components(&mut self, at: &At<'d>) {
        const FIELDS: &str = "schemas responses parameters examples requestBodies headers securitySchemes links callbacks pathItems@3.1 mediaTypes@3.2";
        self.fields(at, FIELDS);
        for (_, media) in self.object(at, "mediaTypes").iter().flat_map(At::members) {
            self.media_type_component(&media);
        }
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
        for (_, item) in self.object(at, "pathItems").iter().flat_map(At::members) {
            self.unplaced_path_item(&item);
        }
        for (name, entry) in self.object(at, "headers").iter().flat_map(At::members) {
            self.header(name, &entry);
        }
        for (_, parameter) in self.object(at, "parameters").iter().flat_map(At::members) {
            self.unused_parameter(&parameter);
        }
    }
}

/// The names of a template's expressions, in their order.
fn expressions(segments: &[Segment]) -> impl Iterator<Item = &str> {
    segments.iter().flat_map(Segment::expressions)
}
