//! What users type for the `symbol_storage` extension.

use std::path::PathBuf;
use std::sync::Arc;

use profpipe_engine::component::{self, Error, Extension, ExtensionConfig, Offer, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SymbolStorageExtension;
use super::store::Store;

/// A directory of binaries and debug files that were uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory, for this alone, which nobody else may enter (0700); it is made if it is not there.
    /// Several gateways may share it, on a file system that has locks: what is uploaded to one names
    /// frames at all of them, and is asked for once.
    pub directory: PathBuf,
    /// How many bytes of files are kept. Where there are more, the tenant that has the most loses those
    /// unused for longest.
    pub max_bytes: ByteSize,
    /// How large one file may be. The `worker_address_space` of `symbolize` must hold an executable and
    /// its debug file.
    pub max_file_size: ByteSize,
    /// How long an unused file is kept.
    pub max_age: Duration,
    /// How many files are taken in at a time; further senders come again.
    pub max_concurrent: u32,
    /// How long a sender that was told to send a file has until it begins, or goes on. Then the next one is
    /// told.
    pub offer_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/profpipe/symbols"),
            max_bytes: ByteSize::mib(8192),
            max_file_size: ByteSize::mib(1024),
            max_age: Duration::from_secs(90 * 24 * 3600),
            max_concurrent: 4,
            offer_timeout: Duration::from_secs(300),
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if !self.directory.is_absolute() {
            let problem = format!("`{}` is not an absolute path", self.directory.display());
            problems.push("directory", problem);
        }
        let positive = [
            ("max_bytes", self.max_bytes.0),
            ("max_file_size", self.max_file_size.0),
            ("max_concurrent", self.max_concurrent.into()),
            ("offer_timeout", self.offer_timeout.0.as_secs()),
        ];
        for (key, value) in positive {
            if value == 0 {
                problems.push(key, "must be more than 0");
            }
        }
        if self.max_file_size > self.max_bytes {
            problems.push("max_file_size", "must not be more than max_bytes");
        }
    }
}

impl ExtensionConfig for Config {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[Offer::SymbolStorage])
    }

    fn build(self, setup: &Setup) -> Result<Arc<dyn Extension>, Error> {
        let directory = self.directory.display().to_string();
        let store = Store::open(self, &setup.services.metrics, &setup.id).map_err(|cause| {
            Error::with_source(format!("cannot keep symbols in {directory}"), cause)
        })?;
        Ok(Arc::new(SymbolStorageExtension(store)))
    }
}
