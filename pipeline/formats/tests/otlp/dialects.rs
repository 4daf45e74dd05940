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
