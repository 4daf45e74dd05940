#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Exporter, ExporterConfig as _};
use profpipe_engine::config::Section;
use profpipe_formats::otlp;

use super::*;
use crate::otlp::server::{Server, answer};
use crate::testing;

fn config(text: &str) -> Result<Config, String> {
    let read = Section::from_yaml(text).unwrap().read_valid::<Config>();
    read.map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect())
}

fn exporter(text: &str) -> Box<dyn Exporter> {
    config(text).unwrap().build(&Setup::new("otlp_http", Services::default())).unwrap()
}

fn request() -> Bytes {
    otlp::encode(&testing::profiles("shop", 1)).into()
}

fn ok(_: usize) -> crate::otlp::server::Answer {
    answer(200, "application/x-protobuf", &[], None)
}

/// Scenario: a batch of bytes with each way of compressing, and with the default.
/// Guarantees: the path, the headers of the specification, and the same bytes.
#[tokio::test]
async fn a_batch_arrives() {
    for (setting, encoding) in
        [("none", ""), ("gzip", "gzip"), ("zstd", "zstd"), ("gzip, tls: {insecure: true}", "gzip")]
    {
        let server = Server::start(ok).await;
        let text =
            format!("{{endpoint: 'http://{}/base/', compression: {setting}}}", server.address);
        exporter(&text).export(&Batch::from_wire(request())).await.unwrap();
        let seen = &server.seen()[0];
        assert_eq!(seen.version, Version::HTTP_11);
        assert_eq!(seen.path, "/base/v1development/profiles");
        assert_eq!(seen.header("content-type"), "application/x-protobuf");
        assert_eq!(seen.header("content-encoding"), encoding);
        assert_eq!(seen.header("otlp-profiles-development-version"), "1");
        assert!(seen.header("user-agent").starts_with("profpipe/"));
        let mut body = Vec::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&seen.body[..]).read_to_end(&mut body).unwrap(),
            "zstd" => zstd::stream::copy_decode(&seen.body[..], &mut body).map(|()| 0).unwrap(),
            _ => (&seen.body[..]).read_to_end(&mut body).unwrap(),
        };
        assert_eq!(body, request());
    }
}

/// Scenario: JSON to an address of its own.
/// Guarantees: it goes there, as OTLP JSON.
#[tokio::test]
async fn json_elsewhere() {
    let server = Server::start(|_| answer(200, "application/json", b"{}", None)).await;
    let text = format!(
        "{{profiles_endpoint: 'http://{}/api/default/v1/profiles', encoding: json, compression: none}}",
        server.address
    );
    exporter(&text).export(&Batch::from_wire(request())).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/api/default/v1/profiles");
    assert_eq!(seen.header("content-type"), "application/json");
    let profiles = otlp::decode_json(&seen.body).unwrap();
    assert_eq!(otlp::encode(&profiles), request());
}

/// Scenario: the server is busy, refuses us, refuses the batch, finds it too large, is gone.
/// Guarantees: each is the failure that it should be, with the server's words and its wait.
#[tokio::test]
async fn failures() {
    let server = Server::start(|number| {
        let status = [503, 429, 401, 400, 500][number];
        let mut answer = answer(status, "text/plain", b"because", None);
        answer.headers_mut().insert("retry-after", "17".parse().unwrap());
        answer
    })
    .await;
    let mut exporter = exporter(&format!("endpoint: 'http://{}'", server.address));
    let batch = Batch::from_wire(request());
    for expected in ["retry", "retry", "hold", "reject", "reject"] {
        let failure = exporter.export(&batch).await.unwrap_err();
        assert!(failure.to_string().contains("because"), "{failure}");
        let kind = match failure {
            Failure::Retry { after, .. } => {
                assert_eq!(after, Some(Duration::from_secs(17)));
                "retry"
            }
            Failure::Hold { .. } => "hold",
            Failure::Reject { .. } => "reject",
            other => panic!("{other}"),
        };
        assert_eq!(kind, expected);
    }
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut exporter = self::exporter(&format!("endpoint: 'http://{address}'"));
    let failure = exporter.export(&batch).await.unwrap_err();
    assert!(matches!(failure, Failure::Retry { after: None, .. }), "{failure}");
}

/// Scenario: a server that answers 413 to the first request.
/// Guarantees: the batch arrives in parts.
#[tokio::test]
async fn too_large_is_cut() {
    let server = Server::start(|number| match number {
        0 => answer(413, "text/plain", b"", None),
        _ => ok(number),
    })
    .await;
    let mut profiles = testing::profiles("shop", 1);
    for at in 0..500 {
        testing::add(&mut profiles, &format!("shop-{at}"), at);
    }
    let text = format!("{{endpoint: 'http://{}', compression: none}}", server.address);
    exporter(&text).export(&Batch::new(profiles)).await.unwrap();
    let parts = server.seen()[1..].to_vec();
    let samples = parts.iter().map(|part| otlp::decode(&part.body).unwrap().sample_count());
    assert_eq!(samples.sum::<usize>(), 501);
    assert!(parts.len() > 1);
}

/// Scenario: answers that say that a part was rejected, in protobuf, JSON, and an answer too long to
/// be read.
/// Guarantees: success each time, and the rejected profiles are counted.
#[tokio::test]
async fn partial_success() {
    let server = Server::start(|number| match number {
        0 => answer(200, "application/x-protobuf", &[0x0a, 0x02, 0x08, 0x05], None),
        1 => {
            let text = br#"{"partialSuccess":{"rejectedProfiles":"3","errorMessage":"x"}}"#;
            answer(200, "application/json; charset=utf-8", text, None)
        }
        2 => answer(200, "application/x-protobuf", &vec![0x0a; 5 << 20], None),
        _ => answer(204, "text/html", b"", None),
    })
    .await;
    let setup = Setup::new("otlp_http", Services::default());
    let text = format!("endpoint: 'http://{}'", server.address);
    let mut exporter = config(&text).unwrap().build(&setup).unwrap();
    for _ in 0..4 {
        exporter.export(&Batch::from_wire(request())).await.unwrap();
    }
    let names = crate::metric_names::PROFILES_REJECTED;
    assert_eq!(setup.services.metrics.total(names), 8);
    assert_eq!(server.seen().len(), 4);
}

/// Scenario: configurations with and without mistakes.
/// Guarantees: mistakes are named with their keys.
#[test]
fn configurations() {
    assert!(config("").unwrap_err().contains("endpoint: is missing"));
    let bad = config("{endpoint: 'https://b', max_request_size: 1KiB, encoding: xml}").unwrap_err();
    assert!(bad.contains("max_request_size: must be at least"), "{bad}");
    assert!(bad.contains("encoding: "), "{bad}");
    let bad = config("profiles_endpoint: 'b:4318/x'").unwrap_err();
    assert!(bad.contains("profiles_endpoint: "), "{bad}");
    let config = config("{endpoint: 'https://b:1/p', timeout: 3s}");
    assert!(config.unwrap_err().contains("timeout: unknown key"), "the engine takes it");
}
