//! What users type for the `k8s_attributes` processor: the Collector's keys, and a few more.

use std::path::PathBuf;

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use profpipe_network::settings::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::actions::compile as regex;

/// Says of which pod, workload, namespace and node a profile is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the credentials for the API server are from.
    pub auth_type: AuthType,
    /// The context of the kubeconfig file; its current one unless given.
    pub context: String,
    /// The kubeconfig file; that of `KUBECONFIG`, or `~/.kube/config`, unless given.
    pub kubeconfig: Option<PathBuf>,
    /// The API server, such as `https://10.0.0.1:6443`; that of the own cluster or the kubeconfig
    /// file unless given.
    pub api_server: String,
    /// TLS towards the API server, over what `auth_type` brings.
    pub tls: ClientTls,
    /// A file with the token to show, over what `auth_type` brings; read anew for every request.
    pub bearer_token_file: Option<PathBuf>,
    /// Asks no API server and changes nothing.
    pub passthrough: bool,
    /// Which pods are looked at.
    pub filter: Filter,
    /// What is said of them.
    pub extract: Extract,
    /// How the pod of a resource is found: the first of these of which all sources agree.
    pub pod_association: Vec<Association>,
    /// Pods that are never found.
    pub exclude: Exclude,
    /// Lets batches wait until everything was listed once.
    pub wait_for_metadata: bool,
    /// How long at most, from the start on.
    pub wait_for_metadata_timeout: Duration,
    /// How long a batch waits for a pod that is not known yet: a new container may be profiled
    /// before the API server tells of it. 0 for not at all.
    pub wait: Duration,
    /// How many bytes of batches wait at most; beyond, the oldest goes on as it is.
    pub max_parked: ByteSize,
}

/// Where credentials are from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthType {
    /// There are none.
    #[serde(rename = "none")]
    None,
    /// From the service account of the own pod.
    #[default]
    #[serde(rename = "serviceAccount")]
    ServiceAccount,
    /// From a kubeconfig file.
    #[serde(rename = "kubeConfig")]
    KubeConfig,
}

/// Which pods are looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Those of this node.
    pub node: String,
    /// Those of the node that this environment variable names.
    pub node_from_env_var: String,
    /// Those of this namespace.
    pub namespace: String,
    /// Those with these fields.
    pub fields: Vec<Selector>,
    /// Those with these labels.
    pub labels: Vec<Selector>,
}

/// A field or label that a pod must have, or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// How they are compared.
    pub op: Comparison,
}

/// How a field or label is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Comparison {
    /// It has the value.
    #[default]
    #[serde(rename = "equals", alias = "")]
    Equals,
    /// It has another value, or is not there.
    #[serde(rename = "not-equals")]
    NotEquals,
    /// It is there (labels only).
    #[serde(rename = "exists")]
    Exists,
    /// It is not there (labels only).
    #[serde(rename = "does-not-exist")]
    DoesNotExist,
}

/// What is said of pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Extract {
    /// The attributes to set.
    pub metadata: Vec<String>,
    /// The labels that become attributes.
    pub labels: Vec<Field>,
    /// The annotations that become attributes.
    pub annotations: Vec<Field>,
    /// Sets the attributes that pods ask for by annotations `resource.opentelemetry.io/NAME`.
    pub otel_annotations: bool,
    /// Takes the name of a deployment from that of its replica set, instead of asking for it.
    pub deployment_name_from_replicaset: bool,
}

impl Default for Extract {
    fn default() -> Self {
        Self {
            metadata: rules::DEFAULTS.iter().map(|name| (*name).to_owned()).collect(),
            labels: Vec::new(),
            annotations: Vec::new(),
            otel_annotations: false,
            deployment_name_from_replicaset: false,
        }
    }
}

/// A label or annotation that becomes an attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Field {
    /// The attribute; `k8s.pod.labels.KEY` and the like unless given. With `key_regex`, `$1` is its
    /// first group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_name: String,
    /// The key of the label or annotation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// A regular expression of keys, in place of `key`; the whole key must match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_regex: String,
    /// What has the label or annotation.
    pub from: From,
}

/// What has a label or annotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The pod.
    #[default]
    Pod,
    /// Its namespace.
    Namespace,
    /// Its node.
    Node,
    /// Its deployment.
    Deployment,
    /// Its stateful set.
    StatefulSet,
    /// Its daemon set.
    DaemonSet,
    /// Its job.
    Job,
}

/// A way to find the pod of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Association {
    /// What must agree.
    pub sources: Vec<Source>,
}

/// What of a resource must agree with a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// What kind of thing it is.
    pub from: SourceKind,
    /// The attribute.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What kind of thing must agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// An attribute of the resource.
    #[default]
    ResourceAttribute,
    /// The address that a batch came from, which batches here do not have.
    Connection,
}

/// Pods that are never found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclude {
    /// Those with such names.
    pub pods: Vec<ExcludedPod>,
}

/// Pods of such names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExcludedPod {
    /// A regular expression that matches some of the name.
    pub name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth_type: AuthType::default(),
            context: String::new(),
            kubeconfig: None,
            api_server: String::new(),
            tls: ClientTls::default(),
            bearer_token_file: None,
            passthrough: false,
            filter: Filter::default(),
            extract: Extract::default(),
            pod_association: Vec::new(),
            exclude: Exclude::default(),
            wait_for_metadata: false,
            wait_for_metadata_timeout: Duration::from_secs(10),
            wait: Duration::from_secs(1),
            max_parked: ByteSize::mib(32),
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        let server = &self.api_server;
        let is_http = server.starts_with("http://") || server.starts_with("https://");
        if !server.is_empty() && (!is_http || server.parse::<http::Uri>().is_err()) {
            problems.push("api_server", "must be an http:// or https:// address");
        }
        if server.is_empty() && self.auth_type == AuthType::None && !self.passthrough {
            problems.push("api_server", "is missing; without credentials nobody else names it");
        }
        self.tls.validate("tls", problems);
        if !self.filter.node.is_empty() && !self.filter.node_from_env_var.is_empty() {
            problems.push("filter::node", "`node_from_env_var` is set too; remove one of them");
        }
        for (list, selectors) in [("fields", &self.filter.fields), ("labels", &self.filter.labels)]
        {
            for (at, selector) in selectors.iter().enumerate() {
                let at = format!("filter::{list}::{at}");
                if selector.key.is_empty() {
                    problems.push(&at, "needs a `key`");
                }
                let is_of_labels =
                    matches!(selector.op, Comparison::Exists | Comparison::DoesNotExist);
                if list == "fields" && is_of_labels {
                    problems.push(&at, "fields know `equals` and `not-equals` only");
                }
            }
        }
        for (at, name) in self.extract.metadata.iter().enumerate() {
            if !rules::METADATA.contains(&name.as_str()) {
                let known = rules::METADATA.join(", ");
                let message = format!("`{name}` is not known here; use {known}");
                problems.push(&format!("extract::metadata::{at}"), message);
            }
        }
        let lists = [("labels", &self.extract.labels), ("annotations", &self.extract.annotations)];
        for (list, fields) in lists {
            for (at, field) in fields.iter().enumerate() {
                let at = format!("extract::{list}::{at}");
                match (field.key.is_empty(), field.key_regex.is_empty()) {
                    (false, true) => {}
                    (true, false) => {
                        if let Err(message) = regex(&field.key_regex) {
                            problems.push(&format!("{at}::key_regex"), message);
                        }
                    }
                    _ => problems.push(&at, "needs either `key` or `key_regex`"),
                }
            }
        }
        for (at, association) in self.pod_association.iter().enumerate() {
            let at = format!("pod_association::{at}");
            if association.sources.is_empty() {
                problems.push(&at, "needs `sources`");
            }
            for (number, source) in association.sources.iter().enumerate() {
                let at = format!("{at}::sources::{number}");
                if source.from == SourceKind::ResourceAttribute
                    && !rules::SOURCES.contains(&source.name.as_str())
                {
                    let known = rules::SOURCES.join(", ");
                    let message = match source.name.as_str() {
                        "" => format!("needs a `name`: one of {known}"),
                        name => format!("pods are not found by `{name}`; use {known}"),
                    };
                    problems.push(&at, message);
                }
            }
        }
        for (at, pod) in self.exclude.pods.iter().enumerate() {
            if let Err(message) = regex(&pod.name) {
                problems.push(&format!("exclude::pods::{at}::name"), message);
            }
        }
    }

    fn advise(&self, advice: &mut Problems) {
        for (at, association) in self.pod_association.iter().enumerate() {
            if association.sources.iter().any(|source| source.from == SourceKind::Connection) {
                advice.push(
                    &format!("pod_association::{at}"),
                    "never applies: batches do not carry the address of the connection that they \
                     came by",
                );
            }
        }
        if self.passthrough {
            advice.push("passthrough", "the processor does nothing so");
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(super::KubernetesAttributes::start(self, setup)?))
    }
}
