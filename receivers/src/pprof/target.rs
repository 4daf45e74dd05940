//! From labels to a target: what to ask where, and what its profiles are labelled with.
//!
//! The special labels are Prometheus' and Alloy's: `__address__`, `__scheme__`, `__profile_path__`,
//! `__profile_path_prefix__`, `__param_NAME`. All that begin with `__` go away once they are used.

use std::net::IpAddr;

use http::Uri;
use profpipe_engine::settings::ShownAddress;

use super::config::{Config, Scheme};
use super::profiles::Kind;
use super::relabel::{Labels, Rule, hash, relabel};

/// Where targets come from, which decides what they may point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Written in the configuration or in a file beside it.
    Local,
    /// Told by another program over the network.
    Network,
}

/// One profile of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// What to get, without `seconds`.
    pub(super) url: Uri,
    /// The host and port, for what must not overlap.
    pub(super) address: String,
    /// The labels of its profiles.
    pub(super) labels: Labels,
    /// The name of the profile in the configuration.
    pub(super) profile: String,
    /// What the profile counts.
    pub(super) kind: Kind,
    /// For [`Kind::Window`]: how long to measure.
    pub(super) seconds: u64,
    /// Where the target comes from.
    pub(super) source: Source,
}

impl Target {
    /// What tells the target from all others.
    pub(super) fn key(&self) -> String {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, text)| format!("{name}={text:?}")).collect();
        format!("{} {} {}", self.profile, self.url, labels.join(","))
    }

    /// When in the interval it is asked, from 0 to 1: targets are spread by their hash.
    pub(super) fn phase(&self) -> f64 {
        (hash(&self.key()) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// What to get this time.
    pub(super) fn request(&self) -> String {
        if self.kind != Kind::Window {
            return self.url.to_string();
        }
        let separator = if self.url.query().is_some() { '&' } else { '?' };
        format!("{}{separator}seconds={}", self.url, self.seconds)
    }
}

/// The targets that labels stand for after relabelling: one for each profile that is enabled, none
/// if they are dropped.
///
/// # Errors
/// What is wrong with the labels.
pub(super) fn targets(
    config: &Config,
    job: &str,
    rules: &[Rule],
    discovered: &Labels,
    source: Source,
) -> Result<Vec<Target>, String> {
    let mut found = Vec::new();
    for profile in config.profiles.enabled() {
        if discovered.get("__profile__").is_some_and(|only| *only != profile.name) {
            continue;
        }
        let mut labels = discovered.clone();
        let mut default = |name: &str, text: &str| {
            labels.entry(name.to_owned()).or_insert_with(|| text.to_owned());
        };
        default("job", job);
        default("__scheme__", config.scheme.text());
        default("__profile_path__", &profile.path);
        default("__profile_path_prefix__", &config.path_prefix);
        default("__name__", &profile.name);
        for (key, values) in &config.params {
            if let Some(value) = values.first() {
                default(&format!("__param_{key}"), value);
            }
        }
        if !relabel(rules, &mut labels) {
            continue;
        }
        let text = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        let scheme = match text("__scheme__") {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(format!("the scheme `{other}` is neither http nor https")),
        };
        let address = with_port(text("__address__"), scheme)?;
        let path = format!("{}{}", text("__profile_path_prefix__"), text("__profile_path__"));
        let query = query(config, &labels);
        let url = format!("{}://{address}{path}{query}", scheme.text());
        let url: Uri =
            url.parse().map_err(|_| format!("`{}` is not an address", ShownAddress::of(&url)))?;
        if !labels.contains_key("instance") {
            labels.insert("instance".into(), address.clone());
        }
        if !labels.contains_key("service_name") {
            let service = service_name(&labels, job);
            labels.insert("service_name".into(), service);
        }
        labels.retain(|name, _| !name.starts_with("__"));
        found.push(Target {
            url,
            address,
            labels,
            kind: profile.kind,
            seconds: profile.seconds(config.scrape_interval.0),
            profile: profile.name,
            source,
        });
    }
    Ok(found)
}

/// The query of a request: `params` of the configuration, overridden by `__param_` labels.
fn query(config: &Config, labels: &Labels) -> String {
    let mut pairs = Vec::new();
    let mut push = |key: &str, value: &str| {
        pairs.push(format!("{}={}", percent(key), percent(value)));
    };
    for (name, value) in labels {
        if let Some(key) = name.strip_prefix("__param_") {
            push(key, value);
            for value in config.params.get(key).iter().flat_map(|values| values.iter().skip(1)) {
                push(key, value);
            }
        }
    }
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A text as a part of an address.
pub(super) fn percent(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn with_port(address: &str, scheme: Scheme) -> Result<String, String> {
    let plain = !address.is_empty()
        && address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte));
    if !plain {
        return Err(format!("the address `{}` is not `host:port`", escaped(address)));
    }
    let after_host = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{address}]:{}", scheme.port()));
    }
    match after_host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(address.to_owned()),
        Some(_) => Err(format!("the address `{address}` has no valid port")),
        None => Ok(format!("{address}:{}", scheme.port())),
    }
}

/// A foreign text for an error: short and in one line.
pub(super) fn escaped(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The name of the service as Alloy finds it: what discovery knows, else the job.
fn service_name(labels: &Labels, job: &str) -> String {
    let text = |name: &str| labels.get(name).filter(|text| !text.is_empty());
    let annotation = [
        "__meta_kubernetes_pod_annotation_profiles_grafana_com_service_name",
        "__meta_kubernetes_pod_annotation_resource_opentelemetry_io_service_name",
        "__meta_kubernetes_pod_annotation_pyroscope_io_service_name",
    ];
    if let Some(name) = annotation.iter().find_map(|name| text(name)) {
        return name.clone();
    }
    let namespace = text("__meta_kubernetes_namespace");
    if let (Some(namespace), Some(container)) =
        (namespace, text("__meta_kubernetes_pod_container_name"))
    {
        return format!("{namespace}/{container}");
    }
    if let Some(name) = text("__meta_docker_container_name") {
        return name.trim_start_matches('/').to_owned();
    }
    job.to_owned()
}

/// Whether a target may be asked at an address that its name stands for. Metadata services and
/// other link-local addresses never; this host only if somebody here has written so.
pub(super) fn may_connect(source: Source, address: IpAddr) -> Result<(), &'static str> {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets() == [100, 100, 100, 200],
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    };
    if link_local {
        return Err("is link-local or a cloud's metadata service, which is never asked");
    }
    let nowhere = match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if nowhere || address.is_multicast() {
        return Err("is not the address of one host");
    }
    if source == Source::Network && address.is_loopback() {
        return Err("is this host, which only static and file targets may name");
    }
    Ok(())
}
