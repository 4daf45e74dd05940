//! The agent under test: `profpipe run` with its configuration, its log and its metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::group::Group;
use super::process::children;

/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where profiles go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Destination {
    /// Files in `./profiles`.
    Files,
    /// These servers, through a durable queue in `./queue`.
    Servers { otlp: SocketAddr, pyroscope: SocketAddr },
}

impl Destination {
    /// What is under `exporters:` and `extensions:`, and the names of the exporters.
    fn config(self) -> (String, &'static str, &'static str) {
        match self {
            // Old files go, or a long run fills the disk.
            Self::Files => (
                "file: {path: ./profiles, format: otlp, retention: {max_age: 10m}}".into(),
                "file",
                "",
            ),
            Self::Servers { otlp, pyroscope } => (
                format!(
                    "otlp_http: {{endpoint: 'http://{otlp}', compression: none, \
                     sending_queue: {{storage: file_storage}}}}, \
                     pyroscope: {{endpoint: 'http://{pyroscope}', compression: none, \
                     sending_queue: {{storage: file_storage}}}}"
                ),
                "otlp_http, pyroscope",
                "extensions: {file_storage: {directory: ./queue}}\n",
            ),
        }
    }
}

/// A running agent.
pub(crate) struct Agent {
    group: Group,
    /// The agent itself, not `timeout` above it.
    pub(crate) pid: u32,
    pub(crate) began: Instant,
    log: PathBuf,
    metrics: SocketAddr,
}

impl Agent {
    /// Starts it in a directory; `Err` with what it said if it cannot sample here.
    pub(crate) fn start(
        home: &Path,
        budget: Option<f64>,
        (to, events): (Destination, &str),
        seconds: u64,
    ) -> Result<Self, String> {
        loop {
            match Self::try_start(home, budget, (to, events), seconds) {
                // Somebody else has taken the port meanwhile.
                Err(said) if said.contains("something else listens there") => {}
                done => return done,
            }
        }
    }

    fn try_start(
        home: &Path,
        budget: Option<f64>,
        (to, events): (Destination, &str),
        seconds: u64,
    ) -> Result<Self, String> {
        let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        fs::write(home.join("soak.yaml"), config(budget, (to, events), metrics.port())).unwrap();
        let log = home.join("soak.log");
        let program = env!("CARGO_BIN_EXE_profpipe");
        let errors = fs::File::create(&log).unwrap().into();
        let command = [program, "run", "--config", "soak.yaml"];
        let group = Group::start(&command, home, errors, seconds);
        let mut agent = Self { group, pid: 0, began: Instant::now(), log, metrics };
        let program = fs::canonicalize(program).unwrap();
        let is_agent =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|file| file == program);
        while agent.pid == 0 || !agent.said().contains("Ctrl-C stops") {
            if agent.pid == 0 {
                agent.pid = children(agent.group.id()).into_iter().find(is_agent).unwrap_or(0);
            }
            if !agent.is_running() {
                return Err(agent.said());
            }
            assert!(agent.began.elapsed() < PATIENCE, "it does not start:\n{}", agent.said());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(agent)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.group.is_running()
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its metrics, as they are now; none if it does not answer.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::read(&ask(self.metrics).unwrap_or_default())
    }

    /// What is still in its durable queue, once it has ended: batches of the destination that has most.
    pub(crate) fn queued(home: &Path) -> usize {
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["queue", "inspect", "--format", "json", "queue"])
            .current_dir(home)
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let of = |destination: &serde_json::Value| destination["pending"]["records"].as_u64();
        let destinations = said["destinations"].as_array().into_iter().flatten();
        destinations.filter_map(of).max().unwrap_or(0) as usize
    }

    /// Ends it as a user would, waits until it has ended, and gives its log.
    pub(crate) fn stop(mut self) -> String {
        let asked = Instant::now();
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()) {
            let _ = kill_process(pid, Signal::INT);
        }
        while self.is_running() && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the agent:\n{}", self.said());
        }
    }
}

fn config(budget: Option<f64>, (to, events): (Destination, &str), port: u16) -> String {
    let governor = budget.map(|budget| format!("governor: {{cpu: {budget}%}}, "));
    let listed = if budget.is_some() { "governor, " } else { "" };
    let (exporters, exporter_names, extensions) = to.config();
    let service_extensions = if extensions.is_empty() { "" } else { "file_storage" };
    format!(
        "{extensions}\
         receivers: {{perf: {{frequency: {}, interval: {}s, events: {events}}}}}\n\
         processors: {{{}symbolize: }}\n\
         exporters: {{{exporters}}}\n\
         service:\n  extensions: [{service_extensions}]\n  \
         telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: \
         {{host: 127.0.0.1, port: {port}}}}}}}}}]}}}}\n  \
         pipelines: {{profiles: {{receivers: [perf], processors: [{listed}symbolize], \
         exporters: [{exporter_names}]}}}}\n",
        super::FREQUENCY,
        super::INTERVAL.as_secs(),
        governor.unwrap_or_default(),
    )
}

fn ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Metrics at one moment, by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    fn read(text: &str) -> Self {
        let row = |line: &str| {
            let (key, value) = line.rsplit_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect())
    }

    /// True where the agent did not answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a name, with their labels.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(move |(key, value)| {
            let labels = key.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// The sum of those of a name.
    pub(crate) fn total(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }
}
