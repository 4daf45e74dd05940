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

fn framed(message: &[u8], compressed: bool) -> Vec<u8> {
    let header = Header { compressed, length: message.len() }.encode().unwrap();
    [&header[..], message].concat()
}

fn read(body: &[u8], cuts: &[usize], limit: usize) -> Result<Option<Message>, FrameError> {
    let mut reader = UnaryReader::new(limit);
    let mut start = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.sort_unstable();
    for cut in cuts.into_iter().chain([body.len()]) {
        reader.push(Bytes::copy_from_slice(&body[start..cut]))?;
        start = cut;
    }
    reader.finish()
}

proptest! {
    /// Scenario: a message, framed, arrives in any pieces.
    /// Guarantees: what is read is what was written.
    #[test]
    fn frames_survive_any_cuts(message: Vec<u8>, compressed: bool, cuts: Vec<usize>) {
        let read = read(&framed(&message, compressed), &cuts, 1 << 20).unwrap().unwrap();
        prop_assert_eq!(&read.bytes[..], &message[..]);
        prop_assert_eq!(read.compressed, compressed);
    }

    /// Scenario: any bytes as a body, in any pieces.
    /// Guarantees: an error or a message, never a panic, and the same however it was cut.
    #[test]
    fn any_bytes_are_read_or_refused(body: Vec<u8>, cuts: Vec<usize>) {
        let whole = read(&body, &[], 64);
        let cut = read(&body, &cuts, 64);
        prop_assert_eq!(whole, cut);
    }

    /// Scenario: any text as `grpc-message`.
    /// Guarantees: it travels as printable ASCII and comes back as it was.
    #[test]
    fn texts_survive(text: String) {
        let encoded = encode_text(&text);
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(decode_text(encoded.as_bytes()), text);
    }

    /// Scenario: any bytes as `grpc-message`, `grpc-timeout` and `google.rpc.Status`.
    /// Guarantees: no panic.
    #[test]
    fn foreign_headers_never_panic(bytes: Vec<u8>) {
        decode_text(&bytes);
        parse_timeout(&bytes);
        let _ = Status::decode(&bytes);
    }

    /// Scenario: any timeout.
    /// Guarantees: at most eight digits; what is read is not longer, and hardly shorter.
    #[test]
    fn timeouts_survive(nanos in 1..=u64::MAX) {
        let timeout = Duration::from_nanos(nanos);
        let text = format_timeout(timeout);
        prop_assert!(text.len() <= 9);
        let read = parse_timeout(text.as_bytes()).unwrap();
        prop_assert!(read <= timeout);
        prop_assert!(read.as_secs_f64() >= timeout.as_secs_f64() * 0.9999);
    }

    /// Scenario: a status with or without a hint, in trailers.
    /// Guarantees: it comes back as it was.
    #[test]
    fn statuses_survive(number in 0..17_i64, text in "\\PC{0,40}", hint: Option<(u32, u32)>) {
        let mut status = Status::new(Code::from_number(number), text);
        status.retry_after = hint.map(|(seconds, nanos)| {
            Duration::new(u64::from(seconds), nanos % 1_000_000_000)
        });
        let mut trailers = HeaderMap::new();
        status.write_to(&mut trailers);
        prop_assert_eq!(Status::read_from(&trailers), Some(status.clone()));
        prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
    }
}

/// Scenario: frames that are none: a wrong flag, too long, cut, two of them.
/// Guarantees: each is told from the others, and too long already by the header.
#[test]
fn broken_frames() {
    let check = |body: &[u8]| read(body, &[], 8);
    assert_eq!(check(&[]), Ok(None));
    assert_eq!(check(&[2, 0, 0, 0, 0]), Err(FrameError::Flag(2)));
    let long = FrameError::TooLarge { length: 9, limit: 8 };
    assert_eq!(check(&[0, 0, 0, 0, 9]), Err(long));
    assert_eq!(check(&[0, 0, 0]), Err(FrameError::Truncated));
    assert_eq!(check(&[0, 0, 0, 0, 2, 7]), Err(FrameError::Truncated));
    assert_eq!(check(&[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0]), Err(FrameError::Second));
}

/// Scenario: a message in one piece of its own after the header.
/// Guarantees: it is not copied.
#[test]
fn one_piece_is_not_copied() {
    let message = Bytes::from(vec![7; 1000]);
    let mut reader = UnaryReader::new(1000);
    let header = Header { compressed: false, length: 1000 };
    reader.push(Bytes::copy_from_slice(&header.encode().unwrap())).unwrap();
    assert_eq!(reader.header(), Some(header));
    reader.push(message.clone()).unwrap();
    let read = reader.finish().unwrap().unwrap();
    assert_eq!(read.bytes.as_ptr(), message.as_ptr());
}

/// Scenario: the examples of the specification, and texts encoded wrongly.
/// Guarantees: what cannot be decoded stays.
#[test]
fn texts_of_other_senders() {
    assert_eq!(encode_text("100 % ü\n"), "100 %25 %C3%BC%0A");
    assert_eq!(decode_text(b"a%2"), "a%2");
    assert_eq!(decode_text(b"%zz%41%"), "%zzA%");
    assert_eq!(decode_text(b"%c3%bc"), "ü");
}

/// Scenario: timeouts as other clients write them, and some that are none.
/// Guarantees: read by the specification.
#[test]
fn timeouts_of_other_senders() {
    assert_eq!(parse_timeout(b"1H"), Some(Duration::from_secs(3600)));
    assert_eq!(parse_timeout(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
    for none in ["", "S", "1", "-1S", "+1S", "123456789n", "1 S", "1s", "1.5S"] {
        assert_eq!(parse_timeout(none.as_bytes()), None, "{none}");
    }
    assert_eq!(format_timeout(Duration::from_secs(5)), "5000000u");
    assert_eq!(format_timeout(Duration::ZERO), "1n");
    assert_eq!(format_timeout(Duration::MAX), "99999999H");
}

/// Scenario: every number that a server may send as a code.
/// Guarantees: 0 to 16 are themselves, all else is UNKNOWN.
#[test]
fn codes() {
    for (at, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(code.number()), at);
        assert_eq!(Code::from_header(at.to_string().as_bytes()), code);
    }
    for none in ["17", "-1", "", "x", "99999999999999999999"] {
        assert_eq!(Code::from_header(none.as_bytes()), Code::Unknown, "{none}");
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
    let status = Status::decode(&bytes).unwrap();
    let expected = Status::new(Code::ResourceExhausted, "busy");
    assert_eq!(status, expected.retry_after(Duration::from_secs(30)));
    assert_eq!(
        String::from_utf8(status.to_json()).unwrap(),
        r#"{"code":8,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"30s"}],"message":"busy"}"#
    );
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "8".parse().unwrap());
    trailers.insert("grpc-status-details-bin", base64.parse().unwrap());
    assert_eq!(Status::read_from(&trailers), Some(status));
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
