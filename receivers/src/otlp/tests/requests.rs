//! What is answered to which request.

use std::io::Write;

use profpipe_engine::batch::Outcome;
use profpipe_formats::otlp;

use super::support::{PATH, call, framed, post, request, start};
use profpipe_network::grpc::{Code, decode_status, retry_delay};
use profpipe_network::messages::ExportProfilesServiceResponse;
use prost::Message as _;

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Scenario: the same request by HTTP in protobuf and JSON and by gRPC, as it is and compressed.
/// Guarantees: success without a partial success, and the same samples in every batch.
#[tokio::test]
async fn every_way_in() {
    let mut receiver = start("", "");
    let kept = receiver.settle(Outcome::Durable);
    let good = request(&[3, 2]);
    let (http, grpc) = (receiver.http, receiver.grpc);

    let gzip_header = ("content-encoding", "gzip");
    let zstd_header = ("content-encoding", "zstd");
    let zstd = zstd::bulk::compress(&good, 1).unwrap();
    let bodies = [
        (&[PROTOBUF][..], good.clone()),
        (&[PROTOBUF, gzip_header], gzip(&good)),
        (&[PROTOBUF, gzip_header], [gzip(&good[..20]), gzip(&good[20..])].concat()),
        (&[PROTOBUF, zstd_header], zstd.clone()),
    ];
    for (headers, body) in bodies {
        let answer = post(http, PATH, headers, &body).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/x-protobuf");
    }
    let json = otlp::encode_json(&otlp::decode(&good).unwrap());
    let answer = post(http, PATH, &[JSON], &json).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"{}"[..]));
    assert_eq!(answer.header("content-type"), "application/json");

    let plain = call(grpc, &[], framed(false, &good)).await;
    let gzipped = call(grpc, &[("grpc-encoding", "gzip")], framed(true, &gzip(&good))).await;
    let zstded = call(grpc, &[("grpc-encoding", "zstd")], framed(true, &zstd)).await;
    for answer in [plain, gzipped, zstded] {
        assert_eq!(answer.code(), 0, "{answer:?}");
        assert_eq!(&answer.body[..], [0, 0, 0, 0, 0]);
        assert_eq!(answer.header("content-type"), "application/grpc");
    }
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 8);
    for batch in kept.iter() {
        assert_eq!(batch.samples(), 5);
    }
    let accepted = "otelcol_receiver_accepted_profile_samples";
    assert_eq!(receiver.services.metrics.total(accepted), 40);
}

/// Scenario: the pipelines lose a batch, or refuse it.
/// Guarantees: 503 with Retry-After or UNAVAILABLE with RetryInfo; 400 or INVALID_ARGUMENT.
#[tokio::test]
async fn outcomes_are_answered() {
    let good = request(&[1]);
    let mut receiver = start("", "");
    receiver.settle(Outcome::Retry("backend is down".into()));
    let answer = post(receiver.http, PATH, &[PROTOBUF], &good).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert!(String::from_utf8_lossy(&answer.body).contains("backend is down"));
    let answer = call(receiver.grpc, &[], framed(false, &good)).await;
    assert_eq!((answer.code(), &*answer.grpc_message()), (14, "backend is down"));
    assert!(!answer.header("grpc-status-details-bin").is_empty());

    let mut receiver = start("", "");
    receiver.settle(Outcome::Rejected("100% wrong".into()));
    let answer = post(receiver.http, PATH, &[PROTOBUF], &good).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (400, ""));
    let answer = call(receiver.grpc, &[], framed(false, &good)).await;
    assert_eq!((answer.code(), &*answer.grpc_message()), (3, "100% wrong"));
    assert!(answer.header("grpc-status-details-bin").is_empty());
    assert_eq!(receiver.services.metrics.total("otelcol_receiver_refused_profile_samples"), 2);
}

/// Scenario: the development version missing, right, wrong, malformed and given twice; a body that is
/// no request at all.
/// Guarantees: wrong versions are refused before anything is decoded, as a status in the content
/// type of the request; the sender is not asked to come again.
#[tokio::test]
async fn development_versions() {
    let mut receiver = start("", "");
    receiver.settle(Outcome::Delivered);
    let good = request(&[1]);
    let (http, grpc) = (receiver.http, receiver.grpc);
    let version = |value| ("OTLP-Profiles-Development-Version", value);
    let answer = post(http, PATH, &[PROTOBUF, version("1")], &good).await;
    assert_eq!(answer.status, 200);
    let metadata = ("otlp-profiles-development-version", "1");
    assert_eq!(call(grpc, &[metadata], framed(false, &good)).await.code(), 0);

    let nonsense = b"\xff\xff";
    for (value, said) in [
        (
            "2",
            "otlp-profiles-development-version 2 is not supported; this receiver takes version 1",
        ),
        ("01", "must be one positive decimal number"),
        ("+1", "must be one positive decimal number"),
        ("1, 1", "must be one positive decimal number"),
        ("", "must be one positive decimal number"),
    ] {
        let answer = post(http, PATH, &[PROTOBUF, version(value)], nonsense).await;
        let status = decode_status(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), status.code()), (400, Code::InvalidArgument));
        assert!(status.message().contains(said), "{status:?}");
        assert_eq!((answer.header("content-type"), retry_delay(&status)), (PROTOBUF.1, None));
        let answer = post(http, PATH, &[JSON, version(value)], nonsense).await;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(status["code"], 3);
        assert!(status["message"].as_str().unwrap().contains(said));
        let metadata = ("otlp-profiles-development-version", value);
        let answer = call(grpc, &[metadata], framed(false, nonsense)).await;
        assert_eq!(answer.code(), 3);
    }
    let twice = post(http, PATH, &[PROTOBUF, version("1"), version("1")], &good).await;
    assert_eq!(twice.status, 400);
    assert!(decode_status(&twice.body).unwrap().message().contains("more than once"));
}

/// Scenario: requests without a profile, without a sample, and without anything.
/// Guarantees: success, and nothing goes into the pipeline.
#[tokio::test]
async fn empty_requests_succeed() {
    let mut receiver = start("", "");
    let kept = receiver.settle(Outcome::Rejected("not to be asked".into()));
    for body in [Vec::new(), request(&[]), request(&[0, 0])] {
        let answer = post(receiver.http, PATH, &[PROTOBUF], &body).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        assert_eq!(call(receiver.grpc, &[], framed(false, &body)).await.code(), 0);
    }
    assert_eq!(post(receiver.http, PATH, &[JSON], b"{}").await.status, 200);
    assert!(kept.lock().unwrap().is_empty());
}

/// A request of two profiles of which the second has a type that the string table does not.
fn half_bad() -> Vec<u8> {
    let good = request(&[2, 3]);
    let cpu = otlp::encode_json(&otlp::decode(&good).unwrap());
    let text = String::from_utf8(cpu).unwrap();
    let at = text.rfind("\"typeStrindex\":1").unwrap();
    let text = format!("{}\"typeStrindex\":99{}", &text[..at], &text[at + 16..]);
    otlp::json_to_protobuf(text.as_bytes()).unwrap()
}

/// Scenario: a request of which one profile points outside of the tables.
/// Guarantees: a partial success with the count and the reason, in each form; the other profile goes
/// on; its samples are accepted, the others failed.
#[tokio::test]
async fn partial_success() {
    let mut receiver = start("", "");
    let kept = receiver.settle(Outcome::Delivered);
    let body = half_bad();
    let expected = |body: &[u8]| {
        let response = ExportProfilesServiceResponse::decode(body).unwrap();
        let partial = response.partial_success.unwrap();
        assert_eq!(partial.rejected_profiles, 1);
        let message = std::str::from_utf8(&partial.error_message).unwrap();
        assert!(message.contains("type_strindex"), "{message}");
    };
    let answer = post(receiver.http, PATH, &[PROTOBUF], &body).await;
    assert_eq!(answer.status, 200);
    expected(&answer.body);
    let answer = call(receiver.grpc, &[], framed(false, &body)).await;
    assert_eq!(answer.code(), 0);
    expected(&answer.body[5..]);
    let text = otlp::encode_json(&otlp::decode(&request(&[2, 3])).unwrap());
    let text =
        String::from_utf8(text).unwrap().replacen("\"typeStrindex\":1", "\"typeStrindex\":99", 1);
    let answer = post(receiver.http, PATH, &[JSON], text.as_bytes()).await;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["partialSuccess"]["rejectedProfiles"], "1");
    assert!(json["partialSuccess"]["errorMessage"].as_str().unwrap().contains("type_strindex"));
    let samples: Vec<usize> = kept.lock().unwrap().iter().map(|batch| batch.samples()).collect();
    assert_eq!(samples, [2, 2, 3]);
    let total = |name| receiver.services.metrics.total(name);
    assert_eq!(total("otelcol_receiver_accepted_profile_samples"), 7);
    assert_eq!(total("otelcol_receiver_failed_profile_samples"), 8);
}

/// Scenario: bodies that are no request, of an older protocol, of no known content type, at other
/// paths.
/// Guarantees: each is refused in its own way, and says why.
#[tokio::test]
async fn wrong_requests() {
    let receiver = start("", "");
    let (http, grpc) = (receiver.http, receiver.grpc);
    let answer = post(http, PATH, &[PROTOBUF], b"\x0a\x05ab").await;
    let status = decode_status(&answer.body).unwrap();
    assert_eq!((answer.status.as_u16(), status.code()), (400, Code::InvalidArgument));
    assert!(status.message().contains("the data ends"), "{status:?}");
    let answer = post(http, PATH, &[JSON], b"{\"resourceProfiles\": 3}").await;
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8_lossy(&answer.body).contains("OTLP JSON"));
    // A sample of proto 1.9, whose value stands where attributes are now.
    let old = otlp::json_to_protobuf(
        br#"{"dictionary": {"stringTable": [""]}, "resourceProfiles": [{"scopeProfiles":
        [{"profiles": [{"samples": [{"attributeIndices": [4242]}]}]}]}]}"#,
    )
    .unwrap();
    let answer = call(grpc, &[], framed(false, &old)).await;
    assert_eq!(answer.code(), 3);
    assert!(answer.grpc_message().contains("upgrade it to OTLP proto 1.10"));
    // In JSON fields have no numbers: the names of proto 1.8, and another signal.
    for (request, said) in [
        (
            &br#"{"resourceProfiles": [{"scopeProfiles": [{"profiles": [{"sample":
            [{"values": ["1"]}]}]}]}]}"#[..],
            "upgrade it to OTLP proto 1.10",
        ),
        (br#"{"resourceSpans": [{"scopeSpans": []}]}"#, "`resourceSpans` is not a key"),
    ] {
        let answer = post(http, PATH, &[JSON], request).await;
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8_lossy(&answer.body).contains(said), "{:?}", answer.body);
    }
    assert_eq!(post(http, PATH, &[JSON], b"{}").await.status, 200);
    let answer = post(http, PATH, &[("content-type", "text/plain")], b"x").await;
    assert_eq!(answer.status, 415);
    assert_eq!(post(http, PATH, &[], b"x").await.status, 415);
    assert_eq!(post(http, "/v1/profiles", &[PROTOBUF], b"").await.status, 404);
    assert_eq!(call(grpc, &[("grpc-encoding", "br")], framed(true, b"x")).await.code(), 12);
}

/// Scenario: attributes whose keys and texts are references into the string table; a request
/// without them.
/// Guarantees: the first is passed on with the texts themselves, the second as the bytes that came.
#[tokio::test]
async fn references_are_resolved() {
    let mut receiver = start("", "");
    let kept = receiver.settle(Outcome::Delivered);
    let with = otlp::json_to_protobuf(
        br#"{"dictionary": {"stringTable": ["", "service.name", "checkout"]}, "resourceProfiles":
        [{"resource": {"attributes": [{"keyStrindex": 1, "value": {"stringValueStrindex": 2}}]},
        "scopeProfiles": [{"profiles": [{"samples": [{"values": ["7"]}]}]}]}]}"#,
    )
    .unwrap();
    assert_eq!(post(receiver.http, PATH, &[PROTOBUF], &with).await.status, 200);
    let without = request(&[4]);
    assert_eq!(post(receiver.http, PATH, &[PROTOBUF], &without).await.status, 200);
    let kept = kept.lock().unwrap();
    let text = String::from_utf8(otlp::encode_json(&kept[0].shared().unwrap())).unwrap();
    assert!(
        text.contains(r#"{"key":"service.name","value":{"stringValue":"checkout"}}"#),
        "{text}"
    );
    assert_eq!(kept[1].to_otlp(), without);
}

/// Scenario: a trusted tenant header; a path of its own; a receiver with one protocol.
/// Guarantees: the tenant goes with the batch; the path is served; nothing listens for the other.
#[tokio::test]
async fn settings_are_used() {
    let mut receiver = start("", "tenant_header: X-Scope-OrgID, profiles_url_path: /v1/profiles");
    let kept = receiver.settle(Outcome::Delivered);
    let headers = [PROTOBUF, ("x-scope-orgid", "acme")];
    assert_eq!(post(receiver.http, "/v1/profiles", &headers, &request(&[1])).await.status, 200);
    assert_eq!(kept.lock().unwrap()[0].context.tenant.as_deref(), Some("acme"));
    receiver.stopper.stop(std::time::Duration::from_secs(5));
    receiver.task.await.unwrap().unwrap();
}

/// Scenario: the Collector's snippets, and sections that make no sense.
/// Guarantees: the first are read as the Collector reads them; the others are named with their path.
#[test]
fn snippets() {
    use profpipe_engine::config::Section;
    let read = |yaml: &str| Section::from_yaml(yaml).unwrap().read_valid::<crate::otlp::Config>();
    let both = read("").unwrap();
    assert!(both.protocols.grpc.is_some() && both.protocols.http.is_some());
    let one = read("protocols:\n  grpc:\n").unwrap().protocols;
    assert_eq!(one.grpc.unwrap().endpoint, "localhost:4317");
    assert!(one.http.is_none());
    read(
        "protocols:\n  grpc:\n    endpoint: localhost:4317\n    max_recv_msg_size_mib: 32\n    \
         max_concurrent_streams: 16\n    read_buffer_size: 1024\n    write_buffer_size: 1024\n    \
         keepalive:\n      server_parameters: {max_connection_idle: 11s, max_connection_age: 12s, \
         max_connection_age_grace: 13s, time: 30s, timeout: 5s}\n      enforcement_policy: \
         {min_time: 10s, permit_without_stream: true}\n    tls: {cert_file: c, key_file: k}\n  \
         http:\n    cors: {allowed_origins: ['https://*.test.com'], max_age: 7200}\n    \
         include_metadata: true\n    compression_algorithms: ['', gzip]\n",
    )
    .unwrap();
    for (bad, said) in [
        ("protocols: {}", "protocols: is empty; name `grpc`, `http` or both"),
        ("protocols: {thrift: }", "protocols::thrift: unknown key"),
        (
            "protocols: {http: {endpoint: '0.0.0.0:4318'}}",
            "protocols::http::endpoint: `0.0.0.0:4318`",
        ),
        ("protocols: {http: {profiles_url_path: x}}", "profiles_url_path: must begin with `/`"),
    ] {
        let errors = read(bad).unwrap_err();
        let errors: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
        assert!(errors.iter().any(|error| error.contains(said)), "{bad}: {errors:?}");
    }
}
