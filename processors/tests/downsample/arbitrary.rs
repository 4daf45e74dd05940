//! Batches of every kind: what comes out is valid, as much as it was, and no more than wanted.

use std::collections::{BTreeMap, BTreeSet};

use profpipe_formats::otlp;
use profpipe_processors::downsample::algorithm::{Design, Keep, Options, Refusal, downsample};
use profpipe_profile::attribute_names::SAMPLES_LOST;
use profpipe_profile::{
    Function, Index, Line, Link, LinkIx, LocationRef, Profile, Profiles, Resource,
    ResourceProfiles, SampleRef, ScopeProfiles, StringIx, Value,
};
use proptest::prelude::*;

use crate::answers::items;

/// What a batch is made of.
#[derive(Debug, Clone)]
struct Recipe {
    seed: u64,
    services: usize,
    profiles: usize,
    types: usize,
    samples: usize,
    depth: usize,
    /// 0: one value; 1: some zeros; 2: huge ones; 3: some negative.
    values: u8,
    timestamps: bool,
    links: bool,
    threads: bool,
    proportional: bool,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (
        (any::<u64>(), 1..4_usize, 1..4_usize, 1..4_usize, 0..300_usize, 0..9_usize),
        (0..4_u8, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((seed, services, profiles, types, samples, depth), flags)| {
            let (values, timestamps, links, threads, proportional) = flags;
            Recipe {
                seed,
                services,
                profiles,
                types,
                samples,
                depth,
                values,
                timestamps,
                links,
                threads,
                proportional,
            }
        })
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let word = *state;
    (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

fn build(recipe: &Recipe) -> Profiles {
    let state = &mut recipe.seed.clone();
    let mut profiles = Profiles::new();
    let Profiles { dictionary, resources } = &mut profiles;
    for service in 0..recipe.services {
        let mut scope = ScopeProfiles::default();
        for window in 0..recipe.profiles {
            let rows: Vec<u64> = (0..recipe.samples).map(|_| next(state)).collect();
            for kind in 0..recipe.types {
                let mut profile =
                    Profile { time_unix_nano: 1 + window as u64, ..Profile::default() };
                profile.sample_type.kind = dictionary.strings.intern(["a", "b", "c"][kind]);
                let lost = dictionary.strings.intern(SAMPLES_LOST);
                let lost = dictionary.attributes.intern(lost, Value::Int(3), StringIx::default());
                profile.attributes.push(lost);
                for row in &rows {
                    let mut of_row = *row;
                    let locations: Vec<_> = (0..recipe.depth)
                        .map(|_| {
                            let at = next(&mut of_row) % 5;
                            let name = dictionary.strings.intern(&format!("f{at}"));
                            let function = dictionary
                                .functions
                                .intern(Function { name, ..Function::default() });
                            let lines = [Line { function, ..Line::default() }; 2];
                            let lines = &lines[..(at % 3) as usize];
                            let address = at;
                            dictionary.locations.intern(LocationRef {
                                lines,
                                address,
                                ..LocationRef::default()
                            })
                        })
                        .collect();
                    let weight = 1 + (next(&mut of_row) % 100) as i64;
                    let factor = match (kind, recipe.proportional) {
                        (0, _) => 1,
                        (_, true) => 7,
                        _ => 1 + (next(&mut of_row) % 9) as i64,
                    };
                    let value = weight * factor;
                    let value = match recipe.values {
                        1 if row % 3 == 0 => 0,
                        2 if row % 5 == 0 => i64::MAX / 2,
                        3 if row % 50 == 0 => -value,
                        _ => value,
                    };
                    let link = if recipe.links && row % 2 == 0 {
                        let trace_id =
                            u128::from(next(&mut of_row) % 40) * 0x1234_5678_9abc_def1_2345;
                        let trace_id = trace_id.to_be_bytes();
                        dictionary.links.intern(Link { trace_id, span_id: [1; 8] })
                    } else {
                        LinkIx::NONE
                    };
                    let mut attributes = Vec::new();
                    if recipe.threads {
                        let key = dictionary.strings.intern("thread.id");
                        let thread = Value::Int((row % 3) as i64);
                        attributes.push(dictionary.attributes.intern(key, thread, StringIx::NONE));
                    }
                    let stack = dictionary.stacks.intern(&locations);
                    let (one, two) = ([value], [value / 2, value - value / 2]);
                    let (values, times): (&[i64], &[u64]) = match row % 4 {
                        0 if recipe.timestamps => (&two, &[5, 6]),
                        1 if recipe.timestamps && recipe.values == 0 => (&[], &[7, 8, 9]),
                        _ => (&one, &[]),
                    };
                    profile.samples.push(SampleRef {
                        stack,
                        link,
                        attributes: &attributes,
                        values,
                        timestamps_unix_nano: times,
                    });
                }
                scope.profiles.push(profile);
            }
        }
        let mut resource = Resource::default();
        resource.set("service.name", format!("s{}", service / 2));
        resource.set("process.pid", service as i64);
        resources.push(ResourceProfiles { resource, scopes: vec![scope], ..Default::default() });
    }
    profiles
}

/// Every index is in its table.
fn check(profiles: &Profiles) {
    profiles.dictionary.check().unwrap();
    for (_, _, profile) in profiles.iter() {
        profile.check(&profiles.dictionary).unwrap();
    }
}

/// The sum of values of each sample type of each service.
fn totals(profiles: &Profiles) -> BTreeMap<(String, String), i128> {
    let mut totals = BTreeMap::new();
    for (resource, _, profile) in profiles.iter() {
        let name = resource.get("service.name").and_then(Value::as_str).unwrap().to_owned();
        let kind = profiles.dictionary.strings.get(profile.sample_type.kind).to_owned();
        let sum: i128 = profile
            .samples
            .iter()
            .map(|sample| {
                if sample.values.is_empty() {
                    sample.timestamps_unix_nano.len() as i128
                } else {
                    sample.values.iter().map(|value| i128::from(*value)).sum()
                }
            })
            .sum();
        *totals.entry((name, kind)).or_default() += sum;
    }
    totals
}

/// Lost samples of each sample type, all services together.
fn lost(profiles: &Profiles) -> i64 {
    let attributes = profiles.iter().flat_map(|(_, _, profile)| profile.attributes.iter());
    let counts = attributes.filter_map(|row| {
        let key = profiles.dictionary.attributes.key(*row);
        let is_lost = profiles.dictionary.strings.get(key) == SAMPLES_LOST;
        is_lost.then(|| profiles.dictionary.attributes.value(*row).as_int().unwrap())
    });
    counts.sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Scenario: any valid batch and any options.
    /// Guarantees: nothing panics; the outcome is valid, is encoded and decoded, has no more rows
    /// than before and than wanted; totals of the sample type that the choice is made by are exact
    /// where no sample belongs to a trace, and those of proportional types but for rounding; lost
    /// samples are counted as before; the same seed gives the same.
    #[test]
    fn any_batch_stays_valid(
        recipe in recipe(),
        share in 0.001..1.0_f64,
        stacks in 1..100_usize,
        by_share in any::<bool>(),
        floor in prop_oneof![Just(0_usize), 0..400_usize],
        balance in prop_oneof![Just(0_usize), Just(512), 0..20_usize],
        calibrate in any::<bool>(),
        unite in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let keep = if by_share { Keep::Share(share) } else { Keep::Stacks(stacks) };
        let options = Options { keep, floor, balance, calibrate, unite };
        let before = build(&recipe);
        let mut after = before.clone();
        let report = downsample(&mut after, &options, seed);
        check(&after);
        let decoded = otlp::decode(&otlp::encode(&after)).unwrap();
        prop_assert_eq!(totals(&decoded), totals(&after));
        prop_assert_eq!(report.rows_in, before.sample_count());
        prop_assert_eq!(report.rows_out, after.sample_count());
        prop_assert!(report.rows_out <= report.rows_in);
        prop_assert_eq!(lost(&before), lost(&after));
        let (old, new) = (totals(&before), totals(&after));
        for (key, total) in &old {
            let now = new.get(key).copied().unwrap_or(0);
            if recipe.links {
                continue;
            }
            if recipe.types == 1 {
                prop_assert_eq!(now, *total, "{:?}", key);
            } else if recipe.proportional && recipe.values < 2 && !recipe.timestamps {
                // Where profiles are sampled together, the others are rounded in each.
                let profiles = before.iter().count() as i128;
                prop_assert!((now - *total).abs() <= profiles, "{:?}", key);
            }
        }
        if recipe.values == 3 && recipe.samples > 200 && unite {
            let negative = before.iter().any(|(_, _, profile)| {
                profile.samples.iter().any(|sample| sample.weight() < 0)
            });
            prop_assert!(!negative || report.refused.contains_key(&Refusal::Negative));
        }
        if !recipe.links && let Keep::Stacks(stacks) = keep {
            for (_, _, profile) in after.iter() {
                let sampled = profile.attributes.iter().any(|row| {
                    let key = after.dictionary.attributes.key(*row);
                    after.dictionary.strings.get(key) == "profile.sampling.k"
                });
                // Profiles of a service may share what they may keep; the rest of a sample
                // without times is a row of its own.
                let most = 2 * stacks * recipe.services;
                prop_assert!(!sampled || profile.samples.len() <= most);
            }
        }
        let mut again = before.clone();
        downsample(&mut again, &options, seed);
        prop_assert_eq!(otlp::encode(&again), otlp::encode(&after));
        // And once more, on what was sampled.
        downsample(&mut again, &options, seed.wrapping_add(1));
        check(&again);
        prop_assert_eq!(lost(&again), lost(&before));
        prop_assert!(LinkIx::NONE.is_none());
    }

    /// Scenario: any stacks and weights, as many kept as there are or fewer, by many seeds.
    /// Guarantees: never more are kept than wanted, none of value 0 and none twice, and the total is
    /// exact every time; if as many may be kept as there are, nothing is drawn at all.
    #[test]
    fn never_more_than_wanted(
        recipe in recipe(),
        keep in 1..900_usize,
        balance in prop_oneof![Just(0_usize), Just(512), 0..20_usize],
        calibrate in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let profiles = build(&Recipe { values: 0, links: false, timestamps: false, ..recipe });
        let mut weights = BTreeMap::new();
        for (_, _, profile) in profiles.iter() {
            for sample in profile.samples.iter() {
                *weights.entry(sample.stack).or_insert(0) += sample.weight() as u64;
            }
        }
        let rows: Vec<_> = weights.into_iter().collect();
        let total: u64 = rows.iter().map(|(_, weight)| weight).sum();
        let design = Design::new(&profiles.dictionary, items(&rows), keep, balance);
        prop_assert_eq!(design.is_none(), keep >= rows.len());
        for seed in (0..20).map(|at| seed.wrapping_add(at)) {
            let Some(design) = &design else { break };
            let draw = design.draw(calibrate, seed);
            prop_assert!(draw.kept.len() <= keep, "{} of {keep}", draw.kept.len());
            prop_assert_eq!(draw.kept.iter().map(|(_, value)| value).sum::<u64>(), total);
            prop_assert!(draw.kept.iter().all(|(_, value)| *value > 0));
            let different: BTreeSet<u32> = draw.kept.iter().map(|(row, _)| *row).collect();
            prop_assert_eq!(different.len(), draw.kept.len());
        }
    }

    /// Scenario: any batch of which at least as many stacks may be kept as there are.
    /// Guarantees: nothing is sampled: every stack of every process is worth what it was.
    #[test]
    fn what_is_few_stays(recipe in recipe(), seed in any::<u64>()) {
        let before = build(&recipe);
        let mut after = before.clone();
        let keep = Keep::Stacks(before.sample_count().max(1));
        let report = downsample(&mut after, &Options { keep, floor: 0, ..Options::default() }, seed);
        prop_assert_eq!(report.sampled, 0);
        prop_assert_eq!(by_stack(&after), by_stack(&before));
    }
}

/// What each stack is worth, by process, sample type and addresses. Equal ones are merged.
fn by_stack(profiles: &Profiles) -> BTreeMap<(i64, String, Vec<u64>), i128> {
    let mut worth = BTreeMap::new();
    let Profiles { dictionary, .. } = profiles;
    for (resource, _, profile) in profiles.iter() {
        let pid = resource.get("process.pid").and_then(Value::as_int).unwrap();
        let kind = dictionary.strings.get(profile.sample_type.kind);
        for sample in profile.samples.iter() {
            let locations = dictionary.stacks.get(sample.stack).iter();
            let addresses = locations.map(|location| dictionary.locations.get(*location).address);
            let value: i128 = if sample.values.is_empty() {
                sample.timestamps_unix_nano.len() as i128
            } else {
                sample.values.iter().map(|value| i128::from(*value)).sum()
            };
            *worth.entry((pid, kind.to_owned(), addresses.collect())).or_default() += value;
        }
    }
    worth.retain(|_, value| *value != 0);
    worth
}
