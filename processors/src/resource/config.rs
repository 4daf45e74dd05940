//! What users type for the `resource` processor.

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actions::{self, Action, Change};

/// Changes the attributes of resources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is done, in order.
    pub attributes: Vec<Action>,
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        actions::check("attributes", &self.attributes, problems);
    }
}

impl ProcessorConfig for Config {
    fn build(self, _setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let changes = self.attributes.into_iter().map(Change::of).collect();
        Ok(Box::new(super::ResourceProcessor { changes }))
    }
}
