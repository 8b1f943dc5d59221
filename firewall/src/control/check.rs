//! `firewall check`: every problem of configurations and documents, with file, line and pointer.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::causes::Causes;
use crate::contract::{self, Contract, ContractError, LoadOptions};
use crate::control::cli::{CheckOptions, print};
use crate::control::config::{ConfigError, ConfigFile};
use crate::control::policy::{choice, encryption, probe};
use crate::control::settings::{Settings, SettingsErrors};
use crate::tls::server::Server;
use crate::upstream::Protocol;

/// One problem: as a line of text, and as JSON.
struct Finding {
    text: String,
    json: Value,
}

/// What was found out about the files.
#[derive(Default)]
struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
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
        if is_config {
            all.config(path);
        } else {
            all.document(path, &LoadOptions::default());
        }
    }
    if options.json {
        print(&serde_json::to_string_pretty(&json!({
            "errors": all.errors.iter().map(|finding| &finding.json).collect::<Vec<_>>(),
            "warnings": all.warnings.iter().map(|finding| &finding.json).collect::<Vec<_>>(),
            "operations": all.operations,
        }))?)?;
    } else {
        for (kind, problems) in [("error", &all.errors), ("warning", &all.warnings)] {
            for problem in problems {
                print(&format!("{kind}: {}", problem.text))?;
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
                let (path, line) = match &error {
                    ConfigError::Invalid { path, line, .. } => (path, *line),
                    ConfigError::Unreadable { path, .. } => (path, None),
                };
                return self.error(path, line, &error);
            }
        };
        let apis = file.api.clone();
        match Settings::of(file) {
            Ok(settings) => {
                if let Some(Err(error)) =
                    settings.tls.as_ref().map(|options| Server::load(options, None))
                {
                    self.error(path, None, &error);
                }
                for error in settings.feeds.iter().filter_map(|feed| probe(feed).err()) {
                    self.error(path, None, &error);
                }
                self.apis(path, &settings);
            }
            Err(SettingsErrors(errors)) => {
                for error in errors {
                    self.error(path, None, &error);
                }
                for api in apis {
                    let options = LoadOptions {
                        unenforced: api.unenforced,
                        policy: api.contract,
                        references: api.references,
                        http2_upstream: Some(api.upstream.protocol == Protocol::Http2),
                        ..LoadOptions::default()
                    };
                    self.document(&api.spec, &options);
                }
            }
        }
    }

    /// All documents, and whether it can be told whose a request is.
    fn apis(&mut self, path: &Path, settings: &Settings) {
        for error in settings.apis.iter().filter_map(|api| encryption(api).err()) {
            self.error(path, None, &error);
        }
        let contracts: Vec<_> = settings
            .apis
            .iter()
            .filter_map(|api| self.document(&api.spec, &api.load_options()))
            .collect();
        if contracts.len() == settings.apis.len()
            && let Err(error) = choice(&settings.apis, &contracts)
        {
            self.error(path, None, &error);
        }
    }

    fn document(&mut self, path: &Path, options: &LoadOptions) -> Option<Contract> {
        match contract::load(path, options) {
            Ok(loaded) => {
                self.operations += loaded.contract.operations().len();
                self.warnings.extend(loaded.warnings.iter().map(problem));
                Some(loaded.contract)
            }
            Err(errors) => {
                self.errors.extend(errors.iter().map(problem));
                None
            }
        }
    }

    fn error(&mut self, path: &Path, line: Option<usize>, error: &dyn std::error::Error) {
        let message = Causes(error).to_string();
        let json = json!({ "file": path, "line": line, "pointer": null, "message": message });
        let place = path.display().to_string();
        // What the file's own parser says begins with the place already.
        let text = if message.contains(&place) { message } else { format!("{place}: {message}") };
        self.errors.push(Finding { text, json });
    }
}

fn problem(error: &ContractError) -> Finding {
    Finding { text: error.to_string(), json: json!(error) }
}
