//! The parameters of an operation: listed, inherited, and each in its place.

use http::{HeaderName, header};

use super::super::operation::Operation;
use super::super::pairs::Conflict;
use super::super::parameter::ParameterRule;
use super::super::parameter::style::Style;
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::reader::At;
use super::{Compiler, PathItem, Version, expressions};

mod rule;

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

/// OpenAPI 3.0.4, section 4.7.12.2, and later versions: such definitions shall be ignored.
fn is_ignored(name: &str) -> bool {
    [header::ACCEPT, header::CONTENT_TYPE, header::AUTHORIZATION]
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_str()))
}

/// Header names are the same in any case, others are not.
fn is_same(parameter: &Parameter<'_>, name: &str, location: &str) -> bool {
    parameter.location == location
        && (parameter.name == name
            || location == "header" && parameter.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
