//! What a file is called, how long it may be, and how it begins.

use super::{Finding, Source};

const LINES_MAX: usize = 600;
const ARCHITECTURE: &str = "firewall/ARCHITECTURE.md";
const ARCHITECTURE_LINES_MAX: usize = 200;

/// One state machine, parser or table each; anything else is split.
const LONG_FILES: [(&str, &str); 0] = [];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 14] = [
    "base", "common", "handler", "handlers", "helper", "helpers", "info", "manager", "managers",
    "misc", "types", "util", "utils", "stuff",
];

/// All that may stand at the top: the five packages, and what tools insist on finding there.
const TOP_LEVEL: [&str; 19] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-GPL-2.0",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "clippy.toml",
    "deny.toml",
    "firewall",
    "firewall-common",
    "firewall-ebpf",
    "rustfmt.toml",
    "xtask",
    ".gitattributes",
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(place(source));
        if source.has_extension("rs") {
            findings.extend(name(source));
            findings.extend(size(source));
            findings.extend(head(source));
        }
        let lines = source.text.lines().count();
        if source.path == ARCHITECTURE && lines > ARCHITECTURE_LINES_MAX {
            let problem = format!("expected at most {ARCHITECTURE_LINES_MAX} lines, found {lines}");
            findings.push(Finding::new(source, 0, problem));
        }
    }
    findings.extend(LONG_FILES.iter().filter_map(|(path, _)| {
        let long =
            |source: &Source| source.path == *path && source.text.lines().count() > LINES_MAX;
        let problem = format!("is excepted from {LINES_MAX} lines, but has no more");
        (!sources.iter().any(long)).then(|| Finding { path: (*path).to_owned(), line: 0, problem })
    }));
    findings
}

fn place(source: &Source) -> Option<Finding> {
    let top = source.path.split('/').next().unwrap_or_default();
    (!TOP_LEVEL.contains(&top))
        .then(|| Finding::new(source, 0, format!("{top} has no place at the top level")))
}

fn name(source: &Source) -> Option<Finding> {
    let path = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let parts: Vec<&str> = path.split('/').collect();
    if parts.last() == Some(&"mod") {
        return Some(Finding::new(source, 0, "is called mod.rs: foo.rs stands beside foo/"));
    }
    let empty = parts.into_iter().find(|part| EMPTY_NAMES.contains(part))?;
    Some(Finding::new(source, 0, format!("the name {empty} says nothing of what is inside")))
}

fn size(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    let excepted = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    (lines > LINES_MAX && !excepted).then(|| {
        Finding::new(source, 0, format!("expected at most {LINES_MAX} lines, found {lines}"))
    })
}

fn head(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let role = first.strip_prefix("//! ").unwrap_or_default().trim();
    // One word tells no role.
    (!role.contains(' ')).then(|| {
        Finding::new(source, 1, "expected a first line `//! …` that tells the file's role")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::problems;

    const HEAD: &str = "//! What it is for.\n";

    #[test]
    fn names_tell_what_is_inside() {
        for path in ["firewall/src/clock.rs", "firewall-common/src/lib.rs", "xtask/src/utility.rs"]
        {
            assert_eq!(problems(check, path, HEAD), [""; 0], "{path}");
        }
        for (path, word) in [
            ("firewall/src/utils.rs", "utils"),
            ("firewall/tests/it/common/client.rs", "common"),
            ("bench/src/types.rs", "types"),
        ] {
            let expected = format!("0: the name {word} says nothing of what is inside");
            assert_eq!(problems(check, path, HEAD), [expected], "{path}");
        }
        assert_eq!(
            problems(check, "firewall/src/ban/mod.rs", HEAD),
            ["0: is called mod.rs: foo.rs stands beside foo/"]
        );
    }

    #[test]
    fn files_have_at_most_600_lines() {
        let path = "firewall/src/a.rs";
        let text = HEAD.to_owned() + &"\n".repeat(LINES_MAX - 1);
        assert_eq!(problems(check, path, &text), [""; 0]);
        let text = text + "\n";
        assert_eq!(problems(check, path, &text), ["0: expected at most 600 lines, found 601"]);
    }

    #[test]
    fn the_architecture_is_told_in_200_lines() {
        let text = "\n".repeat(ARCHITECTURE_LINES_MAX);
        assert_eq!(problems(check, ARCHITECTURE, &text), [""; 0]);
        let text = text + "\n";
        assert_eq!(
            problems(check, ARCHITECTURE, &text),
            ["0: expected at most 200 lines, found 201"]
        );
    }

    #[test]
    fn files_begin_with_their_role() {
        let problem = "1: expected a first line `//! …` that tells the file's role";
        let path = "firewall/src/a.rs";
        assert_eq!(problems(check, path, HEAD), [""; 0]);
        for text in ["", "//!\n", "//! x\n", "use std::io;\n", "\n//! What it is for.\n"] {
            assert_eq!(problems(check, path, text), [problem], "{text:?}");
        }
        assert_eq!(problems(check, "firewall/src/a.txt", ""), [""; 0]);
    }

    #[test]
    fn the_top_level_is_the_card() {
        for path in ["Cargo.toml", "LICENSE-MIT", ".ci/run", "firewall/docs/a.md"] {
            assert_eq!(problems(check, path, ""), [""; 0], "{path}");
        }
        for (path, top) in [("notes.md", "notes.md"), ("docs/a.md", "docs"), (".env", ".env")] {
            let expected = format!("0: {top} has no place at the top level");
            assert_eq!(problems(check, path, ""), [expected], "{path}");
        }
    }
}
