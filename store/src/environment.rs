//! The environment of a selection: what its resources say of host, kernel, compiler and build.

use std::collections::{BTreeMap, BTreeSet};

use profpipe_formats::pyroscope::label_value;

use crate::error::QueryError;
use crate::select::{Filter, Selection};
use crate::table::Table;

/// Attributes of a resource that say what it ran on; those that end with `.` stand for all that begin so.
const ENVIRONMENT: [&str; 10] = [
    "profpipe.environment.",
    "host.",
    "os.",
    "process.runtime.",
    "service.version",
    "container.image.",
    "deployment.environment",
    "k8s.node.name",
    "process.executable.build_id.",
    "telemetry.distro.",
];
/// Those that differ with everything and say nothing.
const IDENTITIES: [&str; 4] = ["host.id", "host.ip", "host.mac", "host.image.id"];
/// The most values that are written of one attribute.
const MAX_VALUES: usize = 5;

/// An attribute that differs between two selections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The attribute's name.
    pub key: String,
    /// Its values on one side, with commas; empty if it has none.
    pub base: String,
    /// Its values on the other.
    pub new: String,
}

impl Table {
    /// The environment of what is selected.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn environment(
        &self,
        selection: &Selection,
    ) -> Result<BTreeMap<String, String>, QueryError> {
        let filter = Filter::new(self, selection)?;
        let mut resources = BTreeSet::new();
        for row in (0..filter.rows.len()).filter(|row| filter.accepts(*row)) {
            resources.insert(self.labels.resource(filter.rows.labels[row]));
        }
        let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let of_resources =
            resources.iter().filter_map(|at| self.profiles.resources.get(*at as usize));
        for attribute in of_resources.flat_map(|it| &it.resource.attributes) {
            if is_environment(&attribute.key)
                && let Some(value) = label_value(&attribute.value)
            {
                values.entry(&attribute.key).or_default().insert(value);
            }
        }
        Ok(values.into_iter().map(|(key, values)| (key.to_owned(), enumeration(values))).collect())
    }
}

/// What differs between two environments.
pub(crate) fn differences(
    base: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let keys: BTreeSet<&String> = base.keys().chain(new.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &str| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| Difference { key: key.clone(), base: value(base, key), new: value(new, key) })
        .filter(|it| it.base != it.new)
        .collect()
}

fn enumeration(values: BTreeSet<String>) -> String {
    let more = values.len().saturating_sub(MAX_VALUES);
    let mut text = values.into_iter().take(MAX_VALUES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn is_environment(key: &str) -> bool {
    let is = |known: &&str| match known.ends_with('.') {
        true => key.starts_with(known),
        false => key == *known,
    };
    ENVIRONMENT.iter().any(is) && !IDENTITIES.contains(&key)
}
