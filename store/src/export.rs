//! A selection as a batch again, for every format that there is.

use std::collections::HashSet;

use profpipe_formats::report::{Frame, Frames};
use profpipe_profile::attribute_names::{PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER};
use profpipe_profile::{Dictionary, LocationIx, Profiles, SampleRef, Samples, StackIx};

use crate::error::QueryError;
use crate::select::{Filter, Selection};
use crate::table::Table;

impl Table {
    /// The samples of a selection, as a batch over the same dictionary. Stacks lose the functions that are
    /// hidden; folding, which is for drawing, is not done. Times that are not selected are left out with
    /// their values.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn export(&self, selection: &Selection) -> Result<Profiles, QueryError> {
        let filter = Filter::new(self, selection)?;
        let mut kept: Vec<Option<Samples>> = vec![None; self.intervals.len()];
        let mut last: Option<(u32, u32)> = None;
        let originals: Vec<_> = self.profiles.iter().map(|(_, _, profile)| profile).collect();
        let mut times: Vec<u64> = Vec::new();
        let mut values: Vec<i64> = Vec::new();
        let rows = filter.rows;
        let mut finish = |at: Option<(u32, u32)>, times: &mut Vec<u64>, values: &mut Vec<i64>| {
            if let Some((profile, sample)) = at {
                let original = originals[profile as usize].samples.get(sample as usize);
                kept[profile as usize].get_or_insert_default().push(SampleRef {
                    values,
                    timestamps_unix_nano: times,
                    ..original
                });
            }
            times.clear();
            values.clear();
        };
        for row in (0..rows.len()).filter(|row| filter.accepts(*row)) {
            let at = (rows.profiles[row], rows.samples[row]);
            if last != Some(at) {
                finish(last.replace(at), &mut times, &mut values);
            }
            values.push(rows.weights[row]);
            let original = originals[at.0 as usize].samples.get(at.1 as usize);
            if !original.timestamps_unix_nano.is_empty() {
                times.push(u64::try_from(rows.times[row]).unwrap_or(0));
            }
        }
        finish(last, &mut times, &mut values);
        let mut exported = Profiles {
            dictionary: self.profiles.dictionary.clone(),
            resources: self.without_samples(),
        };
        for (profile, samples) in exported.profiles_mut().zip(&mut kept) {
            profile.samples = samples.take().unwrap_or_default();
        }
        drop_empty(&mut exported);
        if let Some(hide) = &selection.hide {
            hide_functions(&mut exported, hide)?;
        }
        Ok(exported)
    }

    /// Resources, scopes and profiles as they are, without samples.
    fn without_samples(&self) -> Vec<profpipe_profile::ResourceProfiles> {
        use profpipe_profile::{Profile, ResourceProfiles, ScopeProfiles};
        let profile = |of: &Profile| Profile {
            sample_type: of.sample_type,
            samples: Samples::default(),
            time_unix_nano: of.time_unix_nano,
            duration_nano: of.duration_nano,
            period_type: of.period_type,
            period: of.period,
            profile_id: of.profile_id,
            dropped_attributes_count: of.dropped_attributes_count,
            attributes: of.attributes.clone(),
            ..Profile::default()
        };
        let scope = |of: &ScopeProfiles| ScopeProfiles {
            scope: of.scope.clone(),
            profiles: of.profiles.iter().map(profile).collect(),
            schema_url: of.schema_url.clone(),
        };
        let resource = |of: &ResourceProfiles| ResourceProfiles {
            resource: of.resource.clone(),
            scopes: of.scopes.iter().map(scope).collect(),
            schema_url: of.schema_url.clone(),
        };
        self.profiles.resources.iter().map(resource).collect()
    }
}

/// Leaves out what has no samples.
fn drop_empty(profiles: &mut Profiles) {
    for scope in profiles.resources.iter_mut().flat_map(|resource| &mut resource.scopes) {
        scope.profiles.retain(|profile| !profile.samples.is_empty());
        // They speak of types that are gone.
        scope.scope.attributes.retain(|attribute| {
            ![PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER].contains(&attribute.key.as_str())
        });
    }
    for resource in &mut profiles.resources {
        resource.scopes.retain(|scope| !scope.profiles.is_empty());
    }
    profiles.resources.retain(|resource| !resource.scopes.is_empty());
}

/// Takes the locations out of all stacks whose functions are all hidden; of others the lines.
fn hide_functions(profiles: &mut Profiles, hide: &regex::Regex) -> Result<(), QueryError> {
    let replaced = replaced_locations(&mut profiles.dictionary, hide);
    let used: HashSet<StackIx> =
        profiles.iter().flat_map(|it| it.2.samples.stacks.clone()).collect();
    let mut stacks = std::collections::HashMap::new();
    for stack in used {
        let locations = profiles.dictionary.stacks.get(stack);
        let kept: Vec<LocationIx> = locations
            .iter()
            .filter_map(|at| replaced.get(at).copied().unwrap_or(Some(*at)))
            .collect();
        let new = profiles.dictionary.stacks.intern(&kept);
        stacks.insert(stack, new);
    }
    for profile in profiles.profiles_mut() {
        for stack in profile.samples.stacks_mut() {
            *stack = stacks.get(stack).copied().unwrap_or(*stack);
        }
    }
    Ok(())
}

/// The locations that a hidden function is at: what stands for each, nothing where all of it is hidden.
fn replaced_locations(
    dictionary: &mut Dictionary,
    hide: &regex::Regex,
) -> std::collections::HashMap<LocationIx, Option<LocationIx>> {
    use profpipe_profile::{Index, LocationRef};
    let mut kept_lines = Vec::new();
    {
        let mut frames = Frames::new(dictionary);
        let mut of_locations: Vec<Vec<u32>> = Vec::new();
        for at in 0..dictionary.locations.len() as u32 {
            of_locations.push(frames.of(LocationIx::new(at)).to_vec());
        }
        let is_hidden: Vec<bool> =
            frames.into_frames().iter().map(|Frame { name, .. }| hide.is_match(name)).collect();
        for (at, functions) in of_locations.iter().enumerate() {
            let is_kept: Vec<bool> = functions.iter().map(|it| !is_hidden[*it as usize]).collect();
            if is_kept.contains(&false) {
                kept_lines.push((LocationIx::new(at as u32), is_kept));
            }
        }
    }
    let mut replaced = std::collections::HashMap::new();
    for (at, is_kept) in kept_lines {
        let row = dictionary.locations.get(at);
        let lines: Vec<_> =
            row.lines.iter().zip(&is_kept).filter(|it| *it.1).map(|it| *it.0).collect();
        let attributes = row.attributes.to_vec();
        let (mapping, address) = (row.mapping, row.address);
        let new = (!lines.is_empty()).then(|| {
            let location = LocationRef { mapping, address, lines: &lines, attributes: &attributes };
            dictionary.locations.intern(location)
        });
        replaced.insert(at, new);
    }
    replaced
}
