//! The push request: protobuf, JSON, labels, and what is refused.

use base64::Engine as _;
use bytes::Bytes;
use profpipe_engine::settings::ByteSize;
use profpipe_profile::attribute_names::PROFILE_NAME;
use proptest::prelude::*;

use super::{facts, field, mark, pprof, series};
use crate::pyroscope::convert::{ConvertError, push};
use crate::pyroscope::labels::Identity;
use crate::pyroscope::push::{Series, decode, decode_json};

const LIMIT: ByteSize = ByteSize::mib(16);

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Scenario: the same request as protobuf and as JSON, with unknown fields.
/// Guarantees: both are read as the same series.
#[test]
fn protobuf_and_json_are_the_same() {
    let profile = pprof(&[("a", 3)], 5);
    let mut bytes = series(&[("__name__", "process_cpu"), ("b", "c")], &[&profile, b"x"]);
    bytes.extend(field(9, b"from the future"));
    let from_protobuf = decode(&bytes.into()).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let json = serde_json::json!({
        "future": [1, {"x": null}],
        "series": [{
            "labels": [{"name": "__name__", "value": "process_cpu"}, {"name": "b", "value": "c"}],
            "samples": [
                {"rawProfile": engine.encode(&profile), "ID": "an id"},
                {"raw_profile": "eA==", "more": true},
            ],
            "annotations": null,
        }],
    });
    let from_json = decode_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(from_protobuf, from_json);
    assert_eq!(from_json[0].labels, labels(&[("__name__", "process_cpu"), ("b", "c")]));
    assert_eq!(from_json[0].profiles[1], Bytes::from_static(b"x"));
    assert_eq!(decode(&Bytes::new()).unwrap(), Vec::<Series>::new());
    assert_eq!(decode_json(b"{}").unwrap(), Vec::<Series>::new());
}

/// Scenario: requests that are something else, cut off, or hold too much.
/// Guarantees: an error that says so.
#[test]
fn broken_requests_are_refused() {
    let error = |bytes: &[u8]| decode(&Bytes::copy_from_slice(bytes)).unwrap_err().0;
    assert!(error(b"\x0a\x05ab").contains("it ends inside a field"));
    assert!(error(b"\x0f").contains("wire type"));
    assert!(error(&[0xff; 12]).contains("too long"));
    assert!(error(&field(1, &field(1, &field(1, b"\xff")))).contains("UTF-8"));
    assert!(error(&field(1, &[]).repeat(10_001)).contains("more than 10000 series"));
    assert!(error(&field(1, &field(1, &[]).repeat(257))).contains("more than 256 labels"));
    let error = |text: &str| decode_json(text.as_bytes()).unwrap_err().0;
    assert!(error("[]").contains("JSON"));
    assert!(error(r#"{"series":[{"samples":[{"rawProfile":"*"}]}]}"#).contains("base64"));
}

proptest! {
    /// Scenario: any bytes.
    /// Guarantees: an answer, never a panic.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = decode_json(&bytes);
        if let Ok(series) = decode(&bytes) {
            let _ = push(series, LIMIT, &mut |_| true);
        }
        let _ = crate::pyroscope::multipart::read("multipart/form-data; boundary=a", &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = crate::pyroscope::query::Query::parse(&text, "", 7);
    }
}

/// Scenario: the labels that clients send.
/// Guarantees: each finds its place, and what Pyroscope refuses is refused.
#[test]
fn labels_say_who_was_profiled() {
    let identity = Identity::of(labels(&[
        ("__name__", "memory"),
        ("service_name", "shop"),
        ("service.name", "ignored"),
        ("__session_id__", "7"),
        ("otel.scope.name", "com.grafana.pyroscope/rust"),
        ("region", "eu"),
        ("empty", ""),
    ]))
    .unwrap();
    assert_eq!((identity.name.as_str(), identity.is_cumulative), ("memory", true));
    assert_eq!(identity.scope_name, "com.grafana.pyroscope/rust");
    let keys: Vec<_> = identity.resource.attributes.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "region"]);
    let of = |pairs: &[(&str, &str)]| Identity::of(labels(pairs));
    assert!(!of(&[("__name__", "memory"), ("__delta__", "false")]).unwrap().is_cumulative);
    assert!(!of(&[("__name__", "process_cpu")]).unwrap().is_cumulative);
    let delta = of(&[("__name__", "godeltaprof_memory")]).unwrap();
    assert_eq!((delta.name.as_str(), delta.is_cumulative), ("memory", false));
    assert!(of(&[("a", "b")]).unwrap_err().0.contains("__name__"));
    assert!(of(&[("__name__", "x"), ("a", "b"), ("a", "c")]).unwrap_err().0.contains("twice"));
    assert!(of(&[("__name__", "x"), ("", "c")]).is_err());
    assert!(of(&[("__name__", "x"), ("a", &"v".repeat(3000))]).is_err());
}

/// Scenario: two series with two profiles each, one of them empty.
/// Guarantees: one batch with a resource for each profile, and the whole sum.
#[test]
fn a_request_is_one_batch() {
    let (one, two) = (pprof(&[("a", 3)], 5), pprof(&[("a", 4), ("b", 5)], 6));
    let bytes = [
        series(&[("__name__", "process_cpu"), ("service_name", "x")], &[&one, b""]),
        series(&[("__name__", "wall"), ("service_name", "y")], &[&two]),
    ];
    let batch = push(decode(&bytes.concat().into()).unwrap(), LIMIT, &mut |_| true).unwrap();
    assert_eq!(facts(&batch, "service.name"), (12, vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(mark(&batch, PROFILE_NAME), Some("process_cpu"));
}

/// Scenario: a bad series after a good one; profiles that unfold beyond the limit together.
/// Guarantees: nothing of the request is taken, and the error says which series.
#[test]
fn one_bad_series_refuses_the_request() {
    let good = pprof(&[("a", 3)], 5);
    let name = [("__name__", "process_cpu")];
    let bytes = [series(&name, &[&good]), series(&name, &[b"\x1f\x8bno"])].concat();
    let error = push(decode(&bytes.into()).unwrap(), LIMIT, &mut |_| true).unwrap_err();
    assert!(matches!(&error, ConvertError::Invalid(what) if what.contains("index 1")), "{error}");
    let many = series(&name, &[good.as_slice(); 50]);
    let error = push(decode(&many.into()).unwrap(), ByteSize(1000), &mut |_| true).unwrap_err();
    assert!(matches!(error, ConvertError::TooLarge(_)), "{error}");
}
