//! The program under measurement: profpipe or the Collector, with the same configuration.

#![allow(unsafe_code, reason = "the CPU clock of another process is a call into the C library")]

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::process::{Running, free_address};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Profpipe,
    /// The Collector, or another build of profpipe.
    Other,
}

/// What profpipe is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other<'a> {
    Collector(&'a Path),
    /// Another build of profpipe.
    Build(&'a Path),
}

impl Other<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Collector(_) => "Collector",
            Self::Build(_) => "the other build",
        }
    }
}

/// Where requests wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Queue {
    /// In memory, and the sender is answered when the destination has it.
    Through,
    /// In memory, and the sender is answered at once.
    Memory,
    /// On disk, and the sender is answered when the operating system has it.
    Os,
    /// On disk, and the sender is answered when the disk has it.
    Disk,
}

impl Queue {
    fn settings(self, size: usize) -> String {
        match self {
            Self::Through => format!("wait_for_result: true, queue_size: {size}"),
            Self::Memory => {
                format!("wait_for_result: false, block_on_overflow: true, queue_size: {size}")
            }
            Self::Os | Self::Disk => format!("storage: file_storage, queue_size: {size}"),
        }
    }
}

/// What is done with what arrives: YAML.
#[derive(Debug)]
pub(crate) struct Work {
    queue: Queue,
    receiver: &'static str,
    processors: &'static str,
    names: &'static str,
    exporter: String,
}

impl Work {
    /// OTLP/HTTP to the sink; at most `size` requests wait.
    pub(crate) fn forward(queue: Queue, size: usize, sink: SocketAddr) -> Self {
        let settings = queue.settings(size);
        let exporter = format!(
            "otlp_http: {{ endpoint: 'http://{sink}', compression: none, sending_queue: {{ {settings} }} }}"
        );
        Self { queue, receiver: "http", processors: "", names: "", exporter }
    }

    /// From one protocol to another; senders are answered when the destination has it.
    pub(crate) fn translate(receiver: &'static str, exporter: &str, options: &str) -> Self {
        let queue = Queue::Through;
        let settings = queue.settings(1000);
        let exporter = format!("{exporter}: {{ {options}, sending_queue: {{ {settings} }} }}");
        Self { queue, receiver, processors: "", names: "", exporter }
    }

    /// Into Pyroscope: profpipe with an edit and a merge by the push API, the Collector by OTLP/gRPC.
    pub(crate) fn store(kind: Kind, compression: &str, pyroscope: SocketAddr) -> Self {
        let queue = Queue::Through;
        let settings =
            format!("compression: {compression}, sending_queue: {{ {} }}", queue.settings(1000));
        match kind {
            Kind::Profpipe => Self {
                queue,
                receiver: "http",
                processors: "processors:\n  resource: { attributes: \
                             [ { key: deployment.environment.name, value: bench, action: upsert } ] }\n  \
                             batch: { timeout: 200ms }\n",
                names: "processors: [resource, batch], ",
                exporter: format!("pyroscope: {{ endpoint: 'http://{pyroscope}', {settings} }}"),
            },
            Kind::Other => Self {
                queue,
                receiver: "http",
                processors: "",
                names: "",
                exporter: format!(
                    "otlp_grpc: {{ endpoint: '{pyroscope}', tls: {{ insecure: true }}, \
                     timeout: 30s, {settings} }}"
                ),
            },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Server {
    /// A part of the load: not measured, and where there is room.
    pub(crate) fn beside(work: &Work) -> Self {
        Self::launch(Other::Build(Path::new(env!("CARGO_BIN_EXE_profpipe"))), work, false)
    }

    pub(crate) fn start(kind: Kind, other: Other<'_>, work: &Work) -> Self {
        let program = match kind {
            Kind::Profpipe => Other::Build(Path::new(env!("CARGO_BIN_EXE_profpipe"))),
            Kind::Other => other,
        };
        // On the last CPU, where taskset is there; load and sink go where there is room.
        let pinned = Command::new("taskset").arg("--version").output().is_ok();
        Self::launch(program, work, pinned)
    }

    fn launch(program: Other<'_>, work: &Work, pinned: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let (extensions, extension) = match work.queue {
            Queue::Through | Queue::Memory => (String::new(), ""),
            Queue::Os | Queue::Disk => (
                format!(
                    "extensions:\n  file_storage: {{ directory: '{}', create_directory: true, \
                     fsync: {} }}\n",
                    directory.path().join("queue").display(),
                    work.queue == Queue::Disk
                ),
                "  extensions: [file_storage]\n",
            ),
        };
        let Work { receiver, processors, names, exporter, .. } = work;
        let name = exporter.split(':').next().unwrap();
        let config = format!(
            "{extensions}receivers:\n  otlp: {{ protocols: {{ {receiver}: {{ endpoint: '{address}' }} }} }}\n\
             {processors}exporters:\n  {exporter}\n\
             service:\n{extension}  pipelines:\n    profiles: {{ receivers: [otlp], {names}exporters: [{name}] }}\n"
        );
        let config_path = directory.path().join("gateway.yaml");
        std::fs::write(&config_path, config).unwrap();
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let (Other::Collector(path) | Other::Build(path)) = program;
        let mut command = Command::new(if pinned { Path::new("taskset") } else { path });
        if pinned {
            command.arg("-c").arg(last.to_string()).arg(path);
        }
        match program {
            Other::Build(_) => command.arg("run").arg("--config").arg(&config_path),
            Other::Collector(_) => command
                .arg("--config")
                .arg(&config_path)
                .arg("--feature-gates=+service.profilesSupport"),
        };
        command.current_dir(directory.path());
        let mut running = Running::start("server", &mut command, directory.path());
        running.ready(|_| TcpStream::connect(address).ok());
        Self { address, running, _directory: directory }
    }

    /// User and system time so far of all its threads, also of those that ended, to the nanosecond.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write into the variables they are given, which live as long as the calls.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.running.id() as libc::pid_t, &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        assert!(!failed, "no CPU clock of the server:\n{}", self.said());
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
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
