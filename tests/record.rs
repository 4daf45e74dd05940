//! `profpipe record` as a user meets it: exit codes, signals, pipes and terminals, and what goes
//! wrong before anything is started.
//!
//! Whether profiles are true is the matter of `tests/truth`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use profpipe::pprof;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Burns CPU in a shell for a while.
const BURN: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";

struct Case {
    home: TempDir,
}

impl Case {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out.pb.gz")
    }

    /// `profpipe record -o OUT` and these arguments.
    fn record(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
        command.arg("record").arg("-o").arg(self.out()).args(arguments);
        command.stdin(Stdio::null()).current_dir(self.home.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.record(arguments).output().unwrap()
    }

    /// The samples in the file, with the files in the directory checked to be it alone.
    fn samples(&self) -> usize {
        let profiles = pprof::decode(&fs::read(self.out()).unwrap()).unwrap();
        let others: Vec<_> = fs::read_dir(self.home.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(".tmp"))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        profiles.sample_count()
    }
}

fn error_text(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// True if this host lets us profile a command of our own: the kernel is asked, not the program.
fn can_profile() -> bool {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    true
}

/// The first line that a program prints, which tells that it runs.
fn first_line(child: &mut Child) -> (String, BufReader<std::process::ChildStdout>) {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line.trim().to_owned(), reader)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// Scenario: commands that end with several exit codes or by a signal.
/// Guarantees: their codes are ours; a signal N is 128 + N, and the file is written all the same.
#[test]
fn exit_codes_pass_through() {
    if !can_profile() {
        return;
    }
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        let case = Case::new();
        let output = case.run(&["--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", error_text(&output));
        case.samples();
    }
}

/// Scenario: a busy command with its output in a pipe, and ours too.
/// Guarantees: its standard output is its own alone; ours has no control character, tells the
/// functions, the states of the stacks and the file, and the file has samples.
#[test]
fn pipes_stay_clean() {
    if !can_profile() {
        return;
    }
    let case = Case::new();
    let script = format!("echo begin; {BURN}; {BURN}; {BURN}; {BURN}; echo end >&2; echo end");
    let output = case.run(&["-F", "499", "--", "sh", "-c", &script]);
    let text = error_text(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "begin\nend\n");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    for part in ["samples in", " complete, ", " truncated, ", " lost", "%", "out.pb.gz", "self"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(case.samples() > 0);
}

/// Scenario: nobody reads our standard error any more.
/// Guarantees: the exit code is the command's all the same, and the file is written.
#[test]
fn nobody_listens() {
    if !can_profile() {
        return;
    }
    let case = Case::new();
    let mut command = case.record(&["--", "sh", "-c", "sleep 0.2; exit 4"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    case.samples();
}

/// Scenario: commands that end at once.
/// Guarantees: a message says that nothing ran long enough, the exit code is the command's, and the
/// file is one that can be read. A flame graph of nothing is not written.
#[test]
fn a_command_that_ends_at_once() {
    if !can_profile() {
        return;
    }
    for _ in 0..5 {
        let case = Case::new();
        let output = case.run(&["-F", "1", "--", "true"]);
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        if case.samples() == 0 {
            assert!(error_text(&output).contains("no samples"), "{}", error_text(&output));
        }
    }
    let case = Case::new();
    let svg = case.home.path().join("out.svg");
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(["record", "-F", "1", "-o"]).arg(&svg).args(["--", "sh", "-c", "exit 3"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", error_text(&output));
}

/// Scenario: commands that do not exist or cannot be executed.
/// Guarantees: the exit codes of shells, one line that names the command, no file.
#[test]
fn commands_that_cannot_run() {
    if !can_profile() {
        return;
    }
    let case = Case::new();
    fs::write(case.home.path().join("data"), "x").unwrap();
    for (command, code) in [("no-such-command-here", 127), ("./nowhere", 127), ("./data", 126)] {
        let output = case.run(&["--", command]);
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(command) && text.lines().count() == 1, "{text}");
        let left: Vec<_> = fs::read_dir(case.home.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

/// Scenario: an output that cannot be written, of several kinds.
/// Guarantees: the command is never started; one line says which file and why.
#[test]
fn output_is_checked_first() {
    let home = tempfile::tempdir().unwrap();
    let marker = home.path().join("started");
    let touch = format!("touch {}", marker.display());
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let directory = home.path().join("directory.pb.gz");
    fs::create_dir(&directory).unwrap();
    let outputs = [
        (home.path().join("missing/out.pb.gz"), 1),
        (file.join("out.pb.gz"), 1),
        (directory, 1),
        (home.path().join("out.unknown"), 2),
    ];
    for (output, code) in outputs {
        let run = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["record", "-o"])
            .arg(&output)
            .args(["--", "sh", "-c", &touch])
            .output()
            .unwrap();
        let text = error_text(&run);
        assert_eq!(run.status.code(), Some(code), "{text}");
        assert!(text.contains(output.to_str().unwrap()), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!marker.exists(), "{text}");
    }
}

/// Scenario: arguments that make no sense.
/// Guarantees: exit code 2 and a line that says what to give.
#[test]
fn wrong_usage() {
    let case = Case::new();
    let wrong: [&[&str]; 7] = [
        &[],
        &["-F", "0", "--", "true"],
        &["-F", "1000000", "--", "true"],
        &["-d", "0", "--", "true"],
        &["-d", "-1", "--", "true"],
        &["-e", "no-such-event", "--", "true"],
        &["-p", "1", "--", "true"],
    ];
    for arguments in wrong {
        let output = case.run(arguments);
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(!text.is_empty() && !text.contains("panicked"), "{text}");
        assert!(!case.out().exists());
    }
}

/// Scenario: process ids that do not exist.
/// Guarantees: exit code 1 and one line that says so.
#[test]
fn no_such_process() {
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id().to_string();
    gone.wait().unwrap();
    for pid in [pid.as_str(), "4194304", "4294967295"] {
        let case = Case::new();
        let output = case.run(&["-p", pid]);
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("no process {pid}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!case.out().exists());
    }
}

/// Scenario: SIGTERM, SIGHUP, SIGUSR1, SIGINT and SIGQUIT are sent to profpipe while a command runs
/// that handles them.
/// Guarantees: the command gets each once and decides; its exit code is ours.
#[test]
fn signals_pass_through() {
    if !can_profile() {
        return;
    }
    let signals = [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
    ];
    for (signal, name) in signals {
        let case = Case::new();
        let script = format!(
            "n=0; trap 'n=$((n+1))' {name}; echo ready; \
             while [ $n = 0 ]; do sleep 0.05; done; sleep 0.3; exit $((40 + n))"
        );
        let mut child = case
            .record(&["--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (line, _reader) = first_line(&mut child);
        assert_eq!(line, "ready");
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(41), "{name}");
        case.samples();
    }
}

/// Scenario: SIGTERM is sent to profpipe, and the command does not handle it.
/// Guarantees: the command ends by it, the exit code says so, the file is written.
#[test]
fn a_signal_ends_the_command() {
    if !can_profile() {
        return;
    }
    let case = Case::new();
    let mut child = case
        .record(&["--", "sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_, _reader) = first_line(&mut child);
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    case.samples();
}

/// A process that burns CPU until the end of the test.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Scenario: a running process is profiled until the time is up, until Ctrl-C, until it ends.
/// Guarantees: each ends the recording with exit code 0 and a file with samples; the process is not
/// disturbed by the first two.
#[test]
fn a_running_process() {
    if !can_profile() {
        return;
    }
    let mut burner = Burner::start();
    let case = Case::new();
    let output = case.run(&["-F", "499", "-d", "0.5", "-p", &burner.pid()]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(case.samples() > 0);

    let case = Case::new();
    let mut child =
        case.record(&["-F", "499", "-p", &burner.pid()]).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| is_handled(child.id(), 2));
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(case.samples() > 0);
    assert!(burner.0.try_wait().unwrap().is_none(), "the process was disturbed");

    let case = Case::new();
    let mut child =
        case.record(&["-F", "499", "-p", &burner.pid()]).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| is_handled(child.id(), 2));
    std::thread::sleep(Duration::from_millis(300));
    drop(burner);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(case.samples() > 0);
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// True once a process handles a signal.
fn is_handled(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Scenario: the number of a thread that is not its process's.
/// Guarantees: the message says that it is a thread.
#[test]
fn threads_are_not_processes() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (_keep, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        sender.send(rustix::thread::gettid()).unwrap();
        let _ = wait.recv();
    });
    let id = receiver.recv().unwrap().as_raw_nonzero().to_string();
    let case = Case::new();
    let output = case.run(&["-d", "0.1", "-p", &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_text(&output).contains("is a thread"), "{}", error_text(&output));
    drop(_keep);
    thread.join().unwrap();
}

/// Scenario: `-d` with a command that would run for long, one that ends by SIGTERM and one that
/// makes something of it.
/// Guarantees: the command is ended when the time is up; that is no failure, but its own exit code
/// still counts.
#[test]
fn time_is_up() {
    if !can_profile() {
        return;
    }
    for (script, code) in
        [("exec sleep 60", 0), ("trap 'exit 9' TERM; while :; do sleep 0.05; done", 9)]
    {
        let case = Case::new();
        let output = case.run(&["-d", "0.4", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", error_text(&output));
        case.samples();
    }
}

/// Scenario: a user without privileges records a command of their own.
/// Guarantees: it works, and where the kernel forbids even that, one line says so. Asked for the
/// whole host, it says what it does instead.
#[test]
fn without_privileges() {
    if !rustix::process::geteuid().is_root() || !can_profile() {
        profpipe_testing::skip!("only root can become another user");
    }
    let case = Case::new();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(case.home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let script = format!("{BURN}; {BURN}; exit 5");
    let run = case.record(&["-F", "499", "--", "sh", "-c", &script]).uid(65534).gid(65534).output();
    let Ok(output) = run else {
        profpipe_testing::skip!("another user cannot run the program");
    };
    let text = error_text(&output);
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    if paranoid.trim().parse::<i32>().is_ok_and(|level| level <= 2) {
        assert_eq!(output.status.code(), Some(5), "{text}");
        assert!(case.samples() > 0, "{text}");
    } else {
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    if paranoid.trim() == "2" {
        let host = case.record(&["-a", "-d", "0.3"]).uid(65534).gid(65534).output().unwrap();
        let text = error_text(&host);
        assert_eq!(host.status.code(), Some(0), "{text}");
        assert!(text.contains("only the processes of this user"), "{text}");
    }
}

/// Runs a shell line on a terminal, through `script`; tells what the terminal shows.
struct Terminal {
    child: Child,
}

impl Terminal {
    fn run(line: &str, home: &Path) -> Option<Self> {
        let child = Command::new("script")
            .args(["-qefc", line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self { child }),
            Err(error) => profpipe_testing::skip!("there is no `script`: {error}"),
        }
    }

    /// Reads until the text has appeared.
    fn read_until(&mut self, wanted: &str) -> String {
        let mut shown = Vec::new();
        let mut byte = [0];
        let output = self.child.stdout.as_mut().unwrap();
        while output.read(&mut byte).unwrap() == 1 {
            shown.extend(byte);
            if String::from_utf8_lossy(&shown).contains(wanted) {
                break;
            }
        }
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn rest(mut self) -> (String, Option<i32>) {
        let mut shown = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut shown).unwrap();
        let code = self.child.wait().unwrap().code();
        (String::from_utf8_lossy(&shown).into_owned(), code)
    }
}

/// Scenario: a command runs on a terminal for a while.
/// Guarantees: progress is shown; what the command writes is not broken up; the exit code passes.
#[test]
fn progress_on_a_terminal() {
    if !can_profile() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let line = format!(
        "exec {} record -o out.pb.gz -- sh -c 'echo first line; sleep 1; echo second line; exit 6'",
        env!("CARGO_BIN_EXE_profpipe")
    );
    let Some(terminal) = Terminal::run(&line, home.path()) else { return };
    let (shown, code) = terminal.rest();
    assert_eq!(code, Some(6), "{shown}");
    assert!(shown.contains("samples]"), "no progress: {shown:?}");
    assert!(shown.contains("first line\r\n") && shown.contains("second line\r\n"), "{shown:?}");
}

/// Scenario: Ctrl-C is typed on the terminal while a command runs that counts how often it gets it.
/// Guarantees: once, not twice; the recording goes on until the command ends.
#[test]
fn control_c_arrives_once() {
    if !can_profile() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("count.sh");
    fs::write(
        &script,
        "n=0; trap 'n=$((n+1))' INT; echo ready\n\
         while [ $n = 0 ]; do sleep 0.05; done; sleep 0.5; exit $((40 + n))\n",
    )
    .unwrap();
    let line =
        format!("exec {} record -o out.pb.gz -- sh count.sh", env!("CARGO_BIN_EXE_profpipe"));
    let Some(mut terminal) = Terminal::run(&line, home.path()) else { return };
    terminal.read_until("ready");
    terminal.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let (shown, code) = terminal.rest();
    assert_eq!(code, Some(41), "{shown}");
    assert!(home.path().join("out.pb.gz").exists(), "{shown}");
}

/// Scenario: a command is recorded as OTLP.
/// Guarantees: each sample has the time at which it was taken, in order and within the recording, with a
/// weight of its own; converted to pprof, which has no times, the totals are the same.
#[test]
fn samples_have_their_times() {
    if let Err(why) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("{why}");
    }
    let case = Case::new();
    let out = case.home.path().join("out.otlp");
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(["record", "-F", "499", "-o"]).arg(&out).args(["--", "sh", "-c", BURN]);
    assert!(command.output().unwrap().status.success());
    let profiles = profpipe::otlp::decode(&fs::read(&out).unwrap()).unwrap();
    let mut totals = Vec::new();
    for (_, _, profile) in profiles.iter() {
        let end = profile.time_unix_nano + profile.duration_nano;
        let mut total = 0;
        for sample in profile.samples.iter() {
            let times = sample.timestamps_unix_nano;
            assert!(!times.is_empty() && times.is_sorted(), "{times:?}");
            assert!(times.iter().all(|time| (profile.time_unix_nano..end).contains(time)));
            assert_eq!(times.len(), sample.values.len());
            total += sample.weight();
        }
        totals.push(total);
    }
    let pprof = out.with_extension("pb.gz");
    let mut convert = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    assert!(convert.arg("convert").arg(&out).arg(&pprof).output().unwrap().status.success());
    let converted = pprof::decode(&fs::read(&pprof).unwrap()).unwrap();
    let mut converted: Vec<i64> = converted
        .iter()
        .map(|(_, _, profile)| profile.samples.iter().map(|sample| sample.weight()).sum())
        .collect();
    totals.sort_unstable();
    converted.sort_unstable();
    assert_eq!(converted, totals);
}
