//! What users type for the `file` exporter.

use std::path::PathBuf;

use profpipe_engine::DeliveryDefaults;
use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes each window of each service as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory to write into; created if it is not there. No other exporter may use it.
    pub path: PathBuf,
    /// The format of the files.
    pub format: Format,
    /// What to delete, oldest first. Only files that have the names this exporter gives are
    /// touched.
    pub retention: Retention,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Compressed pprof, `.pb.gz`.
    #[default]
    Pprof,
    /// OTLP in protobuf, `.otlp`.
    Otlp,
    /// OTLP in JSON, `.otlp.json`.
    OtlpJson,
    /// Collapsed stacks, `.TYPE.folded`: a file for each sample type, since the format holds one.
    Folded,
}

/// How long files stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Files written longer ago than this are deleted; `0` keeps them.
    pub max_age: Duration,
    /// When the files together take more than this, the oldest are deleted; `0` means no limit.
    pub max_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./profiles"),
            format: Format::default(),
            retention: Retention::default(),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(24 * 60 * 60), max_bytes: ByteSize::mib(1024) }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.path.as_os_str().is_empty() {
            problems.push("path", "is empty; name the directory to write into, such as ./profiles");
        }
    }
}

impl ExporterConfig for Config {
    fn delivery() -> DeliveryDefaults {
        DeliveryDefaults::local()
    }

    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(super::FileExporter::open(self, setup)?))
    }
}
