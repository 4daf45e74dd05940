//! What is answered to which request.

use std::io::Write;

use profpipe_pipeline::batch::Outcome;
use profpipe_pipeline::otlp;

use super::support::{PATH, call, framed, post, request, start};

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
    let bodies: [(&[(&str, &str)], Vec<u8>); 4] = [
        (&[PROTOBUF], good.clone()),
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
    assert_eq!((answer.code(), answer.header("grpc-message")), (14, "backend is down"));
    assert!(!answer.header("grpc-status-details-bin").is_empty());

    let mut receiver = start("", "");
    receiver.settle(Outcome::Rejected("100% wrong".into()));
    let answer = post(receiver.http, PATH, &[PROTOBUF], &good).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (400, ""));
    let answer = call(receiver.grpc, &[], framed(false, &good)).await;
    assert_eq!((answer.code(), answer.header("grpc-message")), (3, "100%25 wrong"));
    assert!(answer.header("grpc-status-details-bin").is_empty());
    assert_eq!(receiver.services.metrics.total("otelcol_receiver_refused_profile_samples"), 2);
}
