//! `config-examples/gateway.yaml` at work: what one sender sends arrives at both backends and in
//! files, and the gateway tells how it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use profpipe::{folded, otlp};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

/// A running `profpipe run`, killed if the test ends before it.
struct Running(Child, BufReader<ChildStderr>, String);

impl Running {
    fn start(directory: &Path, arguments: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("run")
            .args(arguments)
            .env_clear()
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self(child, stderr, String::new());
        while !running.2.contains("Ctrl-C stops") {
            assert!(running.1.read_line(&mut running.2).unwrap() > 0, "it ended: {}", running.2);
        }
        running
    }

    /// Ends it; returns everything it said.
    fn end(mut self) -> String {
        let process = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(process, Signal::TERM).unwrap();
        let mut said = std::mem::take(&mut self.2);
        self.1.read_to_string(&mut said).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(to: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
         application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The total weight in the files of a directory.
fn total(directory: &Path) -> i64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let files = entries.map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "otlp"));
    files
        .map(|path| {
            let profiles = otlp::decode(&std::fs::read(path).unwrap()).unwrap();
            let samples = profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter());
            samples.map(|sample| sample.weight()).sum::<i64>()
        })
        .sum()
}

/// Takes one request with metrics.
fn metrics_taken(listener: &TcpListener) -> (String, ExportMetricsServiceRequest) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.replace("Content-Length", "content-length");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    reader.get_mut().write_all(answer).unwrap();
    (head, ExportMetricsServiceRequest::decode(body.as_slice()).unwrap())
}

/// Scenario: the example with its addresses changed, two backends, and a sender of OTLP.
/// Guarantees: the same totals at both backends and in the files; a health check, the Collector's
/// metrics, pulled and brought, and a log of JSON lines without secrets.
#[test]
fn everything_arrives_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let taker = TcpListener::bind("127.0.0.1:0").unwrap();
    let brought = taker.local_addr().unwrap();
    let [otlp_http, otlp_grpc, pyroscope, health, metrics, backend, store] =
        std::array::from_fn(|_| free_address());
    let sinks = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{backend}'}}}}}}, pyroscope: \
         {{endpoint: '{store}'}}}}\n\
         exporters: {{file/otlp: {{path: by-otlp, format: otlp}}, file/pyroscope: {{path: \
         by-pyroscope, format: otlp}}}}\n\
         service: {{pipelines: {{profiles/otlp: {{receivers: [otlp], exporters: [file/otlp]}}, \
         profiles/pyroscope: {{receivers: [pyroscope], exporters: [file/pyroscope]}}}}}}\n"
    );
    std::fs::write(place.join("sinks.yaml"), sinks).unwrap();
    let sinks = Running::start(place, &["--config".to_owned(), "sinks.yaml".to_owned()]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples/gateway.yaml");
    let mut arguments = vec!["--config".to_owned(), example.display().to_string()];
    for set in [
        format!("receivers::otlp::protocols::http::endpoint={otlp_http}"),
        format!("receivers::otlp::protocols::grpc::endpoint={otlp_grpc}"),
        format!("receivers::pyroscope::endpoint={pyroscope}"),
        format!("extensions::health_check::endpoint={health}"),
        format!("exporters::otlp_http::endpoint=http://{backend}"),
        format!("exporters::pyroscope::endpoint=http://{store}"),
        "exporters::file::format=otlp".to_owned(),
        format!(
            "service::telemetry::metrics::readers=[{{pull: {{exporter: {{prometheus: {{host: \
             127.0.0.1, port: {}}}}}}}}}, {{periodic: {{interval: 200, exporter: {{otlp: {{protocol: \
             http/protobuf, endpoint: 'http://{brought}', headers: {{x-key: s3cret}}}}}}}}}}]",
            metrics.port()
        ),
    ] {
        arguments.extend(["--set".to_owned(), set]);
    }
    let gateway = Running::start(place, &arguments);

    let taking = std::thread::spawn(move || metrics_taken(&taker));

    let mut sent = 0;
    for round in 1..=20_i64 {
        let text = format!("main;work {round}\nmain;rest {}\n", 10 * round);
        sent += 11 * round;
        let mut profiles = folded::decode(text.as_bytes()).unwrap();
        for profile in profiles.profiles_mut() {
            profile.time_unix_nano = 1_700_000_000_000_000_000 + round as u64 * 1_000_000_000;
            profile.duration_nano = 1_000_000_000;
        }
        for resource in &mut profiles.resources {
            resource.resource.set("service.name", "example");
        }
        let request = otlp::encode(&profiles);
        let answer = ask(otlp_http, "POST /v1development/profiles", &request);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let folders = ["by-otlp", "by-pyroscope", "profiles"].map(|name| place.join(name));
    let deadline = Instant::now() + Duration::from_secs(30);
    let totals = || folders.each_ref().map(|folder| total(folder));
    while totals() != [sent; 3] {
        assert!(Instant::now() < deadline, "{:?} of {sent}", totals());
        std::thread::sleep(Duration::from_millis(50));
    }

    let healthy = ask(health, "GET /", b"");
    assert!(healthy.starts_with("HTTP/1.1 200 ") && healthy.contains("Server available"));
    let wanted = [
        ("otelcol_receiver_accepted_profile_samples_total", "receiver=\"otlp\",transport=\"http\""),
        ("otelcol_processor_incoming_items_total", "processor=\"batch\""),
        ("otelcol_exporter_sent_profile_samples_total", "exporter=\"otlp_http\""),
        ("otelcol_exporter_sent_profile_samples_total", "exporter=\"pyroscope\""),
        ("otelcol_exporter_queue_size", "exporter=\"otlp_http\""),
        ("otelcol_process_uptime_seconds_total", ""),
    ];
    // What has arrived counts as sent once its answer is back.
    loop {
        let read = ask(metrics, "GET /metrics", b"");
        let missing = wanted.iter().find(|(name, label)| {
            let line = read.lines().find(|line| line.starts_with(name) && line.contains(label));
            // 20 batches of 2 samples.
            !line.is_some_and(|line| !name.ends_with("samples_total") || line.ends_with(" 40"))
        });
        let Some(missing) = missing else { break };
        assert!(Instant::now() < deadline, "{missing:?} is not in, or is not 40:\n{read}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (head, request) = taking.join().unwrap();
    assert!(head.starts_with("POST /v1/metrics ") && head.contains("x-key: s3cret"), "{head}");
    let resource = &request.resource_metrics[0];
    let names: Vec<&str> =
        resource.scope_metrics[0].metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert!(names.contains(&"otelcol_receiver_accepted_profile_samples"), "{names:?}");
    assert!(names.contains(&"otelcol_process_uptime"), "{names:?}");
    let said = gateway.end();
    assert!(!said.contains("s3cret"), "{said}");
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{error}: {line}");
        });
        assert!(line["level"].is_string() && line["ts"].is_string() && line["msg"].is_string());
    }
    sinks.end();
}
