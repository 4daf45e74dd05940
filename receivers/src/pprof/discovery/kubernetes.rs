//! Pods of a Kubernetes cluster as targets, asked of its API server at regular times.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use profpipe_engine::component::{Error, Extensions};
use profpipe_engine::settings::Secret;
use profpipe_network::client::{Client, Request};
use profpipe_network::settings::ClientSettings;
use serde::Deserialize;

use super::MAX_LIST;
use super::annotated::{self, Port, sanitized};
use crate::pprof::config::KubernetesConfig;
use crate::pprof::relabel::Labels;
use crate::pprof::target::percent;

/// Where a pod finds what its service account may show.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pods of one answer.
const PAGE: usize = 500;
/// Answers of one list.
const MAX_PAGES: usize = 200;

pub(in crate::pprof) async fn list(config: &KubernetesConfig) -> Result<Vec<Labels>, Error> {
    let server = Server::of(config)?;
    let namespaces: Vec<Option<&String>> = match config.namespaces.names.as_slice() {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    let mut targets = Vec::new();
    for namespace in namespaces {
        let path = match namespace {
            Some(name) => format!("/api/v1/namespaces/{}/pods", percent(name)),
            None => "/api/v1/pods".to_owned(),
        };
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let page = server.pods(&path, config, &next).await?;
            for pod in &page.items {
                targets.extend(pod.targets(config.annotations));
            }
            next = page.metadata.next;
            if next.is_empty() {
                break;
            }
        }
    }
    Ok(targets)
}

/// The API server and how to talk to it.
struct Server {
    base: String,
    client: Client,
    token: Option<Secret>,
}

impl Server {
    fn of(config: &KubernetesConfig) -> Result<Self, Error> {
        let mut settings = ClientSettings::new(String::new());
        settings.tls = config.tls.clone();
        let mut token = config.bearer_token_file.clone();
        let base = if config.api_server.is_empty() {
            let ca = Path::new(ACCOUNT).join("ca.crt");
            settings.tls.ca_file.get_or_insert(ca);
            token.get_or_insert_with(|| Path::new(ACCOUNT).join("token"));
            let of = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            let (Some(host), Some(port)) =
                (of("KUBERNETES_SERVICE_HOST"), of("KUBERNETES_SERVICE_PORT"))
            else {
                return Err(Error::new(
                    "this is not a pod; set `api_server` to ask a cluster from outside",
                ));
            };
            format!("https://{}", annotated::address(&host, port.parse().unwrap_or(443)))
        } else {
            config.api_server.trim_end_matches('/').to_owned()
        };
        // Read each time: tokens change every hour.
        let token = token.map(|file| {
            let text = std::fs::read_to_string(&file).map_err(|cause| {
                Error::with_source(format!("cannot read {}", file.display()), cause)
            });
            text.map(|text| Secret::new(text.trim().to_owned()))
        });
        let client = Client::builder(&settings).build(&Extensions::default())?;
        Ok(Self { base, client, token: token.transpose()? })
    }

    async fn pods(
        &self,
        path: &str,
        config: &KubernetesConfig,
        next: &str,
    ) -> Result<PodList, Error> {
        let mut query = format!("limit={PAGE}");
        for (key, text) in [
            ("labelSelector", config.label_selector.as_str()),
            ("fieldSelector", config.field_selector.as_str()),
            ("continue", next),
        ] {
            if !text.is_empty() {
                query.push_str(&format!("&{key}={}", percent(text)));
            }
        }
        let uri = format!("{}{path}?{query}", self.base);
        let uri: Uri = uri
            .parse()
            .map_err(|cause| Error::with_source("`api_server` is not an address", cause))?;
        let mut request = Request::get(uri).header("accept", "application/json");
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| Error::new("the token's file holds no token"))?;
            request.headers.insert(AUTHORIZATION, value);
        }
        request.timeout = Some(TIMEOUT);
        request.max_response = MAX_LIST;
        let answer = self.client.send(request).await.map_err(|error| error.into_cause())?;
        if !answer.is_success() {
            let hint = match answer.status.as_u16() {
                401 => "; the token is not accepted",
                403 => "; the service account needs to `list` pods",
                _ => "",
            };
            return Err(Error::new(format!("it answered {}{hint}", answer.status)));
        }
        if answer.truncated {
            return Err(Error::new(format!("the answer is larger than {MAX_LIST} bytes")));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|cause| Error::with_source("the response is not a list of pods", cause))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodList {
    metadata: ListMetadata,
    items: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owner_references: Vec<Owner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
    ports: Vec<ContainerPort>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerPort {
    container_port: u16,
    name: String,
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

impl Pod {
    /// The targets of a pod that runs: those that its annotations ask for, or all of its ports.
    fn targets(&self, annotations: bool) -> Vec<Labels> {
        let status = &self.status;
        let over = ["Pending", "Succeeded", "Failed", "Completed"].contains(&&*status.phase);
        if over || status.pod_ip.is_empty() {
            return Vec::new();
        }
        let ports = self.ports();
        if annotations {
            return annotated::targets(&self.metadata.annotations, &status.pod_ip, &ports);
        }
        let all = ports.into_iter().map(|port| {
            let mut labels = port.labels;
            labels.insert("__address__".into(), annotated::address(&status.pod_ip, port.number));
            labels
        });
        all.collect()
    }

    /// Every port of every container; a container without any counts as one.
    fn ports(&self) -> Vec<Port> {
        let of_pod = self.labels();
        let mut ports = Vec::new();
        for container in &self.spec.containers {
            let mut of_container = of_pod.clone();
            let mut set = |name: &str, text: &str| {
                of_container.insert(format!("__meta_kubernetes_pod_{name}"), text.to_owned());
            };
            set("container_name", &container.name);
            set("container_image", &container.image);
            of_container.insert("k8s.container.name".into(), container.name.clone());
            if container.ports.is_empty() {
                ports.push(Port { number: 0, name: String::new(), labels: of_container });
                continue;
            }
            for port in container.ports.iter().filter(|port| port.protocol != "UDP") {
                let mut labels = of_container.clone();
                let mut set = |name: &str, text: String| {
                    labels.insert(format!("__meta_kubernetes_pod_container_port_{name}"), text);
                };
                set("name", port.name.clone());
                set("number", port.container_port.to_string());
                set("protocol", port.protocol.clone());
                ports.push(Port { number: port.container_port, name: port.name.clone(), labels });
            }
        }
        ports
    }

    fn labels(&self) -> Labels {
        let mut labels = Labels::new();
        let mut set = |name: &str, text: &str| {
            labels.insert(format!("__meta_kubernetes_{name}"), text.to_owned());
        };
        let metadata = &self.metadata;
        set("namespace", &metadata.namespace);
        set("pod_name", &metadata.name);
        set("pod_uid", &metadata.uid);
        set("pod_ip", &self.status.pod_ip);
        set("pod_host_ip", &self.status.host_ip);
        set("pod_phase", &self.status.phase);
        set("pod_node_name", &self.spec.node_name);
        if let Some(owner) = metadata.owner_references.iter().find(|owner| owner.controller) {
            set("pod_controller_kind", &owner.kind);
            set("pod_controller_name", &owner.name);
        }
        for (name, text) in &metadata.labels {
            set(&format!("pod_label_{}", sanitized(name)), text);
            set(&format!("pod_labelpresent_{}", sanitized(name)), "true");
        }
        for (name, text) in &metadata.annotations {
            set(&format!("pod_annotation_{}", sanitized(name)), text);
            set(&format!("pod_annotationpresent_{}", sanitized(name)), "true");
        }
        for (name, text) in [
            ("k8s.namespace.name", &metadata.namespace),
            ("k8s.pod.name", &metadata.name),
            ("k8s.node.name", &self.spec.node_name),
        ] {
            labels.insert(name.into(), text.clone());
        }
        labels
    }
}
