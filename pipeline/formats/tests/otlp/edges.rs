//! Edges of the format: orders, splits, row 0, limits, and input that means harm.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyOf;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, Link, Location, Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
    Stack, ValueType,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use profpipe_formats::otlp::{self, DecodeError, Payload, Summary};
use profpipe_profile::{Index, LinkIx, Profiles, Value};
use prost::Message;

/// The error; what was read instead may be large.
fn refusal(request: &[u8]) -> DecodeError {
    otlp::decode(request).map(drop).unwrap_err()
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A request with one profile that has one sample.
fn small() -> ExportProfilesServiceRequest {
    let mut tables = ProfilesDictionary {
        mapping_table: vec![Default::default()],
        location_table: vec![Default::default(), Location { address: 7, ..Default::default() }],
        function_table: vec![Default::default()],
        link_table: vec![Default::default()],
        string_table: vec![String::new(), "cpu".into(), "ns".into()],
        attribute_table: vec![Default::default()],
        stack_table: vec![Default::default(), Stack { location_indices: vec![1] }],
    };
    tables.function_table.push(Function { name_strindex: 1, ..Default::default() });
    let profile = Profile {
        sample_type: Some(ValueType { type_strindex: 1, unit_strindex: 2 }),
        samples: vec![Sample { stack_index: 1, values: vec![5], ..Default::default() }],
        ..Default::default()
    };
    let scope = ScopeProfiles { profiles: vec![profile], ..Default::default() };
    let resource = ResourceProfiles { scope_profiles: vec![scope], ..Default::default() };
    ExportProfilesServiceRequest { resource_profiles: vec![resource], dictionary: Some(tables) }
}

fn parts(request: &ExportProfilesServiceRequest) -> (Vec<u8>, Vec<u8>) {
    let resource = field(1, &request.resource_profiles[0].encode_to_vec());
    let dictionary = request.dictionary.as_ref().unwrap().encode_to_vec();
    (resource, dictionary)
}

fn encoded(profiles: &Profiles) -> Vec<u8> {
    otlp::encode(profiles)
}

/// Scenario: the dictionary before or after the profiles, or in two pieces around them; a
/// resource, a scope and a value type in two pieces each.
/// Guarantees: the same content.
#[test]
fn order_and_pieces_do_not_matter() {
    let request = small();
    let expected = encoded(&otlp::decode(&request.encode_to_vec()).unwrap());
    let (resource, dictionary) = parts(&request);
    let first = [field(2, &dictionary), resource.clone()].concat();
    assert_eq!(encoded(&otlp::decode(&first).unwrap()), expected);

    let mut half = request.dictionary.clone().unwrap();
    let strings = half.string_table.split_off(2);
    let rest = ProfilesDictionary { string_table: strings, ..Default::default() };
    let pieces =
        [field(2, &half.encode_to_vec()), resource, field(2, &rest.encode_to_vec())].concat();
    assert_eq!(encoded(&otlp::decode(&pieces).unwrap()), expected);

    let unit = ValueType { type_strindex: 0, unit_strindex: 2 }.encode_to_vec();
    let kind = ValueType { type_strindex: 1, unit_strindex: 0 }.encode_to_vec();
    let sample = request.resource_profiles[0].scope_profiles[0].profiles[0].samples[0].clone();
    let profile = [field(2, &sample.encode_to_vec()), field(1, &kind), field(1, &unit)].concat();
    let scope = field(2, &profile);
    let again = [field(1, &field(2, &scope)), field(2, &dictionary)].concat();
    assert_eq!(encoded(&otlp::decode(&again).unwrap()), expected);
}

/// Scenario: unknown fields of every wire type, groups too, in every message of the way down.
/// Guarantees: they are skipped.
#[test]
fn unknown_fields_are_skipped() {
    // Fields 100 to 104: a number, 64 bits, bytes, a group with a field in it, 32 bits.
    let unknown = [
        &[0xa0, 6, 1][..],
        &[0xa9, 6, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xb2, 6, 1, b'x'],
        &[0xbb, 6, 8, 1, 0xbc, 6],
        &[0xc5, 6, 0, 0, 0, 0],
    ]
    .concat();
    let request = small();
    let expected = encoded(&otlp::decode(&request.encode_to_vec()).unwrap());
    let (_, dictionary) = parts(&request);
    let mut content =
        request.resource_profiles[0].scope_profiles[0].profiles[0].samples[0].encode_to_vec();
    content.extend(&unknown);
    content = field(2, &content);
    content.extend(field(1, &ValueType { type_strindex: 1, unit_strindex: 2 }.encode_to_vec()));
    for level in [2, 2, 1] {
        content.extend(&unknown);
        content = field(level, &content);
    }
    let all = [content, unknown.clone(), field(2, &[dictionary, unknown].concat())].concat();
    assert_eq!(encoded(&otlp::decode(&all).unwrap()), expected);
}

/// Scenario: a row 0 that is not zero, both forms of a zero link, tables that are missing.
/// Guarantees: index 0 is none in any case.
#[test]
fn row_0_is_none() {
    let mut request = small();
    let expected = encoded(&otlp::decode(&request.encode_to_vec()).unwrap());
    let tables = request.dictionary.as_mut().unwrap();
    tables.string_table[0] = "surprise".into();
    tables.stack_table[0].location_indices = vec![1, 1];
    tables.location_table[0].address = 1;
    tables.link_table[0] = Link { trace_id: vec![0; 16], span_id: vec![0; 8] };
    assert_eq!(encoded(&otlp::decode(&request.encode_to_vec()).unwrap()), expected);

    let tables = request.dictionary.as_mut().unwrap();
    tables.link_table.clear();
    tables.mapping_table.clear();
    tables.attribute_table.clear();
    let profiles = otlp::decode(&request.encode_to_vec()).unwrap();
    assert_eq!(encoded(&profiles), expected);
    assert!(LinkIx::new(0).is_none());
    assert_eq!(otlp::decode(&[]).unwrap().resources.len(), 0);
}

/// Scenario: an index out of range, or negative, in each of its places.
/// Guarantees: the error says where, which, and how long the table is.
#[test]
fn indices_are_checked_everywhere() {
    type Break = fn(&mut ExportProfilesServiceRequest, i32);
    fn tables(request: &mut ExportProfilesServiceRequest) -> &mut ProfilesDictionary {
        request.dictionary.as_mut().unwrap()
    }
    fn profile(request: &mut ExportProfilesServiceRequest) -> &mut Profile {
        &mut request.resource_profiles[0].scope_profiles[0].profiles[0]
    }
    let breaks: [(&str, Break); 19] = [
        ("stack_index", |r, i| profile(r).samples[0].stack_index = i),
        ("link_index", |r, i| profile(r).samples[0].link_index = i),
        ("Sample.attribute_indices", |r, i| profile(r).samples[0].attribute_indices = vec![i]),
        ("Profile.attribute_indices", |r, i| profile(r).attribute_indices = vec![i]),
        ("type_strindex", |r, i| profile(r).sample_type.as_mut().unwrap().type_strindex = i),
        ("unit_strindex", |r, i| {
            profile(r).period_type = Some(ValueType { type_strindex: 0, unit_strindex: i });
        }),
        ("location_indices", |r, i| tables(r).stack_table[1].location_indices = vec![1, i]),
        ("location_table[1].mapping_index", |r, i| tables(r).location_table[1].mapping_index = i),
        ("Location.attribute_indices", |r, i| {
            tables(r).location_table[1].attribute_indices = vec![i];
        }),
        ("Line.function_index", |r, i| {
            tables(r).location_table[1].lines.push(Default::default());
            tables(r).location_table[1].lines[0].function_index = i;
        }),
        ("function_table[1].name_strindex", |r, i| tables(r).function_table[1].name_strindex = i),
        ("system_name_strindex", |r, i| tables(r).function_table[1].system_name_strindex = i),
        ("function_table[1].filename_strindex", |r, i| {
            tables(r).function_table[1].filename_strindex = i;
        }),
        ("mapping_table[1].filename_strindex", |r, i| {
            tables(r).mapping_table.push(Default::default());
            tables(r).mapping_table[1].filename_strindex = i;
        }),
        ("Mapping.attribute_indices", |r, i| {
            tables(r).mapping_table.push(Default::default());
            tables(r).mapping_table[1].attribute_indices = vec![0, i];
        }),
        ("attribute_table[1].key_strindex", |r, i| {
            tables(r).attribute_table.push(Default::default());
            tables(r).attribute_table[1].key_strindex = i;
        }),
        ("attribute_table[1].unit_strindex", |r, i| {
            tables(r).attribute_table.push(Default::default());
            tables(r).attribute_table[1].unit_strindex = i;
        }),
        ("AnyValue.string_value_strindex", |r, i| {
            tables(r).attribute_table.push(Default::default());
            let value = Some(AnyOf::StringValueStrindex(i));
            tables(r).attribute_table[1].value = Some(AnyValue { value });
        }),
        ("KeyValue.key_strindex", |r, i| {
            let pair = KeyValue { key_strindex: i, ..Default::default() };
            r.resource_profiles[0].resource =
                Some(Resource { attributes: vec![pair], ..Default::default() });
        }),
    ];
    for (place, break_it) in breaks {
        for index in [4, i32::MAX, -1, i32::MIN] {
            let mut request = small();
            break_it(&mut request, index);
            let error = refusal(&request.encode_to_vec());
            let DecodeError::Index { field, rows, .. } = &error else { panic!("{error}") };
            assert!(field.contains(place), "{error}: not {place}");
            assert!(*rows <= 3, "{error}");
        }
        let mut request = small();
        break_it(&mut request, 0);
        assert!(otlp::decode(&request.encode_to_vec()).is_ok(), "{place} 0");
    }
}

/// Scenario: attributes that refer to strings, in lists in maps, in resources and in the table.
/// Guarantees: they hold the texts; a key that is there itself wins.
#[test]
fn references_are_resolved() {
    let reference = |row| AnyValue { value: Some(AnyOf::StringValueStrindex(row)) };
    let list = AnyOf::ArrayValue(ArrayValue { values: vec![reference(1), reference(0)] });
    let pair = |key: &str, row| KeyValue {
        key: key.into(),
        key_strindex: row,
        value: Some(AnyValue { value: Some(list.clone()) }),
    };
    let mut request = small();
    let attributes = vec![pair("", 2), pair("own", 1)];
    request.resource_profiles[0].resource = Some(Resource { attributes, ..Default::default() });
    let profiles = otlp::decode(&request.encode_to_vec()).unwrap();
    let resource = &profiles.resources[0].resource;
    let expected = Value::Array(vec![Value::from("cpu"), Value::from("")]);
    assert_eq!(resource.get("ns"), Some(&expected));
    assert_eq!(resource.get("own"), Some(&expected));
}

/// Scenario: requests of some hundred kilobytes that would unfold to gigabytes: a long text
/// referred to many times, empty profiles; and some that are nested very deep.
/// Guarantees: refused, and what is kept before that is bounded.
#[test]
fn bombs_are_refused() {
    let text = "x".repeat(100_000);
    let reference = field(2, &[0x40, 1]);
    let resource = field(1, &field(1, &field(1, &reference).repeat(10_000)));
    let dictionary = field(2, &[field(5, &[]), field(5, text.as_bytes())].concat());
    let profiles = field(1, &field(2, &field(2, &[]).repeat(300_000)));
    for bomb in [[resource, dictionary].concat(), profiles] {
        let error = refusal(&bomb);
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
    }
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        deep = field(5, &field(1, &deep));
    }
    let error = otlp::decode(&field(1, &field(1, &field(1, &field(2, &deep))))).unwrap_err();
    assert!(matches!(error, DecodeError::Depth { .. }), "{error}");
    let groups = vec![0x1b; 100_000];
    let error = refusal(&groups);
    assert!(matches!(error, DecodeError::Depth { .. }), "{error}");
}

/// Scenario: lengths and numbers that lie, texts that are not UTF-8, ids of a wrong length, known
/// fields of a wrong type.
/// Guarantees: one line that names the field and the byte.
#[test]
fn errors_say_where() {
    let profile = |content: &[u8]| field(1, &field(2, &field(2, content)));
    let bad_tail = [&[0xe2, 0x82][..], b"\xac"];
    for (request, message) in [
        (vec![0x0a, 5, 0], "ExportProfilesServiceRequest at byte 2: the data ends"),
        (profile(&[0x20, 0x80]), "Profile at byte 7: the data ends in the middle of it"),
        (profile(&[0x20; 1]), "Profile at byte 7: the data ends"),
        (
            profile(&[&[0x20][..], &[0xff; 10]].concat()),
            "Profile at byte 7: a number of more than 64 bits, this is not protobuf",
        ),
        (profile(&[0, 1]), "Profile at byte 7: a field number that cannot be"),
        (profile(&[0x0f]), "Profile at byte 7: an unknown wire type"),
        (
            profile(&[0x3a, 2, 1, 1]),
            "Profile.profile_id at byte 8: an id of 2 bytes, it must have 16 or none",
        ),
        (
            profile(&[0x4a, 1, 0xff]),
            "Profile.original_payload_format at byte 8: the text is not UTF-8",
        ),
        (
            profile(&[0x22, 1, 1]),
            "Profile.duration_nano at byte 9: holds bytes, which the schema does not allow here",
        ),
        (
            field(2, &[field(5, &[]), field(5, bad_tail[0]), field(5, bad_tail[1])].concat()),
            "ProfilesDictionary.string_table at byte 6: the text is not UTF-8",
        ),
        (
            profile(&[0x12, 2, 0x08, 9]),
            "samples[0].stack_index: index 9 is out of range, the table has 1 rows",
        ),
    ] {
        let error = refusal(&request).to_string();
        assert!(error.starts_with(message), "{error:?}, not {message:?}");
    }
}

/// Scenario: a request that was never decoded, and its tables.
/// Guarantees: both are counted the same.
#[test]
fn summaries_agree() {
    let request = small().encode_to_vec();
    let summary = otlp::summary(&request).unwrap();
    let expected = Summary { resources: 1, profiles: 1, samples: 1, bytes: request.len() };
    assert_eq!(summary, expected);
    assert_eq!(Payload::from_wire(request.clone().into()).summary().unwrap(), expected);
    let tables = Payload::from(otlp::decode(&request).unwrap()).summary().unwrap();
    assert_eq!(Summary { bytes: request.len(), ..tables }, expected);
    assert!(tables.bytes > 100);
    assert!(otlp::summary(&[0x0a, 5]).is_err());
}
