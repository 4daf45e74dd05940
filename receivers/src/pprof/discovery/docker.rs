//! Containers of a Docker engine as targets, asked over its socket at regular times.

use std::collections::BTreeMap;
use std::time::Duration;

use profpipe_engine::component::Error;
use profpipe_network::client::get_over_socket;
use serde::Deserialize;

use super::MAX_LIST;
use super::annotated::{self, Port, sanitized};
use crate::pprof::config::DockerConfig;
use crate::pprof::relabel::Labels;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::pprof) async fn list(config: &DockerConfig) -> Result<Vec<Labels>, Error> {
    let asking = get_over_socket(config.socket(), "/containers/json", MAX_LIST);
    let answer = tokio::time::timeout(TIMEOUT, asking);
    let answer = answer.await.map_err(|_| Error::new("no answer within 10 s"))??;
    if !answer.is_success() {
        return Err(Error::new(format!("it answered {}", answer.status)));
    }
    let containers: Vec<Container> = serde_json::from_slice(&answer.body)
        .map_err(|cause| Error::with_source("the response is not a list of containers", cause))?;
    Ok(containers.iter().flat_map(|container| container.targets(config.annotations)).collect())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Container {
    id: String,
    names: Vec<String>,
    image: String,
    state: String,
    labels: BTreeMap<String, String>,
    ports: Vec<ContainerPort>,
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ContainerPort {
    private_port: u16,
    #[serde(rename = "Type")]
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettings {
    networks: BTreeMap<String, Network>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    #[serde(rename = "IPAddress")]
    ip_address: String,
}

impl Container {
    fn targets(&self, annotations: bool) -> Vec<Labels> {
        if self.state != "running" {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (network, settings) in &self.network_settings.networks {
            let ip = settings.ip_address.as_str();
            if ip.is_empty() {
                continue;
            }
            let ports = self.ports(network, ip);
            if annotations {
                // One network is enough to be reached by.
                return annotated::targets(&self.labels, ip, &ports);
            }
            found.extend(ports.into_iter().map(|port| {
                let mut labels = port.labels;
                labels.insert("__address__".into(), annotated::address(ip, port.number));
                labels
            }));
        }
        found
    }

    fn ports(&self, network: &str, ip: &str) -> Vec<Port> {
        let mut labels = Labels::new();
        let mut set = |name: &str, text: &str| {
            labels.insert(format!("__meta_docker_{name}"), text.to_owned());
        };
        let name = self.names.first().map(String::as_str).unwrap_or_default();
        set("container_id", &self.id);
        set("container_name", name);
        set("network_name", network);
        set("network_ip", ip);
        for (name, text) in &self.labels {
            set(&format!("container_label_{}", sanitized(name)), text);
        }
        for (key, text) in [
            ("container.id", self.id.as_str()),
            ("container.name", name.trim_start_matches('/')),
            ("container.image.name", self.image.as_str()),
        ] {
            labels.insert(key.into(), text.to_owned());
        }
        let mut numbers: Vec<u16> = self
            .ports
            .iter()
            .filter(|port| port.protocol != "udp")
            .map(|port| port.private_port)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            numbers.push(0);
        }
        let with_port = |number: u16| {
            let mut labels = labels.clone();
            labels.insert("__meta_docker_port_private".into(), number.to_string());
            Port { number, name: String::new(), labels }
        };
        numbers.into_iter().map(with_port).collect()
    }
}
