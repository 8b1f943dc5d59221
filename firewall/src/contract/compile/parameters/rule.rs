//! One Parameter Object or Header Object to its rule: style or media type, shape, encoding.

use http::HeaderName;

use super::super::super::media_type::MediaType;
use super::super::super::pairs::unnameable;
use super::super::super::parameter::scalar::Types;
use super::super::super::parameter::shape::{ArrayShape, ObjectShape, Part, Shape};
use super::super::super::parameter::style::{Split, Style};
use super::super::super::parameter::{Encoding, ParameterRule, Reading, Spread};
use super::super::super::policy::Verdict;
use super::super::super::problem::Problem;
use super::super::super::schema::Direction;
use super::super::super::uri::Plus;
use super::super::reader::At;
use super::super::shape::{self, Nesting, Outline, Piece};
use super::super::{Compiler, Version};
use super::Seat;

impl<'d> Compiler<'d> {
    /// What a parameter and a header have in common.
    pub(in super::super) fn text_rule(
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
            let (documents, version) = (self.documents, self.version);
            let types = schema.as_ref().map_or(Some(Types::STRING), |schema| {
                let found =
                    shape::outline(documents, version, schema, Types::SCALAR, Nesting::None);
                found.ok()?.scalar.filter(|types| *types != Types::NONE)
            });
            let Some(types) = types else {
                let reason = "a text is a string, a number or a boolean";
                self.parameter_not_enforced(&media, &label, &kind, reason);
                return Some(rule);
            };
            rule.reading = Reading::Text(types);
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

/// A token (RFC 6265 section 4.1.1).
fn is_cookie_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
