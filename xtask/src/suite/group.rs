//! The suite's files as groups: a schema, and instances with the verdict that each must get.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A schema and the instances it is tried on.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The file's name without its extension: `optional/format/date`.
    pub file: String,
    pub description: String,
    /// As the file writes it: its numbers may be beyond what a reader can hold.
    pub schema: String,
    pub tests: Vec<Test>,
}

/// An instance and its verdict.
#[derive(Debug, PartialEq, Eq)]
pub struct Test {
    pub description: String,
    /// As the file writes it.
    pub data: String,
    pub valid: bool,
}

/// Reads every group of draft 2020-12, in the order of file names and within them.
///
/// # Errors
///
/// A file that cannot be read or is no file of the suite, and a suite without groups.
pub fn read(suite: &Path) -> Result<Vec<Group>> {
    let root = suite.join("tests/draft2020-12");
    let mut groups = Vec::new();
    folder(&root, "", &mut groups)?;
    ensure!(!groups.is_empty(), "{} holds no groups", root.display());
    Ok(groups)
}

fn folder(path: &Path, prefix: &str, groups: &mut Vec<Group>) -> Result<()> {
    let list = || -> std::io::Result<Vec<_>> { fs::read_dir(path)?.collect() };
    let mut entries = list().with_context(|| format!("listing {}", path.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("the name of {}", path.display()))?;
        if path.is_dir() {
            folder(&path, &format!("{prefix}{name}/"), groups)?;
        } else if let Some(name) = name.strip_suffix(".json") {
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("reading {}", path.display()))?;
            let read = parse(&format!("{prefix}{name}"), &text);
            groups.extend(read.with_context(|| format!("reading {}", path.display()))?);
        }
    }
    Ok(())
}

fn parse(file: &str, text: &str) -> Result<Vec<Group>> {
    #[derive(Deserialize)]
    struct Written<'t> {
        description: String,
        #[serde(borrow)]
        schema: &'t RawValue,
        #[serde(borrow)]
        tests: Vec<WrittenTest<'t>>,
    }
    #[derive(Deserialize)]
    struct WrittenTest<'t> {
        description: String,
        #[serde(borrow)]
        data: &'t RawValue,
        valid: bool,
    }
    let written: Vec<Written<'_>> = serde_json::from_str(text)?;
    Ok(written
        .into_iter()
        .map(|group| Group {
            file: file.to_owned(),
            description: group.description,
            schema: group.schema.get().to_owned(),
            tests: group
                .tests
                .into_iter()
                .map(|test| Test {
                    description: test.description,
                    data: test.data.get().to_owned(),
                    valid: test.valid,
                })
                .collect(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_kept_as_they_are_written() {
        let json = r#"[{"description": "d", "comment": "c", "schema": {"const": 1.0e400},
            "tests": [{"description": "t", "data": 12345678901234567890123, "valid": true},
                      {"description": "u", "data": {"a" : "\u0061"}, "valid": false}]}]"#;
        let test = |description: &str, data: &str, valid| Test {
            description: description.to_owned(),
            data: data.to_owned(),
            valid,
        };
        let expected = Group {
            file: "f".to_owned(),
            description: "d".to_owned(),
            schema: r#"{"const": 1.0e400}"#.to_owned(),
            tests: vec![
                test("t", "12345678901234567890123", true),
                test("u", r#"{"a" : "\u0061"}"#, false),
            ],
        };
        assert_eq!(parse("f", json).unwrap(), [expected]);
        assert!(parse("f", r#"[{"description": "d", "tests": []}]"#).is_err());
    }

    #[test]
    fn folders_are_read_in_order() {
        let suite = std::env::temp_dir().join(format!("firewall-groups-{}", std::process::id()));
        let root = suite.join("tests/draft2020-12");
        fs::create_dir_all(root.join("optional/format")).unwrap();
        assert!(read(&suite).is_err(), "an empty suite proves nothing");
        let group =
            |name: &str| format!(r#"[{{"description":"{name}","schema":{{}},"tests":[]}}]"#);
        for name in ["type", "optional/format/date", "enum"] {
            fs::write(root.join(format!("{name}.json")), group(name)).unwrap();
        }
        let files: Vec<_> = read(&suite).unwrap().into_iter().map(|group| group.file).collect();
        assert_eq!(files, ["enum", "optional/format/date", "type"]);
        fs::write(root.join("broken.json"), "[").unwrap();
        let error = format!("{:#}", read(&suite).unwrap_err());
        assert!(error.contains("broken.json"), "{error}");
        fs::remove_dir_all(&suite).unwrap();
    }
}
