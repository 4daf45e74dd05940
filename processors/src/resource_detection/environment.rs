//! What the agent was told by its environment: the `env` and `kubernetes` detectors.

use super::facts::Facts;

/// Looks a variable up.
pub(super) type Lookup = fn(&str) -> Option<String>;

/// The environment of this process.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, which goes before a `service.name` there.
pub(super) fn detect(lookup: Lookup) -> Facts {
    let mut facts = Facts::default();
    facts.text("service.name", lookup("OTEL_SERVICE_NAME"));
    let list = lookup("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    for pair in list.split(',') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let key = decode(key.trim());
        if !key.is_empty() {
            facts.text(&key, Some(decode(value.trim())));
        }
    }
    facts
}

/// The variables that a manifest fills from the downward interface, each with its other names.
const DOWNWARD: [(&str, &[&str]); 7] = [
    ("k8s.node.name", &["K8S_NODE_NAME", "KUBE_NODE_NAME", "NODE_NAME"]),
    ("k8s.cluster.name", &["K8S_CLUSTER_NAME", "CLUSTER_NAME"]),
    ("k8s.pod.name", &["K8S_POD_NAME", "POD_NAME"]),
    ("k8s.pod.uid", &["K8S_POD_UID", "POD_UID"]),
    ("k8s.namespace.name", &["K8S_NAMESPACE_NAME", "K8S_POD_NAMESPACE", "POD_NAMESPACE"]),
    ("k8s.container.name", &["K8S_CONTAINER_NAME", "CONTAINER_NAME"]),
    ("container.image.name", &["K8S_CONTAINER_IMAGE", "CONTAINER_IMAGE"]),
];

/// Where in Kubernetes the agent runs.
pub(super) fn kubernetes(lookup: Lookup) -> Facts {
    let mut facts = Facts::default();
    for (key, names) in DOWNWARD {
        facts.text(key, names.iter().find_map(|name| lookup(name)));
    }
    facts
}

/// Resolves `%41`; what is no such escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let plain = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let escaped = digits.filter(plain).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
