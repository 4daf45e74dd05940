//! What users type for the `attributes` processor.

use profpipe_pipeline::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_pipeline::config::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actions::{self, Action, Change};

/// Changes the attributes of samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is done, in order.
    pub actions: Vec<Action>,
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        actions::check("actions", &self.actions, problems);
    }
}

impl ProcessorConfig for Config {
    fn build(self, _setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let changes = self.actions.into_iter().map(Change::of).collect();
        Ok(Box::new(super::Attributes { changes }))
    }
}
