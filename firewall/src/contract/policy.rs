//! `Policy`: what the specification leaves to the owner of an API, one switch for each choice.

use serde::{Deserialize, Serialize};

/// What happens to something that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Refuse,
    Pass,
}

/// Whether a keyword that may be an annotation is an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    Assert,
    Annotate,
}

/// What happens to header fields by which some upstreams take another target or method, and to
/// those that some read as a declared one (`X_Tenant` for `X-Tenant`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverrideFields {
    Strip,
    Refuse,
    Pass,
}

/// Which objects may hold no members but the declared ones, where the schema does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedObjects {
    /// None: `additionalProperties` is true unless the document says otherwise.
    Off,
    /// Those for which the document declares at least one member.
    Declared,
    /// All.
    Strict,
}

/// Whether the base paths of `servers` are part of the paths to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasePath {
    Match,
    Ignore,
}

/// Whether a path with a slash at its end is the one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrailingSlash {
    Exact,
    /// The declared form is what is forwarded.
    Ignore,
}

/// Which hosts a request may name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hosts {
    /// Any: whoever stands before us may have chosen it.
    Any,
    /// Those of the absolute URLs in `servers`; any for the relative ones.
    Document,
    /// These, in whatever case; a port only where one is given.
    #[serde(untagged)]
    Named(Vec<String>),
}

/// In which answers an exception (a stack trace, a database driver's error, a framework's debug page)
/// is refused, although the contract would let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exceptions {
    Pass,
    /// In those with a status of 400 or more. Not in others, by default: what a user wrote into a
    /// ticket could otherwise keep everybody from reading it.
    RefuseInErrors,
    Refuse,
}

/// Every choice, at its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// `format`.
    pub formats: Strength,
    /// `contentEncoding`, `contentMediaType` and `contentSchema`.
    pub content_keywords: Strength,
    /// Members that `readOnly` or `writeOnly` keep from a direction.
    pub read_and_write_only: Verdict,
    pub closed_objects: ClosedObjects,
    pub base_path: BasePath,
    pub hosts: Hosts,
    pub trailing_slash: TrailingSlash,
    /// A segment that its template could split in several ways: `a.b.c` by `{name}.{extension}`,
    /// where passing takes `a` and `b.c`.
    pub ambiguous_segments: Verdict,
    /// HEAD where GET is declared and HEAD is not.
    pub head_through_get: Verdict,
    /// Genuine CORS preflight requests for declared operations, where OPTIONS is not declared.
    pub preflight: Verdict,
    pub deprecated_operations: Verdict,
    pub undeclared_query: Verdict,
    pub undeclared_headers: Verdict,
    pub undeclared_cookies: Verdict,
    pub undeclared_bodies: Verdict,
    pub undeclared_media_types: Verdict,
    pub undeclared_statuses: Verdict,
    pub undeclared_response_bodies: Verdict,
    pub exceptions: Exceptions,
    /// A parameter that is no list, given several times.
    pub repeated_parameters: Verdict,
    /// Reserved characters left unescaped where `allowReserved` does not allow them.
    pub reserved_characters: Verdict,
    pub override_fields: OverrideFields,
    /// `Connection` naming a field that the contract declares.
    pub connection_names_declared: Verdict,
    /// An optional credential that is there and malformed.
    pub malformed_optional_credentials: Verdict,
    /// A JSON object that names a member twice.
    pub json_duplicate_names: Verdict,
    /// A JSON number that a double cannot hold as it is written.
    pub json_inexact_numbers: Verdict,
    /// A byte-order mark before a JSON text.
    pub json_byte_order_mark: Verdict,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            formats: Strength::Assert,
            content_keywords: Strength::Annotate,
            read_and_write_only: Verdict::Refuse,
            closed_objects: ClosedObjects::Off,
            base_path: BasePath::Match,
            hosts: Hosts::Any,
            trailing_slash: TrailingSlash::Exact,
            ambiguous_segments: Verdict::Refuse,
            head_through_get: Verdict::Pass,
            preflight: Verdict::Pass,
            deprecated_operations: Verdict::Pass,
            undeclared_query: Verdict::Refuse,
            undeclared_headers: Verdict::Pass,
            undeclared_cookies: Verdict::Pass,
            undeclared_bodies: Verdict::Refuse,
            undeclared_media_types: Verdict::Refuse,
            undeclared_statuses: Verdict::Refuse,
            undeclared_response_bodies: Verdict::Refuse,
            exceptions: Exceptions::RefuseInErrors,
            repeated_parameters: Verdict::Refuse,
            reserved_characters: Verdict::Pass,
            override_fields: OverrideFields::Strip,
            connection_names_declared: Verdict::Refuse,
            malformed_optional_credentials: Verdict::Refuse,
            json_duplicate_names: Verdict::Refuse,
            json_inexact_numbers: Verdict::Refuse,
            json_byte_order_mark: Verdict::Refuse,
        }
    }
}
