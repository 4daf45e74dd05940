//! `service::telemetry`: what the program tells about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::plan::{LogFormat, OtlpPush, PrometheusEndpoint, Telemetry};
use crate::config::{ConfigError, Node, read};
use crate::settings::Secret;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TelemetryConfig {
    logs: Logs,
    metrics: MetricsConfig,
    #[serde(rename = "traces")]
    _traces: serde::de::IgnoredAny,
    #[serde(rename = "resource")]
    _resource: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Logs {
    level: Option<String>,
    encoding: Option<String>,
    initial_fields: BTreeMap<String, serde_json::Value>,
    output_paths: Vec<String>,
    #[serde(rename = "error_output_paths")]
    _error_output_paths: serde::de::IgnoredAny,
    #[serde(rename = "sampling")]
    _sampling: serde::de::IgnoredAny,
    #[serde(rename = "development")]
    _development: serde::de::IgnoredAny,
    #[serde(rename = "disable_caller")]
    _disable_caller: serde::de::IgnoredAny,
    #[serde(rename = "disable_stacktrace")]
    _disable_stacktrace: serde::de::IgnoredAny,
    #[serde(rename = "processors")]
    _processors: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetricsConfig {
    level: Option<String>,
    readers: Vec<Reader>,
    #[serde(rename = "views")]
    _views: serde::de::IgnoredAny,
    #[serde(rename = "address")]
    _address: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reader {
    pull: Option<Pull>,
    periodic: Option<Periodic>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Periodic {
    /// In milliseconds, as is `timeout`.
    interval: u64,
    timeout: u64,
    exporter: PeriodicExporter,
}

impl Default for Periodic {
    fn default() -> Self {
        Self { interval: 60_000, timeout: 30_000, exporter: PeriodicExporter::default() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeriodicExporter {
    otlp: Option<Otlp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Otlp {
    protocol: Option<String>,
    endpoint: String,
    headers: BTreeMap<String, Secret>,
    #[serde(rename = "insecure")]
    _insecure: serde::de::IgnoredAny,
    #[serde(rename = "timeout")]
    _timeout: serde::de::IgnoredAny,
    #[serde(rename = "compression")]
    _compression: serde::de::IgnoredAny,
    #[serde(rename = "temporality_preference")]
    _temporality_preference: serde::de::IgnoredAny,
    #[serde(rename = "default_histogram_aggregation")]
    _default_histogram_aggregation: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pull {
    exporter: PullExporter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PullExporter {
    prometheus: Option<Prometheus>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Prometheus {
    host: String,
    port: u16,
    without_type_suffix: bool,
    without_units: bool,
    #[serde(rename = "without_scope_info")]
    _without_scope_info: serde::de::IgnoredAny,
    #[serde(rename = "with_resource_constant_labels")]
    _with_resource_constant_labels: serde::de::IgnoredAny,
    #[serde(rename = "translation_strategy")]
    _translation_strategy: serde::de::IgnoredAny,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 8888,
            without_type_suffix: false,
            without_units: false,
            _without_scope_info: serde::de::IgnoredAny,
            _with_resource_constant_labels: serde::de::IgnoredAny,
            _translation_strategy: serde::de::IgnoredAny,
        }
    }
}

/// What is accepted for the Collector's sake and does nothing.
const WITHOUT_EFFECT: [&[&str]; 10] = [
    &["traces"],
    &["resource"],
    &["logs", "processors"],
    &["logs", "sampling"],
    &["logs", "development"],
    &["logs", "error_output_paths"],
    &["logs", "disable_caller"],
    &["logs", "disable_stacktrace"],
    &["metrics", "views"],
    &["metrics", "address"],
];

const PATH: &str = "service::telemetry";

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) telemetry: Telemetry,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigError>,
}

/// Reads `service::telemetry`.
pub(super) fn check(node: &Node) -> Findings {
    let mut found = Findings::default();
    match read::<TelemetryConfig>(node, PATH) {
        Ok(config) => found.take(node, config),
        Err(errors) => found.errors = errors,
    }
    for keys in WITHOUT_EFFECT {
        found.without_effect(node, keys);
    }
    let readers = at(node, &["metrics", "readers"]);
    for (index, reader) in readers.map(Node::items).unwrap_or_default().iter().enumerate() {
        let inner = [
            &["periodic", "exporter", "otlp", "insecure"][..],
            &["periodic", "exporter", "otlp", "timeout"],
            &["periodic", "exporter", "otlp", "default_histogram_aggregation"],
            &["periodic", "exporter", "otlp", "compression"],
            &["periodic", "exporter", "otlp", "temporality_preference"],
            &["pull", "exporter", "prometheus", "with_resource_constant_labels"],
            &["pull", "exporter", "prometheus", "translation_strategy"],
        ];
        for keys in inner {
            if let Some(useless) = at(reader, keys) {
                let path = format!("{PATH}::metrics::readers::{index}::{}", keys.join("::"));
                found.warnings.push(ConfigError::at(&useless.mark, path, NO_EFFECT));
            }
        }
    }
    found
}

const NO_EFFECT: &str = "accepted, but it has no effect in this version";

impl Findings {
    fn take(&mut self, node: &Node, config: TelemetryConfig) {
        const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
        const HOW_MANY: [&str; 4] = ["none", "basic", "normal", "detailed"];
        let Logs { level, encoding, initial_fields, output_paths, .. } = config.logs;
        let level = self.one_of(node, &["logs", "level"], "a level", level, &LEVELS);
        let format = ["console", "json"];
        let encoding = self.one_of(node, &["logs", "encoding"], "an encoding", encoding, &format);
        let metrics = config.metrics;
        let how_many = ["metrics", "level"];
        let how_many = self.one_of(node, &how_many, "a level", metrics.level, &HOW_MANY);
        let mut prometheus = Vec::new();
        let mut otlp = Vec::new();
        for (index, reader) in metrics.readers.into_iter().enumerate() {
            prometheus.extend(reader.pull.and_then(|pull| pull.exporter.prometheus));
            otlp.extend(reader.periodic.and_then(|periodic| self.push(node, index, periodic)));
        }
        if how_many.as_deref() == Some("none") {
            prometheus.clear();
            otlp.clear();
        }
        self.telemetry = Telemetry {
            level,
            format: match encoding.as_deref() {
                Some("json") => LogFormat::Json,
                _ => LogFormat::Console,
            },
            initial_fields,
            output_paths,
            otlp,
            prometheus: prometheus
                .into_iter()
                .map(|prometheus| PrometheusEndpoint {
                    host: prometheus.host,
                    port: prometheus.port,
                    without_type_suffix: prometheus.without_type_suffix,
                    without_units: prometheus.without_units,
                })
                .collect(),
        };
    }

    /// Where a reader brings the metrics.
    fn push(&mut self, node: &Node, index: usize, periodic: Periodic) -> Option<OtlpPush> {
        let otlp = periodic.exporter.otlp?;
        let reader = at(node, &["metrics", "readers"]).and_then(|all| all.items().get(index));
        let mark = reader.unwrap_or(node).mark.clone();
        let path = format!("{PATH}::metrics::readers::{index}::periodic");
        let mut wrong = |key: &str, message: &str| {
            self.errors.push(ConfigError::at(&mark, format!("{path}::{key}"), message));
        };
        if otlp.protocol.as_deref().is_some_and(|protocol| protocol != "http/protobuf") {
            wrong("exporter::otlp::protocol", "is `http/protobuf` here, and no other");
        }
        if !["http://", "https://"].iter().any(|scheme| otlp.endpoint.starts_with(scheme)) {
            wrong("exporter::otlp::endpoint", "is an address such as `http://localhost:4318`");
        }
        if periodic.interval < 100 || periodic.timeout == 0 {
            wrong("interval", "is at least 100 milliseconds, and `timeout` not 0");
        }
        Some(OtlpPush {
            endpoint: otlp.endpoint,
            headers: otlp.headers,
            interval: Duration::from_millis(periodic.interval),
            timeout: Duration::from_millis(periodic.timeout),
        })
    }

    /// A word that must be one of some, in any case.
    fn one_of(
        &mut self,
        node: &Node,
        keys: &[&str],
        what: &str,
        word: Option<String>,
        known: &[&str],
    ) -> Option<String> {
        let word = word?;
        let lower = word.to_lowercase();
        if known.contains(&lower.as_str()) {
            return Some(lower);
        }
        let mark = at(node, keys).unwrap_or(node).mark.clone();
        let message = format!("`{word}` is not {what}; use {}", known.join(", "));
        self.errors.push(ConfigError::at(&mark, format!("{PATH}::{}", keys.join("::")), message));
        None
    }

    fn without_effect(&mut self, node: &Node, keys: &[&str]) {
        if let Some(useless) = at(node, keys) {
            let path = format!("{PATH}::{}", keys.join("::"));
            self.warnings.push(ConfigError::at(&useless.mark, path, NO_EFFECT));
        }
    }
}

fn at<'n>(node: &'n Node, keys: &[&str]) -> Option<&'n Node> {
    keys.iter().try_fold(node, |node, key| node.get(key))
}
