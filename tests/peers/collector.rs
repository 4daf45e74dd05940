//! The real OpenTelemetry Collector: receives OTLP by gRPC and HTTP, writes what arrived to a file, and
//! sends it on by what a test names.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message as _;

use crate::built;
use crate::http;
use crate::process::{Running, eventually, free_address};
use crate::totals::{self, Labels, Totals};

/// A Collector that is ended on drop.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    file: PathBuf,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Collector {
    /// Receives, and does nothing else with it but writing it down.
    pub(crate) fn sink() -> Option<Self> {
        Self::sending("")
    }

    /// Also sends on: `exporters` is the YAML of exporters, one a line, in flow style:
    /// `otlp_http: { … }`. `None`, told, where the Collector is not there.
    pub(crate) fn sending(exporters: &str) -> Option<Self> {
        let program = built::peer("collector")?;
        let directory = tempfile::tempdir().unwrap();
        let (grpc, http) = (free_address(), free_address());
        let file = directory.path().join("arrived");
        let mut config = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{ endpoint: '{grpc}', max_recv_msg_size_mib: 64 }}\n      \
             http: {{ endpoint: '{http}' }}\nexporters:\n  \
             file: {{ path: '{}', format: proto, flush_interval: 50ms }}\n",
            file.display()
        );
        let mut names = String::from("file");
        for exporter in exporters.lines().map(str::trim) {
            writeln!(config, "  {exporter}").unwrap();
            write!(names, ", {}", exporter.split(':').next().unwrap()).unwrap();
        }
        write!(
            config,
            "service:\n  telemetry: {{ metrics: {{ level: none }} }}\n  pipelines:\n    \
             profiles: {{ receivers: [otlp], exporters: [{names}] }}\n"
        )
        .unwrap();
        let path = directory.path().join("collector.yaml");
        std::fs::write(&path, &config).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(&path).arg("--feature-gates=+service.profilesSupport");
        let mut running = Running::start("collector", &mut command, directory.path());
        running.ready(|said| said.contains("Everything is ready").then_some(()));
        Some(Self { grpc, http, file, running, _directory: directory })
    }

    /// Hands it a request, as any sender would over OTLP/HTTP.
    #[track_caller]
    pub(crate) fn send(&self, data: &ProfilesData) {
        send(self.http, data);
    }

    /// Every request that has arrived so far. The file exporter puts a length of four bytes before each.
    pub(crate) fn arrived(&self) -> Vec<ProfilesData> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut requests = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk() {
            let Some((message, tail)) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)
            else {
                break; // it is still being written
            };
            requests.push(ProfilesData::decode(message).unwrap());
            rest = tail;
        }
        requests
    }

    /// Waits until what has arrived of the service amounts to `expected`.
    #[track_caller]
    pub(crate) fn receives(&self, service: &str, expected: &Totals) -> Labels {
        let (totals, labels) = eventually(&format!("{service} at the Collector"), || {
            let found = totals::of_otlp(&self.arrived(), service);
            (totals::count(&found.0) >= totals::count(expected)).then_some(found)
        });
        assert_eq!(&totals, expected, "{service}, at the Collector");
        labels
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        self.running.said()
    }
}

/// POSTs a request to an OTLP/HTTP receiver; it must be taken in full.
#[track_caller]
pub(crate) fn send(server: SocketAddr, data: &ProfilesData) {
    let answer = http::post(
        server,
        "/v1development/profiles",
        "application/x-protobuf",
        &data.encode_to_vec(),
    );
    let body = answer.good();
    // The Collector answers a full success with an empty partial one.
    assert!(matches!(body[..], [] | [10, 0]), "a partial success: {body:?}");
}
