//! Labels of a series: from the attributes of a resource, within the limits of a server.

use std::collections::BTreeMap;

use profpipe_formats::pyroscope::{
    MAX_LABEL_NAME, MAX_LABEL_VALUE, cut, label_name, label_value, text,
};
use profpipe_profile::attribute_names::{PROCESS_EXECUTABLE_NAME, SERVICE_NAME};
use profpipe_profile::{Resource, Scope, Value};

use super::config::{LabelNames, LabelRules};

/// The most labels of a series, those that the server needs included.
pub(super) const MAX_LABELS: usize = 30;

/// Attributes that say most about a series: of too many labels these are kept.
const FIRST: [&str; 9] = [
    "service.namespace",
    "service.version",
    "deployment.environment",
    "k8s.",
    "container.",
    "host.name",
    "cloud.",
    "telemetry.sdk.",
    "process.runtime.",
];

/// Labels of a series, by name.
pub(super) type Labels = BTreeMap<String, String>;

/// The labels of a resource, without those that name the profile. `room` is how many there may be.
pub(super) fn of_resource(
    rules: &LabelRules,
    names: LabelNames,
    resource: &Resource,
    scope: &Scope,
    room: usize,
) -> Labels {
    let text = |key: &str| resource.get(key).and_then(text).filter(|text| !text.is_empty());
    let service = text(SERVICE_NAME).or_else(|| text("service_name"));
    let service = service.unwrap_or_else(|| match text(PROCESS_EXECUTABLE_NAME) {
        Some(program) => format!("unknown_service:{program}"),
        None => "unknown_service".to_owned(),
    });
    let mut labels = Labels::from([("service_name".to_owned(), cut(service, MAX_LABEL_VALUE))]);
    let scope_pairs = [("otel.scope.name", &scope.name), ("otel.scope.version", &scope.version)];
    let scope_pairs = scope_pairs.map(|(key, value)| (key, Value::String(value.clone())));
    let attributes = resource.attributes.iter();
    let mut pairs: Vec<_> = attributes
        .map(|attribute| (attribute.key.as_str(), &attribute.value))
        .chain(scope_pairs.iter().map(|(key, value)| (*key, value)))
        .filter(|(key, _)| rules.allows(key))
        .collect();
    let rank = |key: &str| FIRST.iter().position(|first| key.starts_with(first));
    // Stable: of the same rank, the order of the resource.
    pairs.sort_by_key(|(key, _)| rank(key).unwrap_or(FIRST.len()));
    for (key, value) in pairs {
        // What begins so belongs to the server.
        if key.is_empty() || key.starts_with("__") || labels.len() >= room {
            continue;
        }
        let Some(value) = label_value(value) else { continue };
        // The first of two that become the same name wins.
        labels.entry(name(key, names)).or_insert(value);
    }
    labels
}

/// An attribute's name as that of a label.
pub(super) fn name(key: &str, names: LabelNames) -> String {
    if names == LabelNames::Utf8 && key != SERVICE_NAME {
        return cut(key.to_owned(), MAX_LABEL_NAME);
    }
    label_name(key)
}
