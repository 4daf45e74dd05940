//! Checks a configuration against a catalog and makes a plan of it; every mistake at once.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::catalog::{Catalog, plain_word};
use super::plan::{Defined, PipelinePlan, Plan};
use super::{addresses, references, service_telemetry};
use crate::component::Kind;
use crate::config::{ConfigError, Document, Entry, Mark, Node, Section, did_you_mean, read};

/// `service` without its pipelines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    extensions: Vec<String>,
    #[serde(rename = "telemetry")]
    _telemetry: serde::de::IgnoredAny,
    #[serde(rename = "pipelines")]
    _pipelines: serde::de::IgnoredAny,
}

/// Extensions of the Collector without which a pipeline works the same.
const HARMLESS_EXTENSIONS: [&str; 4] = ["zpages", "pprof", "memory_ballast", "remotetap"];

/// Extensions of the Collector that are not here, and what to do without them.
const WITHOUT: [(&str, &str); 6] = [
    ("headers_setter", "write fixed `headers` at the exporter, or one exporter for each tenant"),
    ("oauth2client", "let a sidecar write the token to a file and use `bearertokenauth::filename`"),
    ("oidc", "use `bearertokenauth` or `basicauth`"),
    ("healthcheckv2", "use `health_check`"),
    ("db_storage", "use `file_storage`"),
    ("redis_storage", "use `file_storage`"),
];

const TOP_LEVEL: [&str; 6] =
    ["receivers", "processors", "exporters", "extensions", "connectors", "service"];

pub(super) struct Check<'a> {
    catalog: &'a Catalog,
    plan: Plan,
    /// Components that are there but have mistakes of their own.
    broken: BTreeSet<(Kind, String)>,
    errors: Vec<ConfigError>,
}

impl<'a> Check<'a> {
    /// A check that fills in `plan`.
    pub(super) fn new(catalog: &'a Catalog, plan: Plan) -> Self {
        Self { catalog, plan, broken: BTreeSet::new(), errors: Vec::new() }
    }

    /// What a configuration asks for, and every mistake in it.
    pub(super) fn of(mut self, document: &Document) -> (Plan, Vec<ConfigError>) {
        self.errors = document.errors.clone();
        self.top_level(&document.root);
        (self.plan, self.errors)
    }

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
        for kind in [Kind::Receiver, Kind::Processor, Kind::Exporter, Kind::Extension] {
            for entry in self.map_of(root, kind.section()) {
                self.component(kind, entry);
            }
        }
        for entry in self.map_of(root, "connectors") {
            let path = format!("connectors::{}", entry.key);
            let message = "connectors are not supported; list the receiver in several pipelines";
            self.error(&entry.mark, path, message);
        }
        match root.get("service") {
            Some(service) => self.service(service),
            None => {
                let message = "there is no `service` section, so nothing would run";
                self.error(&root.mark, "service", message);
            }
        }
    }

    /// The entries of a map that may be missing or empty.
    fn map_of<'n>(&mut self, parent: &'n Node, key: &str) -> &'n [Entry] {
        let Some(node) = parent.get(key) else { return &[] };
        if !node.is_null() && !node.is_map() {
            self.error(&node.mark, key, format!("expected a map, found {}", node.describe()));
        }
        node.entries()
    }

    fn component(&mut self, kind: Kind, entry: &Entry) {
        let id = entry.key.clone();
        let path = format!("{}::{id}", kind.section());
        let Some(name) = self.type_of(&entry.mark, &path, &id) else {
            self.broken.insert((kind, id));
            return;
        };
        let Some(factory) = self.catalog.find(kind, name).copied() else {
            if kind == Kind::Extension && HARMLESS_EXTENSIONS.contains(&name) {
                let message = format!("profpipe has no extension `{name}`; it is ignored");
                self.warn(&entry.mark, path, message);
                self.broken.insert((kind, id));
                return;
            }
            let without =
                WITHOUT.iter().find(|(other, _)| kind == Kind::Extension && *other == name);
            let message = match without {
                Some((_, instead)) => format!("`{name}` is not supported; {instead}"),
                None => self.catalog.explain(kind, name),
            };
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
                self.plan.warnings.extend((factory.advise)(&section));
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

    fn service(&mut self, node: &Node) {
        match read::<Service>(node, "service") {
            Ok(service) => self.extensions(node, service.extensions),
            Err(errors) => self.errors.extend(errors),
        }
        if let Some(node) = node.get("telemetry") {
            let found = service_telemetry::check(node);
            self.plan.telemetry = found.telemetry;
            self.errors.extend(found.errors);
            self.plan.warnings.extend(found.warnings);
        }
        let path = "service::pipelines";
        let pipelines = node.get("pipelines").filter(|pipelines| !pipelines.is_null());
        match pipelines {
            Some(pipelines) if !pipelines.is_map() => {
                let message = format!("expected a map, found {}", pipelines.describe());
                self.error(&pipelines.mark, path, message);
            }
            Some(pipelines) if !pipelines.entries().is_empty() => {}
            _ => {
                let message =
                    "there is no pipeline; add `profiles: {receivers: […], exporters: […]}`";
                self.error(&node.mark, path, message);
            }
        }
        for entry in pipelines.map(Node::entries).unwrap_or_default() {
            self.pipeline(entry);
        }
        self.extension_references();
        self.errors.extend(addresses::check(&self.plan, node));
        self.unused();
    }

    /// Checks what components say about extensions, and what their delivery advises.
    fn extension_references(&mut self) {
        let found = references::check(&self.plan, &self.broken);
        self.errors.extend(found.errors);
        self.plan.warnings.extend(found.warnings);
    }

    fn extensions(&mut self, service: &Node, used: Vec<String>) {
        for (at, id) in used.iter().enumerate() {
            let known = (Kind::Extension, id.clone());
            if self.plan.components.contains_key(&known) {
                if !self.plan.extensions.contains(id) {
                    self.plan.extensions.push(id.clone());
                }
            } else if !self.broken.contains(&known) {
                let mark = item_mark(service, "extensions", at);
                let there = self.plan.components.keys().chain(&self.broken);
                let of_kind = there.filter(|(kind, _)| *kind == Kind::Extension);
                let hint = did_you_mean(id, of_kind.map(|(_, id)| id.as_str()));
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
                    "`{signal}` is not a signal; a pipeline is `profiles` or \
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
        self.needed_receivers(entry, &path, &plan);
        self.plan.pipelines.push(plan);
    }

    /// Checks that a pipeline names what is there, each once, and ends at both ends.
    fn references(&mut self, pipeline: &Entry, path: &str, kind: Kind, ids: &[String]) {
        let key = kind.section();
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

    /// Checks that processors that work with some receivers only have one.
    fn needed_receivers(&mut self, pipeline: &Entry, path: &str, plan: &PipelinePlan) {
        for (at, id) in plan.processors.iter().enumerate() {
            let defined = self.plan.components.get(&(Kind::Processor, id.clone()));
            let needed = defined.map(|defined| (defined.factory.only_with)()).unwrap_or_default();
            let is_needed = |receiver: &String| {
                needed.contains(&receiver.split('/').next().unwrap_or_default())
            };
            if needed.is_empty() || plan.receivers.iter().any(is_needed) {
                continue;
            }
            let mark = item_mark(&pipeline.value, "processors", at);
            let names = needed.join("` or `");
            let message = format!(
                "`{id}` does nothing without the receiver `{names}`; list it in this pipeline or \
                 take `{id}` out"
            );
            self.error(&mark, format!("{path}::processors::{at}"), message);
        }
    }

    fn unused(&mut self) {
        let unused: Vec<ConfigError> = self
            .plan
            .components
            .iter()
            .filter(|((kind, id), _)| !self.plan.uses(*kind, id))
            .map(|(_, defined)| {
                let message = match defined.factory.kind {
                    Kind::Extension => "defined, but `service::extensions` does not list it",
                    _ => "defined, but no pipeline uses it",
                };
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
