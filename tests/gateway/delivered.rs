//! What the `file` exporter has delivered.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::ledger::Ledger;

/// A directory of OTLP files, each read once.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    read: HashSet<PathBuf>,
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), read: HashSet::new() }
    }

    /// Tells the ledger about files that are new.
    #[track_caller]
    pub(crate) fn look(&mut self, ledger: &Ledger) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let is_whole = path.extension().is_some_and(|extension| extension == "otlp");
            if is_whole && !self.read.contains(&path) {
                ledger.arrived(&std::fs::read(&path).unwrap());
                self.read.insert(path);
            }
        }
    }
}
