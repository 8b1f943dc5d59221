//! Parameter Objects and Header Objects to rules.

use http::{HeaderName, header};

use super::super::media_type::MediaType;
use super::super::operation::Operation;
use super::super::pairs::{Conflict, unnameable};
use super::super::parameter::scalar::Types;
use super::super::parameter::shape::{ArrayShape, ObjectShape, Part, Shape};
use super::super::parameter::style::{Split, Style};
use super::super::parameter::{Encoding, ParameterRule, Reading, Spread};
use super::super::policy::Verdict;
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::super::uri::Plus;
use super::reader::At;
use super::shape::{Nesting, Outline, Piece};
use super::{Compiler, PathItem, Version, expressions, shape};

/// A Parameter Object, its references followed.
#[derive(Clone)]
pub(super) struct Parameter<'d> {
    pub(super) name: &'d str,
    pub(super) location: &'d str,
    pub(super) at: At<'d>,
}

impl<'d> Compiler<'d> {
    /// The parameters that `at` lists, over those that it `inherits`.
    pub(super) fn parameters(
        &mut self,
        at: &At<'d>,
        inherits: &[Parameter<'d>],
    ) -> Vec<Parameter<'d>> {
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

    pub(super) fn parameter(
        &mut self,
        parameter: &Parameter<'d>,
        item: &PathItem<'d>,
        operation: &mut Operation,
    ) {
        let Parameter { name, location, at } = parameter;
        let Some(seat) = self.seat(location, at) else { return };
        if seat == Seat::Field(Direction::Request) && is_ignored(name) {
            let message = format!("the definition of `{name}` as a parameter");
            return self.problem(at, Problem::Ineffective(message.into()));
        }
        let Some(rule) = self.parameter_rule(name, at, seat) else { return };
        let pushed = match seat {
            Seat::Path => return self.path_parameter(rule, at, item, operation),
            Seat::Query => operation.query.push(rule),
            Seat::QueryString => operation.query.push_whole(rule),
            Seat::Cookie => operation.cookies.push(rule),
            Seat::Field(_) => {
                if let Some(field) = self.field_name(name, at) {
                    operation.headers.push(field, rule);
                }
                Ok(())
            }
        };
        let message = match pushed {
            Ok(()) => return,
            Err(Conflict::Name(name)) => {
                format!("two {location} parameters share the name `{name}`")
            }
            Err(Conflict::Rest) => format!(
                "`{name}` and another exploded object both take every name that is no parameter's"
            ),
            Err(Conflict::Whole) => {
                format!(
                    "`{name}` stands beside a parameter in: querystring, which is the whole query"
                )
            }
        };
        self.problem(at, Problem::Parameter(message.into()));
    }

    /// Reads a parameter that no operation has, for its problems.
    pub(super) fn unused_parameter(&mut self, at: &At<'d>) {
        let Some(at) = self.follow(at) else { return };
        let (Some(name), Some(location)) = (self.string(&at, "name"), self.string(&at, "in"))
        else {
            return;
        };
        if let Some(seat) = self.seat(location, &at) {
            self.parameter_rule(name, &at, seat);
        }
    }

    fn path_parameter(
        &mut self,
        rule: ParameterRule,
        at: &At<'d>,
        item: &PathItem<'d>,
        operation: &mut Operation,
    ) {
        if !rule.required {
            let message = "a path parameter must have `required: true`";
            self.problem(at, Problem::Parameter(message.into()));
        }
        let place = expressions(&item.segments).position(|expression| *expression == *rule.name);
        if let Some(place) = place {
            operation.path.push((place, rule));
        } else {
            let message = format!("{} has no expression {{{}}}", item.template, rule.name);
            self.problem(at, Problem::Parameter(message.into()));
        }
    }

    fn seat(&mut self, location: &str, at: &At<'d>) -> Option<Seat> {
        Some(match location {
            "path" => Seat::Path,
            "query" => Seat::Query,
            "querystring" if self.version >= Version::V3_2 => Seat::QueryString,
            "header" => Seat::Field(Direction::Request),
            "cookie" => Seat::Cookie,
            _ => {
                let expected = if self.version >= Version::V3_2 {
                    "path, query, querystring, header or cookie"
                } else {
                    "path, query, header or cookie"
                };
                if let Some(at) = at.get("in") {
                    self.unexpected(&at, expected);
                }
                return None;
            }
        })
    }

    /// The name of a header field.
    pub(super) fn field_name(&mut self, name: &str, at: &At<'d>) -> Option<HeaderName> {
        let field = HeaderName::from_bytes(name.as_bytes()).ok();
        if field.is_none() {
            let message = format!("`{name}` cannot name a header field");
            self.problem(at, Problem::Parameter(message.into()));
        }
        field
    }

    fn parameter_rule(&mut self, name: &str, at: &At<'d>, seat: Seat) -> Option<ParameterRule> {
        const FIELDS: &str = "name in description required deprecated allowEmptyValue style explode allowReserved schema example examples content";
        self.fields(at, FIELDS)?;
        self.text_rule(name, at, seat)
    }

    /// What a parameter and a header have in common.
    pub(super) fn text_rule(
        &mut self,
        name: &str,
        at: &At<'d>,
        seat: Seat,
    ) -> Option<ParameterRule> {
        for name in ["required", "deprecated", "allowEmptyValue", "explode", "allowReserved"] {
            if let Some(field) = at.get(name).filter(|field| !field.value.is_boolean()) {
                self.unexpected(&field, "a boolean");
            }
        }
        let label = seat.label(name);
        let has = |field: &str| at.get(field).is_some();
        let reason = match (has("schema"), has("content")) {
            _ if has("example") && has("examples") => "has both `example` and `examples`",
            _ if seat == Seat::Cookie && !is_cookie_name(name) => {
                "has a name that no cookie can have"
            }
            (true, true) => "has both `schema` and `content`",
            (_, false) if seat == Seat::QueryString => "needs `content`, being the whole query",
            (false, false) => "has neither `schema` nor `content`",
            _ => "",
        };
        if !reason.is_empty() {
            self.problem(at, Problem::Parameter(format!("{label} {reason}").into()));
            return None;
        }
        match (at.get("schema"), at.get("content")) {
            (Some(schema), _) => Some(self.styled(name, at, &schema, seat)),
            (None, content) => self.content_rule(name, at, &content?, seat),
        }
    }

    /// A rule that nothing is known of yet.
    fn unread(&self, name: &str, at: &At<'d>, seat: Seat) -> ParameterRule {
        ParameterRule {
            name: name.into(),
            required: at.flag("required"),
            reading: Reading::Unchecked,
            encoding: Encoding::Raw,
            spread: Spread::Name,
            schema: None,
            allows_empty: seat == Seat::Query && at.flag("allowEmptyValue"),
            may_repeat: self.options.policy.repeated_parameters == Verdict::Pass,
        }
    }

    /// A parameter whose text has a style.
    fn styled(&mut self, name: &str, at: &At<'d>, schema: &At<'d>, seat: Seat) -> ParameterRule {
        let mut rule = self.unread(name, at, seat);
        let Some(style) = self.style(name, at, seat) else { return rule };
        let explode = at.get("explode").map_or(style.explodes(), |field| field.value == true);
        let split = Split { style, explode };
        rule.encoding = self.encoding(at, seat, Some(style));
        if at.flag("allowEmptyValue") && seat != Seat::Query {
            self.no_effect(at, "allowEmptyValue");
        }
        let wanted = match style {
            Style::DeepObject => Types::OBJECT,
            Style::SpaceDelimited | Style::PipeDelimited => Types::ARRAY.union(Types::OBJECT),
            _ => Types::ANY,
        };
        let is_pairs = matches!(seat, Seat::Query | Seat::Cookie);
        let found = shape::outline(self.documents, self.version, schema, wanted, Nesting::None);
        let has_members = match &found {
            Ok(outline) => outline.object.is_some(),
            Err(nested) => nested.in_object,
        };
        rule.spread = match style {
            Style::DeepObject => Spread::Brackets,
            Style::Form | Style::Cookie if is_pairs && explode && has_members => Spread::Members,
            _ => Spread::Name,
        };
        let Ok(outline) = found else {
            let reason = "lists and objects within a list or an object have no form in a text";
            self.parameter_not_enforced(schema, &seat.label(name), "nested-parameters", reason);
            return rule;
        };
        let shape = self.shape(outline, seat.direction());
        if let Some(reason) = undefined(split, seat, &shape) {
            let kind = format!("style:{}", style.name());
            self.parameter_not_enforced(at, &seat.label(name), &kind, &reason);
            return rule;
        }
        rule.schema = self.schemas.compile(schema, seat.direction());
        rule.reading = Reading::Styled(split, shape);
        rule
    }

    fn style(&mut self, name: &str, at: &At<'d>, seat: Seat) -> Option<Style> {
        let Some(field) = at.get("style") else { return Some(seat.styles().0) };
        let Some(text) = field.value.as_str() else {
            self.unexpected(&field, "a style's name");
            return None;
        };
        let is_known = |style: &Style| {
            seat.styles().1.contains(style)
                && (*style != Style::Cookie || self.version >= Version::V3_2)
        };
        let style = Style::named(text).filter(is_known);
        if style.is_none() {
            let reason = format!("`style: {text}` is not defined there");
            let kind = format!("style:{text}");
            self.parameter_not_enforced(&field, &seat.label(name), &kind, &reason);
        }
        style
    }

    fn encoding(&mut self, at: &At<'d>, seat: Seat, style: Option<Style>) -> Encoding {
        let allows_reserved = at.flag("allowReserved");
        // Before 3.2 nothing can allow them elsewhere.
        let applies = seat == Seat::Query
            || self.version >= Version::V3_2 && matches!(seat, Seat::Path | Seat::Cookie);
        let is_percent_encoded = !matches!(seat, Seat::Field(_)) && style != Some(Style::Cookie);
        if allows_reserved && !(applies && is_percent_encoded) {
            self.no_effect(at, "allowReserved");
        }
        let policy = self.options.policy.reserved_characters;
        let reserved = if allows_reserved || !applies { Verdict::Pass } else { policy };
        match seat {
            Seat::Query => Encoding::Uri { plus: Plus::Space, reserved },
            Seat::Field(_) => Encoding::Field,
            _ if style == Some(Style::Cookie) => Encoding::Raw,
            Seat::Path | Seat::Cookie | Seat::QueryString => {
                Encoding::Uri { plus: Plus::Literal, reserved }
            }
        }
    }

    fn shape(&mut self, outline: Outline<'d>, direction: Direction) -> Shape {
        let array = outline.array.map(|items| ArrayShape {
            prefix: items.prefix.into_iter().map(|piece| self.part(piece, direction)).collect(),
            items: self.part(items.rest, direction),
        });
        let object = outline.object.map(|members| {
            let properties = members.named.into_iter();
            ObjectShape {
                properties: properties
                    .map(|(name, piece)| (name.into(), self.part(piece, direction)))
                    .collect(),
                additional: self.part(members.rest, direction),
                is_open: members.is_open,
            }
        });
        Shape { scalar: outline.scalar, array, object }
    }

    fn part(&mut self, piece: Piece<'d>, direction: Direction) -> Part {
        let at = piece.at.filter(|_| piece.types.is_ambiguous());
        Part {
            types: piece.types,
            schema: at.and_then(|at| self.schemas.compile(&at, direction)),
            is_list: piece.is_list,
        }
    }

    /// A parameter whose text is of a media type.
    fn content_rule(
        &mut self,
        name: &str,
        at: &At<'d>,
        content: &At<'d>,
        seat: Seat,
    ) -> Option<ParameterRule> {
        let label = seat.label(name);
        for field in ["style", "explode", "allowReserved", "allowEmptyValue"] {
            if at.get(field).is_some() {
                self.no_effect(at, field);
            }
        }
        let mut entries = content.members();
        let (Some((media_type, media)), None) = (entries.next(), entries.next()) else {
            let message = format!("{label} needs exactly one media type in `content`");
            self.problem(content, Problem::Parameter(message.into()));
            return None;
        };
        let media = self.follow(&media)?;
        self.fields(&media, "schema example examples encoding")?;
        let mut rule = self.unread(name, at, seat);
        rule.allows_empty = false;
        let schema = media.get("schema");
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let is_named = |known: &str| essence.eq_ignore_ascii_case(known);
        let kind = format!("media-type:{media_type}");
        if MediaType::parse(media_type).is_some_and(|parsed| parsed.is_json()) {
            rule.encoding = self.encoding(content, seat, None);
            rule.reading = Reading::Json { rules: self.options.json_rules() };
        } else if is_named("text/plain") && seat != Seat::QueryString {
            let style = (seat == Seat::Cookie).then_some(Style::Cookie);
            rule.encoding = self.encoding(content, seat, style);
            let types = schema.as_ref().map_or(Ok(Some(Types::STRING)), |schema| {
                let (documents, version) = (self.documents, self.version);
                shape::outline(documents, version, schema, Types::SCALAR, Nesting::None)
                    .map(|outline| outline.scalar)
            });
            rule.reading = Reading::Text(types.ok().flatten().unwrap_or(Types::NONE));
        } else if is_named("application/x-www-form-urlencoded") && seat == Seat::QueryString {
            return Some(self.form(rule, &media, &kind));
        } else {
            let reason = format!("a parameter cannot be `{media_type}` here");
            self.parameter_not_enforced(&media, &label, &kind, &reason);
            return Some(rule);
        }
        rule.schema = schema.and_then(|at| self.schemas.compile(&at, seat.direction()));
        Some(rule)
    }

    /// The query whole, as a form: an exploded object, of whose members some may be lists.
    fn form(&mut self, mut rule: ParameterRule, media: &At<'d>, kind: &str) -> ParameterRule {
        let label = Seat::QueryString.label(&rule.name);
        rule.spread = Spread::Members;
        rule.encoding = Encoding::Uri { plus: Plus::Space, reserved: Verdict::Pass };
        if let Some(encoding) = media.get("encoding") {
            let reason = "the `encoding` of its members is not enforced";
            self.parameter_not_enforced(&encoding, &label, kind, reason);
            return rule;
        }
        let Some(schema) = media.get("schema") else { return rule };
        let (documents, version) = (self.documents, self.version);
        let found = shape::outline(documents, version, &schema, Types::OBJECT, Nesting::Lists);
        let Ok(outline) = found else {
            let reason = "objects, and lists of lists or objects, have no form in a query";
            self.parameter_not_enforced(&schema, &label, "nested-parameters", reason);
            return rule;
        };
        if outline.object.is_none() {
            let reason = "a form is an object";
            self.parameter_not_enforced(&schema, &label, kind, reason);
            return rule;
        }
        let split = Split { style: Style::Form, explode: true };
        let shape = self.shape(Outline { scalar: None, ..outline }, Direction::Request);
        rule.schema = self.schemas.compile(&schema, Direction::Request);
        rule.reading = Reading::Styled(split, shape);
        rule
    }

    fn parameter_not_enforced(&mut self, at: &At<'d>, parameter: &str, kind: &str, reason: &str) {
        let problem = Problem::ParameterNotEnforced {
            parameter: parameter.into(),
            kind: kind.into(),
            reason: reason.into(),
        };
        self.problem(at, problem);
    }

    fn no_effect(&mut self, at: &At<'d>, field: &str) {
        if let Some(field_at) = at.get(field) {
            self.problem(&field_at, Problem::Ineffective(format!("`{field}` here").into()));
        }
    }
}

/// Where a parameter or a header stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    Path,
    Query,
    QueryString,
    Cookie,
    Field(Direction),
}

impl Seat {
    /// How problems name the parameter.
    fn label(self, name: &str) -> String {
        match self {
            Self::Path => format!("the path parameter `{name}`"),
            Self::Query => format!("the query parameter `{name}`"),
            Self::QueryString => format!("the querystring parameter `{name}`"),
            Self::Cookie => format!("the cookie parameter `{name}`"),
            Self::Field(Direction::Request) => format!("the header parameter `{name}`"),
            Self::Field(Direction::Response) => format!("the header `{name}`"),
        }
    }

    fn direction(self) -> Direction {
        if let Self::Field(direction) = self { direction } else { Direction::Request }
    }

    /// The default style, and all.
    fn styles(self) -> (Style, &'static [Style]) {
        match self {
            Self::Path => (Style::Simple, &[Style::Simple, Style::Label, Style::Matrix]),
            Self::Query | Self::QueryString => (
                Style::Form,
                &[Style::Form, Style::SpaceDelimited, Style::PipeDelimited, Style::DeepObject],
            ),
            Self::Cookie => (Style::Form, &[Style::Form, Style::Cookie]),
            Self::Field(_) => (Style::Simple, &[Style::Simple]),
        }
    }
}

/// Why the style does not define how such a value is written; none where it does.
fn undefined(split: Split, seat: Seat, shape: &Shape) -> Option<String> {
    let Split { style, explode } = split;
    let Shape { scalar, array, object } = shape;
    let name = style.name();
    let is_pairs = matches!(seat, Seat::Query | Seat::Cookie);
    match style {
        Style::Form if seat == Seat::Cookie && explode && !shape.is_scalar() => Some(
            "a list or an object in a cookie needs `explode: false`: exploded, which is the default, \
             its parts are joined by `&`, which no cookie can hold (from 3.2 on, `style: cookie` \
             explodes into several cookies)"
                .to_owned(),
        ),
        Style::Form | Style::Cookie if is_pairs && explode && object.is_some() => {
            let is_open = object.as_ref().is_some_and(|object| object.is_open);
            if scalar.is_some() || array.is_some() {
                Some("an exploded object has other names than a list or a scalar".to_owned())
            } else if seat == Seat::Cookie && is_open {
                Some("its undeclared members cannot be told from other cookies".to_owned())
            } else {
                None
            }
        }
        Style::SpaceDelimited | Style::PipeDelimited if explode => {
            Some(format!("`style: {name}` is not defined with `explode: true`"))
        }
        Style::SpaceDelimited | Style::PipeDelimited if scalar.is_some() => {
            Some(format!("`style: {name}` is defined for lists and objects only"))
        }
        Style::DeepObject => match object {
            None => Some("`style: deepObject` is defined for objects only".to_owned()),
            Some(object) => unnameable(object)
                .map(|name| format!("the member `{name}` cannot stand within brackets")),
        },
        _ => None,
    }
}

/// OpenAPI 3.0.4, section 4.7.12.2, and later versions: such definitions shall be ignored.
fn is_ignored(name: &str) -> bool {
    [header::ACCEPT, header::CONTENT_TYPE, header::AUTHORIZATION]
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_str()))
}

/// A token (RFC 6265 section 4.1.1).
fn is_cookie_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Header names are the same in any case, others are not.
fn is_same(parameter: &Parameter<'_>, name: &str, location: &str) -> bool {
    parameter.location == location
        && (parameter.name == name
            || location == "header" && parameter.name.eq_ignore_ascii_case(name))
}
