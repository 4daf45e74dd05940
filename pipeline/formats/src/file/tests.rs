#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::report::{Column, top};

const FORMATS: [Format; 4] = [Format::Pprof, Format::Otlp, Format::OtlpJson, Format::Folded];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn profiles() -> Profiles {
    folded::decode(b"main;work 5").unwrap()
}

fn written(format: Format) -> Vec<u8> {
    match format {
        Format::Pprof => pprof::encode_plain(&profiles()).unwrap(),
        Format::Otlp => otlp::encode(&profiles()),
        Format::OtlpJson => otlp::encode_json(&profiles()),
        _ => b"main;work 5\n".to_vec(),
    }
}

/// The cost of everything in a file, after checking that its stacks are those of [`profiles`].
#[track_caller]
fn total(decoded: &Decoded) -> i64 {
    let top = top(&decoded.profiles, None, Column::Own).unwrap();
    assert_eq!(top.functions[0].name, "work");
    top.total
}

fn error(bytes: &[u8], named: Option<Format>) -> String {
    let error = decode(bytes, named).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// Scenario: every format, compressed or not, under a name that says nothing, the right one, and a
/// wrong one.
/// Guarantees: the content decides.
#[test]
fn content_decides() {
    for format in FORMATS {
        let plain = written(format);
        for bytes in [gzip(&plain), plain] {
            for named in [None].into_iter().chain(FORMATS.map(Some)) {
                // OTLP has no sign of its own that a pprof profile cannot have, too.
                if format == Format::Otlp && named == Some(Format::Pprof) {
                    continue;
                }
                let decoded = decode(&bytes, named).unwrap();
                assert_eq!(decoded.format, format, "as {named:?}");
                assert_eq!(decoded.notes, Vec::<String>::new());
                assert_eq!(total(&decoded), 5);
            }
        }
    }
}

/// Scenario: stacks that begin as JSON, XML, comments or lists do, and names with control characters.
/// Guarantees: they are stacks.
#[test]
fn stacks_that_look_like_something_else() {
    for text in [
        "{closure};work 5",
        "{main};work 5",
        "<module>;work 5",
        "<init>;work 5",
        "[unknown];work 5",
        "\u{feff}main;work 5",
        "main;\u{1b}[0m;work 5",
        "\n\n  main;work 5",
    ] {
        let decoded = decode(text.as_bytes(), None).unwrap();
        assert_eq!((decoded.format, total(&decoded)), (Format::Folded, 5), "{text}");
    }
    let odd = decode(b"main;\x01;work 5", Some(Format::Folded)).unwrap();
    assert_eq!(total(&odd), 5);
}

/// Scenario: files that are no profile, or of formats that are not read.
/// Guarantees: one line that says what they are, not what they would be if they were something else.
#[test]
fn not_profiles() {
    for (bytes, named, expected) in [
        (&b""[..], None, "the file is empty"),
        (b"heap profile: 1: 2 [3: 4] @ heap/1\n", None, "legacy text format"),
        (b"goroutine profile: total 5\n", Some(Format::Folded), "legacy text format"),
        (b"<!DOCTYPE html><html>5 5", None, "HTML"),
        (b"<?xml version=\"1.0\"?><svg width=\"5\">\n</svg> 5", None, "a flame graph"),
        (b"PERFILE2\x68\0\0\0", None, "perf script"),
        (b"FLR\0\0\x02", None, "Java Flight Recorder"),
        (b"\x28\xb5\x2f\xfd\x04", None, "decompress it"),
        (b"404 page not found\n", Some(Format::Pprof), "not a valid pprof profile"),
        (b"x\"line\": 5\n\"line\" :\n", Some(Format::OtlpJson), "OTLP JSON"),
        (b"\0\0\0\x09\x28\xb5\x2f\xfd\x04", None, "zstd one by one"),
        (b"no count\n", None, "line 1: the count `count`"),
        (b"[1,2,3]", Some(Format::OtlpJson), "OTLP JSON"),
        (b"{\"flamebearer\":{}}", None, "`flamebearer` is not a key"),
        (b"\x0a\x05ab\x00", Some(Format::Otlp), "the data ends"),
        (b"\x0a\x05ab\x00", None, "not a valid pprof profile"),
    ] {
        let error = error(bytes, named);
        assert!(error.contains(expected), "{error}: not {expected}");
    }
    let nested = gzip(&gzip(&written(Format::Pprof)));
    assert!(error(&nested, None).contains("not a valid pprof profile"));
}

/// Scenario: files of the Collector's `file` exporter: a request a line in JSON, with and without a line
/// end at the end, indented, and each after its length in protobuf; cut off within the last request.
/// Guarantees: all requests are read; what is cut off is said, unless it is all there is.
#[test]
fn files_of_the_collector() {
    let json = written(Format::OtlpJson);
    let pretty: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let pretty = serde_json::to_vec_pretty(&pretty).unwrap();
    let lines = [&json[..], b"\n", &json, b"\r\n\n", &pretty].concat();
    let request = written(Format::Otlp);
    let framed = [&(request.len() as u32).to_be_bytes()[..], &request].concat();
    for (bytes, format) in [(lines, Format::OtlpJson), (framed.repeat(3), Format::Otlp)] {
        for bytes in [gzip(&bytes), bytes.clone()] {
            let decoded = decode(&bytes, None).unwrap();
            assert_eq!((decoded.format, total(&decoded)), (format, 15));
            assert_eq!(decoded.notes, Vec::<String>::new());
        }
        for cut in 1..20 {
            let decoded = decode(&bytes[..bytes.len() - cut], None).unwrap();
            assert_eq!(total(&decoded), 10);
            assert_eq!(decoded.notes, ["the last request is cut off and was skipped"]);
        }
    }
    assert!(error(&json[..json.len() - 1], None).contains("EOF"));
    assert!(error(&framed[..framed.len() - 1], None).contains("the data ends"));
    let wrong = [&json[..], b"\n{\"resourceProfiles\":3}\n"].concat();
    assert!(error(&wrong, None).starts_with("request 2: OTLP JSON: "));
    let wrong = [&framed[..], &[0, 0, 0, 2, 0x0a, 9]].concat();
    assert!(error(&wrong, None).starts_with("request 2: "));
}

/// Scenario: JSON of speedscope and of V8.
/// Guarantees: told from OTLP by its keys.
#[test]
fn json_of_other_tools() {
    let speedscope = r#"{"$schema":"x","shared":{"frames":[{"name":"work"}]},"profiles":
        [{"type":"sampled","unit":"none","samples":[[0]],"weights":[5]}]}"#;
    let v8 = r#"{"nodes":[{"id":1,"callFrame":{"functionName":"work"},"hitCount":5}]}"#;
    for (text, format) in [(speedscope, Format::Speedscope), (v8, Format::CpuProfile)] {
        for bytes in
            [text.as_bytes().to_vec(), gzip(text.as_bytes()), format!("\u{feff}{text}").into()]
        {
            let decoded = decode(&bytes, None).unwrap();
            assert_eq!((decoded.format, total(&decoded)), (format, 5));
        }
        let wrong = text.replace("work", "x").replace('5', "\"5\"");
        assert!(error(wrong.as_bytes(), None).contains(&format!("{format:?}").to_lowercase()));
    }
}

/// Scenario: a file of stacks with lines that are none, and with a fraction.
/// Guarantees: what was skipped or rounded is said.
#[test]
fn deviations_are_said() {
    let decoded = decode(b"total\nmain;work 4.5\nx y z\n", None).unwrap();
    assert_eq!(
        decoded.notes,
        [
            "skipped 2 lines, the first is line 1: `total` is not `root;caller;leaf COUNT`",
            "1 line with a fraction in the count, rounded so that the sum is right",
        ]
    );
}

proptest! {
    /// Scenario: any bytes, and any short start of a known format with any bytes after it.
    /// Guarantees: no panic; an error is one line.
    #[test]
    fn random(
        start in prop::sample::select(vec![&b""[..], b"{\"", b"\0\0\0\x05\x0a", b"\x0a", b"\xff\xfe", b"# "]),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let bytes = [start, &bytes].concat();
        for named in [None].into_iter().chain(FORMATS.map(Some)) {
            if let Err(error) = decode(&bytes, named) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
