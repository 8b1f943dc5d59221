//! Security Scheme Objects and Security Requirement Objects to rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluent_uri::UriRef;
use http::{HeaderName, header};

use super::super::media_type::is_token;
use super::super::operation::Operation;
use super::super::problem::Problem;
use super::super::security::{Alternative, Form, Place, SCHEMES_LIMIT, Scheme, SecurityRule};
use super::reader::At;
use super::{Compiler, Version};

/// What is known of security while operations are read.
#[derive(Default)]
pub(super) struct Security<'d> {
    /// Those of the entry document's `components`; none for what is broken, and told.
    schemes: BTreeMap<&'d str, Option<KnownScheme<'d>>>,
    /// The requirement that operations inherit.
    root: Option<Arc<SecurityRule>>,
    /// It has been told that nothing is verified.
    is_told: bool,
}

/// A Security Scheme Object that was read without a problem.
#[derive(Clone)]
struct KnownScheme<'d> {
    at: At<'d>,
    /// OAuth 2 and `OpenID` Connect, whose requirements list scopes.
    has_scopes: bool,
    enforced: Result<Form, Box<str>>,
}

/// Those of one type or another.
const TYPED_FIELDS: &str =
    "name in scheme bearerFormat flows openIdConnectUrl oauth2MetadataUrl@3.2";
const FLOWS: &str = "implicit password clientCredentials authorizationCode deviceAuthorization@3.2";
const FLOW: &str = "authorizationUrl tokenUrl refreshUrl scopes deviceAuthorizationUrl@3.2";

/// Fields that never reach a check of ours, or whose meaning is fixed by HTTP.
const NO_KEYS: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

impl<'d> Compiler<'d> {
    /// Reads every scheme of the entry document, and the requirement at its root.
    pub(super) fn security(&mut self, root: &At<'d>) {
        let components = root.get("components");
        let schemes = components.and_then(|components| self.object(&components, "securitySchemes"));
        for (name, at) in schemes.iter().flat_map(At::members) {
            let scheme = self.security_scheme(&at);
            self.security.schemes.insert(name, scheme);
        }
        self.security.root = root.get("security").and_then(|list| self.requirements(&list));
    }

    /// What an operation demands: its own list, however empty, or else the root's.
    pub(super) fn operation_security(&mut self, operation: &At<'d>) -> Option<Arc<SecurityRule>> {
        match operation.get("security") {
            Some(list) => self.requirements(&list),
            None => self.security.root.clone(),
        }
    }

    /// Makes the names under which keys are sent known to the checks of parameters.
    pub(super) fn allow_keys(&mut self, at: &At<'d>, operation: &mut Operation) {
        let Some(rule) = operation.security.clone() else { return };
        for name in rule.header_names() {
            operation.headers.allow(name.clone());
        }
        for name in rule.cookie_names() {
            operation.cookies.allow(name);
        }
        for name in rule.query_names() {
            if operation.query.allow(name).is_err() {
                let message = format!(
                    "the key `{name}` has no place in a query that one parameter takes whole"
                );
                self.problem(at, Problem::Security(message.into()));
            }
        }
    }

    /// The rule of a list of requirements; none where nothing is demanded.
    fn requirements(&mut self, list: &At<'d>) -> Option<Arc<SecurityRule>> {
        if !list.value.is_array() {
            self.unexpected(list, "a list of security requirements");
            return None;
        }
        let mut schemes: Vec<Scheme> = Vec::new();
        let mut alternatives = Vec::new();
        for requirement in list.items() {
            alternatives.extend(self.alternative(&requirement, &mut schemes));
        }
        let demands = list.items().any(|requirement| requirement.members().next().is_some());
        if !demands {
            return None;
        }
        if self.options.unenforced.contains("security") {
            self.not_enforced(list, "security");
            return None;
        }
        if schemes.is_empty() {
            return None;
        }
        if !std::mem::replace(&mut self.security.is_told, true) {
            self.problem(list, Problem::CredentialsUnverified);
        }
        let malformed = self.options.policy.malformed_optional_credentials;
        Some(Arc::new(SecurityRule::new(schemes, alternatives, malformed)))
    }

    /// One Security Requirement Object; new schemes are added to those of the rule.
    fn alternative(&mut self, at: &At<'d>, schemes: &mut Vec<Scheme>) -> Option<Alternative> {
        if !at.value.is_object() {
            self.unexpected(at, "an object");
            return None;
        }
        let mut scopes_of: BTreeMap<usize, Box<[Box<str>]>> = BTreeMap::new();
        for (name, list) in at.members() {
            let Some(scheme) = self.named_scheme(at, name, &list) else { continue };
            let scopes = self.scopes(&list, scheme.has_scopes);
            let form = match scheme.enforced {
                Ok(form) => form,
                Err(kind) => {
                    self.not_enforced(&scheme.at, &kind);
                    continue;
                }
            };
            let known = schemes.iter().position(|known| *known.name == *name);
            let index = known.unwrap_or_else(|| {
                schemes.push(Scheme { name: name.into(), form });
                schemes.len() - 1
            });
            if index >= SCHEMES_LIMIT {
                let message = format!("more than {SCHEMES_LIMIT} security schemes are named here");
                self.problem(at, Problem::Security(message.into()));
                return None;
            }
            scopes_of.insert(index, scopes);
        }
        let bits = scopes_of.keys().fold(0, |bits, index| bits | 1 << index);
        Some(Alternative { schemes: bits, scopes: scopes_of.into_values().collect() })
    }

    /// The scheme that a requirement names: a component of the entry document before all else, or
    /// from 3.2 on what the name leads to as a URI (3.2.0, sections 4.30 and 6.5).
    fn named_scheme(
        &mut self,
        requirement: &At<'d>,
        name: &str,
        at: &At<'d>,
    ) -> Option<KnownScheme<'d>> {
        if let Some(known) = self.security.schemes.get(name) {
            return known.clone();
        }
        if self.version >= Version::V3_2
            && let Ok(target) = self.documents.resolve(requirement, name)
        {
            return self.security_scheme(&target);
        }
        let message = format!("`{name}` is no security scheme of this document");
        self.problem(at, Problem::Security(message.into()));
        None
    }

    /// The scopes, or from 3.1 on the roles, that a requirement lists.
    fn scopes(&mut self, list: &At<'d>, has_scopes: bool) -> Box<[Box<str>]> {
        if !list.value.is_array() {
            self.unexpected(list, "a list of scopes");
        }
        let mut scopes = Vec::new();
        for scope in list.items() {
            match scope.value.as_str() {
                Some(text) => scopes.push(text.into()),
                None => self.unexpected(&scope, "a string"),
            }
        }
        if !has_scopes && !scopes.is_empty() && self.version == Version::V3_0 {
            let message = "only OAuth2 and OpenID Connect have scopes in OpenAPI 3.0";
            self.problem(list, Problem::Security(message.into()));
        }
        scopes.into()
    }

    fn security_scheme(&mut self, at: &At<'d>) -> Option<KnownScheme<'d>> {
        let at = self.follow(at)?;
        self.fields(&at, &format!("type description deprecated@3.2 {TYPED_FIELDS}"))?;
        if let Some(field) = at.get("deprecated").filter(|field| !field.value.is_boolean()) {
            self.unexpected(&field, "a boolean");
        }
        let kind = self.string(&at, "type")?;
        let (own, has_scopes): (&[&str], _) = match kind {
            "apiKey" => (&["name", "in"], false),
            "http" => (&["scheme", "bearerFormat"], false),
            "oauth2" => (&["flows", "oauth2MetadataUrl"], true),
            "openIdConnect" => (&["openIdConnectUrl"], true),
            _ => (&[], false),
        };
        for name in TYPED_FIELDS.split([' ', '@']).filter(|name| !own.contains(name)) {
            if let Some(field) = at.get(name) {
                let message = format!("`{name}` of a scheme of this type");
                self.problem(&field, Problem::Ineffective(message.into()));
            }
        }
        let enforced = match kind {
            "apiKey" => Ok(Form::Key(self.key_place(&at)?)),
            "http" => self.http_scheme(&at)?,
            "oauth2" => {
                self.flows(&at)?;
                if at.get("oauth2MetadataUrl").is_some() {
                    self.url(&at, "oauth2MetadataUrl")?;
                }
                Ok(Form::Bearer { is_jwt: false })
            }
            "openIdConnect" => {
                self.url(&at, "openIdConnectUrl")?;
                Ok(Form::Bearer { is_jwt: false })
            }
            "mutualTLS" if self.version >= Version::V3_1 => Err("security:mutualTLS".into()),
            _ => {
                let field = at.get("type")?;
                self.problem(
                    &field,
                    Problem::Security(
                        format!(
                            "`{kind}` is no type of security scheme of this version of OpenAPI"
                        )
                        .into(),
                    ),
                );
                return None;
            }
        };
        Some(KnownScheme { at, has_scopes, enforced })
    }

    fn key_place(&mut self, at: &At<'d>) -> Option<Place> {
        let (name, place) = (self.string(at, "name")?, self.string(at, "in")?);
        let is_cookie_name =
            || name.bytes().all(|octet| octet.is_ascii_graphic() && !b"=;,\"".contains(&octet));
        let found = match place {
            "header" => HeaderName::from_bytes(name.as_bytes())
                .ok()
                .filter(|name| !NO_KEYS.contains(name))
                .map(Place::Header),
            "query" => Some(Place::Query(name.into())),
            "cookie" => is_cookie_name().then(|| Place::Cookie(name.into())),
            _ => {
                let field = at.get("in")?;
                self.unexpected(&field, "query, header or cookie");
                return None;
            }
        };
        let found = found.filter(|_| !name.is_empty());
        if found.is_none() {
            let message = format!("a key cannot be sent as the {place} `{name}`");
            self.problem(at, Problem::Security(message.into()));
        }
        found
    }

    fn http_scheme(&mut self, at: &At<'d>) -> Option<Result<Form, Box<str>>> {
        let scheme = self.string(at, "scheme")?.to_ascii_lowercase();
        let format = match at.get("bearerFormat") {
            Some(_) => Some(self.string(at, "bearerFormat")?),
            None => None,
        };
        if let Some(field) = at.get("bearerFormat").filter(|_| scheme != "bearer") {
            self.problem(&field, Problem::Ineffective("`bearerFormat` of another scheme".into()));
        }
        match &*scheme {
            "basic" => Some(Ok(Form::Basic)),
            "bearer" => {
                let is_jwt = format.is_some_and(|format| format.eq_ignore_ascii_case("jwt"));
                Some(Ok(Form::Bearer { is_jwt }))
            }
            other if is_token(other) => Some(Err(format!("security:{other}").into())),
            other => {
                let message = format!("`{other}` is no authentication scheme of HTTP");
                self.problem(at, Problem::Security(message.into()));
                None
            }
        }
    }

    /// OAuth Flows Object, its URLs and scopes. Tokens are sent as RFC 6750 says, whatever the flow.
    fn flows(&mut self, at: &At<'d>) -> Option<()> {
        let Some(flows) = self.object(at, "flows") else {
            if at.get("flows").is_none() {
                self.problem(at, Problem::Missing("flows".into()));
            }
            return None;
        };
        self.fields(&flows, FLOWS);
        for (name, flow) in flows.members() {
            let urls: &[&str] = match name {
                "implicit" => &["authorizationUrl"],
                "password" | "clientCredentials" => &["tokenUrl"],
                "authorizationCode" => &["authorizationUrl", "tokenUrl"],
                "deviceAuthorization" => &["deviceAuthorizationUrl", "tokenUrl"],
                _ => continue,
            };
            if self.fields(&flow, FLOW).is_none() {
                continue;
            }
            for url in urls {
                self.url(&flow, url);
            }
            if flow.get("refreshUrl").is_some() {
                self.url(&flow, "refreshUrl");
            }
            if flow.get("scopes").is_none() {
                self.problem(&flow, Problem::Missing("scopes".into()));
            }
            for (_, meaning) in self.object(&flow, "scopes").iter().flat_map(At::members) {
                if !meaning.value.is_string() {
                    self.unexpected(&meaning, "a string");
                }
            }
        }
        Some(())
    }

    /// A URL, which may be relative.
    fn url(&mut self, at: &At<'d>, name: &str) -> Option<()> {
        let text = self.string(at, name)?;
        if text.is_empty() || UriRef::parse(text).is_err() {
            let field = at.get(name)?;
            self.problem(&field, Problem::Security(format!("`{text}` is no URL").into()));
            return None;
        }
        Some(())
    }
}
