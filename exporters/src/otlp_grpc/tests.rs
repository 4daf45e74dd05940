#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use http::Version;
use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Exporter, ExporterConfig as _};
use profpipe_engine::config::Section;
use profpipe_formats::otlp;
use profpipe_network::client::decompress;
use profpipe_network::grpc::{Code, Status, status};
use profpipe_network::settings::Compression;

use super::*;
use crate::otlp::server::{Answer, Seen, Server, answer};
use crate::testing;

fn config(text: &str) -> Result<Config, String> {
    let read = Section::from_yaml(text).unwrap().read_valid::<Config>();
    read.map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect())
}

fn exporter(text: &str) -> Box<dyn Exporter> {
    config(text).unwrap().build(&Setup::new("otlp_grpc", Services::default())).unwrap()
}

fn request() -> Bytes {
    otlp::encode(&testing::profiles("shop", 1)).into()
}

fn grpc(message: &[u8], status: &Status) -> Answer {
    let length = (message.len() as u32).to_be_bytes();
    let mut trailers = status.clone().into_http::<()>().into_parts().0.headers;
    trailers.remove("content-type");
    let is_ok = status.code() == Code::Ok;
    let body = if is_ok { [&[0], &length[..], message].concat() } else { Vec::new() };
    answer(200, "application/grpc", &body, Some(trailers))
}

fn ok(_: usize) -> Answer {
    grpc(&[], &Status::new(Code::Ok, ""))
}

fn message(seen: &Seen) -> Bytes {
    let (prefix, message) = seen.body.split_first_chunk::<5>().unwrap();
    assert_eq!(prefix[0] == 1, seen.headers.contains_key("grpc-encoding"));
    assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
    seen.body.slice(5..)
}

/// Scenario: a batch of bytes with each way of compressing.
/// Guarantees: the method, the headers of the specification, and the same bytes.
#[tokio::test]
async fn a_batch_arrives() {
    for (setting, compression) in
        [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        let server = Server::start(ok).await;
        let text = format!(
            "{{endpoint: '{}', compression: {setting}, tls: {{insecure: true}}}}",
            server.address
        );
        exporter(&text).export(&Batch::from_wire(request())).await.unwrap();
        let seen = &server.seen()[0];
        assert_eq!(seen.version, Version::HTTP_2);
        assert_eq!(seen.path, PATH);
        assert_eq!(seen.header("otlp-profiles-development-version"), "1");
        assert_eq!(seen.header("grpc-encoding"), compression.name().unwrap_or_default());
        let message = message(seen);
        assert_eq!(decompress(&message, compression, 1 << 20).unwrap(), request());
    }
}

/// Scenario: forks of one exporter send at the same time.
/// Guarantees: everything arrives.
#[tokio::test]
async fn forks() {
    let server = Server::start(ok).await;
    let exporter = exporter(&format!("endpoint: 'http://{}'", server.address));
    let sending = (0..8).map(|_| {
        let mut fork = exporter.fork().unwrap();
        async move {
            for _ in 0..5 {
                fork.export(&Batch::from_wire(request())).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(sending).await;
    assert_eq!(server.seen().len(), 40);
}

/// Scenario: every kind of answer that is no success.
/// Guarantees: each is the failure that it should be.
#[tokio::test]
async fn failures() {
    let busy = || status(Code::ResourceExhausted, "busy", Some(Duration::from_secs(3)));
    let server = Server::start(move |number| match number {
        0 => grpc(&[], &Status::new(Code::Unavailable, "soon")),
        1 => grpc(&[], &busy()),
        2 => grpc(&[], &Status::new(Code::Unauthenticated, "who")),
        3 => answer(404, "text/html", b"nothing here", None),
        _ => grpc(&[], &Status::new(Code::InvalidArgument, "no")),
    })
    .await;
    let mut exporter = exporter(&format!("endpoint: 'http://{}'", server.address));
    let batch = Batch::from_wire(request());
    for expected in ["soon", "busy", "who", "404", "no"] {
        let failure = exporter.export(&batch).await.unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
        match (expected, &failure) {
            ("soon", Failure::Retry { after: None, .. }) | ("no", Failure::Reject { .. }) => {}
            ("who" | "404", Failure::Hold { .. }) => {}
            ("busy", Failure::Retry { after: Some(after), .. }) => {
                assert_eq!(after.as_secs(), 3);
            }
            _ => panic!("{expected}: {failure:?}"),
        }
    }
}

/// Scenario: a batch that is larger than what servers take by default.
/// Guarantees: it arrives in requests of at most 4 MiB, uncompressed; what one of them rejects is
/// counted.
#[tokio::test]
async fn large_batches_are_cut() {
    let rejects = [0x0a, 0x02, 0x08, 0x05];
    let server = Server::start(move |_| grpc(&rejects, &Status::new(Code::Ok, ""))).await;
    let mut profiles = testing::profiles("shop", 1);
    for at in 0..40_000 {
        testing::add(&mut profiles, &format!("shop-{at}"), at);
    }
    let size = otlp::encoded_len(&profiles);
    assert!(size > 5 << 20, "{size}");
    let setup = Setup::new("otlp_grpc", Services::default());
    let text = format!("{{endpoint: 'http://{}', compression: none}}", server.address);
    let mut exporter = config(&text).unwrap().build(&setup).unwrap();
    exporter.export(&Batch::new(profiles)).await.unwrap();
    let requests: Vec<_> = server.seen().iter().map(message).collect();
    assert!(requests.len() > 1);
    assert!(requests.iter().all(|request| request.len() <= 4 << 20));
    let samples = requests.iter().map(|request| otlp::decode(request).unwrap().sample_count());
    assert_eq!(samples.sum::<usize>(), 40_001);
    let rejected = crate::metric_names::PROFILES_REJECTED;
    assert_eq!(setup.services.metrics.total(rejected), 5 * requests.len() as u64);
}

/// Scenario: configurations with and without mistakes.
/// Guarantees: mistakes are named with their keys; an address without a scheme means TLS.
#[test]
fn configurations() {
    assert!(config("").unwrap_err().contains("endpoint: is missing"));
    assert!(config("endpoint: backend").unwrap_err().contains("has no port"));
    let bad = config("{endpoint: 'b:1', encoding: json}").unwrap_err();
    assert!(bad.contains("encoding: unknown key"), "{bad}");
    let settings = config("endpoint: b:4317").unwrap().client();
    assert!(Endpoint::grpc(&settings.endpoint, settings.tls.insecure).unwrap().is_tls());
}
