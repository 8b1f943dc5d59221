//! Request bodies and responses to rules.

use http::{HeaderName, header};

use super::super::content::{BodyRule, Content, Contents};
use super::super::media_type::MediaRange;
use super::super::parameter::ParameterRule;
use super::super::problem::Problem;
use super::super::response::{ResponseRule, Responses};
use super::super::schema::Direction;
use super::Compiler;
use super::parameters::Seat;
use super::reader::At;

impl<'d> Compiler<'d> {
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
        Some(BodyRule { required: at.flag("required"), contents })
    }

    pub(super) fn contents(&mut self, at: &At<'d>, direction: Direction) -> Contents {
        let mut contents: Vec<Content> = Vec::new();
        for (name, media) in at.members() {
            self.fields(&media, "schema example examples encoding");
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
                schema = self.schemas.compile(&at, direction);
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

    pub(super) fn responses(&mut self, operation: &At<'d>) -> Responses {
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

    pub(super) fn response(&mut self, at: &At<'d>) -> Option<ResponseRule> {
        let at = self.follow(at)?;
        self.fields(&at, "description headers content links");
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
