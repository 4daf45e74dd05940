//! Annotations of pods and labels of containers that say what to ask: `profiles.grafana.com/…`.
//!
//! `profiles.grafana.com/cpu.scrape: "true"` asks for the CPU profile; `.port` or `.port_name` says
//! where, `.path` and `.scheme` how, if not as usual. The same with `memory`, `block`, `mutex`,
//! `goroutine`, `fgprof` in place of `cpu`.

use std::collections::BTreeMap;

use crate::pprof::relabel::Labels;

/// What an annotation begins with.
const PREFIX: &str = "profiles.grafana.com/";

/// Profiles by their word in annotations and their name in the configuration.
const PROFILES: [(&str, &str); 9] = [
    ("cpu", "process_cpu"),
    ("memory", "memory"),
    ("block", "block"),
    ("mutex", "mutex"),
    ("goroutine", "goroutine"),
    ("fgprof", "fgprof"),
    ("godeltaprof_memory", "godeltaprof_memory"),
    ("godeltaprof_mutex", "godeltaprof_mutex"),
    ("godeltaprof_block", "godeltaprof_block"),
];

/// A port that something listens at.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) name: String,
    /// The labels of what listens there.
    pub(super) labels: Labels,
}

/// The targets that annotations ask for, of something at `ip` with these ports.
pub(super) fn targets(
    annotations: &BTreeMap<String, String>,
    ip: &str,
    ports: &[Port],
) -> Vec<Labels> {
    let mut found = Vec::new();
    for (word, profile) in PROFILES {
        let text = |what: &str| annotations.get(&format!("{PREFIX}{word}.{what}"));
        if text("scrape").map(String::as_str) != Some("true") {
            continue;
        }
        let number = text("port").and_then(|port| port.parse::<u16>().ok());
        let port = match (number, text("port_name")) {
            (Some(number), _) => {
                // A port need not be declared to be there.
                ports.iter().find(|port| port.number == number).or(ports.first())
            }
            (None, Some(name)) => ports.iter().find(|port| port.name == *name),
            (None, None) => ports.first(),
        };
        let Some(port) = port else { continue };
        let mut labels = port.labels.clone();
        let number = number.unwrap_or(port.number);
        labels.insert("__address__".into(), address(ip, number));
        labels.insert("__profile__".into(), profile.into());
        if let Some(path) = text("path") {
            labels.insert("__profile_path__".into(), path.clone());
        }
        if let Some(scheme) = text("scheme") {
            labels.insert("__scheme__".into(), scheme.clone());
        }
        found.push(labels);
    }
    found
}

/// An address with its port; a port of 0 is none.
pub(super) fn address(ip: &str, port: u16) -> String {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    if port == 0 { host } else { format!("{host}:{port}") }
}

/// A name as part of a label's name, as Prometheus does it.
pub(super) fn sanitized(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}
