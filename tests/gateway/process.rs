//! The program under test: started, watched, killed, by its own process id only.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test fails. Nothing waits this long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A configuration: OTLP in, a queue on disk in `./queue`, OTLP out to this address. Impatient, so that
/// tests are quick.
pub(crate) fn forwarding(to: SocketAddr) -> String {
    with_exporter(&format!(
        "otlp_http: {{endpoint: \"http://{to}\", timeout: 2s, \
         retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}, \
         sending_queue: {{storage: file_storage}}}}"
    ))
}

/// A configuration: OTLP in, a queue on disk in `./queue`, this exporter.
pub(crate) fn with_exporter(exporter: &str) -> String {
    let (id, _) = exporter.split_once(':').unwrap();
    format!(
        "extensions: {{file_storage: {{directory: ./queue}}}}\n\
         receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:1}}}}}}}}\n\
         exporters: {{{exporter}}}\n\
         service:\n  extensions: [file_storage]\n  \
         pipelines: {{profiles: {{receivers: [otlp], exporters: [{id}]}}}}\n"
    )
}

/// Writes what [`Gateway::start`] runs with.
pub(crate) fn configure(directory: &Path, config: &str) {
    std::fs::write(directory.join("gateway.yaml"), config).unwrap();
}

/// What `profpipe queue inspect` says about the only destination of the queue in `./queue`.
#[track_caller]
pub(crate) fn inspect(directory: &Path) -> serde_json::Value {
    let said = queue(directory, &["inspect", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    said["destinations"][0].clone()
}

/// Runs `profpipe queue` on the queue in `./queue`.
#[track_caller]
pub(crate) fn queue(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .arg("queue")
        .args(arguments)
        .arg("queue")
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A gateway that takes OTLP over HTTP.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    /// From the start of the process until it took connections.
    pub(crate) ready: Duration,
}

impl Gateway {
    /// Starts `profpipe run` in a directory, where `gateway.yaml` lies, on a port of its own, and
    /// waits until it takes connections. The configuration is the same every time but for the port.
    #[track_caller]
    pub(crate) fn start(directory: &Path) -> Self {
        loop {
            match Self::try_start(directory) {
                Ok(gateway) => return gateway,
                // Somebody else has taken the port meanwhile.
                Err(said) if said.contains("something else listens there") => {}
                Err(said) => panic!("it ended at once:\n{said}"),
            }
        }
    }

    /// Like [`Self::start`]; `Err` with what it said if it ends instead.
    #[track_caller]
    pub(crate) fn try_start(directory: &Path) -> Result<Self, String> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let log = directory.join("gateway.log");
        let file = File::create(&log).unwrap();
        let start = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["run", "--config", "gateway.yaml", "--set"])
            .arg(format!("receivers::otlp::protocols::http::endpoint={address}"))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut gateway = Self { child, log, address, ready: Duration::ZERO };
        while !gateway.said().contains("Ctrl-C stops") {
            if gateway.child.try_wait().unwrap().is_some() {
                return Err(gateway.said());
            }
            assert!(start.elapsed() < PATIENCE, "it is not ready:\n{}", gateway.said());
            std::thread::sleep(Duration::from_millis(2));
        }
        gateway.ready = start.elapsed();
        Ok(gateway)
    }

    /// What it has said since it was started.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Kills it, as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to stop, waits until it has, and returns how it ended with what it said.
    #[track_caller]
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let status = eventually("the gateway to stop", || self.child.try_wait().unwrap());
        (status, self.said())
    }

    /// The most memory it has had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let from = said.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!("-- the gateway, at last:\n{}", said.get(from..).unwrap_or_default());
        }
    }
}
