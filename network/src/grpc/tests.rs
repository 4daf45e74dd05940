#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;

use super::*;

proptest! {
    /// Scenario: any bytes as `grpc-timeout` and `google.rpc.Status`.
    /// Guarantees: no panic.
    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>) {
        parse_timeout(&bytes);
        if let Some(status) = decode_status(&bytes) {
            retry_delay(&status);
            status_to_json(&status);
        }
        let details = Bytes::from(bytes);
        retry_delay(&Status::with_details(Code::Unavailable, "", details));
    }

    /// Scenario: a status with or without a hint, as a message and in the headers of tonic.
    /// Guarantees: it comes back as it was.
    #[test]
    fn statuses_survive(number in 1..17_i32, text in "\\PC{0,40}", hint: Option<(u32, u32)>) {
        let hint = hint.map(|(seconds, nanos)| {
            Duration::new(u64::from(seconds), nanos % 1_000_000_000)
        });
        let sent = status(Code::from(number), text, hint);
        let response = sent.clone().into_http::<()>();
        let by_headers = Status::from_header_map(response.headers()).unwrap();
        let by_message = decode_status(&encode_status(&sent)).unwrap();
        for read in [by_headers, by_message] {
            prop_assert_eq!((read.code(), read.message()), (sent.code(), sent.message()));
            prop_assert_eq!(retry_delay(&read), hint);
        }
    }
}

/// Scenario: timeouts as clients write them, and some that are none.
/// Guarantees: read by the specification.
#[test]
fn timeouts_of_other_senders() {
    assert_eq!(parse_timeout(b"1H"), Some(Duration::from_secs(3600)));
    assert_eq!(parse_timeout(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
    for none in ["", "S", "1", "-1S", "+1S", "123456789n", "1 S", "1s", "1.5S"] {
        assert_eq!(parse_timeout(none.as_bytes()), None, "{none}");
    }
}

/// Scenario: every code.
/// Guarantees: its name in the specification, and in Connect.
#[test]
fn codes_have_names() {
    for number in 0..17 {
        let code = Code::from(number);
        let words = format!("{code:?}").chars().fold(String::new(), |mut words, letter| {
            if letter.is_uppercase() && !words.is_empty() {
                words.push('_');
            }
            words.extend(letter.to_lowercase());
            words
        });
        assert_eq!(code_name(code).to_lowercase(), words);
        assert_eq!(connect_code_name(code), words.replace("cancelled", "canceled"));
    }
}

/// Scenario: a status as another implementation encodes it (bytes written by hand from the schema),
/// with padding, and with a detail of another type before the hint.
/// Guarantees: the hint is found.
#[test]
fn details_of_other_senders() {
    let mut any = vec![0x0a, 0x28];
    any.extend(b"type.googleapis.com/google.rpc.RetryInfo");
    any.extend([0x12, 0x04, 0x0a, 0x02, 0x08, 0x1e]);
    let mut other = vec![0x0a, 0x03];
    other.extend(b"a/B");
    let mut bytes = vec![0x08, 0x08, 0x12, 0x04];
    bytes.extend(b"busy");
    for any in [other, any] {
        bytes.extend([0x1a, any.len() as u8]);
        bytes.extend(any);
    }
    let status = decode_status(&bytes).unwrap();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "busy"));
    assert_eq!(retry_delay(&status), Some(Duration::from_secs(30)));
    assert_eq!(
        String::from_utf8(status_to_json(&status)).unwrap(),
        r#"{"code":8,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"30s"}],"message":"busy"}"#
    );
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "8".parse().unwrap());
    trailers.insert("grpc-status-details-bin", base64.parse().unwrap());
    let read = Status::from_header_map(&trailers).unwrap();
    assert_eq!(retry_delay(&read), Some(Duration::from_secs(30)));
}

/// Scenario: content types.
/// Guarantees: gRPC-Web and JSON are not gRPC.
#[test]
fn content_types() {
    for yes in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=x"] {
        assert!(is_grpc(yes.as_bytes()), "{yes}");
    }
    for no in ["application/grpc-web", "application/grpc+json", "application/json", ""] {
        assert!(!is_grpc(no.as_bytes()), "{no}");
    }
}
