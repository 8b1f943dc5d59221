//! What the documentation points at exists.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let files: HashSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.has_extension("md")) {
        for (line, target) in links(&source.text) {
            let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
            let Some(path) = resolve(&source.path, path) else {
                findings.push(Finding::new(source, line, format!("{target} leaves the project")));
                continue;
            };
            let folder = format!("{path}/");
            let document = sources.iter().find(|source| source.path == path);
            if !files.contains(path.as_str())
                && !path.is_empty()
                && !files.iter().any(|file| file.starts_with(&folder))
            {
                findings.push(Finding::new(source, line, format!("{target} does not exist")));
            } else if let Some(document) = document
                && document.has_extension("md")
                && !heading.is_empty()
                && !headings(&document.text).contains(heading)
            {
                let problem = format!("{} has no heading #{heading}", document.path);
                findings.push(Finding::new(source, line, problem));
            }
        }
    }
    findings
}

/// The targets of inline links and images within the project, with their lines. What stands in code
/// is no link.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, prose) in prose(text) {
        for (offset, _) in prose.match_indices("](") {
            let target = prose.get(offset + 2..).unwrap_or_default();
            let target = target.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                links.push((line, target.to_owned()));
            }
        }
    }
    links
}

/// The lines outside fenced blocks, without their code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((number, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

/// The anchors of a document's headings, as forges make them.
fn headings(text: &str) -> HashSet<String> {
    let mut fenced = false;
    let mut anchors = HashSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |character: &char| {
                character.is_alphanumeric() || matches!(character, ' ' | '-' | '_')
            };
            let anchor = title.chars().filter(kept).collect::<String>().replace(' ', "-");
            anchors.insert(anchor);
        }
    }
    anchors
}

/// The path of a link's target from the workspace's folder; none if it leads out of it.
fn resolve(document: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(document.to_owned());
    }
    let from = Path::new(document).parent()?;
    let mut path = PathBuf::new();
    for component in from.join(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    fn check_link(link: &str) -> Vec<String> {
        let sources = [
            source("firewall/docs/start.md", &format!("# Start\n\nSee [it]({link}).\n")),
            source("firewall/docs/modes.md", "# Modes\n\n## Observe: what `it` does\n"),
            source("firewall/examples/shop.yaml", ""),
            source("README.md", "# Firewall\n"),
        ];
        let findings = check(&sources);
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.problem)).collect()
    }

    #[test]
    fn targets_exist() {
        for link in [
            "modes.md",
            "./modes.md#observe-what-it-does",
            "#start",
            "../examples/shop.yaml",
            "../examples",
            "../../README.md#firewall",
            "../..",
            "https://example.com/a.md",
            "mailto:security@example.com",
        ] {
            assert_eq!(check_link(link), [""; 0], "{link}");
        }
        for (link, problem) in [
            ("mode.md", "3: mode.md does not exist"),
            ("modes.md#off", "3: firewall/docs/modes.md has no heading #off"),
            ("#end", "3: firewall/docs/start.md has no heading #end"),
            ("../example", "3: ../example does not exist"),
            ("../../../a.md", "3: ../../../a.md leaves the project"),
            ("/etc/passwd", "3: /etc/passwd leaves the project"),
        ] {
            assert_eq!(check_link(link), [problem], "{link}");
        }
    }

    #[test]
    fn code_is_no_link() {
        assert_eq!(links("a `[b](c.md)` d\n```\n[e](f.md)\n```\n[g](h.md)"), [(5, "h.md".into())]);
    }
}
