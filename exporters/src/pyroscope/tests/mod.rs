//! What the tests of the `pyroscope` exporter share: batches, and sums of what was made of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod http;
mod series;
mod words;

use std::collections::BTreeMap;

use profpipe_profile::{
    Function, Line, Link, LinkIx, LocationIx, LocationRef, Profile, Profiles, Resource,
    ResourceProfiles, SampleRef, Scope, ScopeProfiles, StackIx, StringIx, Value, ValueType,
};

/// The stack of functions, the leaf first.
pub(super) fn stack(batch: &mut Profiles, names: &[&str]) -> StackIx {
    let tables = &mut batch.dictionary;
    let locations: Vec<LocationIx> = names
        .iter()
        .map(|name| {
            let name = tables.strings.intern(name);
            let function = tables.functions.intern(Function { name, ..Function::default() });
            let lines = [Line { function, line: 1, column: 0 }];
            tables.locations.intern(LocationRef { lines: &lines, ..LocationRef::default() })
        })
        .collect();
    tables.stacks.intern(&locations)
}

pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// One sample: stack, labels, value.
pub(super) type Sample<'a> = (&'a [&'a str], Labels<'a>, i64);

/// A profile of `kind/unit` per `period kind/unit`.
pub(super) fn profile(
    batch: &mut Profiles,
    types: [&str; 4],
    period: i64,
    samples: &[Sample<'_>],
) -> Profile {
    let [kind, unit, period_kind, period_unit] =
        types.map(|text| batch.dictionary.strings.intern(text));
    let mut profile = Profile {
        sample_type: ValueType { kind, unit },
        period_type: ValueType { kind: period_kind, unit: period_unit },
        period,
        time_unix_nano: 1_700_000_000_000_000_000,
        duration_nano: 10_000_000_000,
        ..Profile::default()
    };
    for (names, labels, value) in samples {
        let stack = stack(batch, names);
        let tables = &mut batch.dictionary;
        let attributes: Vec<_> = labels
            .iter()
            .map(|(key, value)| {
                let key = tables.strings.intern(key);
                tables.attributes.intern(key, Value::from(*value), StringIx::NONE)
            })
            .collect();
        let values = [*value];
        profile.samples.push(SampleRef {
            stack,
            attributes: &attributes,
            values: &values,
            ..SampleRef::default()
        });
    }
    profile
}

/// A resource with these attributes and profiles.
pub(super) fn resource(batch: &mut Profiles, attributes: Labels<'_>, profiles: Vec<Profile>) {
    let mut resource = Resource::default();
    for (key, value) in attributes {
        resource.set(key, *value);
    }
    let scopes = vec![ScopeProfiles { scope: Scope::default(), profiles, ..Default::default() }];
    batch.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
}

pub(super) fn link(batch: &mut Profiles) -> LinkIx {
    batch.dictionary.links.intern(Link { trace_id: [1; 16], span_id: [2; 8] })
}

/// The sum of each sample type by the leaf function, of profiles in pprof.
pub(super) fn by_leaf<'a>(
    profiles: impl IntoIterator<Item = &'a [u8]>,
) -> BTreeMap<(String, String), i64> {
    let mut sums = BTreeMap::new();
    for profile in profiles {
        let decoded = profpipe_formats::pprof::decode(profile).unwrap();
        let tables = &decoded.dictionary;
        for (_, _, profile) in decoded.iter() {
            let kind = tables.strings.get(profile.sample_type.kind);
            for sample in profile.samples.iter() {
                let leaf = tables.stacks.get(sample.stack).first().copied().unwrap();
                let function = tables.locations.get(leaf).lines[0].function;
                let name = tables.strings.get(tables.functions.get(function).name);
                *sums.entry((kind.to_owned(), name.to_owned())).or_default() += sample.weight();
            }
        }
    }
    sums
}
