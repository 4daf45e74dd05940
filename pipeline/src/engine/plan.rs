//! What a configuration asks for: components and pipelines, checked against what there is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::component::{Factory, Kind};
use crate::config::{ConfigError, ConfigErrors, Document, Section, did_you_mean};
use crate::config::{Entry, Mark, Node, read};

/// The component types that a program has.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    factories: Vec<Factory>,
    /// Components that the program brings ready-made, by kind and id.
    ready: BTreeSet<(Kind, String)>,
}

impl Catalog {
    /// A catalog of these types.
    pub fn new(factories: impl IntoIterator<Item = Factory>) -> Self {
        Self { factories: factories.into_iter().collect(), ready: BTreeSet::new() }
    }

    /// Adds a type; it hides an earlier one of the same kind and name.
    pub fn add(&mut self, factory: Factory) {
        self.factories.insert(0, factory);
    }

    pub(super) fn add_ready(&mut self, kind: Kind, id: &str) {
        self.ready.insert((kind, id.to_owned()));
    }

    fn find(&self, kind: Kind, name: &str) -> Option<&Factory> {
        let of_kind = || self.factories.iter().filter(|factory| factory.kind == kind);
        let exact = of_kind().find(|factory| factory.name == name);
        exact.or_else(|| of_kind().find(|factory| factory.aliases.contains(&name)))
    }

    /// Why there is no such type, and what there is instead.
    fn explain(&self, kind: Kind, name: &str) -> String {
        let other = self.factories.iter().find(|factory| factory.name == name);
        if let Some(other) = other {
            return format!("`{name}` is {}, not {}", word(other.kind), word(kind));
        }
        let names = || {
            let of_kind = self.factories.iter().filter(move |factory| factory.kind == kind);
            of_kind.map(|factory| factory.name)
        };
        let mut hint = did_you_mean(name, names());
        if hint.is_empty() && names().next().is_some() {
            hint = format!("; there are: {}", names().collect::<Vec<_>>().join(", "));
        }
        format!("there is no {} of type `{name}`{hint}", plain_word(kind))
    }
}

fn plain_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => "receiver",
        Kind::Processor => "processor",
        Kind::Exporter => "exporter",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => "a receiver",
        Kind::Processor => "a processor",
        Kind::Exporter => "an exporter",
    }
}

/// The name of the section that holds components of a kind.
pub(super) fn section_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => "receivers",
        Kind::Processor => "processors",
        Kind::Exporter => "exporters",
    }
}

/// A component that a configuration defines.
#[derive(Debug, Clone)]
pub(super) struct Defined {
    /// Where its id was written.
    mark: Mark,
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
}

/// What a configuration asks for, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) components: BTreeMap<(Kind, String), Defined>,
    /// The pipelines, in the order of the file.
    pub pipelines: Vec<PipelinePlan>,
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
        let mut check = Check {
            catalog,
            plan: Self {
                components: BTreeMap::new(),
                pipelines: Vec::new(),
                telemetry: Telemetry::default(),
                warnings: document.warnings.clone(),
            },
            broken: BTreeSet::new(),
            errors: document.errors.clone(),
        };
        check.top_level(&document.root);
        check.plan.warnings = ConfigErrors::from(check.plan.warnings).0;
        if check.errors.is_empty() { Ok(check.plan) } else { Err(check.errors.into()) }
    }

    /// Every component that a pipeline uses: kind, id and type.
    pub fn components(&self) -> impl Iterator<Item = (Kind, &str, &'static str)> {
        self.components
            .iter()
            .filter(|((kind, id), _)| self.uses(*kind, id))
            .map(|((kind, id), defined)| (*kind, id.as_str(), defined.factory.name))
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

    fn uses(&self, kind: Kind, id: &str) -> bool {
        let listed = |ids: &[String]| ids.iter().any(|listed| listed == id);
        self.pipelines.iter().any(|pipeline| match kind {
            Kind::Receiver => listed(&pipeline.receivers),
            Kind::Processor => listed(&pipeline.processors),
            Kind::Exporter => listed(&pipeline.exporters),
        })
    }

    /// The plan as a graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        super::dot::draw(self)
    }
}

/// `service` without its pipelines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    extensions: Vec<String>,
    telemetry: TelemetryConfig,
    #[serde(rename = "pipelines")]
    _pipelines: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TelemetryConfig {
    logs: Logs,
    #[serde(rename = "metrics")]
    _metrics: serde::de::IgnoredAny,
    #[serde(rename = "traces")]
    _traces: serde::de::IgnoredAny,
    #[serde(rename = "resource")]
    _resource: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Logs {
    level: Option<String>,
    #[serde(rename = "encoding")]
    _encoding: serde::de::IgnoredAny,
    #[serde(rename = "initial_fields")]
    _initial_fields: serde::de::IgnoredAny,
    #[serde(rename = "output_paths")]
    _output_paths: serde::de::IgnoredAny,
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

/// What of `service::telemetry` is accepted for the Collector's sake and does nothing yet.
const WITHOUT_EFFECT: [&[&str]; 6] = [
    &["metrics"],
    &["traces"],
    &["resource"],
    &["logs", "encoding"],
    &["logs", "output_paths"],
    &["logs", "processors"],
];

/// Extensions of the Collector without which a pipeline works the same.
const HARMLESS_EXTENSIONS: [&str; 6] =
    ["health_check", "healthcheckv2", "zpages", "pprof", "memory_ballast", "remotetap"];

const TOP_LEVEL: [&str; 6] =
    ["receivers", "processors", "exporters", "extensions", "connectors", "service"];

struct Check<'a> {
    catalog: &'a Catalog,
    plan: Plan,
    /// Components that are there but have mistakes of their own.
    broken: BTreeSet<(Kind, String)>,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    fn error(&mut self, mark: &Mark, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(ConfigError::at(mark, path, message));
    }

    fn warn(&mut self, mark: &Mark, path: impl Into<String>, message: impl Into<String>) {
        self.plan.warnings.push(ConfigError::at(mark, path, message));
    }

    fn top_level(&mut self, root: &Node) {
        for entry in root.entries() {
            if !TOP_LEVEL.contains(&entry.key.as_str()) {
                let hint = did_you_mean(&entry.key, TOP_LEVEL);
                self.error(&entry.mark, &entry.key, format!("unknown section{hint}"));
            }
        }
        for kind in [Kind::Receiver, Kind::Processor, Kind::Exporter] {
            for entry in self.map_of(root, section_of(kind)) {
                self.component(kind, entry);
            }
        }
        for entry in self.map_of(root, "connectors") {
            let path = format!("connectors::{}", entry.key);
            let message = "connectors are not supported; list the receiver in several pipelines";
            self.error(&entry.mark, path, message);
        }
        let extensions: Vec<&Entry> = self.map_of(root, "extensions").iter().collect();
        match root.get("service") {
            Some(service) => self.service(service, &extensions),
            None => {
                let message = "there is no `service` section, so nothing would run";
                self.error(&root.mark, "service", message);
            }
        }
    }

    /// The entries of a map that may be missing or empty.
    fn map_of<'n>(&mut self, parent: &'n Node, key: &str) -> &'n [Entry] {
        let Some(node) = parent.get(key) else { return &[] };
        if node.entries().is_empty() && !node.is_null() && !node.is_map() {
            self.error(&node.mark, key, format!("expected a map, found {}", node.describe()));
        }
        node.entries()
    }

    fn component(&mut self, kind: Kind, entry: &Entry) {
        let id = entry.key.clone();
        let path = format!("{}::{id}", section_of(kind));
        let Some(name) = self.type_of(&entry.mark, &path, &id) else {
            self.broken.insert((kind, id));
            return;
        };
        let Some(factory) = self.catalog.find(kind, name).copied() else {
            let message = self.catalog.explain(kind, name);
            self.error(&entry.mark, path, message);
            self.broken.insert((kind, id));
            return;
        };
        if factory.name != name {
            let message = format!("`{name}` is an older spelling; write `{}`", factory.name);
            self.warn(&entry.mark, &path, message);
        }
        let section = Section::new(entry.value.clone(), path);
        match (factory.parse)(&section) {
            Ok(_) => {
                let defined = Defined { mark: entry.mark.clone(), factory, section };
                self.plan.components.insert((kind, id), defined);
            }
            Err(errors) => {
                self.errors.extend(errors);
                self.broken.insert((kind, id));
            }
        }
    }

    /// The type in an id `type` or `type/name`.
    fn type_of<'i>(&mut self, mark: &Mark, path: &str, id: &'i str) -> Option<&'i str> {
        let (name, suffix) = id.split_once('/').unwrap_or((id, "-"));
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !suffix.trim().is_empty();
        if !well_formed {
            self.error(mark, path, "an id is written `type` or `type/name`");
            return None;
        }
        Some(name)
    }

    fn service(&mut self, node: &Node, extensions: &[&Entry]) {
        match read::<Service>(node, "service") {
            Ok(service) => {
                self.extensions(node, &service.extensions, extensions);
                self.level(node, service.telemetry.logs.level);
            }
            Err(errors) => self.errors.extend(errors),
        }
        for keys in WITHOUT_EFFECT {
            let of_telemetry = ["telemetry"].iter().chain(keys);
            let found = of_telemetry.copied().try_fold(node, |node, key| node.get(key));
            if let Some(found) = found {
                let path = format!("service::telemetry::{}", keys.join("::"));
                self.warn(&found.mark, path, "accepted, but it has no effect in this version");
            }
        }
        let pipelines = self.map_of(node, "pipelines");
        if pipelines.is_empty() {
            let message = "there is no pipeline; add `profiles: {receivers: […], exporters: […]}`";
            self.error(&node.mark, "service::pipelines", message);
        }
        for entry in pipelines {
            self.pipeline(entry);
        }
        self.unused();
    }

    fn level(&mut self, service: &Node, level: Option<String>) {
        const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
        let Some(level) = level else { return };
        let lower = level.to_lowercase();
        if LEVELS.contains(&lower.as_str()) {
            self.plan.telemetry.level = Some(lower);
            return;
        }
        let steps = ["telemetry", "logs", "level"];
        let node = steps.iter().try_fold(service, |node, key| node.get(key));
        let mark = node.map(|node| node.mark.clone()).unwrap_or_default();
        let message = format!("`{level}` is not a level; use {}", LEVELS.join(", "));
        self.error(&mark, "service::telemetry::logs::level", message);
    }

    fn extensions(&mut self, service: &Node, used: &[String], defined: &[&Entry]) {
        for entry in defined {
            let path = format!("extensions::{}", entry.key);
            let Some(name) = self.type_of(&entry.mark, &path, &entry.key) else { continue };
            let message = format!("the extension `{name}` is not part of this version");
            if HARMLESS_EXTENSIONS.contains(&name) {
                self.warn(&entry.mark, path, format!("{message} and is ignored"));
            } else {
                self.error(&entry.mark, path, format!("{message}; remove it"));
            }
        }
        for (at, id) in used.iter().enumerate() {
            if !defined.iter().any(|entry| entry.key == *id) {
                let mark = item_mark(service, "extensions", at);
                let hint = did_you_mean(id, defined.iter().map(|entry| entry.key.as_str()));
                let message = format!("`{id}` is not defined under `extensions`{hint}");
                self.error(&mark, format!("service::extensions::{at}"), message);
            }
        }
    }

    fn pipeline(&mut self, entry: &Entry) {
        let path = format!("service::pipelines::{}", entry.key);
        let Some(signal) = self.type_of(&entry.mark, &path, &entry.key) else { return };
        match signal {
            "profiles" => {}
            "traces" | "metrics" | "logs" => {
                let message = format!(
                    "profpipe carries profiles only; remove the {signal} pipeline or run it in a \
                     Collector"
                );
                self.error(&entry.mark, path, message);
                return;
            }
            _ => {
                let hint = did_you_mean(signal, ["profiles"]);
                let message = format!(
                    "`{signal}` is no signal; a pipeline is `profiles` or \
                     `profiles/name`{hint}"
                );
                self.error(&entry.mark, path, message);
                return;
            }
        }
        let config: PipelineConfig = match read(&entry.value, &path) {
            Ok(config) => config,
            Err(errors) => {
                self.errors.extend(errors);
                return;
            }
        };
        let plan = PipelinePlan {
            id: entry.key.clone(),
            receivers: config.receivers,
            processors: config.processors,
            exporters: config.exporters,
        };
        self.references(entry, &path, Kind::Receiver, &plan.receivers);
        self.references(entry, &path, Kind::Processor, &plan.processors);
        self.references(entry, &path, Kind::Exporter, &plan.exporters);
        self.plan.pipelines.push(plan);
    }

    /// Checks that a pipeline names what is there, each once, and ends at both ends.
    fn references(&mut self, pipeline: &Entry, path: &str, kind: Kind, ids: &[String]) {
        let key = section_of(kind);
        if ids.is_empty() && kind != Kind::Processor {
            let message = format!("a pipeline needs at least one {}", plain_word(kind));
            self.error(&pipeline.mark, format!("{path}::{key}"), message);
        }
        for (at, id) in ids.iter().enumerate() {
            let mark = item_mark(&pipeline.value, key, at);
            let path = format!("{path}::{key}::{at}");
            if ids.iter().take(at).any(|earlier| earlier == id) {
                self.error(&mark, path, format!("`{id}` is listed twice"));
                continue;
            }
            let known = (kind, id.clone());
            if self.plan.components.contains_key(&known)
                || self.broken.contains(&known)
                || self.catalog.ready.contains(&known)
            {
                continue;
            }
            let there = self.plan.components.keys().chain(&self.broken).chain(&self.catalog.ready);
            let of_kind = there.filter(|(other, _)| *other == kind).map(|(_, id)| id.as_str());
            let hint = did_you_mean(id, of_kind);
            self.error(&mark, path, format!("`{id}` is not defined under `{key}`{hint}"));
        }
    }

    fn unused(&mut self) {
        let unused: Vec<ConfigError> = self
            .plan
            .components
            .iter()
            .filter(|((kind, id), _)| !self.plan.uses(*kind, id))
            .map(|(_, defined)| {
                let message = "defined, but no pipeline uses it";
                ConfigError::at(&defined.mark, defined.section.path(), message)
            })
            .collect();
        self.plan.warnings.extend(unused);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PipelineConfig {
    receivers: Vec<String>,
    processors: Vec<String>,
    exporters: Vec<String>,
}

/// Where an item of a list was written.
fn item_mark(parent: &Node, key: &str, at: usize) -> Mark {
    let Some(list) = parent.get(key) else { return parent.mark.clone() };
    list.items().get(at).unwrap_or(list).mark.clone()
}
