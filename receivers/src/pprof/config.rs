//! What users type for the `pprof` receiver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use profpipe_engine::component::{self, Error, Receiver, ReceiverConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration, Secret};
use profpipe_network::settings::{Authentication, ClientSettings, ClientTls, Headers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profiles::{Kind, ProfilesConfig};
use super::relabel::RelabelConfig;
use super::target::escaped;

/// Asks services for pprof profiles over HTTP, at regular times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The label `job` of the profiles, and their service where nothing else tells it; the
    /// receiver's id unless set.
    pub job_name: String,
    /// How often each profile of each target is asked for.
    pub scrape_interval: Duration,
    /// How long an answer may take, beyond the seconds that the target measures.
    pub scrape_timeout: Duration,
    /// How targets are asked.
    pub scheme: Scheme,
    /// What goes before the path of every profile.
    pub path_prefix: String,
    /// TLS towards targets.
    pub tls: ClientTls,
    /// Headers of every request.
    pub headers: Headers,
    /// The extension that adds credentials to every request.
    pub auth: Option<Authentication>,
    /// An HTTP proxy to go through: `http://host:port`. It decides alone which addresses are asked.
    pub proxy_url: Secret,
    /// Parameters of every request.
    pub params: BTreeMap<String, Vec<String>>,
    /// The most that a profile may take, compressed or not.
    pub max_body_size: ByteSize,
    /// The most targets that discovery may bring.
    pub max_targets: usize,
    /// Which profiles are asked for.
    pub profiles: ProfilesConfig,
    /// Targets written here.
    pub static_configs: Vec<StaticConfig>,
    /// Targets in files, which are read again when they change.
    pub file_sd_configs: Vec<FileConfig>,
    /// Targets that an HTTP service tells.
    pub http_sd_configs: Vec<HttpConfig>,
    /// Pods of Kubernetes clusters.
    pub kubernetes_sd_configs: Vec<KubernetesConfig>,
    /// Containers of Docker engines.
    pub docker_sd_configs: Vec<DockerConfig>,
    /// Rules that rewrite the labels of targets, or drop targets.
    pub relabel_configs: Vec<RelabelConfig>,
}

/// How a target is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Without encryption.
    #[default]
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(super) fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Targets that share labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaticConfig {
    /// The targets, as `host:port`.
    pub targets: Vec<String>,
    /// Labels of their profiles; `service_name` becomes the resource's `service.name`.
    pub labels: BTreeMap<String, String>,
}

/// Files that list targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Files in YAML or JSON, each a list of `targets` with `labels`; the last part of a path may
    /// hold a `*`.
    pub files: Vec<PathBuf>,
    /// How often they are read even if they look unchanged.
    pub refresh_interval: Duration,
}

/// A service that lists targets in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where it is asked.
    pub url: String,
    /// How often it is asked.
    pub refresh_interval: Duration,
}

/// Pods of a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// What becomes a target.
    pub role: Role,
    /// The API server, such as `https://10.0.0.1:6443`; that of the own cluster unless set.
    pub api_server: String,
    /// TLS towards the API server; inside the cluster its own authority unless set.
    pub tls: ClientTls,
    /// A file with the token to show; inside the cluster that of the service account unless set.
    pub bearer_token_file: Option<PathBuf>,
    /// Where to look.
    pub namespaces: Namespaces,
    /// Only pods with these labels, such as `app=shop`.
    pub label_selector: String,
    /// Only pods with these fields, such as `spec.nodeName=node-1`.
    pub field_selector: String,
    /// Only what pods ask for by annotations such as `profiles.grafana.com/cpu.scrape: "true"`.
    /// Without it every port of every pod is a target, for `relabel_configs` to choose from.
    pub annotations: bool,
    /// How often the API server is asked.
    pub refresh_interval: Duration,
}

/// What becomes a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Pods.
    #[default]
    Pod,
}

/// Where to look for pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Namespaces {
    /// Only in these; in all if there are none.
    pub names: Vec<String>,
}

/// Containers of a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DockerConfig {
    /// The engine's socket, as `unix:///var/run/docker.sock`.
    pub host: String,
    /// Only what containers ask for by labels such as `profiles.grafana.com/cpu.scrape=true`.
    /// Without it every port of every container is a target.
    pub annotations: bool,
    /// How often the engine is asked.
    pub refresh_interval: Duration,
}

impl DockerConfig {
    /// The path of the socket.
    pub(super) fn socket(&self) -> &Path {
        Path::new(self.host.strip_prefix("unix://").unwrap_or(&self.host))
    }
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            role: Role::Pod,
            api_server: String::new(),
            tls: ClientTls::default(),
            bearer_token_file: None,
            namespaces: Namespaces::default(),
            label_selector: String::new(),
            field_selector: String::new(),
            annotations: true,
            refresh_interval: Duration::from_secs(30),
        }
    }
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".into(),
            annotations: true,
            refresh_interval: Duration::from_secs(60),
        }
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: Duration::from_secs(300) }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { url: String::new(), refresh_interval: Duration::from_secs(60) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            scrape_interval: Duration::from_secs(15),
            scrape_timeout: Duration::from_secs(10),
            scheme: Scheme::Http,
            path_prefix: String::new(),
            tls: ClientTls::default(),
            headers: Headers::default(),
            auth: None,
            proxy_url: Secret::default(),
            params: BTreeMap::new(),
            max_body_size: ByteSize::mib(64),
            max_targets: 10_000,
            profiles: ProfilesConfig::default(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            kubernetes_sd_configs: Vec::new(),
            docker_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
        }
    }
}

impl Config {
    /// How targets are talked to.
    pub(super) fn client(&self) -> ClientSettings {
        let mut settings = ClientSettings::new(String::new());
        settings.tls = self.tls.clone();
        settings.headers = self.headers.clone();
        settings.auth = self.auth.clone();
        settings.proxy_url = self.proxy_url.clone();
        settings
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.tls.validate("tls", problems);
        let interval = self.scrape_interval.0;
        if interval.as_secs() < 2 {
            problems.push("scrape_interval", "is too short; 2s is the least");
        }
        if self.scrape_timeout.0.is_zero() {
            problems.push("scrape_timeout", "is zero; no target could answer");
        }
        for profile in self.profiles.all() {
            let place = self.profiles.place(&profile.name);
            let seconds = profile.seconds(interval);
            if profile.enabled && profile.kind == Kind::Window && seconds >= interval.as_secs() {
                problems.push(
                    &format!("{place}::seconds"),
                    "must be at least a second less than `scrape_interval`: two requests of one \
                     target would overlap",
                );
            }
            if profile.enabled && !profile.path.starts_with('/') {
                problems.push(&format!("{place}::path"), "must begin with a slash");
            }
        }
        if self.profiles.enabled().next().is_none() {
            problems.push("profiles", "asks for no profile; enable one");
        }
        let nowhere = self.static_configs.is_empty()
            && self.file_sd_configs.is_empty()
            && self.http_sd_configs.is_empty()
            && self.kubernetes_sd_configs.is_empty()
            && self.docker_sd_configs.is_empty();
        if nowhere {
            problems.push(
                "static_configs",
                "is missing; give targets by `static_configs`, `file_sd_configs`, \
                 `http_sd_configs`, `kubernetes_sd_configs` or `docker_sd_configs`",
            );
        }
        for (at, rule) in self.relabel_configs.iter().enumerate() {
            if let Some((field, problem)) = rule.problem() {
                problems.push(&format!("relabel_configs::{at}::{field}"), problem);
            }
        }
        for (at, group) in self.static_configs.iter().enumerate() {
            for target in &group.targets {
                if target.contains("://") || target.contains('/') {
                    let message = format!(
                        "`{}` is not `host:port`; set `scheme` and the path of profiles apart",
                        escaped(target)
                    );
                    problems.push(&format!("static_configs::{at}::targets"), message);
                }
            }
        }
        for (at, engine) in self.docker_sd_configs.iter().enumerate() {
            if !engine.socket().is_absolute() {
                let message = "must be a socket of this host, as unix:///var/run/docker.sock";
                problems.push(&format!("docker_sd_configs::{at}::host"), message);
            }
        }
        for (at, cluster) in self.kubernetes_sd_configs.iter().enumerate() {
            let server = &cluster.api_server;
            let is_http = server.starts_with("http://") || server.starts_with("https://");
            if !server.is_empty() && !is_http {
                let message = "must be an http:// or https:// address";
                problems.push(&format!("kubernetes_sd_configs::{at}::api_server"), message);
            }
        }
        for (at, service) in self.http_sd_configs.iter().enumerate() {
            let is_http = service.url.starts_with("http://") || service.url.starts_with("https://");
            if !is_http || service.url.parse::<http::Uri>().is_err() {
                let message = "must be an http:// or https:// address";
                problems.push(&format!("http_sd_configs::{at}::url"), message);
            }
        }
    }
}

impl ReceiverConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
        Ok(Box::new(super::PprofReceiver::new(self, setup)?))
    }
}
