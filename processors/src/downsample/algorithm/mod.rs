//! Ten or a hundred times less data, same answers.
//!
//! # What it does
//! 1. Profiles of the same kind in a scope become one, and so do samples of equal stack, attributes
//!    and link. This loses nothing (but which of the profiles a sample was in).
//! 2. Of the samples of a *stratum* (a profile; or profiles of a service that are small alone) `k`
//!    are kept. A threshold τ with Σ min(1, w/τ) = k divides them (VarOpt): those of at least τ stay
//!    as they are, of the others each stays with a chance of w/τ and then stands for τ.
//! 3. The choice is balanced (the cube method, in `cube.rs`): sums over heavy functions, own and total, and
//!    over heavy nodes of the call tree, more than 1 %, come out exactly. To that end a few samples
//!    are kept with less than τ. Of nearly equal sums one is balanced, and not more than two thirds
//!    of what is kept allows.
//! 4. Values are rounded to whole numbers by even steps in depth-first order: totals stay exact.
//!
//! # What it promises
//! - Every sum over samples, of a function, a node, a thread, is unbiased; its variance is at most τ
//!   times the sum of the light samples in it, and far less for what is balanced. The sum of a
//!   stratum is exact. Sampling what was sampled keeps both: the largest τ counts.
//! - Sample types whose samples are the same share one choice, made by the first that pprof would
//!   show. The others stay unbiased, and exact in sum if they are proportional.
//! - Samples with a link are kept by the randomness of their trace, so that profile and trace
//!   survive together. What that changes in the total is spread over light samples without a link,
//!   if there are enough.
//! - A profile stays as it is where sampling would hurt: see [`Refusal`].
//!
//! Attributes of the profile tell the error: `profile.sampling.*` in
//! [`attribute_names`](profpipe_profile::attribute_names).
//!
//! # What it costs
//! Samples that stand for others lose their timestamps: these would not be theirs. A profile's
//! original payload is dropped with the samples.
//!
//! Sources: Duffield, Lund, Thorup (2007) and Cohen et al. (2011) for VarOpt; Cohen, Cormode,
//! Duffield (2011) for depth-first order; Deville and Tillé (2004) for the cube.

mod allocation;
mod balance;
mod cube;
mod design;
mod family;
mod forest;
mod frames;
mod lanes;
mod rake;
mod random;
mod rewrite;
mod systematic;
#[cfg(test)]
mod tests;
mod threshold;

pub use design::{Design, Draw, Item, trace_randomness};

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use profpipe_profile::attribute_names::SERVICE_NAME;
use profpipe_profile::{LinkIx, Profiles, Resource, Value, ValueType};

use family::{Family, FamilyKey, Group};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// This share of the stacks of a batch that may be sampled, between 0 and 1, divided between
    /// its strata by the square root of their weight.
    Share(f64),
    /// So many stacks of each profile.
    Stacks(usize),
}

/// How profiles are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How much is kept.
    pub keep: Keep,
    /// A stratum of at most so many samples stays as it is.
    pub floor: usize,
    /// On how many sums a choice is balanced at most; below 2 it goes by even steps only.
    pub balance: usize,
    /// Whether values are adjusted so that balanced sums are exact.
    pub calibrate: bool,
    /// Whether profiles of the same kind become one.
    pub unite: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep: Keep::Share(0.1), floor: 2000, balance: 256, calibrate: false, unite: true }
    }
}

/// Why a profile was not sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It has so few stacks that dropping some would change answers.
    Floor,
    /// It has negative values, as a difference of profiles has.
    Negative,
    /// Its values are so large that what stands for several would not fit.
    Overflow,
    /// No more stacks than may be kept.
    Few,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Floor, Self::Negative, Self::Overflow, Self::Few];

    /// Its name, as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Negative => "negative",
            Self::Overflow => "overflow",
            Self::Few => "few",
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples before.
    pub rows_in: usize,
    /// Samples afterwards.
    pub rows_out: usize,
    /// Profiles that were sampled.
    pub sampled: usize,
    /// Profiles that were not, by reason.
    pub refused: HashMap<Refusal, usize>,
}

/// Samples the profiles of a batch. The choice depends on nothing but the batch, the options and
/// the seed; every batch should have a seed of its own, so that errors average out over time.
pub fn downsample(profiles: &mut Profiles, options: &Options, seed: u64) -> Report {
    let mut report = Report { rows_in: profiles.sample_count(), ..Report::default() };
    let mut families = families(profiles, options);
    let strata = strata(profiles, &mut families, options, &mut report);
    let keeps = allocation::keeps(&families, &strata, options.keep);
    for (at, (stratum, keep)) in strata.iter().zip(keeps).enumerate() {
        sample(profiles, &mut families, stratum, keep, options, (seed, at), &mut report);
    }
    let mut changed = false;
    let mut emptied: HashSet<(usize, usize, usize), RandomState> = HashSet::default();
    for family in &families {
        if let Some(places) = rewrite::rewrite(profiles, family, seed) {
            let (resource, scope) = family.place;
            emptied.extend(places.into_iter().map(|profile| (resource, scope, profile)));
            changed = true;
        }
    }
    if changed {
        for (at, resource) in profiles.resources.iter_mut().enumerate() {
            for (scope_at, scope) in resource.scopes.iter_mut().enumerate() {
                let mut places = (0..scope.profiles.len()).map(|place| (at, scope_at, place));
                scope.profiles.retain(|_| places.next().is_none_or(|at| !emptied.contains(&at)));
            }
        }
        profiles.compact();
    }
    report.rows_out = profiles.sample_count();
    report
}

/// Profiles that belong together, each with its samples united.
fn families(profiles: &Profiles, options: &Options) -> Vec<Family> {
    let mut families = Vec::new();
    for (at, resource) in profiles.resources.iter().enumerate() {
        for (scope_at, scope) in resource.scopes.iter().enumerate() {
            let mut known: HashMap<FamilyKey, usize, RandomState> = HashMap::default();
            let mut members: Vec<Vec<usize>> = Vec::new();
            for (profile_at, profile) in scope.profiles.iter().enumerate() {
                let key = FamilyKey::of(&profiles.dictionary, profile, options.unite);
                let family = *known.entry(key).or_insert_with(|| {
                    members.push(Vec::new());
                    members.len() - 1
                });
                if let Some(members) = members.get_mut(family) {
                    members.push(profile_at);
                }
            }
            let new = members
                .into_iter()
                .map(|members| Family::new(&profiles.dictionary, scope, (at, scope_at), members));
            families.extend(new);
        }
    }
    families
}

/// A group of sample types of a family, by positions.
type Part = (usize, usize);

/// What is sampled together.
#[derive(Debug, Default)]
struct Stratum {
    parts: Vec<Part>,
}

/// Who the profiles of a stratum are of: one group alone, or a service.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Owner {
    Group(Part),
    Service { names: Vec<String>, types: Vec<ValueType>, scope: String, key: FamilyKey },
}

/// What may be sampled, by stratum. What may not is said in the families and counted.
fn strata(
    profiles: &Profiles,
    families: &mut [Family],
    options: &Options,
    report: &mut Report,
) -> Vec<Stratum> {
    let mut known: HashMap<Owner, usize, RandomState> = HashMap::default();
    let mut strata: Vec<Stratum> = Vec::new();
    for (family_at, family) in families.iter().enumerate() {
        if let Some(refusal) = family.refusal {
            *report.refused.entry(refusal).or_default() += family.types.len();
            continue;
        }
        for (group_at, group) in family.groups.iter().enumerate() {
            let part = (family_at, group_at);
            let alone = family.rows_of(group) > options.floor;
            let owner = match profiles.resources.get(family.place.0) {
                Some(resource) if !alone && options.unite => {
                    service(&resource.resource).map(|names| Owner::Service {
                        names,
                        types: group.types.iter().map(|at| family.types[*at]).collect(),
                        scope: family.scope.clone(),
                        key: family.key.clone(),
                    })
                }
                _ => None,
            };
            let at = *known.entry(owner.unwrap_or(Owner::Group(part))).or_insert_with(|| {
                strata.push(Stratum::default());
                strata.len() - 1
            });
            if let Some(stratum) = strata.get_mut(at) {
                stratum.parts.push(part);
            }
        }
    }
    strata.retain(|stratum| {
        let enough = stratum_rows(families, stratum) > options.floor;
        if !enough {
            *report.refused.entry(Refusal::Floor).or_default() += types_of(families, stratum);
        }
        enough
    });
    strata
}

fn stratum_rows(families: &[Family], stratum: &Stratum) -> usize {
    stratum.parts.iter().map(|part| families[part.0].rows_of(group(families, *part))).sum()
}

fn types_of(families: &[Family], stratum: &Stratum) -> usize {
    stratum.parts.iter().map(|part| group(families, *part).types.len()).sum()
}

fn group(families: &[Family], (family, group): Part) -> &Group {
    &families[family].groups[group]
}

/// What names a service: nothing if it has no name.
fn service(resource: &Resource) -> Option<Vec<String>> {
    let name = resource.get(SERVICE_NAME).and_then(Value::as_str)?;
    let space = resource.get("service.namespace").and_then(Value::as_str).unwrap_or_default();
    Some(vec![name.to_owned(), space.to_owned()])
}

/// Samples a stratum, or counts why not.
fn sample(
    profiles: &Profiles,
    families: &mut [Family],
    stratum: &Stratum,
    keep: usize,
    options: &Options,
    (seed, stream): (u64, usize),
    report: &mut Report,
) {
    let mut items = Vec::new();
    let mut origin = Vec::new();
    for (number, part) in stratum.parts.iter().enumerate() {
        let family = &families[part.0];
        let primary = group(families, *part).primary;
        for (row, sample) in family.rows.iter().enumerate() {
            let value = family.value(row, primary).unwrap_or(0);
            if value == 0 {
                continue;
            }
            let link = sample.link;
            let trace = (link != LinkIx::NONE)
                .then(|| trace_randomness(profiles.dictionary.links.get(link).trace_id))
                .flatten();
            let resource = number as u32;
            items.push(Item { resource, stack: sample.stack, weight: value, trace });
            origin.push((number, row as u32));
        }
    }
    let mut refuse = |refusal| {
        *report.refused.entry(refusal).or_default() += types_of(families, stratum);
    };
    if keep >= items.len() {
        return refuse(Refusal::Few);
    }
    let Some(design) = Design::new(&profiles.dictionary, items, keep, options.balance) else {
        return refuse(Refusal::Overflow);
    };
    let draw = design.draw(options.calibrate, random::mixed(seed ^ random::mixed(stream as u64)));
    let mut kept = vec![Vec::new(); stratum.parts.len()];
    for (item, value) in draw.kept {
        let (number, row) = origin[item as usize];
        kept[number].push((row, value));
    }
    for (part, kept) in stratum.parts.iter().zip(kept) {
        report.sampled += group(families, *part).types.len();
        families[part.0].groups[part.1].outcome = Some(family::Outcome {
            kept,
            tau: design.tau(),
            method: design.method(),
            calibrated: draw.calibrated,
        });
    }
}
