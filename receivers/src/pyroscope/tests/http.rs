//! The receiver at work: every protocol over loopback, and what clients are answered.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profpipe_engine::batch::{Batch, Outcome, Receipt};
use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup, Stopper};
use profpipe_engine::config::Section;
use profpipe_engine::telemetry::names;
use profpipe_engine::{Sender, Services};
use tokio::net::TcpStream;

use super::{facts, pprof, series};
use crate::pyroscope::{Config, PUSH};

/// A receiver at work whose batches all have one outcome.
struct Running {
    at: SocketAddr,
    services: Services,
    taken: Arc<Mutex<Vec<Batch>>>,
    _stopper: Stopper,
}

fn start(more: &str, outcome: Outcome) -> Running {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let yaml = format!("endpoint: '{at}'\n{more}");
    let config: Config = Section::from_yaml(&yaml).unwrap().read_valid().unwrap();
    let services = Services::default();
    let receiver = config.build(&Setup::new("pyroscope", services.clone())).unwrap();
    let (out, mut batches) = Sender::detached(64);
    let (stopper, life) = Lifecycle::new();
    tokio::spawn(receiver.run(out, life));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Some(mut batch) = batches.recv().await {
            batch.receipt.settle(outcome.clone());
            batch.receipt = Receipt::none();
            into.lock().unwrap().push(batch);
        }
    });
    Running { at, services, taken, _stopper: stopper }
}

impl Running {
    /// The sum of all samples taken, and their services.
    fn facts(&self) -> (i64, Vec<String>) {
        let taken = self.taken.lock().unwrap();
        let all: Vec<_> =
            taken.iter().map(|batch| facts(&batch.shared().unwrap(), "service.name")).collect();
        let sum = all.iter().map(|(sum, _)| sum).sum();
        (sum, all.into_iter().flat_map(|(_, services)| services).collect())
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> (String, String) {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}

async fn send(at: SocketAddr, is_grpc: bool, request: Request<Full<Bytes>>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(at).await.unwrap());
    let response = if is_grpc {
        let executor = TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}

async fn post(at: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = Request::post(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(at, false, request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn request(service: &str) -> Vec<u8> {
    let profile = pprof(&[("a", 3), ("b", 4)], 5);
    series(&[("__name__", "process_cpu"), ("service_name", service)], &[&profile])
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

const PROTOBUF: (&str, &str) = ("content-type", "application/proto");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

/// Scenario: the same push as Connect in protobuf (compressed), in JSON, by gRPC and gRPC-Web, and
/// as the older interface.
/// Guarantees: each is taken and answered in its own words.
#[tokio::test]
async fn every_protocol_is_taken() {
    let running = start("", Outcome::Delivered);
    let gzipped = ("content-encoding", "gzip");
    let answer = post(running.at, PUSH, &[PROTOBUF, gzipped], &gzip(&request("one"))).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, PROTOBUF.1));
    assert!(answer.body.is_empty());
    let json = serde_json::json!({"series": [{
        "labels": [
            {"name": "__name__", "value": "process_cpu"}, {"name": "service_name", "value": "two"},
        ],
        "samples": [{"rawProfile": STANDARD.encode(pprof(&[("a", 10)], 5))}],
    }]});
    let answer = post(running.at, PUSH, &[JSON], json.to_string().as_bytes()).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
    let call = Request::post(format!("http://{}{PUSH}", running.at))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(&request("three")).into()))
        .unwrap();
    let answer = send(running.at, true, call).await;
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(&answer.body[..], framed(b""));
    let web = ("content-type", "application/grpc-web+proto");
    let answer = post(running.at, PUSH, &[web], &framed(&request("four"))).await;
    assert_eq!(&answer.body[..5], framed(b""));
    assert!(answer.body.ends_with(b"grpc-status:0\r\ngrpc-message:\r\n"));
    let path = "/ingest?name=five.cpu&from=10&until=20";
    let answer = post(running.at, path, &[], b"a;b 2\n").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let path = "/pyroscope/ingest?name=six&format=pprof";
    let answer = post(running.at, path, &[], &pprof(&[("a", 1)], 0)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let (sum, services) = running.facts();
    assert_eq!(sum, 7 + 10 + 7 + 7 + 20_000_000 + 1);
    assert_eq!(services, ["one", "two", "three", "four", "five", "six"]);
    let accepted = running.services.metrics.total(names::RECEIVER_ACCEPTED_SAMPLES);
    assert_eq!(accepted, 2 + 1 + 2 + 2 + 1 + 1);
}

/// Scenario: destinations that have no room, or refuse for good; requests that are wrong.
/// Guarantees: codes and statuses by which clients decide whether to come again.
#[tokio::test]
async fn rejections_say_whether_to_come_again() {
    let running = start("", Outcome::Retry("the disk is full".to_owned()));
    let answer = post(running.at, PUSH, &[PROTOBUF], &request("x")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json(), ("unavailable".to_owned(), "the disk is full".to_owned()));
    let answer = post(running.at, "/ingest?name=x", &[], b"a 1\n").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let running = start("max_request_body_size: 20000", Outcome::Rejected("no".to_owned()));
    let answer = post(running.at, PUSH, &[PROTOBUF], &request("x")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json(), ("invalid_argument".to_owned(), "no".to_owned()));
    for (path, headers, body, status, code) in [
        (PUSH, &[PROTOBUF][..], &b"\x0a\xff"[..], 400, "invalid_argument"),
        (PUSH, &[JSON], b"{", 400, "invalid_argument"),
        (PUSH, &[PROTOBUF], &[0; 30_000], 413, "invalid_argument"),
        (PUSH, &[PROTOBUF, ("content-encoding", "br")], b"x", 415, "unimplemented"),
        ("/ingest?name=x&format=jfr", &[], b"FLR", 415, "invalid_argument"),
        ("/ingest", &[], b"", 400, "invalid_argument"),
        ("/ingest?name=x.y", &[], b"a 1\n", 400, "invalid_argument"),
    ] {
        let answer = post(running.at, path, headers, body).await;
        let got = (answer.status.as_u16(), answer.json().0);
        assert_eq!(got, (status, code.to_owned()), "{path} {headers:?}");
    }
    let answer = post(running.at, PUSH, &[("content-type", "text/plain")], b"x").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let path = "/debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
    assert_eq!(post(running.at, path, &[JSON], b"{}").await.status, StatusCode::NOT_FOUND);
    let web = ("content-type", "application/grpc-web");
    let answer = post(running.at, PUSH, &[web], &framed(b"\x0a\xff")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&answer.body).contains("grpc-status:3\r\n"));
    assert!(running.facts().0 == 7, "only the good one went on");
}

/// Scenario: a profile that unfolds to a hundred times what is allowed, with an empty series.
/// Guarantees: refused for good, with the name of the setting; the server is still ready.
#[tokio::test]
async fn bombs_are_refused() {
    let running = start("max_decompressed_size: 100000", Outcome::Delivered);
    let bomb = gzip(&vec![0; 10_000_000]);
    let body = series(&[("__name__", "process_cpu")], &[&bomb]);
    let answer = post(running.at, PUSH, &[PROTOBUF], &body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.json().1.contains("max_decompressed_size"), "{}", answer.json().1);
    let get = Request::get("/ready").header("host", "x").body(Full::default()).unwrap();
    assert_eq!(&send(running.at, false, get).await.body[..], b"ready\n");
    let answer = post(running.at, PUSH, &[PROTOBUF], b"").await;
    assert_eq!(answer.status, StatusCode::OK, "nothing is stored and nothing is wrong");
}

/// Scenario: two profiles in one request that take less than what is allowed, with so many samples that
/// their rows in memory take more; and the same with one byte less allowed.
/// Guarantees: taken, as only decompressed bytes count; refused for good.
#[tokio::test]
async fn the_limit_counts_decompressed_bytes() {
    let mut profiles = profpipe_formats::folded::decode(b"a;b 1\n").unwrap();
    for profile in profiles.profiles_mut() {
        let row = profile.samples.get(0).stack;
        for value in 0..5000_i64 {
            let values = &[value][..];
            profile.samples.push(profpipe_profile::SampleRef {
                stack: row,
                values,
                ..Default::default()
            });
        }
    }
    let plain = profpipe_formats::pprof::encode_plain(&profiles).unwrap();
    let body = series(&[("__name__", "process_cpu")], &[&gzip(&plain), &gzip(&plain)]);
    for (limit, status) in
        [(2 * plain.len(), StatusCode::OK), (2 * plain.len() - 1, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let running = start(&format!("max_decompressed_size: {limit}"), Outcome::Delivered);
        let answer = post(running.at, PUSH, &[PROTOBUF], &body).await;
        assert_eq!(answer.status, status, "{limit} of {}", plain.len());
    }
}

/// Scenario: a trusted header, and none.
/// Guarantees: it becomes the batch's tenant only if the configuration says so.
#[tokio::test]
async fn the_tenant_comes_from_a_trusted_header_only() {
    for (more, wanted) in [("", None), ("tenant_header: X-Scope-OrgID", Some("blue"))] {
        let running = start(more, Outcome::Durable);
        let headers = [PROTOBUF, ("x-scope-orgid", "blue")];
        let answer = post(running.at, PUSH, &headers, &request("x")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let taken = running.taken.lock().unwrap();
        assert_eq!(taken[0].context.tenant.as_deref(), wanted);
    }
}

/// Scenario: an address beyond this host without protection.
/// Guarantees: a mistake that names the key; the defaults are no mistake.
#[test]
fn an_open_address_is_a_mistake() {
    let section = Section::from_yaml("endpoint: 0.0.0.0:4040").unwrap();
    let error = section.read_valid::<Config>().unwrap_err();
    assert!(format!("{error:?}").contains("insecure"), "{error:?}");
    Section::from_yaml("{}").unwrap().read_valid::<Config>().unwrap();
}
