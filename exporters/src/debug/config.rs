//! What users type for the `debug` exporter.

use profpipe_engine::DeliveryDefaults;
use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use profpipe_engine::config::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs what passes, like the Collector's exporter of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much to log of each batch.
    pub verbosity: Verbosity,
    /// So many batches of each second are logged.
    pub sampling_initial: u32,
    /// After those, one in so many is logged until the second ends.
    pub sampling_thereafter: u32,
}

/// How much to log of each batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// One line with counts.
    #[default]
    Basic,
    /// Also a line for each profile.
    Normal,
    /// Also every sample with its stack.
    Detailed,
}

impl Default for Config {
    fn default() -> Self {
        Self { verbosity: Verbosity::Basic, sampling_initial: 2, sampling_thereafter: 1 }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.sampling_thereafter == 0 {
            problems.push("sampling_thereafter", "write 1 to log every batch, or more to skip");
        }
    }
}

impl ExporterConfig for Config {
    fn delivery() -> DeliveryDefaults {
        DeliveryDefaults::local()
    }

    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(super::Debug::new(self, setup)))
    }
}
