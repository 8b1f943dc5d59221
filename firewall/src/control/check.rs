//! `firewall check`: every problem of configurations and documents, with file, line and pointer.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::causes::Causes;
use crate::contract::{self, ContractError, LoadOptions};
use crate::control::cli::{CheckOptions, print};
use crate::control::config::{ConfigError, ConfigFile};
use crate::control::policy::load_options;
use crate::control::settings::Settings;

/// What was found out about one file.
#[derive(Default)]
struct Findings {
    errors: Vec<Value>,
    warnings: Vec<Value>,
    operations: usize,
    is_unreadable: bool,
}

/// Checks each file; exit 0 if all can be enforced, 1 if one cannot, 2 if one could not be read.
pub fn run(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    let mut all = Findings::default();
    for path in &options.files {
        let is_config = path.extension().is_some_and(|extension| extension == "toml");
        if std::fs::File::open(path).is_err() {
            all.is_unreadable = true;
        }
        if is_config { all.config(path) } else { all.document(path, &LoadOptions::default()) }
    }
    if options.json {
        print(&serde_json::to_string_pretty(&json!({
            "errors": all.errors,
            "warnings": all.warnings,
            "operations": all.operations,
        }))?)?;
    } else {
        for (kind, problems) in [("error", &all.errors), ("warning", &all.warnings)] {
            for problem in problems {
                print(&format!("{kind}: {}", problem["text"].as_str().unwrap_or_default()))?;
            }
        }
        if all.errors.is_empty() {
            print(&format!("{} operations can be enforced", all.operations))?;
        }
    }
    Ok(match (all.is_unreadable, all.errors.is_empty()) {
        (true, _) => ExitCode::from(2),
        (false, false) => ExitCode::from(1),
        (false, true) => ExitCode::SUCCESS,
    })
}

impl Findings {
    fn config(&mut self, path: &Path) {
        let file = match ConfigFile::read(path) {
            Ok(file) => file,
            Err(error) => {
                let line = match &error {
                    ConfigError::Invalid { line, .. } => *line,
                    ConfigError::Unreadable { .. } => None,
                };
                return self.error(path, line, &error);
            }
        };
        match Settings::of(file) {
            Ok(settings) => self.document(&settings.api.spec, &load_options(&settings)),
            Err(error) => self.error(path, None, &error),
        }
    }

    fn document(&mut self, path: &Path, options: &LoadOptions) {
        match contract::load(path, options) {
            Ok(loaded) => {
                self.operations += loaded.contract.operations().len();
                self.warnings.extend(loaded.warnings.iter().map(problem));
            }
            Err(errors) => self.errors.extend(errors.iter().map(problem)),
        }
    }

    fn error(&mut self, path: &Path, line: Option<usize>, error: &dyn std::error::Error) {
        let text = Causes(error).to_string();
        self.errors.push(json!({ "file": path, "line": line, "pointer": null, "text": text }));
    }
}

fn problem(error: &ContractError) -> Value {
    json!({
        "file": &*error.file,
        "line": error.line,
        "pointer": &*error.pointer,
        "text": error.to_string(),
    })
}
