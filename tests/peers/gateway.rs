//! profpipe itself between peers: one process, one source, and every sink at once: a Collector by
//! gRPC, a Collector by HTTP, a plain HTTP server, Pyroscope by its push API, and files.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message as _;

use crate::collector::Collector;
use crate::process::{Running, eventually};
use crate::pyroscope::{CPU, Pyroscope, SAMPLES};
use crate::rules;
use crate::serve::Server;
use crate::totals::{self, Totals};

/// Everywhere that profiles can end.
#[derive(Debug)]
pub(crate) struct Sinks {
    grpc: Collector,
    http: Collector,
    wire: Server,
    pub(crate) pyroscope: Pyroscope,
    directory: tempfile::TempDir,
}

impl Sinks {
    /// `None`, told, where a peer is not there.
    pub(crate) fn start() -> Option<Self> {
        Some(Self {
            grpc: Collector::sink()?,
            http: Collector::sink()?,
            wire: Server::start(|_, _| (200, Vec::new())),
            pyroscope: Pyroscope::start()?,
            directory: tempfile::tempdir().unwrap(),
        })
    }

    /// profpipe with a source, the YAML of one receiver named `receiver`, and all of these sinks.
    #[track_caller]
    pub(crate) fn gateway(&self, receiver: &str, config: &str, listens: &[SocketAddr]) -> Running {
        let (grpc, http) = (self.grpc.grpc, self.http.http);
        let (wire, pyroscope) = (self.wire.address, self.pyroscope.address);
        let directory = self.directory.path();
        let (files, queue) = (directory.join("files"), directory.join("queue"));
        let exporters = [
            (
                "otlp_grpc",
                format!(
                    "{{ endpoint: '{grpc}', tls: {{ insecure: true }}, \
                     sending_queue: {{ storage: file_storage }} }}"
                ),
            ),
            (
                "otlp_http",
                format!(
                    "{{ endpoint: 'http://{http}', sending_queue: {{ storage: file_storage }} }}"
                ),
            ),
            ("otlp_http/wire", format!("{{ endpoint: 'http://{wire}' }}")),
            ("pyroscope", format!("{{ endpoint: 'http://{pyroscope}' }}")),
            ("file", format!("{{ path: '{}', format: otlp }}", files.display())),
        ];
        let names = exporters.each_ref().map(|(name, _)| *name).join(", ");
        let exporters = exporters.map(|(name, config)| format!("  {name}: {config}\n")).concat();
        let config = format!(
            "extensions:\n  file_storage: {{ directory: '{}', create_directory: true }}\n\
             receivers:\n  {receiver}: {config}\n\
             exporters:\n{exporters}\
             service:\n  extensions: [file_storage]\n  pipelines:\n    \
             profiles: {{ receivers: [{receiver}], exporters: [{}] }}\n",
            queue.display(),
            names,
        );
        run(&config, directory, listens)
    }

    /// The gateway as it was started before, with what is in its queues.
    #[track_caller]
    pub(crate) fn gateway_again(&self) -> Running {
        start(self.directory.path())
    }

    /// All sinks have of a service what `expected` says, with these labels; and every OTLP request that
    /// profpipe sent keeps the rules.
    #[track_caller]
    pub(crate) fn receive(&self, service: &str, expected: &Totals, labels: &[(&str, &str)]) {
        for (name, collector) in [("gRPC", &self.grpc), ("HTTP", &self.http)] {
            let found = collector.receives(service, expected);
            for (key, value) in labels {
                let label = ((*key).to_owned(), (*value).to_owned());
                let there = found.samples.contains(&label)
                    || found.resource.get(*key).is_some_and(|found| found == value);
                assert!(there, "{label:?} is not at the Collector by {name}: {found:?}");
            }
        }
        let files = eventually("the files", || {
            let found = totals::of_otlp(&self.files(), service).0;
            (totals::count(&found) >= totals::count(expected)).then_some(found)
        });
        assert_eq!(&files, expected, "{service}, in the files");
        for data in self.sent().iter().chain(&self.files()) {
            assert_eq!(rules::broken(data), [""; 0], "{service}");
        }
        for (profile_type, kind) in [(CPU, "cpu"), (SAMPLES, "samples")] {
            if expected.keys().any(|(expected, _)| expected == kind) {
                self.pyroscope.receives(profile_type, service, expected);
            }
        }
        let at_pyroscope = self.pyroscope.labels(service);
        for (key, value) in labels.iter().filter(|(key, _)| *key != "service.name") {
            let there = [(*key).to_owned(), key.replace('.', "_")]
                .iter()
                .any(|key| at_pyroscope.contains(&(key.clone(), (*value).to_owned())));
            assert!(there, "{key}={value} is not at Pyroscope: {at_pyroscope:?}");
        }
    }

    /// What the files have of a service, as soon as they have anything.
    #[track_caller]
    pub(crate) fn in_files(&self, service: &str) -> Totals {
        eventually("the first file", || {
            let found = totals::of_otlp(&self.files(), service).0;
            (!found.is_empty()).then_some(found)
        })
    }

    /// The requests that the OTLP/HTTP exporter sent, as they were.
    fn sent(&self) -> Vec<ProfilesData> {
        let seen = self.wire.seen();
        for request in &seen {
            assert_eq!(request.path, "/v1development/profiles");
        }
        seen.iter().map(|request| ProfilesData::decode(request.body.as_slice()).unwrap()).collect()
    }

    fn files(&self) -> Vec<ProfilesData> {
        written(&self.directory.path().join("files"))
    }
}

/// What the exporter `file` has written as OTLP into a directory.
pub(crate) fn written(directory: &Path) -> Vec<ProfilesData> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "otlp") {
                found.push(ProfilesData::decode(std::fs::read(path).unwrap().as_slice()).unwrap());
            }
        }
    }
    found
}

/// `profpipe run` with a configuration, waited for until it listens.
#[track_caller]
pub(crate) fn run(config: &str, directory: &Path, listens: &[SocketAddr]) -> Running {
    std::fs::write(directory.join(CONFIG), config).unwrap();
    let mut running = start(directory);
    running.ready(|_| listens.iter().all(|at| TcpStream::connect(at).is_ok()).then_some(()));
    running
}

const CONFIG: &str = "gateway.yaml";

fn start(directory: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(["run", "--config"]).arg(directory.join(CONFIG)).current_dir(directory);
    Running::start("profpipe", &mut command, directory)
}
