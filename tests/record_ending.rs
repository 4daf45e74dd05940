//! How a recording ends: who asks for it once, again and again, what becomes of the command then and
//! of what it has started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use profpipe::pprof;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A recording of a shell script that prints a line once it runs.
struct Recording {
    home: TempDir,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Recording {
    fn start(arguments: &[&str], script: &str) -> Option<(Self, String)> {
        if let Err(error) = profpipe_testing::sampling_is_permitted() {
            profpipe_testing::skip!("sampling is not permitted: {error}");
        }
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["record", "-F", "499", "-o"])
            .arg(home.path().join("out.pb.gz"))
            .args(arguments)
            .args(["--", "sh", "-c", script])
            // A group of its own, as an interactive shell gives it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let recording = Self { home, child, stdout, stderr, said: String::new() };
        Some((recording, line.trim().to_owned()))
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Reads what it says until that contains `wanted`.
    fn wait_for(&mut self, wanted: &str) {
        while !self.said.contains(wanted) {
            let read = self.stderr.read_line(&mut self.said).unwrap();
            assert!(read > 0, "it ended without `{wanted}`: {}", self.said);
        }
    }

    /// Waits for the end: the exit code, what it said, and the samples in the file.
    fn end(mut self) -> (Option<i32>, String, usize) {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let code = self.child.wait().unwrap().code();
        drop(self.stdout);
        let out: PathBuf = self.home.path().join("out.pb.gz");
        let profiles = pprof::decode(&fs::read(out).unwrap()).unwrap();
        (code, self.said, profiles.sample_count())
    }
}

fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Scenario: a command ignores SIGINT, which is sent three times.
/// Guarantees: the first goes to the command; the second ends the recording, which is written, and says
/// that the command goes on and how to end it; it does go on.
#[test]
fn a_second_interrupt_ends_the_recording() {
    let script = "trap '' INT; echo $$; while :; do :; done";
    let Some((mut recording, command)) = Recording::start(&[], script) else { return };
    recording.send(Signal::INT);
    recording.wait_for("again within");
    assert!(recording.child.try_wait().unwrap().is_none());
    recording.send(Signal::INT);
    // It holds the pipes that the recording writes to.
    recording.wait_for("goes on; kill");
    recording.send(Signal::INT);
    recording.wait_for("wrote");
    assert_eq!(recording.child.wait().unwrap().code(), Some(130), "{}", recording.said);
    let is_alive = !is_gone(&command);
    let _ = kill_process(Pid::from_raw(command.parse().unwrap()).unwrap(), Signal::KILL);
    assert!(is_alive && recording.said.contains(&format!("kill {command} ends it")));
    assert!(!recording.said.contains("has started"), "it has started none: {}", recording.said);
    let out = recording.home.path().join("out.pb.gz");
    assert!(pprof::decode(&fs::read(out).unwrap()).unwrap().sample_count() > 0);
}

/// Scenario: a command ignores SIGINT, which is sent once, then SIGTERM, while a child of it runs.
/// Guarantees: the second ends it with its child and with the recording, says so, and what was recorded
/// is written.
#[test]
fn a_second_request_of_a_supervisor_ends_it() {
    let script = "trap '' INT; sleep 1000 & echo $!; while :; do :; done";
    let Some((mut recording, child)) = Recording::start(&[], script) else { return };
    recording.send(Signal::INT);
    recording.wait_for("again within");
    assert!(recording.child.try_wait().unwrap().is_none() && !is_gone(&child));
    recording.send(Signal::TERM);
    let (code, said, samples) = recording.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("sh gets SIGTERM") && samples > 0, "{samples} in: {said}");
    wait_until(|| is_gone(&child));
}

/// Scenario: a command ignores SIGINT and SIGTERM; a signal comes three times.
/// Guarantees: the third kills it at once; what was recorded is written.
#[test]
fn a_third_signal_kills_it() {
    let script = "trap '' INT TERM; echo $$; while :; do :; done";
    let Some((mut recording, command)) = Recording::start(&[], script) else { return };
    recording.send(Signal::INT);
    recording.wait_for("again within");
    recording.send(Signal::TERM);
    recording.wait_for("gets SIGTERM");
    recording.send(Signal::INT);
    let (code, said, samples) = recording.end();
    assert_eq!(code, Some(137), "{said}");
    assert!(said.contains("sh killed") && samples > 0, "{samples} in: {said}");
    assert!(is_gone(&command));
}

/// Scenario: `-d` with a command that has children, one of which ignores SIGTERM, and has left behind
/// a process whose parent has ended.
/// Guarantees: the command and its children are ended, which is said; the process left behind goes on
/// and is named.
#[test]
fn time_is_up_for_the_whole_tree() {
    let script = "(while :; do :; done >&- 2>&- & echo $!) & wait; sleep 1000 & echo $! >&2; \
                  (trap '' TERM; while :; do sleep 0.1; done) & while :; do :; done";
    let Some((mut recording, stray)) = Recording::start(&["-d", "1"], script) else { return };
    recording.wait_for("\n");
    let child = recording.said.trim().to_owned();
    let (code, said, samples) = recording.end();
    let is_stray_alive = !is_gone(&stray);
    let pid = Pid::from_raw(stray.parse().unwrap()).unwrap();
    let _ = kill_process(pid, Signal::KILL);
    assert_eq!(code, Some(0), "{said}");
    assert!(samples > 0 && is_stray_alive && is_gone(&child), "{said}");
    assert!(said.contains("the time is up: SIGTERM ends sh and "), "{said}");
    assert!(said.contains("did not end by SIGTERM and were killed"), "{said}");
    assert!(
        said.contains(&format!("1 process goes on that sh has started: sh ({stray})")),
        "{said}"
    );
}

/// Scenario: a command ends and leaves a process behind; another leaves none.
/// Guarantees: the first is told with the process, the second is silent about it.
#[test]
fn what_goes_on_is_named() {
    let Some((recording, stray)) = Recording::start(&[], "sleep 1000 & echo $!; exit 3") else {
        return;
    };
    // It holds the pipe that the recording writes to.
    let said = {
        let mut recording = recording;
        recording.wait_for("goes on that");
        recording.wait_for("wrote");
        assert_eq!(recording.child.wait().unwrap().code(), Some(3));
        recording.said
    };
    let pid = Pid::from_raw(stray.parse().unwrap()).unwrap();
    assert!(test_kill_process(pid).is_ok());
    let _ = kill_process(pid, Signal::KILL);
    assert!(said.contains(&format!("sleep ({stray})")), "{said}");
    let Some((recording, _)) = Recording::start(&[], "sleep 0.01 & echo $!; wait; exit 3") else {
        return;
    };
    let (code, said, _) = recording.end();
    assert!(code == Some(3) && !said.contains("on that sh has started"), "{said}");
}

/// Scenario: the help of `record`.
/// Guarantees: it says what `-d` and Ctrl-C do with a command.
#[test]
fn help_says_what_ends() {
    let help = Command::new(env!("CARGO_BIN_EXE_profpipe")).args(["record", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["is ended then: with SIGTERM", "a second within 10 s ends the recording"] {
        assert!(words.contains(part), "{help}");
    }
}
