//! The labels of a series: who was profiled, by whom, and what the profile is called.
//!
//! | label | becomes |
//! |---|---|
//! | `__name__` | profile attribute `profpipe.profile.name` |
//! | `service_name` | resource attribute `service.name` |
//! | `otel.scope.name`, `otel.scope.version`, also with `_` | name and version of the scope |
//! | `__delta__`, unless `false`, for `memory`, `mutex`, `block` | profile attribute `profpipe.profile.cumulative` |
//! | other names that begin with `__` | nothing |
//! | any other | resource attribute of that name |

use profpipe_profile::attribute_names::{PROFILE_CUMULATIVE, PROFILE_NAME, SERVICE_NAME};
use profpipe_profile::{KeyValue, Profiles, Resource, StringIx, Value};

use super::push::Malformed;

/// The longest name and the longest value of a label that Pyroscope takes.
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 2048;

/// What the labels of a series say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Identity {
    /// What the profile is called, e.g. `process_cpu`.
    pub(super) name: String,
    /// The values count from the start of the process.
    pub(super) is_cumulative: bool,
    pub(super) resource: Resource,
    pub(super) scope_name: String,
    pub(super) scope_version: String,
}

impl Identity {
    /// Reads labels.
    ///
    /// # Errors
    /// If Pyroscope refuses them too: no name, a name twice, something too long.
    pub(super) fn of(labels: Vec<(String, String)>) -> Result<Self, Malformed> {
        let mut identity = Self::default();
        let mut delta = None;
        let mut names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(Malformed(format!("the label `{}` comes twice", quote(twice))));
        }
        for (name, value) in labels {
            if name.is_empty() {
                return Err(Malformed("a label has no name".to_owned()));
            }
            if name.len() > MAX_NAME || value.len() > MAX_VALUE {
                let what = format!("the label `{}` is too long", quote(&name));
                return Err(Malformed(what));
            }
            match name.as_str() {
                "__name__" => identity.name = value,
                "__delta__" => delta = Some(value),
                "service_name" => identity.resource.set(SERVICE_NAME, value),
                "otel.scope.name" | "otel_scope_name" => identity.scope_name = value,
                "otel.scope.version" | "otel_scope_version" => identity.scope_version = value,
                hidden if hidden.starts_with("__") => {}
                // `service.name` beside `service_name`: what Pyroscope goes by wins.
                SERVICE_NAME if identity.resource.get(SERVICE_NAME).is_some() => {}
                // An empty value is as good as no label.
                _ if value.is_empty() => {}
                _ => identity.resource.attributes.push(KeyValue { key: name, value: value.into() }),
            }
        }
        // What godeltaprof computed itself names itself so.
        if let Some(name) = identity.name.strip_prefix("godeltaprof_") {
            identity.name = name.to_owned();
            delta = Some("false".to_owned());
        }
        if identity.name.is_empty() {
            return Err(Malformed("the label `__name__` is missing".to_owned()));
        }
        identity.is_cumulative = delta.as_deref() != Some("false")
            && matches!(identity.name.as_str(), "memory" | "mutex" | "block");
        Ok(identity)
    }

    /// Writes itself onto the only resource of a profile that was just decoded.
    pub(super) fn put_on(&self, profiles: &mut Profiles) {
        let strings = &mut profiles.dictionary.strings;
        let mut marks = vec![(strings.intern(PROFILE_NAME), Value::from(self.name.as_str()))];
        if self.is_cumulative {
            marks.push((strings.intern(PROFILE_CUMULATIVE), true.into()));
        }
        let attributes = &mut profiles.dictionary.attributes;
        let marks: Vec<_> = marks
            .into_iter()
            .map(|(key, value)| attributes.intern(key, value, StringIx::NONE))
            .collect();
        for profile in profiles.profiles_mut() {
            profile.attributes.extend_from_slice(&marks);
        }
        for resource in &mut profiles.resources {
            resource.resource.clone_from(&self.resource);
            for scope in &mut resource.scopes {
                scope.scope.name.clone_from(&self.scope_name);
                scope.scope.version.clone_from(&self.scope_version);
            }
        }
    }
}

/// The start of a text from outside, fit for a message.
pub(super) fn quote(text: &str) -> String {
    const MAX_QUOTE: usize = 60;
    text.chars().take(MAX_QUOTE).map(|char| if char.is_control() { '.' } else { char }).collect()
}
