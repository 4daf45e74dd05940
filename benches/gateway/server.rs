//! The program under measurement: profpipe or the Collector, with the same configuration.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::process::{Running, free_address};

/// Kernel clock ticks a second, as /proc counts CPU time (USER_HZ, fixed on Linux).
const TICKS: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Profpipe,
    Collector,
}

/// Where requests wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Queue {
    /// In memory, and the sender is answered when the destination has it: what waits is bounded by
    /// the senders, so the memory is comparable.
    Through,
    Memory,
    Disk,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(kind: Kind, collector: &Path, queue: Queue, sink: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let storage = directory.path().join("queue");
        let (extensions, names, queue) = match queue {
            Queue::Through => (String::new(), "", "wait_for_result: true"),
            Queue::Memory => (String::new(), "", "wait_for_result: false, block_on_overflow: true"),
            Queue::Disk => (
                format!(
                    "extensions:\n  file_storage: {{ directory: '{}', create_directory: true, \
                     fsync: true }}\n",
                    storage.display()
                ),
                "  extensions: [file_storage]\n",
                "storage: file_storage",
            ),
        };
        let config = format!(
            "{extensions}receivers:\n  otlp: {{ protocols: {{ http: {{ endpoint: '{address}' }} }} }}\n\
             exporters:\n  otlp_http: {{ endpoint: 'http://{sink}', compression: none, \
             sending_queue: {{ {queue} }} }}\n\
             service:\n{names}  pipelines:\n    profiles: {{ receivers: [otlp], exporters: [otlp_http] }}\n"
        );
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, config).unwrap();
        // On the last CPU, where taskset is there; load and sink go where there is room.
        let program = match kind {
            Kind::Profpipe => Path::new(env!("CARGO_BIN_EXE_profpipe")),
            Kind::Collector => collector,
        };
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let pinned = Command::new("taskset").arg("--version").output().is_ok();
        let mut command = Command::new(if pinned { Path::new("taskset") } else { program });
        if pinned {
            command.arg("-c").arg(last.to_string()).arg(program);
        }
        match kind {
            Kind::Profpipe => command.arg("run").arg("--config").arg(&path),
            Kind::Collector => {
                command.arg("--config").arg(&path).arg("--feature-gates=+service.profilesSupport")
            }
        };
        command.current_dir(directory.path());
        let mut running = Running::start("server", &mut command, directory.path());
        running.ready(|_| TcpStream::connect(address).ok());
        Self { address, running, _directory: directory }
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.running.id())).unwrap();
        // After the name, which is in parentheses: utime and stime are fields 14 and 15.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS
    }

    /// The most that was ever resident.
    pub(crate) fn peak_mebibytes(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn said(&self) -> String {
        self.running.said()
    }
}
