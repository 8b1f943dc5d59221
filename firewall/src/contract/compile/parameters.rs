//! Parameter Objects and Header Objects to rules.

use http::{HeaderName, header};

use super::super::operation::Operation;
use super::super::parameter::{ParameterRule, Shape, Types};
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::reader::At;
use super::{Compiler, PathItem, expressions, shape};

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
                let place = expressions(&item.segments).position(|expression| expression == *name);
                if let Some(place) = place {
                    operation.path.push((place, rule));
                } else {
                    let message = format!("{} has no expression {{{name}}}", item.template);
                    self.problem(at, Problem::Parameter(message.into()));
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

    pub(super) fn parameter_rule(
        &mut self,
        name: &str,
        at: &At<'d>,
        default: &str,
    ) -> Option<ParameterRule> {
        const FIELDS: &str = "name in description required deprecated allowEmptyValue style explode allowReserved schema example examples content";
        self.fields(at, FIELDS)?;
        for name in ["required", "allowEmptyValue", "explode", "allowReserved"] {
            if let Some(field) = at.get(name).filter(|field| !field.value.is_boolean()) {
                self.unexpected(&field, "a boolean");
            }
        }
        self.text_rule(name, at, default)
    }

    /// What a parameter and a header have in common.
    pub(super) fn text_rule(
        &mut self,
        name: &str,
        at: &At<'d>,
        default: &str,
    ) -> Option<ParameterRule> {
        let mut rule = ParameterRule {
            name: name.into(),
            required: at.flag("required"),
            shape: Shape::Scalar(Types::ANY),
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
        match shape::shape(self.documents, &schema, explode) {
            Ok(shape) => rule.shape = shape,
            Err(kind) => self.not_enforced(&schema, kind),
        }
        rule.schema = self.schemas.compile(&schema, Direction::Request);
        Some(rule)
    }
}

/// Header names are the same in any case, others are not.
fn is_same(parameter: &Parameter<'_>, name: &str, location: &str) -> bool {
    parameter.location == location
        && (parameter.name == name
            || location == "header" && parameter.name.eq_ignore_ascii_case(name))
}
