//! Operations that are left for another protocol.

use http::Method;

use super::super::problem::Problem;
use super::super::response::Responses;
use super::super::upgrade::{UpgradeRule, is_origin};
use super::Compiler;
use super::reader::At;

/// Which protocol the operation's connections may be upgraded to, and within which bounds.
const UPGRADE: &str = "x-firewall-upgrade";
/// The only one.
const WEBSOCKET: &str = "websocket";

impl<'d> Compiler<'d> {
    /// What an operation that is `method` of its path says of upgrades; none where it has none.
    pub(super) fn upgrade(
        &mut self,
        operation: &At<'d>,
        method: &Method,
        responses: &Responses,
    ) -> Option<UpgradeRule> {
        let at = operation.get(UPGRADE)?;
        if *method != Method::GET {
            // RFC 6455 section 4.1, rule 2.
            let message = format!("`{UPGRADE}` of {method}: only GET opens a WebSocket");
            self.problem(&at, Problem::Upgrade(message.into()));
        }
        if let Some(body) = operation.get("requestBody") {
            let message = format!("`requestBody` beside `{UPGRADE}`: what opens one has no body");
            self.problem(&body, Problem::Upgrade(message.into()));
        }
        let mut rule = UpgradeRule {
            origins: None,
            client_message_octets: self.options.body_limit as u64,
            upstream_message_octets: self.options.response_limit as u64,
            compresses: false,
            answers_otherwise: responses.have_success(),
        };
        if at.value.is_object() {
            self.upgrade_fields(&at, &mut rule);
        } else {
            self.upgrade_protocol(&at);
        }
        Some(rule)
    }

    fn upgrade_protocol(&mut self, at: &At<'d>) {
        if at.value.as_str() != Some(WEBSOCKET) {
            self.unexpected(at, "`websocket`, or an object with that as its `protocol`");
        }
    }

    fn upgrade_fields(&mut self, at: &At<'d>, rule: &mut UpgradeRule) {
        for (name, field) in at.members() {
            match name {
                "protocol" => self.upgrade_protocol(&field),
                "origins" => rule.origins = Some(self.origins(&field)),
                "messageOctets" => match field.value.as_u64().filter(|octets| *octets > 0) {
                    Some(octets) => {
                        rule.client_message_octets = octets;
                        rule.upstream_message_octets = octets;
                    }
                    None => self.unexpected(&field, "a number of octets, at least 1"),
                },
                "compression" => match field.value.as_bool() {
                    Some(compresses) => rule.compresses = compresses,
                    None => self.unexpected(&field, "a boolean"),
                },
                _ => {
                    let message = format!("`{name}` is nothing that `{UPGRADE}` can say");
                    self.problem(&field, Problem::Upgrade(message.into()));
                }
            }
        }
        if at.get("protocol").is_none() {
            self.problem(at, Problem::Missing("protocol".into()));
        }
    }

    fn origins(&mut self, at: &At<'d>) -> Vec<Box<str>> {
        let mut origins = Vec::new();
        for item in at.items() {
            match item.value.as_str().filter(|text| is_origin(text)) {
                Some(text) => origins.push(text.into()),
                None => self.unexpected(&item, "an origin such as `https://app.example.com`"),
            }
        }
        if origins.is_empty() {
            self.unexpected(at, "a list of origins, at least one");
        }
        origins
    }
}
