//! Links to trace spans on every way that profiles go.

use std::collections::BTreeMap;

use profpipe_formats::{otlp, pprof};
use profpipe_processors::downsample::algorithm::{Keep, Options, downsample};
use profpipe_profile::{
    Link, LocationRef, Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles, ValueType,
    aggregate, merge,
};

/// Forty samples over four stacks: of two traces, and of none.
fn batch(shift: u8) -> Profiles {
    let mut profiles = Profiles::new();
    let strings = &mut profiles.dictionary.strings;
    let sample_type =
        ValueType { kind: strings.intern("cpu"), unit: strings.intern("nanoseconds") };
    let mut profile =
        Profile { sample_type, time_unix_nano: 5, duration_nano: 7, ..Profile::default() };
    for at in 0..40_u8 {
        let address = u64::from(at % 4) + 1;
        let location = LocationRef { address, ..LocationRef::default() };
        let location = profiles.dictionary.locations.intern(location);
        let stack = profiles.dictionary.stacks.intern(&[location]);
        let trace_id = [at % 3 + shift; 16];
        let link = match at % 3 {
            0 => Link::default(),
            _ => Link { trace_id, span_id: [at % 5 + 1; 8] },
        };
        let link = profiles.dictionary.links.intern(link);
        let values = [i64::from(at) + 1];
        profile.samples.push(SampleRef { stack, link, values: &values, ..SampleRef::default() });
    }
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
    profiles
}

type Sums = BTreeMap<([u8; 16], [u8; 8], u64), i64>;

/// What the samples of each span come to, by address.
fn sums<'a>(batches: impl IntoIterator<Item = &'a Profiles>) -> Sums {
    let mut sums = Sums::new();
    for profiles in batches {
        for sample in profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter()) {
            let dictionary = &profiles.dictionary;
            let Link { trace_id, span_id } = dictionary.links.get(sample.link);
            let leaf = dictionary.stacks.get(sample.stack)[0];
            let address = dictionary.locations.get(leaf).address;
            *sums.entry((trace_id, span_id, address)).or_default() += sample.weight();
        }
    }
    sums
}

/// Scenario: samples with links go through the wire, JSON, merging, splitting, aggregation,
/// compaction, downsampling that keeps all, and a pprof file, alone and one after the other.
/// Guarantees: every span has what it had; as pprof it is a link again.
#[test]
fn a_link_survives_every_way() {
    let (one, other) = (batch(1), batch(2));
    let alone = sums([&one]);
    let both = sums([&one, &other]);
    assert!(alone.keys().filter(|(trace, ..)| *trace != [0; 16]).count() > 10);

    let wire = otlp::encode(&one);
    assert_eq!(sums([&otlp::decode(&wire).unwrap()]), alone);
    let mut received = otlp::Payload::from_wire(wire.into());
    received.profiles_mut().unwrap();
    assert_eq!(sums([&otlp::decode(&received.to_otlp()).unwrap()]), alone);
    assert_eq!(sums([&otlp::decode_json(&otlp::encode_json(&one)).unwrap()]), alone);

    let mut merged = merge([one.clone(), other.clone()]);
    assert_eq!(sums([&merged]), both);
    merged.compact();
    assert_eq!(sums([&merged]), both);
    let parts = otlp::split(merged.clone(), 400);
    assert!(parts.len() > 2);
    assert_eq!(sums(&parts), both);
    let mut all = aggregate(parts);
    assert_eq!(sums([&all]), both);
    downsample(&mut all, &Options { keep: Keep::Share(1.0), ..Options::default() }, 1);
    assert_eq!(sums([&all]), both);

    let file = pprof::encode(&all).unwrap();
    let read = pprof::decode(&file).unwrap();
    assert_eq!(sums([&read]), both);
    assert_eq!(sums([&otlp::decode(&otlp::encode(&read)).unwrap()]), both);
    assert!(read.iter().all(|(_, _, profile)| {
        profile.samples.iter().all(|sample| sample.attributes.is_empty())
    }));
}
