//! What users type for the `nop` exporter.

use profpipe_engine::DeliveryDefaults;
use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Accepts everything and keeps nothing; it has no settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl component::Config for Config {}

impl ExporterConfig for Config {
    fn delivery() -> DeliveryDefaults {
        DeliveryDefaults::local()
    }

    fn build(self, _: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(super::Nop))
    }
}
