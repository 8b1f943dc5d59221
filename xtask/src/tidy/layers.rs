//! Who may know whom among the firewall's modules, and which crates each keeps to itself.

use super::code::{Code, is_word};
use super::{Finding, Source};

/// The crate whose modules are layered.
const ROOT: &str = "firewall/src/";

/// A module, what it may name of its own crate, and so on for everything inside it.
struct Layer {
    module: &'static str,
    may_name: &'static [&'static str],
}

const fn layer(module: &'static str, may_name: &'static [&'static str]) -> Layer {
    Layer { module, may_name }
}

/// From the foundations up. The longest module that a file is in decides; a module may always name
/// itself and what is inside it.
const LAYERS: [Layer; 22] = [
    layer("address", &[]),
    layer("causes", &[]),
    layer("clock", &[]),
    layer("json", &[]),
    layer("violation", &[]),
    layer("state_file", &[]),
    layer("metrics", &["violation"]),
    layer("log_lines", &[]),
    layer("tls", &["clock"]),
    layer("audit_log", &["clock", "log_lines", "violation"]),
    layer(
        "access_log",
        &["address", "audit_log", "clock", "log_lines", "metrics", "tls", "violation"],
    ),
    layer("contract", &["json", "violation"]),
    layer("kernel", &["clock", "metrics"]),
    layer("ban", &["address", "causes", "clock", "kernel", "metrics", "violation"]),
    // Sans-io: told the time, it says what is to be done; so it can be simulated.
    layer(
        "ban::ledger",
        &[
            "address",
            "ban::aggregate",
            "ban::exempt",
            "ban::prefix",
            "ban::record",
            "ban::threshold",
            "clock",
            "violation",
        ],
    ),
    layer("feeds", &["ban", "causes", "clock", "metrics", "state_file", "tls"]),
    layer("ban::threshold", &["clock", "violation"]),
    layer("http2", &["clock"]),
    layer(
        "upstream",
        &["access_log", "address", "causes", "clock", "http2", "metrics", "tls", "violation"],
    ),
    layer(
        "pipeline",
        &[
            "access_log",
            "address",
            "audit_log",
            "ban",
            "clock",
            "contract",
            "json",
            "metrics",
            "tls",
            "upstream",
            "violation",
        ],
    ),
    layer(
        "listen",
        &[
            "access_log",
            "address",
            "ban",
            "clock",
            "http2",
            "metrics",
            "pipeline",
            "tls",
            "violation",
        ],
    ),
    // Everything; and nobody may name it.
    layer(
        "control",
        &[
            "access_log",
            "address",
            "audit_log",
            "ban",
            "causes",
            "clock",
            "contract",
            "feeds",
            "json",
            "kernel",
            "listen",
            "log_lines",
            "metrics",
            "pipeline",
            "state_file",
            "tls",
            "upstream",
            "violation",
        ],
    ),
];

/// Crates that belong to some modules alone.
const CRATES: [(&str, &[&str], &str); 6] = [
    ("aya", &["kernel"], "the kernel's maps have one door"),
    ("aya_log", &["kernel"], "the kernel's maps have one door"),
    (
        "jsonschema",
        &["contract", "json"],
        "schemas are compiled once, and asked through the contract",
    ),
    ("simd_json", &["json"], "its unsafe code is kept behind one door"),
    ("redb", &["ban", "control"], "state is kept by its owner"),
    ("openapiv3", &["contract"], "the document is read once"),
];

/// Crates that a module must do without.
const WITHOUT: [(&str, &[&str], &str); 3] = [
    (
        "contract",
        &["tokio", "hyper", "std::net"],
        "a contract is compiled and asked, and does no I/O",
    ),
    ("json", &["tokio", "hyper", "std::net"], "bodies are bytes here"),
    ("ban::ledger", &["tokio", "hyper", "redb", "aya", "rustix"], "the ledger is told the time"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let Some(module) = module(&source.path) else { continue };
        let code = Code::new(source);
        findings.extend(inner(source, &code, &module));
        findings.extend(outer(source, &code, &module));
    }
    findings
}

/// The module that a file of the layered crate holds; none for other files and the crate's roots.
fn module(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix(ROOT)?.strip_suffix(".rs")?;
    (inside != "lib" && inside != "main").then(|| inside.split('/').map(str::to_owned).collect())
}

/// What the file names of its own crate.
fn inner(source: &Source, code: &Code, module: &[String]) -> Vec<Finding> {
    let path = module.join("::");
    let Some(layer) = LAYERS
        .iter()
        .filter(|layer| within(&path, layer.module))
        .max_by_key(|layer| layer.module.len())
    else {
        let problem = format!("{path} has no layer: give it one in xtask's tidy/layers.rs");
        return vec![Finding::new(source, 0, problem)];
    };
    let mut findings = Vec::new();
    for (offset, named) in names(code, module) {
        let line = code.line_at(offset);
        let top = named.split("::").next().unwrap_or_default();
        let permitted =
            within(&named, layer.module) || layer.may_name.iter().any(|may| within(&named, may));
        let known = LAYERS.iter().any(|layer| layer.module == top);
        if known && !permitted && !code.is_test(line) {
            let problem = format!("{} may not name {named}", layer.module);
            findings.push(Finding::new(source, line, problem));
        }
    }
    findings
}

/// The crates that the file names.
fn outer(source: &Source, code: &Code, module: &[String]) -> Vec<Finding> {
    let path = module.join("::");
    let foreign = CRATES
        .iter()
        .filter(|(_, owners, _)| !owners.iter().any(|owner| within(&path, owner)))
        .map(|(name, owners, reason)| {
            (*name, format!("{name} is for {} alone: {reason}", owners.join(" and ")))
        });
    let forgone =
        WITHOUT.iter().filter(|(of, _, _)| within(&path, of)).flat_map(|(of, names, reason)| {
            names.iter().map(move |name| (*name, format!("{of} does without {name}: {reason}")))
        });
    let mut findings = Vec::new();
    for (name, problem) in foreign.chain(forgone) {
        let paths = code.words(name).filter(|&offset| {
            let (before, after) = code.text().split_at(offset);
            // A path's first segment: not a member, a local name or a module of ours.
            !before.ends_with("::")
                && !before.ends_with('.')
                && after.get(name.len()..).is_some_and(|after| after.starts_with("::"))
        });
        for line in paths.map(|offset| code.line_at(offset)).filter(|&line| !code.is_test(line)) {
            findings.push(Finding::new(source, line, problem.clone()));
        }
    }
    findings
}

/// Whether `path` is `module` or inside it.
fn within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The paths into the crate that code in `module` names, from the crate's root, with their offsets;
/// a group is taken apart.
fn names(code: &Code, module: &[String]) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for offset in code.words("crate") {
        let rest = code.text().get(offset + "crate".len()..).unwrap_or_default();
        if let Some(rest) = rest.strip_prefix("::") {
            names.extend(leaves(rest).into_iter().map(|name| (offset, name)));
        }
    }
    for offset in code.words("super") {
        let before = code.text().get(..offset).unwrap_or_default();
        if before.ends_with("::") {
            continue;
        }
        let mut rest = code.text().get(offset..).unwrap_or_default();
        let mut level = module.len();
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
            level = level.saturating_sub(1);
        }
        let base = module.get(..level).unwrap_or_default().join("::");
        for leaf in leaves(rest) {
            let name = if base.is_empty() { leaf } else { format!("{base}::{leaf}") };
            names.push((offset, name));
        }
    }
    names
}

/// The paths that a path such as `a::{b, c::{d, e}}` stands for.
fn leaves(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let end = path.find(|character| !is_word(character) && character != ':').unwrap_or(path.len());
    let (stem, rest) = path.split_at(end);
    let Some(group) = rest.strip_prefix('{').filter(|_| stem.is_empty() || stem.ends_with("::"))
    else {
        return vec![stem.trim_end_matches(':').to_owned()];
    };
    let mut depth = 0_usize;
    let mut items = vec![String::new()];
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(character);
        }
    }
    items
        .iter()
        .filter(|item| !item.trim().is_empty())
        .flat_map(|item| leaves(item))
        .map(|leaf| {
            if leaf == "self" { stem.trim_end_matches(':').into() } else { stem.to_owned() + &leaf }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::problems;

    fn check_module(module: &str, text: &str) -> Vec<String> {
        problems(check, &format!("firewall/src/{module}.rs"), text)
    }

    #[test]
    fn layers_name_what_is_below_them() {
        for (module, text) in [
            ("pipeline", "use crate::contract::Contract;"),
            ("pipeline/route", "use crate::{clock, violation::Rule};"),
            ("control/daemon", "fn f() { crate::kernel::attach::attach() }"),
            ("contract/schema", "use super::super::json;\nuse super::operation;"),
            ("json", "use crate::json::tape::Tape;"),
            ("ban/ledger", "use crate::ban::record::Ban;\nuse crate::clock::Monotonic;"),
            ("clock", "// crate::control is told the time"),
            ("clock", "#[cfg(test)]\nmod tests {\n    use crate::control::cli;\n}"),
            ("clock", "pub(crate) fn f() {}"),
        ] {
            assert_eq!(check_module(module, text), [""; 0], "{module}: {text}");
        }
        for (module, text, problem) in [
            ("json", "\nuse crate::clock::Monotonic;", "2: json may not name clock::Monotonic"),
            ("address", "use crate::clock;", "1: address may not name clock"),
            ("contract", "use crate::pipeline;", "1: contract may not name pipeline"),
            ("pipeline", "fn f() { crate::control::x() }", "1: pipeline may not name control::x"),
            ("upstream/pool", "use super::super::listen::x;", "1: upstream may not name listen::x"),
            (
                "pipeline",
                "use crate::{\n    clock,\n    json::{self, tape},\n    control::{cli as a},\n};",
                "1: pipeline may not name control::cli",
            ),
            (
                "ban/ledger/score",
                "use crate::kernel::maps;",
                "1: ban::ledger may not name kernel::maps",
            ),
            (
                "helm",
                "use crate::clock;",
                "0: helm has no layer: give it one in xtask's tidy/layers.rs",
            ),
        ] {
            assert_eq!(check_module(module, text), [problem], "{module}: {text}");
        }
    }

    #[test]
    fn crates_stay_with_their_owners() {
        for (module, text) in [
            ("kernel/attach", "use aya::programs::Xdp;"),
            ("json/tape", "use jsonschema::json::Json;"),
            ("contract", "fn tokio() {}\nlet a = hyper.b;"),
            ("pipeline", "#[cfg(test)]\nmod tests {\n    use simd_json::Node;\n}"),
        ] {
            assert_eq!(check_module(module, text), [""; 0], "{module}: {text}");
        }
        for (module, text, problem) in [
            (
                "control/daemon",
                "use aya::Ebpf;",
                "1: aya is for kernel alone: the kernel's maps have one door",
            ),
            (
                "pipeline/body",
                "\nlet a = simd_json::to_tape(b);",
                "2: simd_json is for json alone: its unsafe code is kept behind one door",
            ),
            (
                "contract/compile",
                "use tokio::fs;",
                "1: contract does without tokio: a contract is compiled and asked, and does no I/O",
            ),
            (
                "contract/compile",
                "use std::net::IpAddr;",
                "1: contract does without std::net: a contract is compiled and asked, and does no I/O",
            ),
        ] {
            assert_eq!(check_module(module, text), [problem], "{module}: {text}");
        }
    }

    #[test]
    fn groups_are_taken_apart() {
        for (path, expected) in [
            ("a::b;", vec!["a::b"]),
            ("a::{b, c::{d, self}};", vec!["a::b", "a::c::d", "a::c"]),
            ("{a, b::c};", vec!["a", "b::c"]),
            ("a::{b as c,};", vec!["a::b"]),
            ("a::{b", vec!["a::b"]),
        ] {
            assert_eq!(leaves(path), expected, "{path}");
        }
    }
}
