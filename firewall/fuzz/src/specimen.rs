//! Contracts for the targets, compiled from a document's text.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use firewall::contract::{Contract, ContractError, LoadOptions, load};

/// Loads the text of a document.
pub(crate) fn compile(text: &[u8]) -> Result<Contract, Vec<ContractError>> {
    let file = File::new();
    fs::write(&file.0, text).expect("a temporary file can be written");
    load(&file.0, &LoadOptions::default()).map(|loaded| loaded.contract)
}

/// Loads a document that is known to be right.
pub(crate) fn contract(text: &str) -> Contract {
    compile(text.as_bytes()).unwrap_or_else(|errors| {
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("a target's own document is refused:\n{}", told.join("\n"))
    })
}

struct File(PathBuf);

impl File {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Tests run beside each other.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory where that can be: a target may write thousands a second.
        let folder = PathBuf::from("/dev/shm");
        let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
        Self(folder.join(format!("firewall-fuzz-{}-{count}.yaml", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that is not there any more is what was wanted.
        drop(fs::remove_file(&self.0));
    }
}
