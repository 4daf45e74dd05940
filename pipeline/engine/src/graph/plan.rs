//! What a configuration asks for: components and pipelines, checked against what there is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::catalog::Catalog;
use super::check::Check;
use crate::component::{Factory, Kind};
use crate::config::{ConfigError, ConfigErrors, Document, Mark, Section};
use crate::delivery::RetryPolicy;
use crate::delivery::{Delivery, separate};
use crate::settings::Secret;

/// A component that a configuration defines.
#[derive(Debug, Clone)]
pub(super) struct Defined {
    /// Where its id was written.
    pub(super) mark: Mark,
    pub(super) factory: Factory,
    pub(super) section: Section,
}

/// One pipeline: ids of components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelinePlan {
    /// `profiles` or `profiles/name`.
    pub id: String,
    /// Where its batches come from.
    pub receivers: Vec<String>,
    /// What happens to them, in order.
    pub processors: Vec<String>,
    /// Where they go.
    pub exporters: Vec<String>,
}

/// `service::telemetry`: what the program tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The level of the log: `debug`, `info`, `warn` or `error`.
    pub level: Option<String>,
    /// How a line of the log looks.
    pub format: LogFormat,
    /// Fields that every line of a JSON log has.
    pub initial_fields: BTreeMap<String, serde_json::Value>,
    /// Where the log goes: `stderr`, `stdout` or files; `stderr` if empty.
    pub output_paths: Vec<String>,
    /// Where Prometheus reads the metrics.
    pub prometheus: Vec<PrometheusEndpoint>,
    /// Where the metrics are brought.
    pub otlp: Vec<OtlpPush>,
}

/// Where the metrics are brought, by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpPush {
    /// The address; `/v1/metrics` if it has no path.
    pub endpoint: String,
    /// Headers of each request.
    pub headers: BTreeMap<String, Secret>,
    /// How often.
    pub interval: Duration,
    /// How long a request may take.
    pub timeout: Duration,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Console,
    /// A JSON object.
    Json,
}

/// Where Prometheus reads the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusEndpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// No `_total` after what only grows.
    pub without_type_suffix: bool,
    /// No unit in the names.
    pub without_units: bool,
}

/// What a configuration asks for, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) components: BTreeMap<(Kind, String), Defined>,
    /// The pipelines, in the order of the file.
    pub pipelines: Vec<PipelinePlan>,
    /// The extensions that run, by id.
    pub extensions: Vec<String>,
    /// What the program tells about itself.
    pub telemetry: Telemetry,
    /// What is suspicious but no mistake.
    pub warnings: Vec<ConfigError>,
}

impl Plan {
    /// Checks a configuration against a catalog.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn new(document: &Document, catalog: &Catalog) -> Result<Self, ConfigErrors> {
        let empty = Self {
            components: BTreeMap::new(),
            pipelines: Vec::new(),
            extensions: Vec::new(),
            telemetry: Telemetry::default(),
            warnings: document.warnings.clone(),
        };
        let (mut plan, errors) = Check::new(catalog, empty).of(document);
        plan.warnings = ConfigErrors::from(plan.warnings).0;
        if errors.is_empty() { Ok(plan) } else { Err(errors.into()) }
    }

    /// Every component that is used: kind, id and type.
    pub fn components(&self) -> impl Iterator<Item = (Kind, &str, &'static str)> {
        self.components
            .iter()
            .filter(|((kind, id), _)| self.uses(*kind, id))
            .map(|((kind, id), defined)| (*kind, id.as_str(), defined.factory.name))
    }

    /// Whether some receiver that is used samples this host.
    pub fn samples_this_host(&self) -> bool {
        self.components
            .iter()
            .any(|((kind, id), defined)| defined.factory.samples_this_host && self.uses(*kind, id))
    }

    /// The text of a setting directly in a component's section, or its default.
    pub fn setting(&self, kind: Kind, id: &str, key: &str) -> Option<String> {
        let defined = self.components.get(&(kind, id.to_owned()))?;
        defined.section.text(key).or_else(|| {
            let defaults = (defined.factory.defaults)();
            let value = defaults.get(key)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
    }

    /// How an exporter's batches are delivered. `retry` is what the program wants where the
    /// configuration says nothing.
    pub(super) fn delivery(
        &self,
        id: &str,
        retry: Option<RetryPolicy>,
    ) -> Result<Delivery, ConfigErrors> {
        let mut delivery = match self.components.get(&(Kind::Exporter, id.to_owned())) {
            Some(defined) => {
                let (_, ours) = separate(&defined.section, |_| true);
                Delivery::of(&ours, (defined.factory.delivery)())?
            }
            None => Delivery::ready_made(),
        };
        if let Some(retry) = retry.filter(|_| !delivery.retry_written) {
            let durable = delivery.queue.storage.is_some();
            let limit = if durable { Duration::ZERO } else { retry.max_elapsed_time };
            delivery.retry = Some(RetryPolicy { max_elapsed_time: limit, ..retry });
        }
        Ok(delivery)
    }

    pub(super) fn uses(&self, kind: Kind, id: &str) -> bool {
        let listed = |ids: &[String]| ids.iter().any(|listed| listed == id);
        if kind == Kind::Extension {
            return listed(&self.extensions);
        }
        self.pipelines.iter().any(|pipeline| match kind {
            Kind::Receiver => listed(&pipeline.receivers),
            Kind::Processor => listed(&pipeline.processors),
            Kind::Exporter => listed(&pipeline.exporters),
            Kind::Extension => false,
        })
    }

    /// The plan as a graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        super::dot::draw(self)
    }
}
