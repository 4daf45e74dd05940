//! What users type for the `batch` processor.

use std::time::Instant;

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes few large batches of many small ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many samples make a batch go out before `timeout`; with 0 nothing waits.
    pub send_batch_size: usize,
    /// How long a batch waits for more; with 0 nothing waits. A sender waits as long for its
    /// answer.
    pub timeout: Duration,
    /// The most samples of a batch; larger ones are cut. 0: no limit.
    pub send_batch_max_size: usize,
    /// Accepted for the Collector's sake: batches of different tenants are never merged anyway.
    pub metadata_keys: Vec<String>,
    /// Of how many tenants batches may wait at a time; beyond that the oldest go out early. 0: no
    /// limit.
    pub metadata_cardinality_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send_batch_size: 8192,
            timeout: Duration(super::TIMEOUT),
            send_batch_max_size: 0,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.send_batch_max_size > 0 && self.send_batch_max_size < self.send_batch_size {
            let message = "must not be less than `send_batch_size`";
            problems.push("send_batch_max_size", message);
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if !self.metadata_keys.is_empty() {
            let message = "accepted, without effect: batches of different tenants are never \
                           merged, and all others are";
            advice.push("metadata_keys", message);
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, _setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(super::Batching::new(self, Instant::now)))
    }
}
