//! Which of the sample types of a batch is reported.

use std::collections::{BTreeSet, HashSet};

use super::ReportError;
use super::text::printable;
use super::units::{dimension, factor, is_same_dimension};
use crate::pprof::{default_type, file_order};
use profpipe_profile::{Dictionary, Profile, Profiles, Resource, ScopeProfiles, ValueType};

/// A sample type, and every profile of it.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The kind of thing counted.
    pub kind: &'a str,
    /// The unit that values are reported in: of those of the profiles the finest.
    pub unit: &'a str,
    /// The profiles of this type, from all resources and scopes.
    pub profiles: Vec<ChosenProfile<'a>>,
}

/// A profile that is reported.
#[derive(Debug, Clone, Copy)]
pub struct ChosenProfile<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// Whose it is.
    pub resource: &'a Resource,
    /// The position of the resource in the batch.
    pub position: usize,
    /// The scope that it is in.
    pub scope: &'a ScopeProfiles,
    /// What its values are multiplied with to be in the unit of the report.
    pub factor: i64,
}

/// What a batch has beside the sample type that is reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// The other sample types that have samples, as `cpu`; as `cpu in count` where the name alone is
    /// that of the reported type. A count of samples is none where the reported profiles say what
    /// one sample stands for.
    pub types: Vec<String>,
    /// The positions of the resources that have profiles, but none of the reported type.
    pub resources: Vec<usize>,
}

impl<'a> Choice<'a> {
    /// Chooses as google/pprof does: the type that is wanted, by its name or its position; else the
    /// default of the batch: the one that it declares; else the last of a pprof file, and the first of
    /// others. A wanted type may have a unit, as in `cpu/nanoseconds`, and `inuse_space` finds also
    /// `space`.
    ///
    /// Types of one name in units of one dimension, as nanoseconds and milliseconds, are one type.
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
                let default = default_type(profiles).ok_or(ReportError::Empty)?;
                texts(&profiles.dictionary, default)
            }
        };
        Ok(Self::of(profiles, kind, unit))
    }

    /// The profiles of a type that there is.
    fn of(profiles: &'a Profiles, kind: &'a str, unit: &'a str) -> Self {
        let dictionary = &profiles.dictionary;
        let unit_of = |profile: &Profile| {
            let (other, in_unit) = texts(dictionary, profile.sample_type);
            (other == kind && is_same_dimension(unit, in_unit)).then_some(in_unit)
        };
        let mut chosen = Vec::new();
        for (position, resource) in profiles.resources.iter().enumerate() {
            for scope in &resource.scopes {
                let of_scope = scope.profiles.iter().filter_map(|profile| {
                    let one = ChosenProfile {
                        profile,
                        resource: &resource.resource,
                        position,
                        scope,
                        factor: 1,
                    };
                    Some((one, unit_of(profile)?))
                });
                // A file that counts one thing twice is not to be counted twice.
                if file_order(scope).is_some() {
                    chosen.extend(of_scope.min_by_key(|(_, in_unit)| *in_unit != unit));
                } else {
                    chosen.extend(of_scope);
                }
            }
        }
        let finest = chosen.iter().map(|(_, unit)| *unit).min_by_key(|unit| factor(unit));
        let unit = finest.unwrap_or(unit);
        let in_unit = |(one, unit_of): (ChosenProfile<'a>, &str)| ChosenProfile {
            factor: factor(unit_of) / factor(unit),
            ..one
        };
        Self { kind, unit, profiles: chosen.into_iter().map(in_unit).collect() }
    }

    /// Every sample type that has samples, as [`Self::new`] chooses one.
    ///
    /// # Errors
    /// If there are more than `limit`.
    pub(super) fn all(profiles: &'a Profiles, limit: usize) -> Result<Vec<Self>, ReportError> {
        let mut seen = HashSet::new();
        let mut types = with_samples(profiles);
        types.retain(|(kind, unit)| seen.insert((*kind, dimension(unit))));
        if types.len() > limit {
            return Err(ReportError::TooManyTypes { limit });
        }
        Ok(types.into_iter().map(|(kind, unit)| Self::of(profiles, kind, unit)).collect())
    }

    /// What `profiles`, the batch that was chosen from, has beside this type.
    pub fn left_out(&self, profiles: &Profiles) -> LeftOut {
        let reported: BTreeSet<usize> = self.profiles.iter().map(|one| one.position).collect();
        let mut types = Vec::new();
        let says_period = self.says_period(profiles);
        for (kind, unit) in with_samples(profiles) {
            let is_other = kind != self.kind || !is_same_dimension(unit, self.unit);
            let is_implied = (kind, unit) == ("samples", "count") && says_period;
            if is_other && !is_implied {
                types.push(match kind == self.kind {
                    true => format!("{kind} in {unit}"),
                    false => kind.to_owned(),
                });
            }
        }
        types.dedup();
        let has_profiles = |position: &usize| {
            let resource = profiles.resources.get(*position);
            let mut scopes = resource.iter().flat_map(|resource| &resource.scopes);
            scopes.any(|scope| !scope.profiles.is_empty())
        };
        let others = (0..profiles.resources.len()).filter(|at| !reported.contains(at));
        LeftOut { types, resources: others.filter(has_profiles).collect() }
    }
}

impl Choice<'_> {
    /// Whether every profile says what one sample stands for.
    fn says_period(&self, profiles: &Profiles) -> bool {
        self.profiles.iter().all(|one| {
            let (kind, _) = texts(&profiles.dictionary, one.profile.period_type);
            kind == self.kind && one.profile.period > 0
        })
    }
}

/// The sample types of a batch with their units, each once, in the order of their file: kinds of
/// things counted, and units.
pub fn sample_types(profiles: &Profiles) -> Vec<(&str, &str)> {
    let mut types = Vec::new();
    let mut seen = HashSet::new();
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

/// The sample types that have samples, as [`sample_types`] lists them.
fn with_samples(profiles: &Profiles) -> Vec<(&str, &str)> {
    let of_profiles = profiles.iter().filter(|(_, _, profile)| !profile.samples.is_empty());
    let has_samples: HashSet<_> = of_profiles
        .map(|(_, _, profile)| texts(&profiles.dictionary, profile.sample_type))
        .collect();
    let mut types = sample_types(profiles);
    types.retain(|kind| has_samples.contains(kind));
    types
}

fn texts(dictionary: &Dictionary, kind: ValueType) -> (&str, &str) {
    (dictionary.strings.get(kind.kind), dictionary.strings.get(kind.unit))
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
        types => types.iter().map(|(kind, _)| printable(kind)).collect::<Vec<_>>().join(", "),
    }
}
