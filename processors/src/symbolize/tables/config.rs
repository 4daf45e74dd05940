//! What users type for `tables`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use profpipe_engine::component::Setup;
use profpipe_engine::config::Problems;
use profpipe_engine::settings::ByteSize;
use profpipe_engine::telemetry::names;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TableCounts, Tables};

/// Where what was read of binaries is kept, for all processes of this user and later ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TablesConfig {
    /// The directory, which nobody else may enter (0700). `tables` in the cache directory of the program
    /// unless set: `$CACHE_DIRECTORY` (systemd), `$XDG_CACHE_HOME/profpipe`, for root
    /// `/var/cache/profpipe`, else `~/.cache/profpipe`.
    pub directory: Option<PathBuf>,
    /// How many bytes of tables are kept; those unused for longest make room. With 0 nothing is kept, and
    /// binaries are read again by every process.
    pub max_bytes: ByteSize,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { directory: None, max_bytes: ByteSize::mib(512) }
    }
}

impl TablesConfig {
    /// Reports what makes no sense, at `tables`.
    pub(in super::super) fn validate(&self, problems: &mut Problems) {
        if let Some(directory) = self.directory.as_ref().filter(|it| !it.is_absolute()) {
            let problem = format!("`{}` is not an absolute path", directory.display());
            problems.push("tables::directory", problem);
        }
    }

    /// The tables; none if nothing is to be kept, or the directory cannot be used, which is logged.
    pub(in super::super) fn open(&self, setup: &Setup) -> Option<Arc<Mutex<Tables>>> {
        let of_program = || setup.services.cache.as_ref().map(|cache| cache.join("tables"));
        let directory = self.directory.clone().or_else(of_program)?;
        if self.max_bytes.0 == 0 {
            return None;
        }
        let metrics = &setup.services.metrics;
        let lookups = |result| {
            metrics.labelled(names::SYMBOL_TABLE_LOOKUPS, &setup.id, &[("result", result)])
        };
        let counts = TableCounts {
            found: lookups("found"),
            missing: lookups("missing"),
            bytes: metrics.counter(names::SYMBOL_TABLE_BYTES, &setup.id),
        };
        match Tables::open(&directory, self.max_bytes.0, counts) {
            Ok(tables) => Some(Arc::new(Mutex::new(tables))),
            Err(error) => {
                // A directory that nobody has chosen may well be none of ours.
                let is_chosen = self.directory.is_some();
                let problem = format!(
                    "symbolize: binaries are read again by every process, because {} cannot be used \
                     for `tables::directory`: {error}",
                    directory.display()
                );
                if is_chosen {
                    tracing::warn!("{problem}");
                } else {
                    tracing::info!("{problem}");
                }
                None
            }
        }
    }
}
