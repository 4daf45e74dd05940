//! What users type for `symbolize`.

use std::path::PathBuf;

use profpipe_engine::component::{Config, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Symbolize;
use super::remote::config::{CacheConfig, DebuginfodConfig};
use super::tables::config::TablesConfig;

/// Gives frames their function names, files and lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SymbolizeConfig {
    /// How long a batch waits for names. What has no name by then goes on as `module+0xoffset`;
    /// the answer is kept for the next batch.
    pub timeout: Duration,
    /// How many bytes of batches wait for names at most; beyond, the oldest goes on without.
    pub max_parked: ByteSize,
    /// How many bytes of answers are kept.
    pub cache_size: ByteSize,
    /// Where separate debug files are looked for, by build id (`.build-id/ab/cdef.debug`) and by
    /// name, and executables by build id (`.build-id/ab/cdef`); in the file system of the profiled process first, then of this one.
    pub debug_directories: Vec<PathBuf>,
    /// Servers that have the files of modules that are not on this host.
    pub debuginfod: DebuginfodConfig,
    /// Where the files from these servers are kept.
    pub cache: CacheConfig,
    /// The extension that keeps what was uploaded, such as `symbol_storage`: what came from elsewhere is
    /// looked for there before servers are asked. A tenant's frames are named by what that tenant uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol_storage: Option<String>,
    /// Where what was read of binaries is kept, so that it is read once.
    pub tables: TablesConfig,
    /// Memory that the worker process may use beside mapped files before it forgets the binaries
    /// unused for longest.
    pub worker_memory: ByteSize,
    /// Address space that the worker process may use, mapped files included. Binaries that do not
    /// fit stay without names.
    pub worker_address_space: ByteSize,
    /// How long the worker may take for one request before it is killed. Two such requests, or
    /// crashes, and the binary is left alone for ten minutes.
    pub worker_timeout: Duration,
}

impl Default for SymbolizeConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            max_parked: ByteSize::mib(32),
            cache_size: ByteSize::mib(16),
            debug_directories: vec!["/usr/lib/debug".into()],
            debuginfod: DebuginfodConfig::default(),
            cache: CacheConfig::default(),
            symbol_storage: None,
            tables: TablesConfig::default(),
            worker_memory: ByteSize::mib(256),
            worker_address_space: ByteSize::mib(2048),
            worker_timeout: Duration::from_secs(20),
        }
    }
}

impl Config for SymbolizeConfig {
    fn validate(&self, problems: &mut Problems) {
        if self.worker_timeout.0.is_zero() {
            problems.push("worker_timeout", "must be longer than 0s");
        }
        if self.worker_memory < ByteSize::mib(16) {
            problems.push("worker_memory", "must be at least 16MiB");
        }
        if self.worker_address_space.0 < self.worker_memory.0.saturating_add(128 << 20) {
            problems.push(
                "worker_address_space",
                "must be at least 128MiB above worker_memory: it holds the stack, the program \
                 and the mapped files too",
            );
        }
        self.debuginfod.validate(&self.cache, problems);
        self.tables.validate(problems);
        for (at, directory) in self.debug_directories.iter().enumerate() {
            if !directory.is_absolute() {
                problems.push(
                    &format!("debug_directories::{at}"),
                    format!("`{}` is not an absolute path", directory.display()),
                );
            }
        }
    }
}

impl ProcessorConfig for SymbolizeConfig {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(Symbolize::new(self, setup)?))
    }
}
