//! No file names the machine that it was written on, nor a registry that only that machine reaches.

use super::{Finding, Source};

/// Folders of people and machines. Written without their last slash, so that this file is not found.
const FOLDERS: [&str; 4] = ["/root", "/home", "/Users", "/work"];

/// The registry that every cargo knows; anything else in the lock file is a mirror of somebody's.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (line, text) in (1..).zip(source.text.lines()) {
            if let Some(folder) = folder(text) {
                let problem = format!("{folder}/ is a folder of one machine");
                findings.push(Finding::new(source, line, problem));
            }
            if let Some(problem) = registry(&source.path, text) {
                findings.push(Finding::new(source, line, problem));
            }
        }
    }
    findings
}

/// The folder of a machine that `text` names by an absolute path.
fn folder(text: &str) -> Option<&'static str> {
    FOLDERS.into_iter().find(|folder| {
        text.match_indices(folder).any(|(offset, _)| {
            let before = text.get(..offset).unwrap_or_default();
            let after = text.get(offset + folder.len()..).unwrap_or_default();
            let inside_a_path = before.ends_with(|character: char| {
                character.is_alphanumeric()
                    || matches!(character, '.' | '_' | '-' | '/' | '}' | '~')
            });
            let mut after = after.chars();
            !inside_a_path
                && after.next() == Some('/')
                && after
                    .next()
                    .is_some_and(|character| character.is_alphanumeric() || character == '.')
        })
    })
}

fn registry(path: &str, text: &str) -> Option<String> {
    let text = text.trim();
    if path.ends_with("Cargo.lock") {
        let source = text.strip_prefix("source = \"")?.strip_suffix('"')?;
        return (source != REGISTRY).then(|| format!("{source} is not the public registry"));
    }
    if path.contains(".cargo/config") {
        let table = text.strip_prefix('[')?;
        let table = table.trim_start_matches('[').split([']', '.']).next()?;
        return ["source", "registries", "registry"]
            .contains(&table)
            .then(|| "the choice of a registry is the machine's".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::problems;

    #[test]
    fn no_machine_is_named() {
        for text in [
            "the root / of the tree",
            "https://example.com/home/page",
            "${HOME}/work/a",
            "src/work/a.rs",
            "GET /work HTTP/1.1",
            "firewall/home/a",
        ] {
            assert_eq!(problems(check, "README.md", text), [""; 0], "{text}");
        }
        for folder in FOLDERS {
            for text in [format!("cd {folder}/project"), format!("path = \"{folder}/.cargo\"")] {
                let problem = format!("2: {folder}/ is a folder of one machine");
                let found = problems(check, "firewall/docs/a.md", &format!("\n{text}"));
                assert_eq!(found, [problem], "{text}");
            }
        }
    }

    #[test]
    fn crates_come_from_the_public_registry() {
        let lock = |source: &str| {
            problems(check, "Cargo.lock", &format!("[[package]]\nsource = \"{source}\"\n"))
        };
        assert_eq!(lock(REGISTRY), [""; 0]);
        for source in ["registry+https://mirror.example/index", "git+https://github.com/a/b#c"] {
            assert_eq!(lock(source), [format!("2: {source} is not the public registry")]);
        }
        let config = |text: &str| problems(check, ".cargo/config.toml", text);
        assert_eq!(config("[alias]\nxtask = \"run\""), [""; 0]);
        for table in ["[source.crates-io]", "[registries.mine]", "[registry]"] {
            assert_eq!(config(table), ["1: the choice of a registry is the machine's"], "{table}");
        }
    }
}
