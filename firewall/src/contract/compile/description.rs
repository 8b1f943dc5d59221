//! What a document says of itself: information, tags, its schemas' dialect.

use super::super::dialect::is_known_dialect;
use super::super::problem::Problem;
use super::Compiler;
use super::reader::At;

impl<'d> Compiler<'d> {
    pub(super) fn description(&mut self, at: &At<'d>) {
        if let Some(info) = self.object(at, "info") {
            const FIELDS: &str =
                "title description termsOfService contact license version summary@3.1";
            self.fields(&info, FIELDS);
            for name in ["title", "version"] {
                self.string(&info, name);
            }
            if let Some(contact) = self.object(&info, "contact") {
                self.fields(&contact, "name url email");
            }
            if let Some(license) = self.object(&info, "license") {
                self.fields(&license, "name url identifier@3.1");
                self.string(&license, "name");
            }
        } else if at.get("info").is_none() {
            self.problem(at, Problem::Missing("info".into()));
        }
        if let Some(dialect) = at.get("jsonSchemaDialect") {
            match dialect.value.as_str() {
                Some(text) if is_known_dialect(text) => {}
                Some(text) => self.problem(&dialect, Problem::Dialect(text.into())),
                None => self.unexpected(&dialect, "a URI"),
            }
        }
        if let Some(own) = at.get("$self").filter(|own| !own.value.is_string()) {
            self.unexpected(&own, "a URI reference");
        }
        // Webhooks are requests that the API makes; they do not pass here.
        self.object(at, "webhooks");
        self.documentation(at);
        let Some(tags) = at.get("tags") else { return };
        if !tags.value.is_array() {
            self.unexpected(&tags, "a list of tags");
        }
        for tag in tags.items() {
            self.fields(&tag, "name description externalDocs summary@3.2 parent@3.2 kind@3.2");
            self.string(&tag, "name");
            self.documentation(&tag);
        }
    }

    /// The External Documentation Object of an object, if there is one.
    pub(super) fn documentation(&mut self, at: &At<'d>) {
        if let Some(documentation) = self.object(at, "externalDocs") {
            self.fields(&documentation, "description url");
            self.string(&documentation, "url");
        }
    }
}
