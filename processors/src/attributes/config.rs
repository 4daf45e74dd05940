//! What users type for the `attributes` processor.

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::selection::{Selection, Selector};
use crate::actions::{self, Action, Change};

/// Changes the attributes of samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Only such samples are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Selection>,
    /// Such samples are not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Selection>,
    /// What is done, in order.
    pub actions: Vec<Action>,
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        actions::check("actions", &self.actions, problems);
        for (at, selection) in [("include", &self.include), ("exclude", &self.exclude)] {
            if let Some(selection) = selection {
                selection.check(at, problems);
            }
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, _setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let changes = self.actions.into_iter().map(Change::of).collect();
        let selector = |selection: Option<Selection>| {
            selection.map(Selector::of).transpose().map_err(Error::new)
        };
        let (include, exclude) = (selector(self.include)?, selector(self.exclude)?);
        Ok(Box::new(super::Attributes { changes, include, exclude }))
    }
}
