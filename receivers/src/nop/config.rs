//! What users type for the `nop` receiver.

use profpipe_engine::component::{self, Error, Receiver, ReceiverConfig, Setup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Produces nothing; it has no settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl component::Config for Config {}

impl ReceiverConfig for Config {
    fn build(self, _: &Setup) -> Result<Box<dyn Receiver>, Error> {
        Ok(Box::new(super::Nop))
    }
}
