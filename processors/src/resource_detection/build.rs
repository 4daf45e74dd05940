//! The build of an executable, from what the sampler says of the file's mappings.
//!
//! The sampler has read the identities of files already; nobody opens an executable here. Two
//! containers may have different files under one path: then the profile's own stacks decide.

use std::collections::HashMap;

use profpipe_profile::attribute_names::{BUILD_ID_GNU, BUILD_ID_GO, BUILD_ID_HTLHASH};
use profpipe_profile::{Dictionary, MappingIx, ResourceProfiles, Value};

use super::facts::Facts;

/// The identities of the files in a batch.
#[derive(Debug, Default)]
pub(super) struct Builds(HashMap<String, Vec<(MappingIx, Facts)>>);

impl Builds {
    /// Reads them from the mappings.
    pub(super) fn read(dictionary: &Dictionary) -> Self {
        let mut builds: HashMap<String, Vec<(MappingIx, Facts)>> = HashMap::new();
        let rows =
            (1..dictionary.mappings.len() as u32).filter_map(|row| dictionary.mappings.check(row));
        for row in rows {
            let mapping = dictionary.mappings.get(row);
            let mut facts = Facts::default();
            for attribute in mapping.attributes {
                let key = dictionary.strings.get(dictionary.attributes.key(*attribute));
                if [BUILD_ID_GNU, BUILD_ID_GO, BUILD_ID_HTLHASH].contains(&key) {
                    let value = dictionary.attributes.value(*attribute);
                    facts.text(key, Value::as_str(value).map(str::to_owned));
                }
            }
            if facts.iter().next().is_some() {
                let path = dictionary.strings.get(mapping.filename);
                builds.entry(path.to_owned()).or_default().push((row, facts));
            }
        }
        Self(builds)
    }

    /// The build of the file that a resource has under a path.
    pub(super) fn of(
        &self,
        path: &str,
        resource: &ResourceProfiles,
        dictionary: &Dictionary,
    ) -> Option<Facts> {
        let builds = self.0.get(path)?;
        let (_, first) = builds.first()?;
        if builds.iter().all(|(_, build)| build == first) {
            return Some(first.clone());
        }
        let profiles = resource.scopes.iter().flat_map(|scope| &scope.profiles);
        for sample in profiles.flat_map(|profile| profile.samples.iter()) {
            for location in dictionary.stacks.get(sample.stack) {
                let mapping = dictionary.locations.get(*location).mapping;
                if let Some((_, build)) = builds.iter().find(|(row, _)| *row == mapping) {
                    return Some(build.clone());
                }
            }
        }
        None
    }
}
