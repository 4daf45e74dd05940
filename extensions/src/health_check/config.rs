//! What users type for the `health_check` extension.

use std::sync::Arc;

use profpipe_engine::component::{self, Error, Extension, ExtensionConfig, Offer, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Duration;
use profpipe_network::server_config;
use profpipe_network::settings::server::ServerSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

server_config! {
    /// Says over HTTP whether the pipelines run.
    pub struct Config: http("localhost:13133") {
        /// The path it answers at.
        pub path: String = "/".to_owned(),
        /// What it answers, in place of its own words.
        pub response_body: Option<ResponseBody> = None,
        /// Accepted for the Collector's sake; exporters that fail say so in the metrics.
        pub check_collector_pipeline: Option<PipelineCheck> = None,
    }
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseBody {
    /// While the pipelines run.
    pub healthy: String,
    /// While they do not.
    pub unhealthy: String,
}

/// The Collector's settings for a check of its exporters, which does not work there either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineCheck {
    /// Without effect: whether to check.
    pub enabled: bool,
    /// Without effect: how long failures are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Without effect: how many failures there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exporter_failure_threshold: Option<u64>,
}

impl Config {
    /// What its server is to do. Probes come from elsewhere, without credentials, and all they
    /// learn is whether the pipelines run: an open endpoint is no mistake here.
    pub(super) fn listening(&self) -> ServerSettings {
        ServerSettings { insecure: true, ..self.server() }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.listening().validate("", problems);
        if !self.path.starts_with('/') {
            problems.push("path", "begins with `/`");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.server().advise("", advice);
        if self.check_collector_pipeline.as_ref().is_some_and(|check| check.enabled) {
            advice.push("check_collector_pipeline", "accepted, without effect; see the metrics");
        }
    }

    fn listens(&self) -> Vec<(&'static str, String)> {
        vec![("endpoint", self.endpoint.clone())]
    }
}

impl ExtensionConfig for Config {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[])
    }

    fn build(self, setup: &Setup) -> Result<Arc<dyn Extension>, Error> {
        Ok(Arc::new(super::HealthCheck::new(self, setup)?))
    }
}
