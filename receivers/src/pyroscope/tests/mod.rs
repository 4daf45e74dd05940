//! What the tests of the `pyroscope` receiver share: profiles and requests written by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod http;
mod ingest;
mod push;

use profpipe_profile::{
    Function, Line, LocationRef, Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles,
    ValueType,
};

/// A pprof profile, compressed: `main` calls each of the leaves, which take so many nanoseconds.
pub(super) fn pprof(leaves: &[(&str, i64)], time: u64) -> Vec<u8> {
    let mut batch = Profiles::new();
    let tables = &mut batch.dictionary;
    let cpu = ValueType {
        kind: tables.strings.intern("cpu"),
        unit: tables.strings.intern("nanoseconds"),
    };
    let mut profile = Profile {
        sample_type: cpu,
        period_type: cpu,
        period: 10_000_000,
        time_unix_nano: time,
        ..Profile::default()
    };
    for (leaf, value) in leaves {
        let mut stack = Vec::new();
        for name in [leaf, "main"] {
            let name = tables.strings.intern(name);
            let function = tables.functions.intern(Function { name, ..Function::default() });
            let lines = [Line { function, ..Line::default() }];
            let location = LocationRef { lines: &lines, ..LocationRef::default() };
            stack.push(tables.locations.intern(location));
        }
        let stack = tables.stacks.intern(&stack);
        let values = [*value];
        profile.samples.push(SampleRef { stack, values: &values, ..SampleRef::default() });
    }
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    batch.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
    profpipe_formats::pprof::encode(&batch).unwrap()
}

/// One field of a message.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// A series of a push request.
pub(super) fn series(labels: &[(&str, &str)], profiles: &[&[u8]]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let pair = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
        series.extend(field(1, &pair));
    }
    for profile in profiles {
        series.extend(field(2, &[field(1, profile), field(2, b"an id")].concat()));
    }
    field(1, &series)
}

/// The sum of all samples, and the value of an attribute of each resource.
pub(super) fn facts(profiles: &Profiles, attribute: &str) -> (i64, Vec<String>) {
    let sum = profiles
        .iter()
        .flat_map(|(_, _, profile)| profile.samples.iter().map(|sample| sample.weight()))
        .sum();
    let texts = profiles.resources.iter().map(|one| {
        one.resource.get(attribute).and_then(|value| value.as_str()).unwrap_or("none").to_owned()
    });
    (sum, texts.collect())
}

/// The text of an attribute of the first profile.
pub(super) fn mark<'a>(profiles: &'a Profiles, name: &str) -> Option<&'a str> {
    let tables = &profiles.dictionary;
    let profile = profiles.iter().next()?.2;
    let row = profile
        .attributes
        .iter()
        .find(|row| tables.strings.get(tables.attributes.key(**row)) == name)?;
    tables.attributes.value(*row).as_str()
}
