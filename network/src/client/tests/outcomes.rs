//! What answers mean.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use profpipe_engine::component::Failure;

use crate::client::{Response, http_failure, retry_after, status_failure};
use crate::grpc::{Code, Status, encode_status, status, status_to_json};

fn kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Retry { .. } => "retry",
        Failure::Reject { .. } => "reject",
        Failure::TooLarge { .. } => "too large",
        Failure::Hold { .. } => "hold",
        _ => "?",
    }
}

/// Scenario: every status of HTTP from 200 to 599.
/// Guarantees: what the specification calls retryable is tried again, what says that the
/// configuration is wrong is held, 413 is cut, and 400 in the Collector's words for it; all else is
/// refused.
#[test]
fn every_status_of_http() {
    for number in 200..600 {
        let response = Response::of_status(StatusCode::from_u16(number).unwrap());
        let failure = http_failure(&response, "why", SystemTime::now());
        let expected = match number {
            200..=299 => None,
            429 | 502 | 503 | 504 => Some("retry"),
            300..=399 | 401 | 403 | 404 | 407 => Some("hold"),
            413 => Some("too large"),
            _ => Some("reject"),
        };
        assert_eq!(failure.as_ref().map(kind), expected, "{number}");
        if let Some(failure) = failure {
            let text = failure.to_string();
            assert!(text.contains(&number.to_string()) && text.contains("why"), "{text}");
        }
    }
    let collector = http_failure(
        &Response::of_status(StatusCode::BAD_REQUEST),
        "http: request body too large",
        SystemTime::now(),
    );
    assert_eq!(kind(&collector.unwrap()), "too large");
}

/// Scenario: every code of gRPC, with and without a hint when to try again, and with the words of
/// several implementations about messages that are too large.
/// Guarantees: the table of the OTLP specification.
#[test]
fn every_code_of_grpc() {
    let of = |code, text: &str| status_failure(&Status::new(code, text));
    for number in 1..17 {
        let code = Code::from(number);
        let expected = match number {
            1 | 4 | 10 | 11 | 14 | 15 => "retry",
            7 | 12 | 16 => "hold",
            _ => "reject",
        };
        assert_eq!(kind(&of(code, "")), expected, "{code}");
        let hinted = status(code, "", Some(Duration::from_secs(7)));
        let failure = status_failure(&hinted);
        let expected = if code == Code::ResourceExhausted { "retry" } else { expected };
        assert_eq!(kind(&failure), expected, "{code} with a hint");
        if let Failure::Retry { after, .. } = failure {
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
    }
    for text in [
        "grpc: received message larger than max (5000000 vs. 4194304)",
        "grpc: received message after decompression larger than max 4194304",
        "gRPC message exceeds maximum size 4194304: 5000000",
        "Received message exceeds the maximum configured message size.",
        "a message of 5000000 bytes, the limit is 4194304",
    ] {
        assert_eq!(kind(&of(Code::ResourceExhausted, text)), "too large", "{text}");
    }
    let tonic = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
    assert_eq!(kind(&of(Code::OutOfRange, tonic)), "too large");
    assert_eq!(kind(&of(Code::ResourceExhausted, "ingestion rate limit exceeded")), "reject");
}

/// Scenario: `Retry-After` as seconds, as a date, too short, too long, in the past, as nonsense.
/// Guarantees: between one second and ten minutes, or nothing.
#[test]
fn waiting_as_asked() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let of = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", text.parse().unwrap());
        retry_after(&headers, now).map(|wait| wait.as_secs())
    };
    let date = |seconds| httpdate::fmt_http_date(now + Duration::from_secs(seconds));
    assert_eq!(of("30"), Some(30));
    assert_eq!(of(" 30 "), Some(30));
    assert_eq!(of("0"), Some(1));
    assert_eq!(of("99999999999"), Some(600));
    assert_eq!(of(&date(40)), Some(40));
    assert_eq!(of(&date(40_000)), Some(600));
    assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(1));
    for none in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
        assert_eq!(of(none), None, "{none}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

/// Scenario: errors of OTLP servers in protobuf, JSON and plain text, with characters that would
/// disturb a terminal.
/// Guarantees: their message, in one line.
#[test]
fn what_servers_say() {
    let of = |kind: &str, body: &[u8]| {
        let mut response = Response::of_status(StatusCode::BAD_REQUEST);
        response.headers.insert("content-type", kind.parse().unwrap());
        response.body = bytes::Bytes::copy_from_slice(body);
        response.error_text()
    };
    let status = Status::new(Code::InvalidArgument, "no dictionary");
    assert_eq!(of("application/x-protobuf", &encode_status(&status)), "no dictionary");
    assert_eq!(of("application/json; charset=utf-8", &status_to_json(&status)), "no dictionary");
    assert_eq!(of("application/json", b"{\"error\""), "{\"error\"");
    assert_eq!(of("text/plain", b" bad\r\n\x1b[31m \xff \xe2\x80\xae"), "bad [31m \u{fffd}");
    assert_eq!(of("text/plain", &[b'x'; 5000]).chars().count(), 301);
}
