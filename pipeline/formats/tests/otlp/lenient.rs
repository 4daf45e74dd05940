//! Requests from strangers: what goes on, what is left out, and that nothing breaks.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyOf;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    KeyValueAndUnit, Line, Location, Profile, Sample, Stack,
};
use profpipe_formats::otlp::{self, DecodeError, Rejected};
use profpipe_profile::Profiles;
use proptest::prelude::*;
use prost::Message;

use super::generate::{Random, Shape, request};

/// Every index of what was let in leads to a row.
fn assert_usable(profiles: &Profiles) {
    assert_eq!(profiles.dictionary.check(), Ok(()));
    for (_, _, profile) in profiles.iter() {
        assert_eq!(profile.check(&profiles.dictionary), Ok(()));
    }
    otlp::encode(profiles);
}

/// What must hold for any bytes.
fn assert_sound(bytes: &[u8]) {
    let strict = otlp::decode(bytes);
    let admitted = otlp::admit(Bytes::copy_from_slice(bytes));
    let (mut batch, rejected) = match (&strict, admitted) {
        (_, Ok(admitted)) => admitted,
        (Ok(_), Err(error)) => panic!("admit refuses what decode takes: {error}"),
        (Err(_), Err(_)) => return,
    };
    let (lenient, again) = otlp::decode_lenient(bytes).unwrap();
    assert_usable(&lenient);
    assert_eq!(again, rejected);
    assert_eq!(rejected.message.is_empty(), rejected.profiles == 0);
    assert!(!rejected.message.contains('\n'));
    let samples = batch.samples();
    assert_eq!(samples, lenient.sample_count());
    if let Ok(strict) = strict {
        assert_eq!(rejected, Rejected::default());
        assert_eq!(otlp::encode(&strict), otlp::encode(&lenient));
    }
    // What is passed on is read by the next one.
    assert_eq!(otlp::decode(&batch.to_otlp()).unwrap().sample_count(), samples);
    assert_usable(batch.profiles().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Scenario: arbitrary valid requests.
    /// Guarantees: nothing is rejected; without references, the bytes are passed on as they are.
    #[test]
    fn valid_requests_are_admitted(seed: u64, size in 1_usize..12, references: bool) {
        let shape = Shape { size, references, strict: true };
        let original = request(&mut Random(seed), shape);
        let bytes = Bytes::from(original.encode_to_vec());
        assert_sound(&bytes);
        let (batch, rejected) = otlp::admit(bytes.clone()).unwrap();
        prop_assert_eq!(rejected, Rejected::default());
        if !references {
            prop_assert_eq!(batch.to_otlp().as_ptr(), bytes.as_ptr());
        }
    }

    /// Scenario: requests with bytes changed, cut or repeated.
    /// Guarantees: no panic; what is admitted is usable, counted, and read by a strict reader.
    #[test]
    fn damaged_requests_are_sound(seed: u64, size in 1_usize..10, references: bool, strict: bool) {
        let mut random = Random(seed);
        let mut bytes = request(&mut random, Shape { size, references, strict }).encode_to_vec();
        for _ in 0..40 {
            if bytes.is_empty() {
                break;
            }
            let before = bytes.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(5) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    2 => bytes.truncate(at),
                    3 => bytes[at] = bytes[at].wrapping_add(1),
                    _ => {
                        let end = (at + random.below(20)).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            assert_sound(&bytes);
            bytes = before;
        }
    }
}

/// Two resources with a profile of one sample each, on stacks 1 and 2.
fn two() -> ExportProfilesServiceRequest {
    let mut random = Random(7);
    let mut request = request(&mut random, Shape { size: 3, ..Shape::default() });
    let tables = request.dictionary.get_or_insert_default();
    *tables = Default::default();
    tables.string_table = ["", "key", "value", "function"].map(str::to_owned).to_vec();
    tables.mapping_table = vec![Default::default(); 2];
    tables.link_table = vec![Default::default()];
    tables.function_table = vec![Default::default(); 3];
    tables.attribute_table = vec![KeyValueAndUnit::default(); 3];
    let line = |function_index| Line { function_index, ..Default::default() };
    let on = |lines| Location { lines, mapping_index: 1, ..Default::default() };
    tables.location_table =
        vec![Location::default(), on(vec![line(1)]), on(vec![line(1), line(2)])];
    let stack = |rows: &[i32]| Stack { location_indices: rows.to_vec() };
    tables.stack_table = vec![stack(&[]), stack(&[1]), stack(&[1, 2])];
    let resource = |stack_index| {
        let sample = Sample { stack_index, values: vec![5], ..Default::default() };
        let profile = Profile { samples: vec![sample], ..Default::default() };
        let mut resource = opentelemetry_proto::tonic::profiles::v1development::ResourceProfiles {
            scope_profiles: vec![Default::default()],
            ..Default::default()
        };
        resource.scope_profiles[0].profiles = vec![profile];
        resource
    };
    request.resource_profiles = vec![resource(1), resource(2)];
    request
}

/// Scenario: an index that leads nowhere, at each place from which the second profile is reached.
/// Guarantees: the second profile is left out and counted with its reason, the first goes on.
#[test]
fn only_what_needs_a_bad_row_is_left_out() {
    type Break = fn(&mut ExportProfilesServiceRequest);
    let breaks: [(&str, Break); 12] = [
        ("stack_index: index 9", |r| sample(r).stack_index = 9),
        ("link_index: index 3", |r| sample(r).link_index = 3),
        ("Sample.attribute_indices", |r| sample(r).attribute_indices = vec![3]),
        ("ValueType.type_strindex", |r| {
            profile(r).sample_type.get_or_insert_default().type_strindex = -1;
        }),
        ("Profile.attribute_indices", |r| profile(r).attribute_indices = vec![77]),
        ("Stack.location_indices", |r| tables(r).stack_table[2].location_indices.push(3)),
        ("Line.function_index", |r| tables(r).location_table[2].lines[1].function_index = 8),
        ("function_table[2].filename_strindex", |r| {
            tables(r).function_table[2].filename_strindex = 4;
        }),
        ("Location.attribute_indices", |r| tables(r).location_table[2].attribute_indices = vec![9]),
        ("attribute_table[2].key_strindex", |r| {
            tables(r).attribute_table[2].key_strindex = 9;
            tables(r).location_table[2].attribute_indices = vec![2];
        }),
        ("an attribute refers to a string", |r| {
            let value = AnyValue { value: Some(AnyOf::StringValueStrindex(40)) };
            tables(r).attribute_table[2].value = Some(value);
            sample(r).attribute_indices = vec![2];
        }),
        ("KeyValue.key_strindex", |r| {
            let attributes = vec![KeyValue { key_strindex: 90, ..Default::default() }];
            let resource = opentelemetry_proto::tonic::resource::v1::Resource {
                attributes,
                ..Default::default()
            };
            r.resource_profiles[1].resource = Some(resource);
        }),
    ];
    let clean = Bytes::from(two().encode_to_vec());
    let (batch, _) = otlp::admit(clean.clone()).unwrap();
    assert_eq!((batch.to_otlp().as_ptr(), batch.samples()), (clean.as_ptr(), 2));
    for (reason, spoil) in breaks {
        let mut request = two();
        spoil(&mut request);
        let (mut batch, rejected) = otlp::admit(request.encode_to_vec().into()).unwrap();
        assert_eq!((rejected.profiles, rejected.samples), (1, 1), "{reason}");
        assert!(rejected.message.contains(reason), "{reason}: {}", rejected.message);
        assert_eq!(batch.samples(), 1, "{reason}");
        assert_usable(batch.profiles().unwrap());
        assert!(otlp::decode(&request.encode_to_vec()).is_err(), "{reason}");
    }
}

fn tables(
    request: &mut ExportProfilesServiceRequest,
) -> &mut opentelemetry_proto::tonic::profiles::v1development::ProfilesDictionary {
    request.dictionary.as_mut().unwrap()
}

fn profile(request: &mut ExportProfilesServiceRequest) -> &mut Profile {
    &mut request.resource_profiles[1].scope_profiles[0].profiles[0]
}

fn sample(request: &mut ExportProfilesServiceRequest) -> &mut Sample {
    &mut profile(request).samples[0]
}

/// Scenario: a bad row that no profile needs; one that both need.
/// Guarantees: nothing is rejected; both are, and nothing is left.
#[test]
fn bad_rows_matter_only_where_they_are_needed() {
    let mut request = two();
    tables(&mut request).stack_table.push(Stack { location_indices: vec![99] });
    let (batch, rejected) = otlp::admit(request.encode_to_vec().into()).unwrap();
    assert_eq!((rejected, batch.samples()), (Rejected::default(), 2));
    // The bad row itself is not passed on.
    otlp::decode(&batch.to_otlp()).unwrap();
    let mut with_resource = two();
    let attributes = vec![KeyValue { key_strindex: 90, ..Default::default() }];
    with_resource.resource_profiles[0].scope_profiles.clear();
    with_resource.resource_profiles[0].resource =
        Some(opentelemetry_proto::tonic::resource::v1::Resource {
            attributes,
            ..Default::default()
        });
    let (batch, rejected) = otlp::admit(with_resource.encode_to_vec().into()).unwrap();
    assert_eq!((rejected, batch.samples()), (Rejected::default(), 1));
    otlp::decode(&batch.to_otlp()).unwrap();
    tables(&mut request).location_table[1].mapping_index = 5;
    let (batch, rejected) = otlp::admit(request.encode_to_vec().into()).unwrap();
    assert_eq!((rejected.profiles, batch.samples()), (2, 0));
}

/// Scenario: samples of proto 1.9, whose values stand where attributes are now.
/// Guarantees: the whole request is refused, and the sender is told why.
#[test]
fn older_dialects_are_named() {
    let mut request = two();
    for resource in &mut request.resource_profiles {
        let sample = &mut resource.scope_profiles[0].profiles[0].samples[0];
        sample.attribute_indices = vec![4242];
        sample.values.clear();
    }
    let error = otlp::admit(request.encode_to_vec().into()).unwrap_err();
    assert!(matches!(error, DecodeError::Dialect { .. }), "{error}");
}
