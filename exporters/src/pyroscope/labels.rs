//! Labels of a series: from the attributes of a resource, within the limits of a server.

use std::collections::BTreeMap;

use profpipe_profile::attribute_names::{PROCESS_EXECUTABLE_NAME, SERVICE_NAME};
use profpipe_profile::{Resource, Scope, Value};

use super::config::{LabelNames, LabelRules};

/// The most labels of a series, those that the server needs included.
pub(super) const MAX_LABELS: usize = 30;
/// The longest name and the longest value, in bytes.
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 2048;

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
    let mut labels = Labels::from([("service_name".to_owned(), cut(service, MAX_VALUE))]);
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
        let Some(value) = self::value(value) else { continue };
        // The first of two that become the same name wins.
        labels.entry(name(key, names)).or_insert(value);
    }
    labels
}

/// An attribute's name as that of a label.
pub(super) fn name(key: &str, names: LabelNames) -> String {
    if names == LabelNames::Utf8 && key != SERVICE_NAME {
        return cut(key.to_owned(), MAX_NAME);
    }
    let allowed = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
    let name: String = key.chars().map(allowed).collect();
    let name = if name.starts_with(|char: char| char.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    };
    cut(name, MAX_NAME)
}

/// A value as a label's; nothing for what has no short text.
pub(super) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Array(items) if items.len() <= 16 => {
            let items: Option<Vec<_>> = items.iter().map(text).collect();
            items?.join(",")
        }
        Value::Array(_) | Value::Map(_) | Value::Bytes(_) | Value::Empty => return None,
    })
}

/// A value as a label's, within the limit; nothing for an empty text.
pub(super) fn value(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty()).map(|text| cut(text, MAX_VALUE))
}

/// The start of a text, in whole characters.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
