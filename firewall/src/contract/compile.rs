//! Document to `Contract`: every Object of OpenAPI 3.0 read, every problem found, not the first.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use http::{HeaderName, Method, header};
use serde_json::{Map, Value};

use super::LoadOptions;
use super::content::{BodyRule, Content, Contents};
use super::dialect::{Schemas, kind, resolve};
use super::document::escape;
use super::media_type::MediaRange;
use super::operation::{Contract, Operation, OperationIndex};
use super::parameter::{ParameterRule, Shape};
use super::paths::{PathTable, Segment, segments};
use super::problem::Problem;
use super::query::QueryRules;
use super::response::{ResponseRule, Responses};
use super::schema::Direction;

mod shape;

/// What was read of a document: the contract, and what is wrong with it, in the order found.
pub(crate) struct Compiled {
    pub(crate) contract: Contract,
    pub(crate) problems: Vec<(String, Problem)>,
}

/// Compiles a document. The contract is to be used only if the problems leave no error.
pub(crate) fn compile(root: &Value, options: &LoadOptions) -> Compiled {
    let mut compiler = Compiler {
        root,
        options,
        schemas: Schemas::new(root),
        problems: Vec::new(),
        operations: Vec::new(),
        paths: PathTable::new(),
        ids: HashSet::new(),
    };
    compiler.document(&At { value: root, pointer: String::new() });
    let mut problems = compiler.problems;
    problems.extend(compiler.schemas.take_problems());
    // A part that several refer to is read for each.
    let mut seen = HashSet::new();
    problems.retain(|(pointer, problem)| seen.insert((pointer.clone(), problem.to_string())));
    let contract = Contract { operations: compiler.operations, paths: compiler.paths };
    Compiled { contract, problems }
}

/// A part of the document, and where it stands.
#[derive(Clone)]
struct At<'d> {
    value: &'d Value,
    pointer: String,
}

impl<'d> At<'d> {
    fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Self { value, pointer: format!("{}/{}", self.pointer, escape(name)) })
    }

    fn flag(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// The members of an object.
    fn members(&self) -> impl Iterator<Item = (&'d str, Self)> {
        let pointer = self.pointer.clone();
        self.value.as_object().into_iter().flatten().map(move |(name, value)| {
            (&**name, Self { value, pointer: format!("{pointer}/{}", escape(name)) })
        })
    }

    fn items(&self) -> impl Iterator<Item = Self> {
        let pointer = self.pointer.clone();
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| Self { value, pointer: format!("{pointer}/{index}") })
    }
}

/// What is common to the operations of a path.
struct PathItem<'d> {
    template: Arc<str>,
    segments: Vec<Segment>,
    parameters: Vec<Parameter<'d>>,
    bases: Vec<Vec<Segment>>,
}

/// A Parameter Object, its references followed.
#[derive(Clone)]
struct Parameter<'d> {
    name: &'d str,
    location: &'d str,
    at: At<'d>,
}

struct Compiler<'d> {
    root: &'d Value,
    options: &'d LoadOptions,
    schemas: Schemas<'d>,
    problems: Vec<(String, Problem)>,
    operations: Vec<Operation>,
    paths: PathTable,
    ids: HashSet<Box<str>>,
}

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl<'d> Compiler<'d> {
    fn problem(&mut self, at: &At<'_>, problem: Problem) {
        self.problems.push((at.pointer.clone(), problem));
    }

    fn not_enforced(&mut self, at: &At<'_>, kind: &str) {
        self.problem(at, Problem::NotEnforced(kind.into()));
    }

    fn unexpected(&mut self, at: &At<'_>, expected: &'static str) {
        let found = kind(at.value).into();
        self.problem(at, Problem::Unexpected { expected, found });
    }

    /// An object with no fields but these and extensions.
    fn fields(&mut self, at: &At<'d>, known: &[&str]) -> Option<&'d Map<String, Value>> {
        let Some(object) = at.value.as_object() else {
            self.unexpected(at, "an object");
            return None;
        };
        for name in object.keys().filter(|name| !name.starts_with("x-")) {
            if !known.contains(&&**name) {
                let at =
                    At { value: at.value, pointer: format!("{}/{}", at.pointer, escape(name)) };
                self.problem(&at, Problem::UnknownField(name.as_str().into()));
            }
        }
        Some(object)
    }

    fn string(&mut self, at: &At<'d>, name: &str) -> Option<&'d str> {
        let Some(field) = at.get(name) else {
            self.problem(at, Problem::Missing(name.into()));
            return None;
        };
        if field.value.as_str().is_none() {
            self.unexpected(&field, "a string");
        }
        field.value.as_str()
    }

    fn object(&mut self, at: &At<'d>, name: &str) -> Option<At<'d>> {
        let field = at.get(name)?;
        if field.value.is_object() {
            return Some(field);
        }
        self.unexpected(&field, "an object");
        None
    }

    /// Follows Reference Objects.
    fn follow(&mut self, at: &At<'d>) -> Option<At<'d>> {
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

    fn document(&mut self, at: &At<'d>) {
        const FIELDS: [&str; 8] = [
            "openapi",
            "info",
            "servers",
            "paths",
            "components",
            "security",
            "tags",
            "externalDocs",
        ];
        match at.get("openapi").map(|field| (field.value.as_str(), field)) {
            Some((Some(version), _)) if version.starts_with("3.0.") => {}
            Some((_, field)) => {
                let found = kind(field.value).into();
                // Nothing else can be said of a document whose version is not known.
                return self.problem(&field, Problem::Version { found });
            }
            None => return self.problem(at, Problem::Missing("openapi".into())),
        }
        self.fields(at, &FIELDS);
        if let Some(info) = self.object(at, "info") {
            const FIELDS: [&str; 6] =
                ["title", "description", "termsOfService", "contact", "license", "version"];
            self.fields(&info, &FIELDS);
        } else if at.get("info").is_none() {
            self.problem(at, Problem::Missing("info".into()));
        }
        self.security(at);
        let bases = self.bases(at).unwrap_or_else(|| vec![Vec::new()]);
        if let Some(paths) = self.object(at, "paths") {
            for (template, item) in paths.members().filter(|(name, _)| !name.starts_with("x-")) {
                self.path_item(template, &item, &bases);
            }
        } else if at.get("paths").is_none() {
            self.problem(at, Problem::Missing("paths".into()));
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
            self.fields(&server, &["url", "description", "variables"]);
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
        const FIELDS: [&str; 12] = [
            "summary",
            "description",
            "servers",
            "parameters",
            "get",
            "put",
            "post",
            "delete",
            "options",
            "head",
            "patch",
            "trace",
        ];
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
        self.fields(&at, &FIELDS);
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
        const FIELDS: [&str; 12] = [
            "tags",
            "summary",
            "description",
            "externalDocs",
            "operationId",
            "parameters",
            "requestBody",
            "responses",
            "callbacks",
            "deprecated",
            "security",
            "servers",
        ];
        self.fields(at, &FIELDS);
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

    /// The parameters that `at` lists, over those that it `inherits`.
    fn parameters(&mut self, at: &At<'d>, inherits: &[Parameter<'d>]) -> Vec<Parameter<'d>> {
        let mut parameters: Vec<Parameter<'d>> = Vec::new();
        let Some(list) = at.get("parameters") else { return inherits.to_vec() };
        if !list.value.is_array() {
            self.unexpected(&list, "a list of parameters");
        }
        for entry in list.items() {
            let Some(at) = self.follow(&entry) else { continue };
            let (Some(name), Some(location)) = (self.string(&at, "name"), self.string(&at, "in"))
            else {
                continue;
            };
            let is_same = |other: &Parameter<'_>| is_same(other, name, location);
            if parameters.iter().any(is_same) {
                let message = format!("the {location} parameter `{name}` is listed twice");
                self.problem(&entry, Problem::Parameter(message.into()));
            } else {
                parameters.push(Parameter { name, location, at });
            }
        }
        let own = parameters.len();
        for other in inherits {
            let is_overridden =
                parameters.iter().take(own).any(|own| is_same(own, other.name, other.location));
            if !is_overridden {
                parameters.push(other.clone());
            }
        }
        parameters
    }

    fn parameter(
        &mut self,
        parameter: &Parameter<'d>,
        item: &PathItem<'d>,
        operation: &mut Operation,
    ) {
        let Parameter { name, location, at } = parameter;
        let is_named = |expected: &HeaderName| name.eq_ignore_ascii_case(expected.as_str());
        match *location {
            "path" => {
                let Some(rule) = self.parameter_rule(name, at, "simple") else { return };
                if !rule.required {
                    self.problem(
                        at,
                        Problem::Parameter("a path parameter must have `required: true`".into()),
                    );
                }
                match expressions(&item.segments).position(|expression| expression == *name) {
                    Some(index) => operation.path.push((index, rule)),
                    None => {
                        let message = format!("{} has no expression {{{name}}}", item.template);
                        self.problem(at, Problem::Parameter(message.into()));
                    }
                }
            }
            "query" => {
                let Some(rule) = self.parameter_rule(name, at, "form") else { return };
                if let Err(name) = operation.query.push(rule) {
                    let message = format!("two query parameters share the name `{name}`");
                    self.problem(at, Problem::Parameter(message.into()));
                }
            }
            // OpenAPI 3.0.4, section 4.7.12.2: such definitions shall be ignored.
            "header"
                if is_named(&header::ACCEPT)
                    || is_named(&header::CONTENT_TYPE)
                    || is_named(&header::AUTHORIZATION) => {}
            "header" => {
                let Some(rule) = self.parameter_rule(name, at, "simple") else { return };
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(field) => operation.headers.push((field, rule)),
                    Err(_) => self.problem(
                        at,
                        Problem::Parameter(format!("`{name}` cannot name a header field").into()),
                    ),
                }
            }
            "cookie" => self.not_enforced(at, "cookie-parameters"),
            _ => {
                if let Some(at) = at.get("in") {
                    self.unexpected(&at, "path, query, header or cookie");
                }
            }
        }
    }

    fn parameter_rule(&mut self, name: &str, at: &At<'d>, default: &str) -> Option<ParameterRule> {
        const FIELDS: [&str; 13] = [
            "name",
            "in",
            "description",
            "required",
            "deprecated",
            "allowEmptyValue",
            "style",
            "explode",
            "allowReserved",
            "schema",
            "example",
            "examples",
            "content",
        ];
        self.fields(at, &FIELDS)?;
        for name in ["required", "allowEmptyValue", "explode", "allowReserved"] {
            if let Some(field) = at.get(name).filter(|field| !field.value.is_boolean()) {
                self.unexpected(&field, "a boolean");
            }
        }
        self.text_rule(name, at, default)
    }

    /// What a parameter and a header have in common.
    fn text_rule(&mut self, name: &str, at: &At<'d>, default: &str) -> Option<ParameterRule> {
        let mut rule = ParameterRule {
            name: name.into(),
            required: at.flag("required"),
            shape: Shape::Scalar(super::parameter::Types::ANY),
            schema: None,
            allows_empty: at.flag("allowEmptyValue"),
        };
        if let Some(content) = at.get("content") {
            self.not_enforced(&content, "parameter-content");
            return Some(rule);
        }
        if let Some(style) = at.get("style").filter(|style| style.value != default) {
            match style.value.as_str() {
                Some(text) => self.not_enforced(&style, &format!("style:{text}")),
                None => self.unexpected(&style, "a style's name"),
            }
            return Some(rule);
        }
        let Some(schema) = at.get("schema") else {
            self.problem(at, Problem::Missing("schema".into()));
            return None;
        };
        let explode = at.get("explode").map_or(default == "form", |explode| explode.value == true);
        match shape::shape(self.root, schema.value, explode) {
            Ok(shape) => rule.shape = shape,
            Err(kind) => self.not_enforced(&schema, kind),
        }
        rule.schema = self.schemas.compile(&schema.pointer, Direction::Request);
        Some(rule)
    }

    fn request_body(&mut self, at: &At<'d>) -> Option<BodyRule> {
        let at = self.follow(at)?;
        self.fields(&at, &["description", "content", "required"]);
        if let Some(field) = at.get("required").filter(|field| !field.value.is_boolean()) {
            self.unexpected(&field, "a boolean");
        }
        let content = self.object(&at, "content");
        if at.get("content").is_none() {
            self.problem(&at, Problem::Missing("content".into()));
        }
        let contents = self.contents(&content?, Direction::Request);
        Some(BodyRule { required: at.flag("required"), contents })
    }

    fn contents(&mut self, at: &At<'d>, direction: Direction) -> Contents {
        let mut contents: Vec<Content> = Vec::new();
        for (name, media) in at.members() {
            self.fields(&media, &["schema", "example", "examples", "encoding"]);
            let Some(range) = MediaRange::parse(name) else {
                self.problem(
                    &media,
                    Problem::Schema(format!("`{name}` is not a media type").into()),
                );
                continue;
            };
            if contents.iter().any(|content| content.range == range) {
                self.problem(&media, Problem::Schema(format!("`{name}` is given twice").into()));
                continue;
            }
            let is_opaque = !range.is_json_or_wildcard();
            let mut schema = None;
            if is_opaque {
                self.not_enforced(&media, &format!("media-type:{name}"));
            } else if let Some(at) = media.get("schema") {
                schema = self.schemas.compile(&at.pointer, direction);
            }
            let limit = match direction {
                Direction::Request => self.options.body_limit,
                Direction::Response => self.options.response_limit,
            };
            let depth_limit = self.options.depth_limit;
            contents.push(Content { range, schema, limit, depth_limit, direction, is_opaque });
        }
        Contents::new(direction, contents)
    }

    fn responses(&mut self, operation: &At<'d>) -> Responses {
        let mut responses = Responses::default();
        let Some(at) = self.object(operation, "responses") else {
            if operation.get("responses").is_none() {
                self.problem(operation, Problem::Missing("responses".into()));
            }
            return responses;
        };
        for (key, response) in at.members().filter(|(key, _)| !key.starts_with("x-")) {
            let Some(rule) = self.response(&response) else { continue };
            match (key, key.as_bytes()) {
                ("default", _) => responses.default = Some(rule),
                (_, [digit @ b'1'..=b'5', b'X', b'X']) => {
                    responses.ranges.push(((digit - b'0').into(), rule));
                }
                (_, [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']) => {
                    responses.exact.extend(key.parse().ok().map(|status| (status, rule)));
                }
                _ => {
                    let message =
                        format!("`{key}` is no status, no range such as 2XX, and not `default`");
                    self.problem(&response, Problem::Schema(message.into()));
                }
            }
        }
        responses
    }

    fn response(&mut self, at: &At<'d>) -> Option<ResponseRule> {
        let at = self.follow(at)?;
        self.fields(&at, &["description", "headers", "content", "links"]);
        self.string(&at, "description");
        let mut headers = Vec::new();
        for (name, entry) in self.object(&at, "headers").iter().flat_map(At::members) {
            let Some((field, rule)) = self.header(name, &entry) else { continue };
            // OpenAPI 3.0.4, section 4.7.17.1: a definition of Content-Type shall be ignored.
            if field != header::CONTENT_TYPE {
                headers.push((field, rule));
            }
        }
        let contents = match self.object(&at, "content") {
            Some(content) => self.contents(&content, Direction::Response),
            None => Contents::new(Direction::Response, Vec::new()),
        };
        Some(ResponseRule { headers, contents })
    }

    fn header(&mut self, name: &str, at: &At<'d>) -> Option<(HeaderName, ParameterRule)> {
        const FIELDS: [&str; 11] = [
            "description",
            "required",
            "deprecated",
            "allowEmptyValue",
            "style",
            "explode",
            "allowReserved",
            "schema",
            "example",
            "examples",
            "content",
        ];
        let at = self.follow(at)?;
        self.fields(&at, &FIELDS)?;
        let rule = self.text_rule(name, &at, "simple")?;
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(field) => Some((field, rule)),
            Err(_) => {
                let message = format!("`{name}` cannot name a header field");
                self.problem(&at, Problem::Parameter(message.into()));
                None
            }
        }
    }

    /// Reads what nothing refers to as well, so that its problems are told now.
    fn components(&mut self, at: &At<'d>) {
        const FIELDS: [&str; 9] = [
            "schemas",
            "responses",
            "parameters",
            "examples",
            "requestBodies",
            "headers",
            "securitySchemes",
            "links",
            "callbacks",
        ];
        self.fields(at, &FIELDS);
        for (_, schema) in self.object(at, "schemas").iter().flat_map(At::members) {
            for direction in [Direction::Request, Direction::Response] {
                self.schemas.check(&schema.pointer, direction);
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

/// Header names are the same in any case, others are not.
fn is_same(parameter: &Parameter<'_>, name: &str, location: &str) -> bool {
    parameter.location == location
        && (parameter.name == name
            || location == "header" && parameter.name.eq_ignore_ascii_case(name))
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
