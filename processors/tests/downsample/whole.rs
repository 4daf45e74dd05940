//! Whole batches of a known shape: what is kept together, what is told, what is refused.

use profpipe_formats::pprof;
use profpipe_processors::downsample::algorithm::{
    Keep, Options, Refusal, Report, downsample, trace_randomness,
};
use profpipe_profile::attribute_names::{
    PROFILE_CUMULATIVE, SAMPLES_LOST, SAMPLING_CALIBRATED, SAMPLING_KEPT, SAMPLING_METHOD,
    SAMPLING_ROWS_IN, SAMPLING_SEED, SAMPLING_TAU, SAMPLING_TOTAL_IN,
};
use profpipe_profile::{
    Function, Line, Link, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    Samples, ScopeProfiles, StackIx, StringIx, Value,
};

use std::collections::HashSet;

use crate::answers::{Answers, Trials, frames, rows};

fn options(keep: Keep) -> Options {
    Options { keep, ..Options::default() }
}

/// A service of so many stacks over some functions, with a heavy tail of weights.
fn service(name: &str, stacks: u64) -> Profiles {
    let mut profiles = Profiles::new();
    let mut profile = Profile { time_unix_nano: 1, duration_nano: 10, ..Profile::default() };
    profile.sample_type.kind = profiles.dictionary.strings.intern("cpu");
    for at in 0..stacks {
        let stack = stack(&mut profiles, at);
        let values = [1_000_000 * weight(at)];
        profile.samples.push(SampleRef { stack, values: &values, ..SampleRef::default() });
    }
    let mut resource = Resource::default();
    resource.set("service.name", name);
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    profiles
}

fn weight(at: u64) -> i64 {
    1 + (500 / (1 + at * 7919 % 1009)) as i64
}

fn stack(profiles: &mut Profiles, at: u64) -> StackIx {
    let dictionary = &mut profiles.dictionary;
    // A leaf of its own, then ever fewer functions.
    let names = [at, 1_000_000 + at % 97, 2_000_000 + at % 13, 3_000_000 + at % 3];
    let locations = names.map(|name| {
        let name = dictionary.strings.intern(&format!("f{name}"));
        let function = dictionary.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, ..Line::default() }];
        dictionary.locations.intern(LocationRef { lines: &lines, ..LocationRef::default() })
    });
    dictionary.stacks.intern(&locations)
}

fn profile(profiles: &Profiles) -> &Profile {
    &profiles.resources[0].scopes[0].profiles[0]
}

fn total(profile: &Profile) -> i64 {
    profile.samples.iter().map(|sample| sample.weight()).sum()
}

fn attribute<'a>(profiles: &'a Profiles, profile: &Profile, name: &str) -> Option<&'a Value> {
    let table = &profiles.dictionary.attributes;
    let key = |row| profiles.dictionary.strings.get(table.key(row));
    let rows = profile.attributes.iter().copied();
    rows.filter(|row| key(*row) == name).map(|row| table.value(row)).next()
}

/// Estimates of questions that were asked of the whole, by name.
fn estimate(answers: &Answers, after: &Profiles) -> Vec<f64> {
    let of = Answers::of(&after.dictionary, &rows(after, "cpu"), 0.0);
    let answer = |question| {
        let at = of.questions.iter().position(|known| known == question);
        at.map_or(0.0, |at| of.truth[at] as f64)
    };
    answers.questions.iter().map(answer).collect()
}

/// Scenario: a service above the floor and one below, one that is not to be reduced.
/// Guarantees: the first keeps so many stacks and its total, and tells how; the others stay as they
/// are, and it is said why.
#[test]
fn large_profiles_are_sampled_and_say_so() {
    let before = service("a", 5000);
    for (keep, most) in [(Keep::Share(0.1), 500), (Keep::Stacks(321), 321)] {
        let mut after = before.clone();
        let report = downsample(&mut after, &options(keep), 42);
        let new = profile(&after);
        let kept = new.samples.len();
        assert!(kept <= most && kept * 10 >= most * 9, "{kept} of {most}");
        assert_eq!(total(new), total(profile(&before)));
        assert_eq!((report.rows_in, report.rows_out, report.sampled), (5000, kept, 1));
        let tell = |name| attribute(&after, new, name).cloned();
        assert_eq!(tell(SAMPLING_METHOD), Some(Value::from("varopt-cube")));
        assert_eq!(tell(SAMPLING_KEPT), Some(Value::Int(kept as i64)));
        assert_eq!(tell(SAMPLING_ROWS_IN), Some(Value::Int(5000)));
        assert_eq!(tell(SAMPLING_TOTAL_IN), Some(Value::Int(total(new))));
        assert_eq!(tell(SAMPLING_SEED), Some(Value::Int(42)));
        assert_eq!(tell(SAMPLING_CALIBRATED), Some(Value::Bool(false)));
        let Some(Value::Double(tau)) = tell(SAMPLING_TAU) else { panic!("no threshold") };
        // What is heavier is exact.
        let exact = new.samples.iter().filter(|sample| sample.weight() as f64 > tau + 1.0);
        for sample in exact {
            let name = after.dictionary.stacks.get(sample.stack)[0];
            let line = after.dictionary.locations.get(name).lines[0];
            let name = after.dictionary.functions.get(line.function).name;
            let at: u64 = after.dictionary.strings.get(name)[1..].parse().unwrap();
            assert_eq!(sample.weight(), 1_000_000 * weight(at));
        }
    }
    for (stacks, options, refusal) in [
        (2000, options(Keep::Share(0.1)), Refusal::Floor),
        (2500, options(Keep::Stacks(2500)), Refusal::Few),
        (2500, options(Keep::Share(1.0)), Refusal::Few),
    ] {
        let before = service("a", stacks);
        let mut after = before.clone();
        let report = downsample(&mut after, &options, 1);
        assert_eq!(report.refused.get(&refusal), Some(&1));
        assert_eq!(profile(&after).samples.len(), stacks as usize);
        assert_eq!(profile(&after).attributes, profile(&before).attributes);
    }
}

/// Scenario: all weights equal; one stack with most of the weight; zeros; negative values; values
/// whose sum or threshold does not fit.
/// Guarantees: totals are exact; zeros are gone; the last two stay as they are.
#[test]
fn extreme_values() {
    let with = |value: fn(u64) -> i64| {
        let mut profiles = service("a", 3000);
        let old = profile(&profiles).samples.clone();
        let samples = &mut profiles.resources[0].scopes[0].profiles[0].samples;
        *samples = Default::default();
        for (at, sample) in (0..).zip(old.iter()) {
            samples.push(SampleRef { values: &[value(at)], ..sample });
        }
        profiles
    };
    let good: [fn(u64) -> i64; 4] = [
        |_| 1,
        |at| if at == 7 { 1_000_000 } else { 3 },
        |at| (at % 4) as i64,
        |at| if at % 2 == 0 { 1_000_000_000_000 } else { 1 },
    ];
    for value in good {
        let before = with(value);
        let mut after = before.clone();
        let report = downsample(&mut after, &options(Keep::Stacks(300)), 5);
        assert_eq!((report.sampled, report.refused.len()), (1, 0));
        assert_eq!(total(profile(&after)), total(profile(&before)));
        assert!(profile(&after).samples.len() <= 300);
        assert!(profile(&after).samples.iter().all(|sample| sample.weight() > 0));
    }
    let negative: fn(u64) -> i64 = |at| if at == 9 { -1 } else { 5 };
    let huge: fn(u64) -> i64 = |_| i64::MAX / 2;
    let bad = [(negative, Refusal::Negative), (huge, Refusal::Overflow)];
    for (value, refusal) in bad {
        let before = with(value);
        let mut after = before.clone();
        let report = downsample(&mut after, &options(Keep::Stacks(300)), 5);
        assert_eq!(report.refused.get(&refusal), Some(&1));
        assert_eq!(profile(&after).samples.len(), 3000);
        assert_eq!(report.sampled, 0);
    }
}

/// Scenario: a pprof file of two types that are not proportional, read and sampled.
/// Guarantees: the total of the type that pprof shows, the last of the file, is exact.
#[test]
fn default_of_a_file_is_exact() {
    let mut before = service("a", 4000);
    let count = before.dictionary.strings.intern("samples");
    let cpu = profile(&before).clone();
    let mut samples = Profile { samples: Default::default(), ..cpu.clone() };
    samples.sample_type.kind = count;
    for (at, sample) in (0_i64..).zip(cpu.samples.iter()) {
        let values = [sample.weight() / 1_000_000 * (1 + at % 5)];
        samples.samples.push(SampleRef { values: &values, ..sample });
    }
    for (order, exact) in
        [(vec![cpu.clone(), samples.clone()], "cpu"), (vec![samples, cpu], "samples")]
    {
        // The first is what OTLP shows, and so the last of the file.
        before.resources[0].scopes[0].profiles = order;
        let mut file = pprof::decode(&pprof::encode(&before).unwrap()).unwrap();
        let totals = |profiles: &Profiles| -> Vec<(String, i64)> {
            let of = |profile: &Profile| {
                let kind = profiles.dictionary.strings.get(profile.sample_type.kind);
                (kind.to_owned(), total(profile))
            };
            profiles.iter().map(|(_, _, profile)| of(profile)).collect()
        };
        let expected = totals(&file);
        let report = downsample(&mut file, &options(Keep::Stacks(400)), 1);
        assert_eq!(report.sampled, 2, "{:?}", report.refused);
        let after = totals(&file);
        for (before, after) in expected.iter().zip(&after) {
            assert_eq!(before == after, before.0 == exact, "{before:?} {after:?}");
        }
    }
}

/// Scenario: profiles with two sample types over the same rows, proportional or not, and with a
/// third over other rows.
/// Guarantees: the first two keep the same rows; both totals are exact if they are proportional,
/// otherwise the first's, and the second's is right on average; the third is sampled by itself.
#[test]
fn sample_types_share_a_choice() {
    for proportional in [true, false] {
        let mut before = service("a", 4000);
        let count = before.dictionary.strings.intern("samples");
        let third = before.dictionary.strings.intern("wall");
        let cpu = profile(&before).clone();
        let mut samples = Profile { samples: Default::default(), ..cpu.clone() };
        samples.sample_type.kind = count;
        let mut wall = samples.clone();
        wall.sample_type.kind = third;
        for (at, sample) in (0_u64..).zip(cpu.samples.iter()) {
            let factor = if proportional { 1 } else { 1 + (at % 5) as i64 };
            let values = [sample.weight() / 1_000_000 * factor];
            samples.samples.push(SampleRef { values: &values, ..sample });
            if at % 2 == 0 {
                wall.samples.push(SampleRef { values: &[5], ..sample });
            }
        }
        let expected = total(&samples);
        before.resources[0].scopes[0].profiles = vec![samples, cpu.clone(), wall.clone()];
        let mut sum = 0.0;
        for seed in 0..40 {
            let mut after = before.clone();
            downsample(&mut after, &options(Keep::Stacks(400)), seed);
            let all = &after.resources[0].scopes[0].profiles;
            assert_eq!(all.len(), 3);
            let stacks = |of: &Profile| of.samples.iter().map(|s| s.stack).collect::<Vec<_>>();
            assert_eq!(stacks(&all[0]), stacks(&all[1]));
            assert_eq!(total(&all[1]), total(&cpu));
            // It has no more than the floor.
            assert_eq!((all[2].samples.len(), total(&all[2])), (2000, total(&wall)));
            if proportional {
                assert_eq!(total(&all[0]), expected);
            }
            sum += total(&all[0]) as f64;
        }
        let off = sum / 40.0 / expected as f64 - 1.0;
        assert!(off.abs() < 0.01, "{off}");
    }
}

/// Scenario: a service sampled by a half twice, and three times, many times over.
/// Guarantees: functions and nodes stay unbiased, the total exact; the threshold that is told is the
/// largest, the number of rows that of the first step.
#[test]
fn several_hops_stay_unbiased() {
    let before = service("a", 3000);
    let all = rows(&before, "cpu");
    let answers = Answers::of(&before.dictionary, &all, 0.01);
    for hops in [2, 3] {
        let mut trials = Trials::default();
        let mut unit: f64 = 0.0;
        for trial in 0..24 {
            let mut after = before.clone();
            let mut last = 0.0;
            for hop in 0..hops {
                let options = Options { floor: 100, ..options(Keep::Share(0.5)) };
                downsample(&mut after, &options, trial * 10 + hop);
                let tau = attribute(&after, profile(&after), SAMPLING_TAU).unwrap();
                let Value::Double(tau) = tau else { panic!("{tau:?}") };
                assert!(*tau >= last);
                last = *tau;
            }
            unit = unit.max(last);
            let rows_in = attribute(&after, profile(&after), SAMPLING_ROWS_IN);
            assert_eq!(rows_in, Some(&Value::Int(3000)));
            assert!(profile(&after).samples.len() <= 3000 >> hops);
            let sum = total(profile(&after)) as f64;
            trials.add(&answers, &estimate(&answers, &after), sum);
        }
        assert_eq!(trials.inexact, 0);
        let z = trials.z(unit);
        assert!(z.len() > 20 && z.iter().all(|z| z.abs() < 4.0), "{z:?}");
    }
}

/// Scenario: a service half of whose samples belong to traces, many of which have several.
/// Guarantees: a light sample of a trace is kept exactly if the trace's number is not below the
/// threshold for its weight, as a tracer decides; the total is exact; over many traces functions
/// are unbiased.
#[test]
fn samples_of_traces_go_with_their_traces() {
    let mut trials = Trials::default();
    let mut answers = None;
    let mut unit: f64 = 0.0;
    for seed in 0..24_u64 {
        let mut before = service("a", 4000);
        let old = profile(&before).samples.clone();
        let mut samples = Samples::default();
        for (at, sample) in (0_u64..).zip(old.iter()) {
            let mut link = sample.link;
            if at % 2 == 0 {
                let mixed = (seed * 1000 + at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let trace_id = (u128::from(mixed) << 64
                    | u128::from(mixed.rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)))
                .to_be_bytes();
                link = before.dictionary.links.intern(Link { trace_id, span_id: [1; 8] });
            }
            samples.push(SampleRef { link, ..sample });
        }
        before.resources[0].scopes[0].profiles[0].samples = samples;
        let answers = answers
            .get_or_insert_with(|| Answers::of(&before.dictionary, &rows(&before, "cpu"), 0.02));
        let mut after = before.clone();
        downsample(&mut after, &options(Keep::Stacks(400)), seed);
        let new = profile(&after);
        assert_eq!(total(new), total(profile(&before)));
        let Some(Value::Double(tau)) = attribute(&after, new, SAMPLING_TAU) else { panic!("τ") };
        unit = unit.max(*tau);
        let kept: HashSet<Vec<String>> =
            new.samples.iter().map(|sample| frames(&after.dictionary, sample.stack)).collect();
        // Kept is what has a number of at least (1 - w / τ) 2⁵⁶: there is one such τ for all.
        let (mut most, mut least) = (f64::INFINITY, 0.0_f64);
        for sample in profile(&before).samples.iter() {
            let link = before.dictionary.links.get(sample.link);
            let Some(number) = trace_randomness(link.trace_id) else { continue };
            let limit = sample.weight() as f64 / (1.0 - number as f64 / (1_u64 << 56) as f64);
            if kept.contains(&frames(&before.dictionary, sample.stack)) {
                most = most.min(limit);
            } else {
                least = least.max(limit);
            }
        }
        assert!(least < most && least < *tau * 1.001, "{least} {most} {tau}");
        trials.add(answers, &estimate(answers, &after), total(new) as f64);
    }
    let z = trials.z(unit);
    assert!(z.len() > 10 && z.iter().all(|z| z.abs() < 4.0), "{z:?}");
}

/// Scenario: rows with timestamps, some with values of their own, some twice.
/// Guarantees: heavy rows keep all times and values, those of equal samples in one; light rows have
/// one value and no time.
#[test]
fn only_exact_samples_keep_their_times() {
    let mut before = service("a", 3000);
    let first = stack(&mut before, 0);
    let samples = &mut before.resources[0].scopes[0].profiles[0].samples;
    let heavy = SampleRef { stack: first, ..SampleRef::default() };
    let huge = [1_000_000_000_000, 5];
    samples.push(SampleRef { values: &huge, timestamps_unix_nano: &[11, 12], ..heavy });
    samples.push(SampleRef { timestamps_unix_nano: &[13], ..heavy });
    let light = stack(&mut before, 5);
    let samples = &mut before.resources[0].scopes[0].profiles[0].samples;
    samples.push(SampleRef { stack: light, timestamps_unix_nano: &[14], ..heavy });
    let sum = total(profile(&before));
    downsample(&mut before, &options(Keep::Stacks(200)), 3);
    let new = profile(&before);
    assert_eq!(total(new), sum);
    let timed: Vec<_> =
        new.samples.iter().filter(|sample| !sample.timestamps_unix_nano.is_empty()).collect();
    assert_eq!(timed.len(), 1);
    assert_eq!(timed[0].values, [huge[0], huge[1], 1]);
    assert_eq!(timed[0].timestamps_unix_nano, [11, 12, 13]);
    assert!(
        new.samples.iter().all(|sample| sample.values.len() == 1 || sample.stack == timed[0].stack)
    );
}

/// Several windows, or processes, of services in one batch.
fn windows(count: u64, stacks: u64, change: impl Fn(&mut Profiles, u64)) -> Profiles {
    let all = (0..count).map(|at| {
        let mut window = service("a", stacks);
        window.resources[0].scopes[0].profiles[0].time_unix_nano = 100 + 10 * at;
        change(&mut window, at);
        window
    });
    profpipe_profile::merge(all)
}

fn put(profiles: &mut Profiles, name: &str, value: Value) {
    let key = profiles.dictionary.strings.intern(name);
    let row = profiles.dictionary.attributes.intern(key, value, StringIx::NONE);
    profiles.resources[0].scopes[0].profiles[0].attributes.push(row);
}

/// Scenario: windows of one process in a batch; the same counting from the start of the process;
/// the same where windows are to stay; small processes of one service; processes without a name.
/// Guarantees: windows become one, with the interval of all and the sum of what was lost;
/// cumulative ones never; small processes are sampled together, each profile by itself; those
/// without a name are not.
#[test]
fn what_belongs_together_is_sampled_together() {
    let sample =
        |batch: &mut Profiles, options: Options| -> Report { downsample(batch, &options, 9) };
    let ten = options(Keep::Share(0.1));
    let mut batch = windows(3, 4000, |window, _| put(window, SAMPLES_LOST, Value::Int(2)));
    let report = sample(&mut batch, ten);
    let all = &batch.resources[0].scopes[0].profiles;
    assert_eq!((all.len(), report.sampled, report.rows_in), (1, 1, 12_000));
    assert!(report.rows_out <= 400);
    assert_eq!((all[0].time_unix_nano, all[0].duration_nano), (100, 30));
    assert_eq!(attribute(&batch, &all[0], SAMPLES_LOST), Some(&Value::Int(6)));
    assert_eq!(total(&all[0]), 3 * total(profile(&service("a", 4000))));

    let mut batch =
        windows(3, 4000, |window, _| put(window, PROFILE_CUMULATIVE, Value::Bool(true)));
    let report = sample(&mut batch, ten);
    assert_eq!((batch.resources[0].scopes[0].profiles.len(), report.sampled), (3, 3));
    let mut batch = windows(3, 4000, |_, _| {});
    let report = sample(&mut batch, Options { unite: false, ..ten });
    assert_eq!((batch.resources[0].scopes[0].profiles.len(), report.sampled), (3, 3));

    let pid = |window: &mut Profiles, at: u64| {
        window.resources[0].resource.set("process.pid", at as i64);
    };
    let mut batch = windows(4, 1000, pid);
    let before: i64 = batch.iter().map(|(_, _, profile)| total(profile)).sum();
    let report = sample(&mut batch, ten);
    assert_eq!((batch.resources.len(), report.sampled), (4, 4));
    assert!(report.rows_out <= 400 && report.rows_out > 300, "{}", report.rows_out);
    assert_eq!(batch.iter().map(|(_, _, profile)| total(profile)).sum::<i64>(), before);
    // Each process is a node of the tree, too.
    for (_, _, profile) in batch.iter() {
        let share = total(profile) as f64 / before as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
    }
    let mut batch = windows(4, 1000, |window, at| {
        window.resources[0].resource.attributes.clear();
        pid(window, at);
    });
    let report = sample(&mut batch, ten);
    assert_eq!(report.refused.get(&Refusal::Floor), Some(&4));
    assert_eq!(report.rows_out, 4000);
}

/// Scenario: a small service beside a large one.
/// Guarantees: together a tenth is kept, of the small one more than a tenth.
#[test]
fn small_services_keep_more() {
    let batch = [service("large", 20_000), service("small", 2500)];
    let mut batch = profpipe_profile::merge(batch);
    let report = downsample(&mut batch, &options(Keep::Share(0.1)), 1);
    assert!(report.rows_out <= 2250);
    let kept = batch.resources[1].scopes[0].profiles[0].samples.len();
    assert!(kept > 500, "{kept}");
}
