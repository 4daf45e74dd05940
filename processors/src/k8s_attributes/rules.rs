//! Which attributes a resource gets, and which objects must be known for that.

use std::collections::{BTreeMap, BTreeSet};

use profpipe_profile::{Resource, Value};
use regex::Regex;

use super::config::{self, Association, Config, Extract, SourceKind};
use super::objects::{Container, Kind, Object, Pod, bounded};
use super::store::{Query, Store};
use crate::actions::compile;

/// Every attribute that can be set, beside those of labels and annotations.
pub(super) const METADATA: &[&str] = &[
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.ip",
    "k8s.pod.hostname",
    "k8s.pod.start_time",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.cluster.uid",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.image.repo_digests",
];

/// Those that are set unless others are asked for. The Collector's, and what profiles have a use for:
/// the container and every kind of workload.
pub(super) const DEFAULTS: &[&str] = &[
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.start_time",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.job.name",
    "k8s.cronjob.name",
    "k8s.node.name",
    "k8s.container.name",
    "container.image.name",
    "container.image.tag",
];

/// Attributes by which pods are found.
pub(super) const SOURCES: &[&str] =
    &["container.id", "k8s.pod.uid", "k8s.pod.ip", "k8s.pod.name", "k8s.namespace.name"];

/// The beginning of annotations by which pods ask for attributes.
const ASKED: &str = "resource.opentelemetry.io/";
/// The namespace whose identity stands for that of the cluster.
const SYSTEM: &str = "kube-system";

/// What is wanted of objects.
#[derive(Debug)]
pub(super) struct ExtractRules {
    metadata: BTreeSet<String>,
    texts: Vec<Text>,
    asked: bool,
    deployment_from_replicaset: bool,
    associations: Vec<Vec<String>>,
    excluded: Vec<Regex>,
}

/// A label or annotation that becomes an attribute.
#[derive(Debug)]
struct Text {
    of: Kind,
    is_label: bool,
    key: Key,
    attribute: String,
}

#[derive(Debug)]
enum Key {
    Is(String),
    Matches(Regex),
}

impl ExtractRules {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let Extract { labels, annotations, .. } = &config.extract;
        let mut texts = Vec::new();
        for (fields, is_label) in [(labels, true), (annotations, false)] {
            for field in fields {
                let of = match field.from {
                    config::From::Pod => Kind::Pod,
                    config::From::Namespace => Kind::Namespace,
                    config::From::Node => Kind::Node,
                    config::From::Deployment => Kind::Deployment,
                    config::From::StatefulSet => Kind::StatefulSet,
                    config::From::DaemonSet => Kind::DaemonSet,
                    config::From::Job => Kind::Job,
                };
                let key = if field.key_regex.is_empty() {
                    Key::Is(field.key.clone())
                } else {
                    Key::Matches(compile(&format!("^(?:{})$", field.key_regex))?)
                };
                texts.push(Text { of, is_label, key, attribute: field.tag_name.clone() });
            }
        }
        let mut associations: Vec<Vec<String>> = Vec::new();
        for Association { sources } in &config.pod_association {
            if sources.iter().all(|source| source.from == SourceKind::ResourceAttribute) {
                associations.push(sources.iter().map(|source| source.name.clone()).collect());
            }
        }
        if config.pod_association.is_empty() {
            let ways: &[&[&str]] = &[
                &["container.id"],
                &["k8s.pod.uid"],
                &["k8s.pod.ip"],
                &["k8s.pod.name", "k8s.namespace.name"],
            ];
            let of = |way: &&[&str]| way.iter().map(|name| (*name).to_owned()).collect();
            associations.extend(ways.iter().map(of));
        }
        let excluded: Result<_, _> =
            config.exclude.pods.iter().map(|pod| compile(&pod.name)).collect();
        Ok(Self {
            metadata: config.extract.metadata.iter().cloned().collect(),
            texts,
            asked: config.extract.otel_annotations,
            deployment_from_replicaset: config.extract.deployment_name_from_replicaset,
            associations,
            excluded: excluded?,
        })
    }

    fn wants(&self, name: &str) -> bool {
        self.metadata.contains(name)
    }

    /// Whether objects of this kind must be known.
    pub(super) fn needs(&self, kind: Kind) -> bool {
        let has_texts = self.texts.iter().any(|text| text.of == kind);
        has_texts
            || match kind {
                Kind::Pod => true,
                Kind::Namespace => self.wants("k8s.cluster.uid"),
                Kind::Node => self.wants("k8s.node.uid"),
                Kind::ReplicaSet => {
                    self.needs(Kind::Deployment)
                        || self.wants("k8s.deployment.uid")
                        || self.wants("k8s.deployment.name") && !self.deployment_from_replicaset
                }
                Kind::Job => self.wants("k8s.cronjob.uid"),
                Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::CronJob => false,
            }
    }

    /// Whether a pod of this name is never found.
    pub(super) fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|excluded| excluded.is_match(name))
    }

    /// The attributes that labels and annotations become.
    pub(super) fn texts(
        &self,
        kind: Kind,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for text in self.texts.iter().filter(|text| text.of == kind) {
            let (pairs, noun) =
                if text.is_label { (labels, "labels") } else { (annotations, "annotations") };
            let usual = |key: &str| format!("k8s.{}.{noun}.{key}", singular(kind));
            match &text.key {
                Key::Is(key) => {
                    if let Some(value) = pairs.get(key) {
                        let given = Some(&text.attribute).filter(|name| !name.is_empty());
                        let name = given.cloned().unwrap_or_else(|| usual(key));
                        found.push((name, bounded(value)));
                    }
                }
                Key::Matches(regex) => {
                    for (key, value) in pairs {
                        let Some(groups) = regex.captures(key) else { continue };
                        let mut name = String::new();
                        if text.attribute.is_empty() {
                            name = usual(key);
                        } else {
                            groups.expand(&text.attribute, &mut name);
                        }
                        found.push((name, bounded(value)));
                    }
                }
            }
        }
        if self.asked && kind == Kind::Pod {
            let asked = annotations.iter().filter_map(|(key, value)| {
                let name = key.strip_prefix(ASKED)?;
                Some((name.to_owned(), bounded(value)))
            });
            found.extend(asked);
        }
        found
    }

    /// What the pod of a resource is found by: the first way of which the resource has everything.
    pub(super) fn queries(&self, resource: &Resource) -> Vec<Query> {
        let text = |name: &str| {
            let text = resource.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let of_way = |way: &Vec<String>| -> Option<Query> {
            way.iter().map(|name| Some((name.clone(), text(name)?))).collect()
        };
        self.associations.iter().filter_map(of_way).collect()
    }

    /// Sets what is known of a resource's pod. True unless something is not known yet.
    pub(super) fn apply(
        &self,
        store: &Store,
        found: Option<&Object>,
        resource: &mut Resource,
    ) -> bool {
        let mut setter = Setter { wanted: self, resource };
        let mut is_complete = true;
        if let Some(object) = found
            && let Some(pod) = &object.pod
        {
            setter.pod(object, pod);
            is_complete = setter.workload(store, object);
            for (name, value) in &object.attributes {
                setter.set(name, value);
            }
            is_complete &= setter.place(store, Kind::Node, &pod.node);
            is_complete &= setter.place(store, Kind::Namespace, &object.namespace);
        } else {
            // What is of no pod may still be of a node or a namespace.
            for (kind, name) in
                [(Kind::Node, "k8s.node.name"), (Kind::Namespace, "k8s.namespace.name")]
            {
                let known = setter.resource.get(name).and_then(Value::as_str).map(str::to_owned);
                if let Some(known) = known {
                    setter.place(store, kind, &known);
                }
            }
        }
        if self.wants("k8s.cluster.uid")
            && let Some(system) = store.named(Kind::Namespace, "", SYSTEM)
        {
            setter.set("k8s.cluster.uid", &system.uid);
        }
        is_complete
    }
}

fn singular(kind: Kind) -> &'static str {
    kind.plural().strip_suffix('s').unwrap_or_default()
}

/// Sets attributes that a resource has not.
struct Setter<'a> {
    wanted: &'a ExtractRules,
    resource: &'a mut Resource,
}

impl Setter<'_> {
    /// Sets an attribute unless it is there: who sent the profile knows better.
    fn set(&mut self, name: &str, value: &str) {
        let is_there = self
            .resource
            .get(name)
            .is_some_and(|known| !matches!(known, Value::Empty) && known.as_str() != Some(""));
        if !is_there && !value.is_empty() {
            self.resource.set(name, value);
        }
    }

    fn wanted(&mut self, name: &str, value: &str) {
        if self.wanted.wants(name) {
            self.set(name, value);
        }
    }

    fn pod(&mut self, object: &Object, pod: &Pod) {
        self.wanted("k8s.namespace.name", &object.namespace);
        self.wanted("k8s.pod.name", &object.name);
        self.wanted("k8s.pod.uid", &object.uid);
        self.wanted("k8s.pod.ip", pod.ips.first().map_or("", String::as_str));
        let hostname = if pod.hostname.is_empty() { &object.name } else { &pod.hostname };
        self.wanted("k8s.pod.hostname", hostname);
        self.wanted("k8s.pod.start_time", &pod.start_time);
        self.wanted("k8s.node.name", &pod.node);
        self.container(pod);
    }

    /// What is of one container of the pod, if the resource says of which, or there is only one.
    fn container(&mut self, pod: &Pod) {
        let text = |name: &str| self.resource.get(name).and_then(Value::as_str);
        let (id, name) = (text("container.id"), text("k8s.container.name"));
        let found: Option<&Container> = match (id, name) {
            (Some(id), _) => pod.containers.iter().find(|one| one.ids.iter().any(|own| own == id)),
            (None, Some(name)) => pod.containers.iter().find(|one| one.name == name),
            (None, None) => match pod.containers.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        };
        let Some(container) = found else { return };
        self.wanted("k8s.container.name", &container.name);
        self.wanted("container.id", container.ids.first().map_or("", String::as_str));
        self.wanted("container.image.name", &container.image_name);
        self.wanted("container.image.tag", &container.image_tag);
        let name = "container.image.repo_digests";
        if self.wanted.wants(name)
            && !container.repo_digest.is_empty()
            && self.resource.get(name).is_none()
        {
            let digest = Value::from(container.repo_digest.as_str());
            self.resource.set(name, Value::Array(vec![digest]));
        }
    }

    /// What made the pod, and what made that. False if that is not known yet.
    fn workload(&mut self, store: &Store, object: &Object) -> bool {
        let Some(owner) = &object.owner else { return true };
        let noun = singular(owner.kind);
        self.wanted(&format!("k8s.{noun}.name"), &owner.name);
        self.wanted(&format!("k8s.{noun}.uid"), &owner.uid);
        let known = store.by_uid(owner.kind, &owner.uid);
        let mut is_complete = known.is_some() || !store.is_watched(owner.kind);
        if let Some(known) = known {
            for (name, value) in &known.attributes {
                self.set(name, value);
            }
        }
        match (owner.kind, known.and_then(|known| known.owner.as_ref())) {
            (Kind::ReplicaSet, Some(above)) if above.kind == Kind::Deployment => {
                self.wanted("k8s.deployment.name", &above.name);
                self.wanted("k8s.deployment.uid", &above.uid);
                match store.by_uid(Kind::Deployment, &above.uid) {
                    Some(deployment) => {
                        for (name, value) in &deployment.attributes {
                            self.set(name, value);
                        }
                    }
                    None => is_complete &= !store.is_watched(Kind::Deployment),
                }
            }
            // `shop-5d4f8c7b9` is of `shop`.
            (Kind::ReplicaSet, None) if self.wanted.deployment_from_replicaset => {
                if let Some((deployment, _)) = owner.name.rsplit_once('-') {
                    self.wanted("k8s.deployment.name", deployment);
                }
            }
            // Jobs of a cron job end with the minute that they were due: `report-28394723`.
            (Kind::Job, None) => {
                if let Some((cronjob, minute)) = owner.name.rsplit_once('-')
                    && minute.len() >= 8
                    && minute.bytes().all(|byte| byte.is_ascii_digit())
                {
                    self.wanted("k8s.cronjob.name", cronjob);
                }
            }
            (Kind::Job, Some(above)) if above.kind == Kind::CronJob => {
                self.wanted("k8s.cronjob.name", &above.name);
                self.wanted("k8s.cronjob.uid", &above.uid);
            }
            _ => {}
        }
        is_complete
    }

    /// What is of a node or a namespace. False if that is not known yet.
    fn place(&mut self, store: &Store, kind: Kind, name: &str) -> bool {
        if !store.is_watched(kind) || name.is_empty() {
            return true;
        }
        let Some(found) = store.named(kind, "", name) else { return false };
        if kind == Kind::Node {
            self.wanted("k8s.node.uid", &found.uid);
        }
        for (name, value) in &found.attributes {
            self.set(name, value);
        }
        true
    }
}
