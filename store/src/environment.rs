//! The environment of a selection: what its resources say of host, kernel, compiler and build.

use std::collections::{BTreeMap, BTreeSet};

use profpipe_formats::pyroscope::label_value;
use profpipe_profile::{AttributeIx, Index, Profile};

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
/// What decides how fast the same code is.
const SPEED: [&str; 7] = [
    "host.cpu.",
    "profpipe.environment.cpu.",
    "profpipe.environment.kernel.",
    "profpipe.environment.cgroup.",
    "profpipe.environment.virtualization",
    "profpipe.environment.memory.",
    "host.arch",
];
/// What people call groups of attributes.
const GROUPS: [(&str, &[&str]); 8] = [
    ("cpu", &["host.cpu.", "profpipe.environment.cpu.", "host.arch"]),
    ("kernel", &["profpipe.environment.kernel.", "os."]),
    ("memory", &["profpipe.environment.memory.", "profpipe.environment.numa."]),
    ("limits", &["profpipe.environment.cgroup."]),
    ("virtualization", &["profpipe.environment.virtualization", "profpipe.environment.machine"]),
    ("libc", &["profpipe.environment.libc."]),
    ("compiler", &["profpipe.environment.compiler"]),
    ("runtime", &["process.runtime."]),
];
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
        let profiles: Vec<&Profile> = self.profiles.iter().map(|(_, _, profile)| profile).collect();
        let dictionary = &self.profiles.dictionary;
        let mut resources = BTreeSet::new();
        // Files of pprof have what others say of the resource at every sample.
        let mut own = vec![false; dictionary.attributes.len()];
        for row in (0..filter.rows.len()).filter(|row| filter.accepts(*row)) {
            resources.insert(self.labels.resource(filter.rows.labels[row]));
            let Some(profile) = profiles.get(filter.rows.profiles[row] as usize) else { continue };
            let sample = profile.samples.get(filter.rows.samples[row] as usize);
            for attribute in sample.attributes {
                if let Some(own) = own.get_mut(attribute.at()) {
                    *own = true;
                }
            }
        }
        let of_resources =
            resources.iter().filter_map(|at| self.profiles.resources.get(*at as usize));
        let of_resources = of_resources
            .flat_map(|it| &it.resource.attributes)
            .map(|attribute| (attribute.key.as_str(), &attribute.value));
        let of_samples = (0..).zip(own).filter(|(_, is_own)| *is_own).map(|(at, _)| {
            let attribute = AttributeIx::new(at);
            (
                dictionary.strings.get(dictionary.attributes.key(attribute)),
                dictionary.attributes.value(attribute),
            )
        });
        let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in of_resources.chain(of_samples).filter(|it| is_environment(it.0)) {
            if let Some(value) = label_value(value) {
                values.entry(key).or_default().insert(value);
            }
        }
        Ok(values.into_iter().map(|(key, values)| (key.to_owned(), enumeration(values))).collect())
    }
}

/// Whether an attribute belongs to a group such as `cpu`, or is, or begins with, what is named instead.
fn belongs(key: &str, name: &str) -> bool {
    match GROUPS.iter().find(|(group, _)| *group == name) {
        Some((_, members)) => members.iter().any(|member| key.starts_with(member)),
        None => key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')),
    }
}

impl Table {
    /// Why two selections did not surely run on the same in some respect: `cpu`, `kernel`, `memory`, `limits`,
    /// `virtualization`, `libc`, `compiler`, `runtime`, or an attribute's name or the beginning of it. None if
    /// they did.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn requirement(
        &self,
        base: &Selection,
        new: &Selection,
        name: &str,
    ) -> Result<Option<String>, QueryError> {
        let (base, new) = (self.environment(base)?, self.environment(new)?);
        let of = |side: &BTreeMap<String, String>| side.keys().any(|key| belongs(key, name));
        if let Some((side, _)) = [("base", &base), ("new", &new)].iter().find(|it| !of(it.1)) {
            return Ok(Some(format!("{name} is not known of the {side} side")));
        }
        let differing: Vec<String> = differences(&base, &new)
            .into_iter()
            .filter(|it| belongs(&it.key, name))
            .map(|it| format!("{} is `{}` and `{}`", it.key, it.base, it.new))
            .collect();
        Ok((!differing.is_empty()).then(|| differing.join("; ")))
    }
}

/// Whether a difference may be why the same code takes longer. What is known of one side only is not one.
pub(crate) fn decides_speed(difference: &Difference) -> bool {
    !difference.base.is_empty()
        && !difference.new.is_empty()
        && SPEED.iter().any(|known| difference.key.starts_with(known))
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
