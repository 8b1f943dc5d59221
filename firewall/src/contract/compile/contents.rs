//! Request bodies and responses to rules.

use http::{HeaderName, Method, header};

use super::super::content::{BodyRule, Content, Contents};
use super::super::media_type::MediaRange;
use super::super::parameter::ParameterRule;
use super::super::policy::Verdict;
use super::super::problem::Problem;
use super::super::response::{ResponseRule, Responses};
use super::super::schema::Direction;
use super::parameters::Seat;
use super::reader::At;
use super::{Compiler, Version};

/// How many octets a body may have that is passed on as it comes.
const STREAM: &str = "x-firewall-stream";

impl<'d> Compiler<'d> {
    /// What an operation takes as its body.
    pub(super) fn operation_body(&mut self, at: &At<'d>, method: &Method) -> Option<BodyRule> {
        let undeclared = (self.options.policy.undeclared_bodies == Verdict::Pass)
            .then(|| BodyRule::unread(self.options.body_limit));
        let Some(field) = at.get("requestBody") else { return undeclared };
        // OpenAPI 3.0.4, section 4.7.10.1: where HTTP gives a body no meaning, this shall be ignored;
        // RFC 9110 section 9.3.8 forbids one of TRACE.
        let is_vague = matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
        if *method == Method::TRACE || is_vague && self.version == Version::V3_0 {
            self.problem(&field, Problem::Ineffective("`requestBody` of this method".into()));
            return undeclared;
        }
        self.request_body(&field)
    }

    pub(super) fn request_body(&mut self, at: &At<'d>) -> Option<BodyRule> {
        let at = self.follow(at)?;
        self.fields(&at, "description content required");
        if let Some(field) = at.get("required").filter(|field| !field.value.is_boolean()) {
            self.unexpected(&field, "a boolean");
        }
        let content = self.object(&at, "content");
        if at.get("content").is_none() {
            self.problem(&at, Problem::Missing("content".into()));
        }
        let contents = self.contents(&content?, Direction::Request);
        let contents =
            Contents::new(Direction::Request, self.with_undeclared(contents, Direction::Request));
        Some(BodyRule { required: at.flag("required"), contents })
    }

    fn limit(&self, direction: Direction) -> usize {
        match direction {
            Direction::Request => self.options.body_limit,
            Direction::Response => self.options.response_limit,
        }
    }

    /// The contents, and what the policy lets pass beside them.
    fn with_undeclared(&self, mut contents: Vec<Content>, direction: Direction) -> Vec<Content> {
        if self.options.policy.undeclared_media_types == Verdict::Pass {
            contents.push(Content::unread(direction, self.limit(direction)));
        }
        contents
    }

    fn contents(&mut self, at: &At<'d>, direction: Direction) -> Vec<Content> {
        let mut contents: Vec<Content> = Vec::new();
        for (name, media) in at.members() {
            let Some(content) = self.content(name, &media, direction) else { continue };
            if contents.iter().any(|known| known.range == content.range) {
                self.problem(&media, Problem::Schema(format!("`{name}` is given twice").into()));
            } else {
                contents.push(content);
            }
        }
        if self.is_grpc {
            super::grpc::grpc_formats(&mut contents);
        }
        contents
    }

    fn content(&mut self, name: &str, at: &At<'d>, direction: Direction) -> Option<Content> {
        let media = self.media_type(at)?;
        let Some(range) = MediaRange::parse(name) else {
            self.problem(at, Problem::Schema(format!("`{name}` is not a media type").into()));
            return None;
        };
        if self.is_grpc {
            return self.grpc_content(name, range, &media, direction);
        }
        let is_opaque = !range.is_json_or_wildcard();
        let stream = self.stream(&media, is_opaque);
        let mut schema = None;
        if is_opaque {
            // Who says how it is to be passed on knows that it is not looked into.
            if stream.is_none() {
                self.not_enforced(at, &format!("media-type:{name}"));
            }
        } else {
            schema = media.get("schema").and_then(|at| self.schemas.compile(&at, direction));
            let items = media.get("itemSchema").filter(|_| self.version >= Version::V3_2);
            if let Some(field) = items {
                // What the items of one JSON text are is not said.
                self.not_enforced(&field, "keyword:itemSchema");
            }
            for name in ["encoding", "prefixEncoding", "itemEncoding"] {
                if let Some(field) = media.get(name) {
                    let problem = Problem::Ineffective(format!("`{name}` of a JSON body").into());
                    self.problem(&field, problem);
                }
            }
        }
        let (streams, is_undeclared) = (stream.is_some(), false);
        let limit = stream.unwrap_or_else(|| self.limit(direction));
        let rules = self.options.json_rules();
        Some(Content { range, schema, limit, rules, direction, is_opaque, streams, is_undeclared })
    }

    /// The most octets of a body that is passed on as it comes; none if this one is read whole.
    fn stream(&mut self, media: &At<'d>, is_opaque: bool) -> Option<usize> {
        let field = media.get(STREAM)?;
        if !is_opaque {
            let message = format!("`{STREAM}` of a body that is checked whole");
            self.problem(&field, Problem::Ineffective(message.into()));
            return None;
        }
        let octets = field.value.as_u64().and_then(|octets| usize::try_from(octets).ok());
        let octets = octets.filter(|octets| *octets > 0);
        if octets.is_none() {
            self.unexpected(&field, "a number of octets, at least 1");
        }
        octets
    }

    /// A Media Type Object, which may stand elsewhere from 3.2 on.
    fn media_type(&mut self, at: &At<'d>) -> Option<At<'d>> {
        const FIELDS: &str =
            "schema itemSchema@3.2 example examples encoding prefixEncoding@3.2 itemEncoding@3.2";
        let at = if self.version < Version::V3_2 { at.clone() } else { self.follow(at)? };
        self.fields(&at, FIELDS)?;
        Some(at)
    }

    /// A Media Type Object of the components, read although nothing may refer to it.
    pub(super) fn media_type_component(&mut self, at: &At<'d>) {
        let Some(media) = self.media_type(at) else { return };
        for schema in ["schema", "itemSchema"].into_iter().filter_map(|name| media.get(name)) {
            for direction in [Direction::Request, Direction::Response] {
                self.schemas.check(&schema, direction);
            }
        }
    }

    pub(super) fn responses(&mut self, operation: &At<'d>) -> Responses {
        let policy = &self.options.policy;
        let mut responses = Responses {
            exact: Vec::new(),
            ranges: Vec::new(),
            default: None,
            undeclared: (policy.undeclared_statuses == Verdict::Pass)
                .then(|| ResponseRule::unread(self.options.response_limit)),
            exceptions: policy.exceptions,
        };
        let Some(at) = self.object(operation, "responses") else {
            if operation.get("responses").is_none() {
                self.problem(operation, Problem::Missing("responses".into()));
            }
            return responses;
        };
        for (key, response) in at.members().filter(|(key, _)| !key.starts_with("x-")) {
            let Some(rule) = self.response_to(&response, key == "206") else { continue };
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

    pub(super) fn response(&mut self, at: &At<'d>) -> Option<ResponseRule> {
        self.response_to(at, false)
    }

    fn response_to(&mut self, at: &At<'d>, is_partial: bool) -> Option<ResponseRule> {
        let at = self.follow(at)?;
        self.fields(&at, "summary@3.2 description headers content links")?;
        for name in ["summary", "description"] {
            if at.get(name).is_some() || name == "description" && self.version < Version::V3_2 {
                self.string(&at, name);
            }
        }
        let mut headers = Vec::new();
        for (name, entry) in self.object(&at, "headers").iter().flat_map(At::members) {
            let Some((field, rule)) = self.header(name, &entry) else { continue };
            // OpenAPI 3.0.4, section 4.7.17.1: a definition of Content-Type shall be ignored.
            if field == header::CONTENT_TYPE {
                let message = format!("`{name}` among the headers of a response");
                self.problem(&entry, Problem::Ineffective(message.into()));
            } else {
                headers.push((field, rule));
            }
        }
        let content = self.object(&at, "content");
        let mut contents = match &content {
            Some(content) => self.contents(content, Direction::Response),
            None => Vec::new(),
        };
        for content in contents.iter_mut().filter(|content| is_partial && !content.is_opaque) {
            // Half a JSON text is none, and matches no schema.
            self.not_enforced(&at, "partial-content");
            content.is_opaque = true;
        }
        if !contents.is_empty() {
            contents = self.with_undeclared(contents, Direction::Response);
        } else if self.options.policy.undeclared_response_bodies == Verdict::Pass {
            contents.push(Content::unread(Direction::Response, self.options.response_limit));
        }
        Some(ResponseRule { headers, contents: Contents::new(Direction::Response, contents) })
    }

    pub(super) fn header(
        &mut self,
        name: &str,
        at: &At<'d>,
    ) -> Option<(HeaderName, ParameterRule)> {
        const FIELDS: &str = "description required deprecated allowEmptyValue style explode allowReserved schema example examples content";
        let at = self.follow(at)?;
        self.fields(&at, FIELDS)?;
        let rule = self.text_rule(name, &at, Seat::Field(Direction::Response))?;
        self.field_name(name, &at).map(|field| (field, rule))
    }
}
