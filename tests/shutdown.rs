//! How `profpipe run` ends, through the real program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const CONFIG: &str = "\
receivers: {nop: }
exporters: {nop: }
service: {pipelines: {profiles: {receivers: [nop], exporters: [nop]}}}
";

/// A running `profpipe run`, killed if the test ends before it.
struct Running(Child, BufReader<ChildStderr>);

impl Running {
    /// Starts, and waits until it says that it runs.
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("run")
            .args(arguments)
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self(child, stderr);
        running.read_until("Ctrl-C stops");
        running
    }

    /// Reads what it says up to a line with this text.
    fn read_until(&mut self, text: &str) {
        let mut said = String::new();
        while !said.lines().last().is_some_and(|line| line.contains(text)) {
            assert!(self.1.read_line(&mut said).unwrap() > 0, "it ended, saying: {said}");
        }
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(process, signal).unwrap();
    }

    /// The exit code, and everything it said after it ran.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        self.1.read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_config() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.yaml"), CONFIG).unwrap();
    directory
}

/// Scenario: Ctrl-C, or the signal of a service manager, to a pipeline that does nothing.
/// Guarantees: exit code 0 and a last line that says how it went.
#[test]
fn signals_stop_politely() {
    let directory = with_config();
    for signal in [Signal::INT, Signal::TERM] {
        let running = Running::start(directory.path(), &["--config", "c.yaml"]);
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("stopped after "), "{said}");
        assert!(!said.contains('\x1b'), "no colours where there is no terminal: {said}");
    }
}

/// Scenario: the same signal twice at once, as `timeout` and some service managers send it.
/// Guarantees: it counts as one.
#[test]
fn an_echo_is_not_a_second_signal() {
    let directory = with_config();
    let running = Running::start(directory.path(), &["--config", "c.yaml"]);
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
}

/// Scenario: SIGHUP with a wrong configuration, then with one that this host cannot run, then with a
/// good one; then a changed file under `--watch`.
/// Guarantees: the first two change nothing, the others replace the pipeline.
#[test]
fn reloading_checks_first() {
    let directory = with_config();
    let file = directory.path().join("c.yaml");
    std::fs::write(directory.path().join("blocked"), "").unwrap();
    let mut running = Running::start(directory.path(), &["--config", "c.yaml"]);
    std::fs::write(&file, CONFIG.replace("exporters: [nop]", "exporters: [nope]")).unwrap();
    running.signal(Signal::HUP);
    running.read_until("the new configuration is not used");
    let renamed = |path: &str| {
        let file = format!("exporters: {{file: {{path: {path}}}}}");
        CONFIG.replace("exporters: {nop: }", &file).replace("exporters: [nop]", "exporters: [file]")
    };
    std::fs::write(&file, renamed("blocked/x")).unwrap();
    running.signal(Signal::HUP);
    running.read_until("going on with the old");
    running.read_until("running profiles");
    std::fs::write(&file, renamed("there")).unwrap();
    running.signal(Signal::HUP);
    running.read_until("running profiles");
    assert!(directory.path().join("there").is_dir());
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));

    let mut running = Running::start(directory.path(), &["--watch", "--config", "c.yaml"]);
    std::fs::write(&file, renamed("elsewhere")).unwrap();
    running.read_until("running profiles");
    assert!(directory.path().join("elsewhere").is_dir());
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(0));
}

/// Scenario: configurations that cannot run.
/// Guarantees: exit code 2 for a wrong one, 1 for one that this host cannot run, no start.
#[test]
fn what_cannot_run_says_so() {
    let directory = with_config();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("run")
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--config", "c.yaml", "--set", "receivers::nop::x=1"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = run(&["--watch"]);
    assert_eq!(code, Some(2), "{said}");
    std::fs::write(directory.path().join("file"), "").unwrap();
    let (code, said) = run(&[
        "--config",
        "c.yaml",
        "--set",
        "exporters::file::path=file/x",
        "--set",
        "service::pipelines::profiles::exporters=[nop, file]",
    ]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("profpipe: exporters::file: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
