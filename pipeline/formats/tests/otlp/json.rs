//! OTLP JSON: the specification's spellings, and the same content as in protobuf.

use profpipe_formats::otlp::{self, DecodeError};
use profpipe_profile::{Index, StackIx, Value};
use proptest::prelude::*;
use prost::Message;

use super::generate::{Random, Shape, request};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: an arbitrary valid request, written as JSON and read back.
    /// Guarantees: nothing is lost, and the text is JSON for an independent parser.
    #[test]
    fn keeps_the_content_of_valid_requests(seed: u64, size in 0_usize..10) {
        let shape = Shape { size, references: true, strict: false };
        let original = request(&mut Random(seed), shape).encode_to_vec();
        let profiles = otlp::decode(&original).unwrap();
        let json = otlp::encode_json(&profiles);
        serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        let back = otlp::decode_json(&json).unwrap();
        // The payload of a NaN has no spelling.
        let nan = String::from_utf8_lossy(&json).contains("\"NaN\"");
        prop_assert!(nan || otlp::encode(&back) == otlp::encode(&profiles));
    }

    /// Scenario: JSON with bytes changed, cut off or put in.
    /// Guarantees: never a panic; a refusal is one line.
    #[test]
    fn survives_mutations(seed: u64, size in 0_usize..4, flips in 1_usize..6) {
        let random = &mut Random(seed);
        let shape = Shape { size, references: false, strict: false };
        let original = request(random, shape).encode_to_vec();
        let mut json = otlp::encode_json(&otlp::decode(&original).unwrap());
        for _ in 0..flips {
            const LIKELY: &[u8] = b"{}[]\",:0-1e9.ntf\\u";
            let at = random.below(json.len());
            match random.below(4) {
                0 => json.truncate(at),
                1 => json.insert(at, LIKELY[random.below(LIKELY.len())]),
                _ if json.is_empty() => {}
                2 => json[at] = LIKELY[random.below(LIKELY.len())],
                _ => json[at] ^= 1 << random.below(8),
            }
        }
        if let Err(error) = otlp::decode_json(&json) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

const SPEC: &str = r#"{
    "resourceProfiles": [{
        "resource": {
            "attributes": [
                {"key": "service.name", "value": {"stringValue": "checkout"}},
                {"key": "process.pid", "value": {"intValue": "4711"}},
                {"key": "load", "value": {"doubleValue": 0.5}},
                {"key": "worst", "value": {"doubleValue": "Infinity"}},
                {"key": "on", "value": {"boolValue": true}},
                {"key": "raw", "value": {"bytesValue": "/wAB"}},
                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": 1}, {}]}}},
                {"key": "map", "value": {"kvlistValue": {"values": [
                    {"key": "k", "value": {"stringValueStrindex": 1}}]}}},
                {"keyStrindex": 2, "value": {"stringValueStrindex": 1}}
            ],
            "entityRefs": [{"type": "process"}],
            "droppedAttributesCount": 3
        },
        "scopeProfiles": [{
            "scope": {"name": "profiler", "version": null},
            "profiles": [{
                "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
                "samples": [
                    {"stackIndex": 1, "values": ["-7"], "linkIndex": 1, "attributeIndices": [1]},
                    {"values": [9007199254740993, "9223372036854775807"]},
                    {"timestampsUnixNano": ["18446744073709551615", 1e3], "surprise": {"a": [1]}}
                ],
                "timeUnixNano": "1760000000000000000",
                "durationNano": 1000,
                "period": "10",
                "profileId": "000102030405060708090A0B0C0D0E0F",
                "originalPayloadFormat": "pprof",
                "originalPayload": "aGVsbG8"
            }],
            "schemaUrl": "https://opentelemetry.io/schemas/1.42.0"
        }]
    }],
    "dictionary": {
        "mappingTable": [{}],
        "locationTable": [{}, {"address": "18446744073709551615", "mappingIndex": 0,
            "lines": [{"functionIndex": 1, "line": "12", "column": 3}]}],
        "functionTable": [{}, {"nameStrindex": 1}],
        "linkTable": [{}, {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}],
        "stringTable": ["", "cpu", "näme \u00e9 \ud83e\udd80"],
        "attributeTable": [{}, {"keyStrindex": 1, "value": {"stringValue": "x"}}],
        "stackTable": [{}, {"locationIndices": [1]}]
    },
    "laterField": [1, {"x": null}]
}"#;

/// Scenario: a request as the specification writes it, with numbers both as texts and as
/// numbers, unknown keys, nulls, and left-out defaults.
/// Guarantees: every field arrives.
#[test]
fn reads_the_spellings_of_the_specification() {
    let profiles = otlp::decode_json(SPEC.as_bytes()).unwrap();
    let resource = &profiles.resources[0];
    let of = |key: &str| resource.resource.get(key).cloned().unwrap();
    assert_eq!(of("service.name"), Value::from("checkout"));
    assert_eq!(of("process.pid"), Value::Int(4711));
    assert_eq!(of("load"), Value::Double(0.5));
    assert_eq!(of("worst"), Value::Double(f64::INFINITY));
    assert_eq!(of("on"), Value::Bool(true));
    assert_eq!(of("raw"), Value::Bytes(vec![255, 0, 1]));
    assert_eq!(of("list"), Value::Array(vec![Value::Int(1), Value::Empty]));
    assert_eq!(of("map"), Value::Map(vec![("k".into(), Value::from("cpu"))]));
    assert_eq!(of("näme é 🦀"), Value::from("cpu"));
    assert_eq!(resource.resource.dropped_attributes_count, 3);
    let scope = &resource.scopes[0];
    assert_eq!((scope.scope.name.as_str(), scope.scope.version.as_str()), ("profiler", ""));
    assert_eq!(scope.schema_url, "https://opentelemetry.io/schemas/1.42.0");
    let profile = &scope.profiles[0];
    assert_eq!(profile.samples.get(0).values, [-7]);
    assert_eq!(profile.samples.get(0).stack, StackIx::new(1));
    assert_eq!(profile.samples.get(1).values, [9_007_199_254_740_993, i64::MAX]);
    assert_eq!(profile.samples.get(2).timestamps_unix_nano, [u64::MAX, 1000]);
    assert_eq!(profile.time_unix_nano, 1_760_000_000_000_000_000);
    assert_eq!((profile.duration_nano, profile.period), (1000, 10));
    assert_eq!(profile.profile_id, std::array::from_fn(|at| at as u8));
    assert_eq!(profile.original_payload_format, "pprof");
    assert_eq!(&profile.original_payload[..], b"hello");
    let link = profiles.dictionary.links.get(profile.samples.get(0).link);
    assert_eq!(link.trace_id[..2], [0x0a, 0xf7]);
    let stack = profiles.dictionary.stacks.get(StackIx::new(1));
    let location = profiles.dictionary.locations.get(stack[0]);
    assert_eq!((location.address, location.lines[0].line), (u64::MAX, 12));
}

/// Scenario: what the writer makes of that request.
/// Guarantees: 64-bit numbers are texts, ids are lower-case hex, bytes base64, keys camel case.
#[test]
fn writes_the_spellings_of_the_specification() {
    let profiles = otlp::decode_json(SPEC.as_bytes()).unwrap();
    let json = String::from_utf8(otlp::encode_json(&profiles)).unwrap();
    for part in [
        r#""timeUnixNano":"1760000000000000000""#,
        r#""durationNano":"1000""#,
        r#""values":["-7"]"#,
        r#""attributeIndices":[1]"#,
        r#""timestampsUnixNano":["18446744073709551615","1000"]"#,
        r#""traceId":"0af7651916cd43dd8448eb211c80319c""#,
        r#""profileId":"000102030405060708090a0b0c0d0e0f""#,
        r#""originalPayload":"aGVsbG8=""#,
        r#""bytesValue":"/wAB""#,
        r#""intValue":"4711""#,
        r#""doubleValue":"Infinity""#,
        r#""droppedAttributesCount":3"#,
        r#""linkTable":[{},{"#,
        r#"{"key":"näme é 🦀","value":{"stringValue":"cpu"}}"#,
    ] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
}

/// Scenario: known keys with values of the wrong type, ids that are not hex, numbers out of range,
/// indices out of range, JSON that is not.
/// Guarantees: an error of one line that names the field.
#[test]
fn refuses_what_is_wrong() {
    let profile = |fields: &str| {
        format!(r#"{{"resourceProfiles":[{{"scopeProfiles":[{{"profiles":[{{{fields}}}]}}]}}]}}"#)
    };
    for (json, names) in [
        (profile(r#""timeUnixNano":"soon""#), "Profile.time_unix_nano"),
        (profile(r#""timeUnixNano":-1"#), "Profile.time_unix_nano"),
        (profile(r#""timeUnixNano":1.5"#), "Profile.time_unix_nano"),
        (profile(r#""period":{}"#), "Profile.period"),
        (profile(r#""profileId":"xyz""#), "Profile.profile_id"),
        (profile(r#""profileId":"00""#), "Profile.profile_id"),
        (profile(r#""originalPayload":"*""#), "Profile.original_payload"),
        (profile(r#""samples":{}"#), "Profile.samples"),
        (profile(r#""samples":[{"stackIndex":2147483648}]"#), "Sample.stack_index"),
        (profile(r#""samples":[{"stackIndex":5,"values":[1]}]"#), "stack_index"),
        (profile(r#""samples":[{"stackIndex":-1,"values":[1]}]"#), "stack_index"),
        (profile(r#""sampleType":[]"#), "Profile.sample_type"),
        ("[]".to_owned(), "ExportProfilesServiceRequest"),
        ("{} {}".to_owned(), "trailing"),
        ("{".to_owned(), "EOF"),
        ("[".repeat(100_000), "line 1"),
    ] {
        let error = otlp::decode_json(json.as_bytes()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(names) && !message.contains('\n'), "{message}: not {names}");
    }
    let deep = format!(
        r#"{{"resourceProfiles":[{{"resource":{{"attributes":[{{"value":{}1{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(200),
        "]}}".repeat(200)
    );
    let error = otlp::decode_json(deep.as_bytes()).unwrap_err();
    assert!(matches!(error, DecodeError::Json(_)), "{error}");
}
