//! Merging, aggregating, splitting and compacting: what must be the same before and after.

use std::collections::BTreeMap;

use profpipe_formats::otlp;
use profpipe_profile::attribute_names::SAMPLES_LOST;
use profpipe_profile::{
    AttributeIx, Dictionary, Index, KeyValue, Profile, Profiles, SampleRef, StringIx, Value,
    aggregate, join, merge,
};
use proptest::prelude::*;
use prost::Message;

use super::generate::{Random, Shape, request};
use super::profcheck::{Options, profcheck};

fn batch(seed: u64, size: usize, strict: bool) -> Profiles {
    let original = request(&mut Random(seed), Shape { size, references: false, strict });
    otlp::decode(&original.encode_to_vec()).unwrap()
}

fn sorted(attributes: &[KeyValue]) -> Vec<String> {
    let mut texts: Vec<_> = attributes.iter().map(|pair| format!("{pair:?}")).collect();
    texts.sort();
    texts
}

fn attributes(tables: &Dictionary, rows: &[AttributeIx]) -> Vec<String> {
    let text = |row: StringIx| tables.strings.get(row);
    let mut texts: Vec<_> = rows
        .iter()
        .map(|row| {
            let table = &tables.attributes;
            format!("{}={:?} {}", text(table.key(*row)), table.value(*row), text(table.unit(*row)))
        })
        .collect();
    texts.sort();
    texts
}

fn stack(tables: &Dictionary, sample: SampleRef<'_>) -> String {
    let text = |row: StringIx| tables.strings.get(row);
    let mut out = String::new();
    for location in tables.stacks.get(sample.stack) {
        let location = tables.locations.get(*location);
        let mapping = tables.mappings.get(location.mapping);
        out += &format!(
            "[{} {:x}-{:x}+{:x} {:?} {:x} {:?}",
            text(mapping.filename),
            mapping.memory_start,
            mapping.memory_limit,
            mapping.file_offset,
            attributes(tables, mapping.attributes),
            location.address,
            attributes(tables, location.attributes),
        );
        for line in location.lines {
            let function = tables.functions.get(line.function);
            out += &format!(
                " {} {} {}:{} {}:{}",
                text(function.name),
                text(function.system_name),
                text(function.filename),
                function.start_line,
                line.line,
                line.column
            );
        }
        out += "]";
    }
    out
}

/// Everything that a batch says, with what may be united summed: weights by resource, scope, type,
/// stack, attributes and link; and timestamps one by one.
fn content<'a>(batches: impl IntoIterator<Item = &'a Profiles>) -> BTreeMap<String, i128> {
    let mut content = BTreeMap::new();
    for batch in batches {
        let tables = &batch.dictionary;
        for resource in &batch.resources {
            let who =
                format!("{:?} {}", sorted(&resource.resource.attributes), resource.schema_url);
            for scope in &resource.scopes {
                let by = format!(
                    "{} {} {:?} {}",
                    scope.scope.name,
                    scope.scope.version,
                    sorted(&scope.scope.attributes),
                    scope.schema_url
                );
                for profile in &scope.profiles {
                    add(&mut content, tables, &format!("{who} {by}"), profile);
                }
            }
        }
    }
    content
}

fn add(content: &mut BTreeMap<String, i128>, tables: &Dictionary, who: &str, profile: &Profile) {
    let kind = [profile.sample_type, profile.period_type]
        .map(|of| format!("{}/{}", tables.strings.get(of.kind), tables.strings.get(of.unit)));
    for row in &profile.attributes {
        if let (SAMPLES_LOST, Value::Int(lost)) =
            (tables.strings.get(tables.attributes.key(*row)), tables.attributes.value(*row))
        {
            *content.entry("lost".into()).or_default() += i128::from(*lost);
        }
    }
    for sample in profile.samples.iter() {
        let link = tables.links.get(sample.link);
        let what = format!(
            "{who} {kind:?} {} {} {:?} {link:?}",
            profile.period,
            stack(tables, sample),
            attributes(tables, sample.attributes)
        );
        let times = sample.timestamps_unix_nano;
        for (at, time) in times.iter().enumerate() {
            let value = sample.values.get(at).copied().unwrap_or(1);
            *content.entry(format!("{what} at {time}")).or_default() += i128::from(value);
        }
        if times.is_empty() {
            let sum: i128 = sample.values.iter().map(|value| i128::from(*value)).sum();
            *content.entry(what).or_default() += sum;
        }
    }
}

fn samples(batches: &[Profiles]) -> usize {
    batches.iter().map(Profiles::sample_count).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: three arbitrary batches, of which the third repeats the first.
    /// Guarantees: merging keeps every sample and every total, in whatever grouping, and what it
    /// gives is a valid request with each row once.
    #[test]
    fn merging_keeps_totals(seeds: [u64; 2], size in 0_usize..8) {
        let (a, b) = (batch(seeds[0], size, true), batch(seeds[1], size, true));
        let all = [a.clone(), b.clone(), a.clone()];
        let merged = merge(all.clone());
        prop_assert_eq!(content([&merged]), content(&all));
        prop_assert_eq!(merged.sample_count(), samples(&all));
        let left = merge([merge([a.clone(), b.clone()]), a.clone()]);
        let right = merge([a.clone(), merge([b, a])]);
        prop_assert_eq!(content([&left]), content([&right]));
        prop_assert_eq!(otlp::encode(&left), otlp::encode(&merged));
        let options = Options { no_duplicates: true, no_orphans: false };
        prop_assert_eq!(profcheck(&otlp::encode(&merged), options), Vec::<String>::new());
        prop_assert!(merged.dictionary.check().is_ok());
    }

    /// Scenario: the same, joined.
    /// Guarantees: as merging, but the resources are those of the batches, side by side.
    #[test]
    fn joining_keeps_resources(seeds: [u64; 2], size in 0_usize..8) {
        let (a, b) = (batch(seeds[0], size, true), batch(seeds[1], size, true));
        let all = [a.clone(), b, a];
        let joined = join(all.clone());
        prop_assert_eq!(content([&joined]), content(&all));
        let apart = all.iter().flat_map(|batch| &batch.resources);
        prop_assert!(joined.resources.iter().map(|one| &one.resource).eq(apart.map(|one| &one.resource)));
        prop_assert!(joined.dictionary.check().is_ok());
    }

    /// Scenario: the same, aggregating.
    /// Guarantees: totals are kept, and no sample without timestamps is there twice.
    #[test]
    fn aggregating_keeps_totals(seeds: [u64; 2], size in 0_usize..8, strict: bool) {
        let (a, b) = (batch(seeds[0], size, strict), batch(seeds[1], size, strict));
        let all = [a.clone(), b, a];
        let merged = aggregate(all.clone());
        prop_assert_eq!(content([&merged]), content(&all));
        let twice = aggregate([merged.clone()]);
        prop_assert_eq!(content([&twice]), content(&all));
        if strict {
            let options = Options { no_duplicates: true, no_orphans: false };
            prop_assert_eq!(profcheck(&otlp::encode(&merged), options), Vec::<String>::new());
        }
    }

    /// Scenario: an arbitrary batch and any limit.
    /// Guarantees: every part is within the limit, unless it is a single sample; no sample is lost
    /// or doubled; every part is a valid request without rows that it does not need.
    #[test]
    fn splitting_keeps_totals(seed: u64, size in 0_usize..10, limit in 64_usize..4000) {
        let whole = batch(seed, size, true);
        let parts = otlp::split(whole.clone(), limit);
        prop_assert_eq!(content(&parts), content([&whole]));
        prop_assert_eq!(samples(&parts), whole.sample_count());
        for part in &parts {
            let encoded = otlp::encode(part);
            let rows = part.iter().map(|(_, _, profile)| profile.samples.len()).max();
            prop_assert!(
                encoded.len() <= limit || rows <= Some(1) && part.resources.len() == 1,
                "{} bytes, {} samples", encoded.len(), part.sample_count()
            );
            prop_assert!(part.dictionary.check().is_ok());
            if parts.len() > 1 {
                let options = Options { no_duplicates: true, no_orphans: true };
                prop_assert_eq!(profcheck(&encoded, options), Vec::<String>::new());
            }
        }
        let payloads = |batches: &[Profiles]| -> usize {
            batches.iter().flat_map(Profiles::iter).map(|(_, _, one)| one.original_payload.len()).sum()
        };
        prop_assert_eq!(payloads(&parts), payloads(&[whole]));
    }

    /// Scenario: an arbitrary batch with rows that nobody needs and rows that are there twice.
    /// Guarantees: compacting keeps what the batch says, drops the rest, and does so once.
    #[test]
    fn compacting_keeps_content(seed: u64, size in 0_usize..10) {
        let mut compacted = batch(seed, size, true);
        let before = content([&compacted]);
        let longer = otlp::encoded_len(&compacted);
        compacted.compact();
        prop_assert_eq!(content([&compacted]), before);
        let encoded = otlp::encode(&compacted);
        prop_assert!(encoded.len() <= longer);
        let options = Options { no_duplicates: true, no_orphans: true };
        prop_assert_eq!(profcheck(&encoded, options), Vec::<String>::new());
        compacted.compact();
        prop_assert!(otlp::encode(&compacted) == encoded);
    }
}

/// A profile with one function and this many samples of one value each, on 50 stacks.
fn simple(lost: i64, time: u64) -> Profiles {
    let mut batch = Profiles::new();
    let tables = &mut batch.dictionary;
    let name = tables.strings.intern("main");
    let function =
        tables.functions.intern(profpipe_profile::Function { name, ..Default::default() });
    let mut profile = Profile { time_unix_nano: time, duration_nano: 10, ..Profile::default() };
    for line in 0..50 {
        let line = profpipe_profile::Line { function, line, column: 0 };
        let location = tables
            .locations
            .intern(profpipe_profile::LocationRef { lines: &[line], ..Default::default() });
        let stack = tables.stacks.intern(&[location]);
        profile.samples.push(SampleRef { stack, values: &[2], ..SampleRef::default() });
    }
    let key = tables.strings.intern(SAMPLES_LOST);
    let count = tables.attributes.intern(key, Value::Int(lost), StringIx::NONE);
    profile.attributes.push(count);
    profile.profile_id = [1; 16];
    let mut nanoseconds = profile.clone();
    nanoseconds.sample_type.kind = tables.strings.intern("cpu");
    batch.resources.push(Default::default());
    batch.resources[0].scopes.push(Default::default());
    batch.resources[0].scopes[0].profiles = vec![profile, nanoseconds];
    batch
}

/// Scenario: two windows of equal samples with timestamps, one without values, and one sample without
/// timestamps.
/// Guarantees: those with timestamps become one row that has every time with its value, in order; the
/// other stays apart.
#[test]
fn aggregates_timestamps() {
    let with = |rows: &[(&[i64], &[u64])]| {
        let mut batch = simple(0, 100);
        for profile in batch.profiles_mut() {
            let mut samples = profpipe_profile::Samples::default();
            for (values, timestamps_unix_nano) in rows {
                samples.push(SampleRef { values, timestamps_unix_nano, ..SampleRef::default() });
            }
            profile.samples = samples;
        }
        batch
    };
    let first = with(&[(&[7, 8], &[101, 102]), (&[5], &[])]);
    let merged = aggregate([first, with(&[(&[], &[111, 112]), (&[9], &[113])])]);
    let samples = &merged.resources[0].scopes[0].profiles[0].samples;
    assert_eq!(samples.len(), 2);
    assert_eq!(samples.get(0).values, [5]);
    assert_eq!(samples.get(1).timestamps_unix_nano, [101, 102, 111, 112, 113]);
    assert_eq!(samples.get(1).values, [7, 8, 1, 1, 9]);
}

/// Scenario: two windows of the same process, each with two types of the same samples and a count
/// of lost samples.
/// Guarantees: aggregated, there is one profile per type over both windows with the sums.
#[test]
fn aggregates_windows() {
    let merged = aggregate([simple(3, 100), simple(4, 110)]);
    let profiles = &merged.resources[0].scopes[0].profiles;
    assert_eq!(profiles.len(), 2);
    for profile in profiles {
        assert_eq!((profile.time_unix_nano, profile.duration_nano), (100, 20));
        assert_eq!(profile.samples.len(), 50);
        assert!(profile.samples.iter().all(|sample| sample.values == [4]));
        let [lost] = profile.attributes[..] else { panic!("one attribute") };
        assert_eq!(merged.dictionary.attributes.value(lost), &Value::Int(7));
        assert_eq!(profile.profile_id, [0; 16]);
    }
}

/// Scenario: a sum past 64 bits.
/// Guarantees: another row holds the rest; the total is exact.
#[test]
fn aggregation_does_not_overflow() {
    let mut large = simple(0, 1);
    for profile in large.profiles_mut() {
        let mut samples = profpipe_profile::Samples::default();
        for _ in 0..3 {
            samples.push(SampleRef { values: &[i64::MAX - 1], ..SampleRef::default() });
        }
        profile.samples = samples;
    }
    let merged = aggregate([large.clone()]);
    assert_eq!(content([&merged]), content([&large]));
}

/// Scenario: that batch, cut into many parts.
/// Guarantees: siblings are cut at the same samples, lost samples and ids are there once.
#[test]
fn splits_siblings_together() {
    let whole = simple(3, 100);
    let parts = otlp::split(whole.clone(), 300);
    assert!(parts.len() > 5, "{} parts", parts.len());
    for (at, part) in parts.iter().enumerate() {
        let profiles = &part.resources[0].scopes[0].profiles;
        assert_eq!(profiles.len(), 2);
        assert_eq!(profiles[0].samples.len(), profiles[1].samples.len());
        assert!(otlp::encoded_len(part) <= 300);
        let first = at == 0;
        assert_eq!(profiles[0].attributes.len(), usize::from(first));
        assert_eq!(profiles[0].profile_id == [1; 16], first);
    }
    assert_eq!(content(&parts), content([&whole]));
    let together = aggregate(parts);
    assert_eq!(content([&together]), content([&whole]));
    assert_eq!(together.resources[0].scopes[0].profiles[1].samples.len(), 50);
    assert!(AttributeIx::NONE.is_none());
}

/// Scenario: resources with the same attributes in another order, and with another value.
/// Guarantees: the first two become one, the third stays.
#[test]
fn unites_resources() {
    let with = |pairs: &[(&str, i64)]| {
        let mut batch = simple(0, 1);
        for (key, value) in pairs {
            batch.resources[0].resource.set(key, *value);
        }
        batch
    };
    let merged = merge([
        with(&[("a", 1), ("b", 2)]),
        with(&[("b", 2), ("a", 1)]),
        with(&[("a", 1), ("b", 3)]),
    ]);
    assert_eq!(merged.resources.len(), 2);
    assert_eq!(merged.resources[0].scopes[0].profiles.len(), 4);
}
