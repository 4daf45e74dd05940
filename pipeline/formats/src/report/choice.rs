//! Which of the sample types of a batch is reported.

use super::ReportError;
use crate::pprof::file_order;
use profpipe_profile::attribute_names::PPROF_DEFAULT_SAMPLE_TYPE;
use profpipe_profile::{Dictionary, Profile, Profiles, Resource, ValueType};

/// A sample type, and every profile of it.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The kind of thing counted.
    pub kind: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// The profiles of this type, from all resources and scopes.
    pub profiles: Vec<&'a Profile>,
    /// The resource of each of the profiles.
    pub resources: Vec<&'a Resource>,
}

impl<'a> Choice<'a> {
    /// Chooses as google/pprof does: the type that is wanted, by its name or its position; else the
    /// one that the profiles declare as their default; else the last. A wanted type may have a
    /// unit, as in `cpu/nanoseconds`, and `inuse_space` finds also `space`.
    ///
    /// # Errors
    /// If there is no such type.
    pub fn new(profiles: &'a Profiles, wanted: Option<&str>) -> Result<Self, ReportError> {
        let types = sample_types(profiles);
        let (kind, unit) = match wanted {
            Some(wanted) => find(&types, wanted).ok_or_else(|| ReportError::Unknown {
                wanted: wanted.to_owned(),
                known: list(&types),
            })?,
            None => {
                let default = default_type(profiles);
                let default = default.and_then(|kind| types.iter().find(|one| one.0 == kind));
                *default.or(types.last()).ok_or(ReportError::Empty)?
            }
        };
        let dictionary = &profiles.dictionary;
        let is_chosen = |profile: &&Profile| texts(dictionary, profile.sample_type) == (kind, unit);
        let mut choice = Self { kind, unit, profiles: Vec::new(), resources: Vec::new() };
        for resource in &profiles.resources {
            for scope in &resource.scopes {
                // A file that counts one thing twice is not to be counted twice.
                let most = if file_order(scope).is_some() { 1 } else { usize::MAX };
                choice.profiles.extend(scope.profiles.iter().filter(is_chosen).take(most));
            }
            choice.resources.resize(choice.profiles.len(), &resource.resource);
        }
        Ok(choice)
    }
}

/// The sample types of a batch with their units, each once, in the order of their file.
pub(super) fn sample_types(profiles: &Profiles) -> Vec<(&str, &str)> {
    let mut types = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for scope in profiles.resources.iter().flat_map(|resource| &resource.scopes) {
        let order = file_order(scope).unwrap_or_else(|| (0..scope.profiles.len()).collect());
        for profile in order.into_iter().filter_map(|at| scope.profiles.get(at)) {
            let kind = texts(&profiles.dictionary, profile.sample_type);
            if seen.insert(kind) {
                types.push(kind);
            }
        }
    }
    types
}

fn texts(dictionary: &Dictionary, kind: ValueType) -> (&str, &str) {
    (dictionary.strings.get(kind.kind), dictionary.strings.get(kind.unit))
}

fn default_type(profiles: &Profiles) -> Option<&str> {
    let scopes = profiles.resources.iter().flat_map(|resource| &resource.scopes);
    let mut attributes = scopes.flat_map(|scope| &scope.scope.attributes);
    attributes.find(|one| one.key == PPROF_DEFAULT_SAMPLE_TYPE)?.value.as_str()
}

fn find<'a>(types: &[(&'a str, &'a str)], wanted: &str) -> Option<(&'a str, &'a str)> {
    let by_name = |name: &str| types.iter().find(|(kind, _)| *kind == name);
    let by_position = || types.get(wanted.parse::<usize>().ok()?);
    let with_unit = || {
        let (kind, unit) = wanted.rsplit_once('/')?;
        types.iter().find(|one| **one == (kind, unit))
    };
    by_name(wanted)
        .or_else(|| by_name(wanted.strip_prefix("inuse_")?))
        .or_else(with_unit)
        .or_else(by_position)
        .copied()
}

fn list(types: &[(&str, &str)]) -> String {
    match types {
        [] => "none".to_owned(),
        types => types.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", "),
    }
}
