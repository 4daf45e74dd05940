//! Requests of older protocols, which a generated reader takes apart wrongly or not at all.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profpipe_formats::otlp::{self, DecodeError};
use prost::Message;

/// Proto 1.8 and 1.9: values before attributes and the link.
#[derive(Clone, PartialEq, Message)]
struct Sample19 {
    #[prost(int32, tag = "1")]
    stack_index: i32,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
    #[prost(int32, repeated, tag = "3")]
    attribute_indices: Vec<i32>,
    #[prost(int32, tag = "4")]
    link_index: i32,
    #[prost(fixed64, repeated, tag = "5")]
    timestamps_unix_nano: Vec<u64>,
}

/// Proto 1.5 to 1.7: a range of locations.
#[derive(Clone, PartialEq, Message)]
struct Sample17 {
    #[prost(int32, tag = "1")]
    locations_start_index: i32,
    #[prost(int32, tag = "2")]
    locations_length: i32,
    #[prost(int64, repeated, tag = "3")]
    value: Vec<i64>,
    #[prost(int32, repeated, tag = "4")]
    attribute_indices: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Nested {
    #[prost(bytes, repeated, tag = "2")]
    inner: Vec<Vec<u8>>,
}

/// A request with these samples, and a dictionary with three attributes, two links and two stacks.
fn with_samples(samples: Vec<Vec<u8>>) -> Vec<u8> {
    let profile = Nested { inner: samples }.encode_to_vec();
    with_profile(profile)
}

fn with_profile(profile: Vec<u8>) -> Vec<u8> {
    let scope = Nested { inner: vec![profile] }.encode_to_vec();
    let resource = Nested { inner: vec![scope] }.encode_to_vec();
    let mut request = vec![0x0a, resource.len() as u8];
    request.extend(resource);
    let mut tables = ExportProfilesServiceRequest::default();
    let dictionary = tables.dictionary.get_or_insert_default();
    dictionary.attribute_table.resize(3, Default::default());
    dictionary.link_table.resize(2, Default::default());
    dictionary.stack_table.resize(2, Default::default());
    request.extend(tables.encode_to_vec());
    request
}

fn dialect(request: &[u8]) -> String {
    match otlp::decode(request) {
        Err(error @ DecodeError::Dialect { .. }) => error.to_string(),
        other => panic!("not taken for an older protocol: {other:?}"),
    }
}

fn sample() -> Sample19 {
    Sample19 { stack_index: 1, values: vec![42], ..Sample19::default() }
}

/// Scenario: samples of proto 1.9 with attributes, with a link, with large values, with equal
/// values and timestamps, and with values only. The second and the last decode silently wrong
/// through generated readers.
/// Guarantees: the error names the protocol and what to do.
#[test]
fn recognises_proto_1_9() {
    for samples in [
        vec![Sample19 { attribute_indices: vec![1, 2], ..sample() }],
        vec![Sample19 { link_index: 1, values: vec![1], ..sample() }],
        vec![Sample19 {
            link_index: 1,
            values: vec![1],
            timestamps_unix_nano: vec![5],
            ..sample()
        }],
        vec![Sample19 { values: vec![10_000_000_000], timestamps_unix_nano: vec![9], ..sample() }],
        vec![Sample19 { values: vec![1, 1], timestamps_unix_nano: vec![8, 9], ..sample() }],
        vec![sample()],
        vec![Sample19 { values: vec![1], ..sample() }, Sample19 { values: vec![2], ..sample() }],
    ] {
        let samples = samples.iter().map(Message::encode_to_vec).collect();
        let message = dialect(&with_samples(samples));
        assert!(message.contains("1.9 or older"), "{message}");
        assert!(message.contains("upgrade it to OTLP proto 1.10 or later"), "{message}");
    }
}

/// Scenario: a sample of proto 1.7, its dictionary's attributes with text keys, and its profile
/// with a list of locations.
/// Guarantees: as above.
#[test]
fn recognises_proto_1_7() {
    let old = Sample17 {
        locations_start_index: 3,
        locations_length: 4,
        value: vec![1],
        attribute_indices: vec![],
    };
    let mut profile = vec![0x1a, 2, 1, 2];
    let requests = [
        with_samples(vec![old.encode_to_vec()]),
        with_profile(std::mem::take(&mut profile)),
        vec![0x12, 5, 0x32, 3, 0x0a, 1, b'k'],
    ];
    for request in requests {
        let message = dialect(&request);
        assert!(message.contains("1.7 or older"), "{message}");
    }
}

/// Scenario: samples of the present protocol that come near: unpacked lists throughout, a sample
/// without a value beside one with, timestamps with as many attributes.
/// Guarantees: they are read.
#[test]
fn leaves_the_present_protocol_alone() {
    let unpacked = vec![0x08, 1, 0x10, 1, 0x10, 2, 0x20, 7];
    let empty = vec![0x12, 1, 1];
    let normal = vec![0x12, 1, 1, 0x22, 1, 5];
    let times = vec![0x12, 2, 1, 2, 0x2a, 16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    for samples in [vec![unpacked], vec![empty, normal], vec![times]] {
        let profiles = otlp::decode(&with_samples(samples.clone())).unwrap();
        assert_eq!(profiles.sample_count(), samples.len());
    }
}

/// A request in JSON with this profile and these tables.
fn json(profile: &str, tables: &str) -> Vec<u8> {
    format!(
        r#"{{"resourceProfiles":[{{"scopeProfiles":[{{"profiles":[{profile}]}}]}}],
            "dictionary":{{"stackTable":[{{}},{{"locationIndices":[0]}}],{tables}}}}}"#
    )
    .into_bytes()
}

/// Scenario: JSON, where fields have names and no numbers, with names that are gone since proto 1.9
/// or 1.8.
/// Guarantees: the error is that of protobuf: it names the protocol and what to do.
#[test]
fn recognises_older_names_in_json() {
    let new = r#""locationTable":[{},{"lines":[{"line":"7"}]}]"#;
    for (profile, tables, version) in [
        (r#"{"sample":[{"stackIndex":1,"values":["5"]}]}"#, new, "1.8 or older"),
        (r#"{"samples":[{"values":["5"]}],"sample":[]}"#, new, "1.8 or older"),
        (
            r#"{"samples":[{"stackIndex":1,"values":["5"]}]}"#,
            r#""locationTable":[{},{"line":[{"line":"7"}]}]"#,
            "1.8 or older",
        ),
        (r#"{"sampleType":[{"typeStrindex":1}]}"#, new, "1.7 or older"),
        (r#"{"locationIndices":[1]}"#, new, "1.7 or older"),
        (r#"{"samples":[{"locationsLength":1,"value":["5"]}]}"#, new, "1.7 or older"),
    ] {
        match otlp::decode_json(&json(profile, tables)) {
            Err(error @ DecodeError::Dialect { .. }) => {
                let message = error.to_string();
                assert!(message.contains(version), "{message}");
                assert!(message.contains("upgrade it to OTLP proto 1.10 or later"), "{message}");
            }
            other => panic!("not taken for an older protocol: {profile}: {other:?}"),
        }
    }
}

/// Scenario: JSON without samples whose keys are another signal's, in snake case, or misspelled, at
/// each level from the request to the sample; and unknown keys beside samples, or that cannot have
/// held any.
/// Guarantees: the first are refused and the key is named, since success would lose what they hold;
/// the others are ignored as the specification says.
#[test]
fn json_of_which_nothing_is_understood() {
    let profile = |fields: &str| json(fields, r#""laterTable":[{}]"#);
    for (request, key) in [
        (br#"{"resourceSpans":[{"scopeSpans":[]}]}"#.to_vec(), "resourceSpans"),
        (br#"{"flamebearer":{"names":[]}}"#.to_vec(), "flamebearer"),
        (br#"{"resource_profiles":[{"scope_profiles":[]}]}"#.to_vec(), "resource_profiles"),
        (
            br#"{"resourceProfiles":[{"resource":{},"scope_profiles":[{}]}]}"#.to_vec(),
            "scope_profiles",
        ),
        (br#"{"resourceProfiles":[{"scopeProfiles":[{"profile":[{}]}]}]}"#.to_vec(), "profile"),
        (profile(r#"{"sampleType":{},"Samples":[{"values":["1"]}]}"#), "Samples"),
        (profile(r#"{"samples":[{"stack_index":1,"vals":["1"]}]}"#), "vals"),
    ] {
        let error = otlp::decode_json(&request).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, DecodeError::Json(_)), "{message}");
        assert!(message.contains(&format!("`{key}`")), "{message}: not {key}");
        assert!(!message.contains('\n'), "{message}");
    }
    for (request, samples) in [
        (b"{}".to_vec(), 0),
        (br#"{"resourceProfiles":[],"later":[1]}"#.to_vec(), 0),
        (
            br#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"samples":[]}]}]}]}"#.to_vec(),
            0,
        ),
        (profile(r#"{"sampleType":{},"later":7}"#), 0),
        (profile(r#"{"samples":[{"values":["1"],"later":[2]}],"later":[3]}"#), 1),
        (profile(r#"{"samples":[{}]}"#), 1),
    ] {
        let read = otlp::decode_json(&request);
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.sample_count(), samples);
    }
}
