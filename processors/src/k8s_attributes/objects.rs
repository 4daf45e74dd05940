//! What the API server says of objects, and the little of it that is kept.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rules::ExtractRules;

/// The longest text of a label or annotation that is kept.
const MAX_TEXT: usize = 4 << 10;

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Pod,
    Namespace,
    Node,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    /// Only ever the owner of a job.
    CronJob,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Pod,
        Self::Namespace,
        Self::Node,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
    ];

    /// What stands in paths of the API.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
        }
    }

    /// The path of the API group that it is in.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Pod | Self::Namespace | Self::Node => "/api/v1",
            Self::Job | Self::CronJob => "/apis/batch/v1",
            _ => "/apis/apps/v1",
        }
    }

    /// Whether it belongs to a namespace.
    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// The kind that an owner reference names.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ReplicaSet" => Self::ReplicaSet,
            "Deployment" => Self::Deployment,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "Job" => Self::Job,
            "CronJob" => Self::CronJob,
            _ => return None,
        })
    }
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) metadata: PageMetadata,
    pub(super) items: Vec<Raw>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageMetadata {
    #[serde(rename = "continue")]
    pub(super) next: String,
    #[serde(rename = "resourceVersion")]
    pub(super) version: String,
}

/// An event of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) object: Raw,
}

/// An object of any kind as the server writes it; what is not there has its default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    #[serde(deserialize_with = "or_default")]
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    spec: Spec,
    /// A word in the `Status` of an error.
    #[serde(deserialize_with = "or_default")]
    status: Status,
    /// The code of an error.
    pub(super) code: Option<u16>,
    /// The text of an error.
    pub(super) message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    pub(super) resource_version: String,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    hostname: String,
    host_network: bool,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<ContainerSpec>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<ContainerSpec>,
    #[serde(deserialize_with = "or_default")]
    ephemeral_containers: Vec<ContainerSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerSpec {
    name: String,
    image: String,
}

/// Of a pod; anything else has nothing of it.
#[derive(Debug, Default)]
struct Status(PodStatus);

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<PodIp>,
    start_time: String,
    #[serde(deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    image: String,
    #[serde(rename = "imageID")]
    image_id: String,
    #[serde(rename = "containerID")]
    container_id: String,
    restart_count: i64,
    #[serde(deserialize_with = "or_default")]
    last_state: LastState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LastState {
    #[serde(deserialize_with = "or_default")]
    terminated: Terminated,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: String,
}

/// `null` is what Go writes for lists and maps without anything in them.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Pod(PodStatus),
            // The status of an error is a word.
            Other(serde::de::IgnoredAny),
        }
        Ok(Self(match Any::deserialize(deserializer)? {
            Any::Pod(status) => status,
            Any::Other(_) => PodStatus::default(),
        }))
    }
}

/// What is kept of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) owner: Option<Owner>,
    /// The attributes that its labels and annotations become.
    pub(super) attributes: Vec<(String, String)>,
    /// What only pods have.
    pub(super) pod: Option<Box<Pod>>,
}

/// Who made an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) ips: Vec<String>,
    pub(super) node: String,
    pub(super) hostname: String,
    pub(super) start_time: String,
    pub(super) host_network: bool,
    /// Nothing of it runs any more; its address may be another's.
    pub(super) is_over: bool,
    pub(super) containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image_name: String,
    pub(super) image_tag: String,
    pub(super) repo_digest: String,
    /// The id of the one that runs, then that of the one before.
    pub(super) ids: Vec<String>,
    pub(super) restarts: i64,
}

impl Raw {
    /// What is kept of it.
    pub(super) fn keep(self, kind: Kind, wanted: &ExtractRules) -> Object {
        let attributes = wanted.texts(kind, &self.metadata.labels, &self.metadata.annotations);
        let controller = self.metadata.owner_references.into_iter().find(|owner| owner.controller);
        let owner = controller.and_then(|owner| {
            let kind = Kind::named(&owner.kind)?;
            Some(Owner { kind, name: owner.name, uid: owner.uid })
        });
        let pod = (kind == Kind::Pod).then(|| Box::new(pod(self.spec, self.status.0)));
        let Metadata { name, namespace, uid, .. } = self.metadata;
        Object { uid, name, namespace, owner, attributes, pod }
    }

    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }
}

/// A text of bounded length.
pub(super) fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn pod(spec: Spec, status: PodStatus) -> Pod {
    let mut ips: Vec<String> = status.pod_ips.into_iter().map(|ip| ip.ip).collect();
    if !status.pod_ip.is_empty() && !ips.contains(&status.pod_ip) {
        ips.insert(0, status.pod_ip);
    }
    let specs = [spec.containers, spec.init_containers, spec.ephemeral_containers];
    let statuses = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    let mut containers: Vec<Container> = Vec::new();
    for spec in specs.into_iter().flatten() {
        let (image_name, image_tag) = image(&spec.image);
        containers.push(Container {
            name: spec.name,
            image_name,
            image_tag,
            ..Container::default()
        });
    }
    for status in statuses.into_iter().flatten() {
        let at = containers.iter().position(|container| container.name == status.name);
        let at = at.unwrap_or_else(|| {
            let (image_name, image_tag) = image(&status.image);
            let name = status.name.clone();
            containers.push(Container { name, image_name, image_tag, ..Container::default() });
            containers.len() - 1
        });
        let Some(container) = containers.get_mut(at) else { continue };
        container.restarts = status.restart_count;
        if status.image_id.contains("@sha256:") {
            let digest = status.image_id.split_once("://").map_or(&*status.image_id, |(_, id)| id);
            container.repo_digest = digest.to_owned();
        }
        for id in [&status.container_id, &status.last_state.terminated.container_id] {
            let id = id.split_once("://").map_or(id.as_str(), |(_, id)| id);
            if !id.is_empty() {
                container.ids.push(id.to_owned());
            }
        }
    }
    Pod {
        ips,
        node: spec.node_name,
        hostname: spec.hostname,
        start_time: status.start_time,
        host_network: spec.host_network,
        is_over: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        containers,
    }
}

/// The name and the tag of an image: `registry:5000/shop/web:1.2@sha256:…` is
/// `registry:5000/shop/web` and `1.2`. Without a tag or a digest it is `latest`.
pub(super) fn image(reference: &str) -> (String, String) {
    let (reference, digest) = match reference.split_once('@') {
        Some((reference, digest)) => (reference, digest),
        None => (reference, ""),
    };
    let path = reference.rfind('/').map_or(0, |at| at + 1);
    let tag = reference.get(path..).and_then(|last| last.find(':')).map(|at| path + at);
    let (name, tag) = match tag {
        Some(at) => (reference.get(..at), reference.get(at + 1..)),
        None => (Some(reference), Some(if digest.is_empty() { "latest" } else { "" })),
    };
    let (name, tag) = (name.unwrap_or_default(), tag.unwrap_or_default());
    let tag = if name.is_empty() { "" } else { tag };
    (name.to_owned(), tag.to_owned())
}
