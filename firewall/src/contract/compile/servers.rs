//! Server Objects: the base paths of requests, and the hosts that they may name.
//!
//! A server's URL with its variables stands for several. Those with an `enum` are written out; a
//! free one stands for a part of a segment, or of the host, of any characters but a slash. Where its
//! default is empty or holds a slash it cannot be that, and stands for its default alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::authority::{Host, HostRule, Name, Port, address, is_name};
use super::super::paths::{Pattern, Segment, segments};
use super::super::policy::{BasePath, Hosts, Policy};
use super::super::problem::Problem;
use super::Compiler;
use super::reader::At;

/// URLs that one server may stand for.
const URLS_MAX: usize = 1024;

/// One list of servers.
pub(super) struct Servers {
    /// No two of them match the same paths.
    pub(super) bases: Vec<Base>,
    /// Which list it is.
    pub(super) index: usize,
}

/// What stands before the paths of the document.
pub(super) struct Base {
    pub(super) segments: Vec<Segment>,
    pub(super) hosts: Arc<HostRule>,
}

/// The values of a variable; none where it is free.
type Values<'d> = Option<Vec<&'d str>>;

impl<'d> Compiler<'d> {
    /// The document's own servers, or `/` where it names none.
    pub(super) fn root_servers(&mut self, at: &At<'d>) -> Arc<Servers> {
        if let Hosts::Named(names) = &self.options.policy.hosts {
            if names.is_empty() {
                self.problem(at, Problem::Path("`hosts` names no host".into()));
            }
            for name in names.iter().filter(|name| Host::named(name).is_none()) {
                let message = format!("`hosts` names {name}, which is no host");
                self.problem(at, Problem::Path(message.into()));
            }
        }
        self.servers(at).unwrap_or_else(|| {
            let hosts = Arc::new(rule(&self.options.policy, None));
            Arc::new(Servers { bases: vec![Base { segments: Vec::new(), hosts }], index: 0 })
        })
    }

    /// The servers of `at`; none where the field is absent or empty, and those above hold.
    pub(super) fn servers(&mut self, at: &At<'d>) -> Option<Arc<Servers>> {
        let list = at.get("servers")?;
        if !list.value.is_array() {
            self.unexpected(&list, "a list of servers");
            return None;
        }
        let mut found: Vec<(Vec<Segment>, HostRule)> = Vec::new();
        for server in list.items() {
            for (segments, hosts) in self.server(&server) {
                let is_same = |known: &[Segment]| {
                    known.len() == segments.len()
                        && known.iter().zip(&segments).all(|(one, other)| one.is_like(other))
                };
                match found.iter_mut().find(|(known, _)| is_same(known)) {
                    Some((_, known)) => *known = std::mem::take(known).or(hosts),
                    None => found.push((segments, hosts)),
                }
            }
        }
        if found.is_empty() {
            return None;
        }
        self.server_lists += 1;
        let bases = found.into_iter();
        let bases = bases.map(|(segments, hosts)| Base { segments, hosts: Arc::new(hosts) });
        Some(Arc::new(Servers { bases: bases.collect(), index: self.server_lists }))
    }

    fn server(&mut self, at: &At<'d>) -> Vec<(Vec<Segment>, HostRule)> {
        self.fields(at, "url description variables name@3.2");
        let variables = self.variables(at);
        let (Some(url), Some(variables)) = (self.string(at, "url"), variables) else {
            return Vec::new();
        };
        let policy = &self.options.policy;
        let bases = written_out(url, &variables)
            .and_then(|urls| urls.iter().map(|url| base(url, policy)).collect());
        bases.unwrap_or_else(|reason| {
            self.problem(at, Problem::Path(reason.into()));
            Vec::new()
        })
    }

    /// None where one of them is not as it should be.
    fn variables(&mut self, at: &At<'d>) -> Option<BTreeMap<&'d str, Values<'d>>> {
        let Some(variables) = self.object(at, "variables") else {
            return at.get("variables").is_none().then(BTreeMap::new);
        };
        let mut found = BTreeMap::new();
        let mut is_whole = true;
        for (name, variable) in variables.members() {
            match self.variable(&variable) {
                Some(values) => drop(found.insert(name, values)),
                None => is_whole = false,
            }
        }
        is_whole.then_some(found)
    }

    fn variable(&mut self, at: &At<'d>) -> Option<Values<'d>> {
        self.fields(at, "enum default description")?;
        let default = self.string(at, "default")?;
        let Some(list) = at.get("enum") else {
            let is_free = !default.is_empty() && !default.contains('/');
            return Some(if is_free { None } else { Some(vec![default]) });
        };
        let values: Option<Vec<_>> = list.items().map(|value| value.value.as_str()).collect();
        match values.filter(|values| list.value.is_array() && !values.is_empty()) {
            None => self.unexpected(&list, "a list of strings, at least one"),
            Some(values) if values.contains(&default) => return Some(Some(values)),
            Some(_) => {
                let message = format!("the default `{default}` is not in the variable's `enum`");
                self.problem(at, Problem::Path(message.into()));
            }
        }
        None
    }
}

/// The URLs that `url` stands for, with free variables left in them.
fn written_out(url: &str, variables: &BTreeMap<&str, Values<'_>>) -> Result<Vec<String>, String> {
    let mut urls = vec![String::new()];
    let mut used = Vec::new();
    let mut rest = url;
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, after) =
            behind.split_once('}').ok_or_else(|| format!("{url}: a variable is not `{{name}}`"))?;
        let values = variables
            .get(name)
            .ok_or_else(|| format!("{url}: the variable {{{name}}} is not declared"))?;
        if used.contains(&name) {
            return Err(format!("{url}: the variable {{{name}}} stands there twice"));
        }
        used.push(name);
        if values.iter().flatten().any(|value| value.contains(['{', '}'])) {
            return Err(format!("{url}: a value of {{{name}}} holds a brace"));
        }
        if text.contains('}') {
            break;
        }
        let values = values.as_ref().map_or_else(
            || vec![format!("{text}{{{name}}}")],
            |values| values.iter().map(|value| format!("{text}{value}")).collect(),
        );
        if urls.len() * values.len() > URLS_MAX {
            return Err(format!("{url} stands for more than {URLS_MAX} URLs"));
        }
        let joined = |url: &String| values.iter().map(|value| format!("{url}{value}")).collect();
        urls = urls.iter().flat_map::<Vec<String>, _>(joined).collect();
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("{url}: a brace closes no variable"));
    }
    if let Some(name) = variables.keys().find(|name| !used.contains(name)) {
        return Err(format!("{url}: the variable `{name}` does not stand there"));
    }
    for url in &mut urls {
        url.push_str(rest);
    }
    Ok(urls)
}

/// The base path, without a slash at its end, and the hosts.
fn base(url: &str, policy: &Policy) -> Result<(Vec<Segment>, HostRule), String> {
    let absolute = match url.split_once("://") {
        _ if url.starts_with("//") => Some((None, url.get(2..).unwrap_or_default())),
        Some((scheme, rest)) if !scheme.contains('/') => Some((Some(scheme), rest)),
        _ => None,
    };
    let (host, path) = match absolute {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (host(url, scheme, authority)?, path)
        }
        None if url.starts_with('/') => (None, url),
        None if policy.base_path == BasePath::Ignore => (None, ""),
        None => {
            return Err(format!(
                "{url}: a relative URL means a place beside the document, which nobody knows here; \
                 begin it with a slash, or let `base_path` be \"ignore\""
            ));
        }
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = if path.is_empty() || policy.base_path == BasePath::Ignore {
        Vec::new()
    } else {
        segments(path)?
    };
    Ok((segments, rule(policy, host)))
}

/// The hosts that may be named where the document names this one, or any.
fn rule(policy: &Policy, host: Option<Host>) -> HostRule {
    match &policy.hosts {
        Hosts::Any => HostRule::Any,
        Hosts::Document => host.map_or(HostRule::Any, |host| HostRule::Of(vec![host])),
        Hosts::Named(names) => {
            HostRule::Of(names.iter().filter_map(|name| Host::named(name)).collect())
        }
    }
}

/// The host of a URL; none where a variable stands for all of it.
fn host(url: &str, scheme: Option<&str>, authority: &str) -> Result<Option<Host>, String> {
    let default = match scheme.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("http" | "ws") => Some(80),
        Some("https" | "wss") => Some(443),
        Some(scheme) if scheme.starts_with('{') && scheme.ends_with('}') => None,
        Some(scheme) => return Err(format!("{url}: {scheme} is not HTTP")),
    };
    let is_outside = |place: usize| {
        let before = authority.get(..place).unwrap_or_default();
        before.matches(['{', '[']).count() == before.matches(['}', ']']).count()
    };
    let colon = authority.match_indices(':').map(|(place, _)| place).rfind(|at| is_outside(*at));
    let (name, port) = colon.map_or((authority, None), |place| {
        let (name, port) = authority.split_at(place);
        (name, port.get(1..))
    });
    let port = match (port, default) {
        (None, None) => Port::Default,
        (None, Some(number)) => Port::Is { number, is_default: true },
        (Some(port), _) if port.starts_with('{') && port.find('}') == Some(port.len() - 1) => {
            Port::Any
        }
        (Some(port), default) => {
            let number = port.parse().ok().filter(|_| port.bytes().all(|o| o.is_ascii_digit()));
            let number = number.ok_or_else(|| format!("{url}: {port} is no port"))?;
            let is_default = default.map_or(matches!(number, 80 | 443), |port| port == number);
            Port::Is { number, is_default }
        }
    };
    let unfit = || format!("{url}: {name} is no host");
    let name = if let Some(address) = address(name) {
        Name::Address(address)
    } else if is_name(name) {
        Name::Text(name.into())
    } else {
        let mut literals = Vec::new();
        let mut parts = name.split('{');
        literals.extend(parts.next().map(str::to_ascii_lowercase));
        for part in parts {
            let (_, literal) = part.split_once('}').ok_or_else(unfit)?;
            literals.push(literal.to_ascii_lowercase());
        }
        let inner = literals.get(1..literals.len().saturating_sub(1)).unwrap_or_default();
        if literals.len() < 2 || inner.iter().any(String::is_empty) {
            return Err(unfit());
        }
        if literals.iter().any(|literal| !literal.is_empty() && !is_name(literal)) {
            return Err(unfit());
        }
        if colon.is_none() && literals.iter().all(String::is_empty) {
            return Ok(None);
        }
        Name::Pattern(Pattern::between(literals.into_iter().map(Into::into).collect()))
    };
    Ok(Some(Host { name, port }))
}
