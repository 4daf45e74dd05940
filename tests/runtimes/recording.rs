//! Runs `profpipe record` over a program that writes down what it does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::interpreters::Interpreter;
use crate::truth::{Log, PYTHON, Verdicts};

/// The program.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtimes/programs/numbers.py");
/// How often a second samples are taken.
const FREQUENCY: &str = "499";

/// How the program comes under the profiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `record -- PYTHON`.
    Command,
    /// `record -p PID` of one that runs already.
    Attached,
    /// `record -a` while it runs.
    Host,
    /// `record -- PYTHON` by a user without any privilege.
    Unprivileged,
}

/// A recording that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recording<'a> {
    pub(crate) python: &'a Interpreter,
    pub(crate) target: Target,
    /// Threads beside the first, and processes.
    pub(crate) threads: usize,
    pub(crate) children: usize,
}

/// Waits until no other recording is made: they would fight over the processor.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RECORDING: Mutex<()> = Mutex::new(());
    RECORDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Recording<'a> {
    pub(crate) fn of(python: &'a Interpreter, target: Target) -> Self {
        Self { python, target, threads: 0, children: 0 }
    }

    /// Records some seconds; none where sampling is not permitted.
    pub(crate) fn run(&self) -> Option<Verdicts> {
        if let Err(why) = profpipe_testing::sampling_is_permitted() {
            profpipe_testing::skip!("sampling is not permitted: {why}");
        }
        let directory = tempfile::Builder::new().prefix("profpipe-runtimes-").tempdir().unwrap();
        let (log, profile) = (directory.path().join("log"), directory.path().join("profile.json"));
        let one_at_a_time = one_at_a_time();
        let mut python = Command::new(&self.python.path);
        let program = self.program(directory.path());
        python.arg(program).arg("2").arg(&log);
        python.args([self.threads.to_string(), self.children.to_string()]);
        let mut record = match self.target {
            Target::Unprivileged => unprivileged(directory.path()),
            _ => Command::new(env!("CARGO_BIN_EXE_profpipe")),
        };
        record.args(["record", "-F", FREQUENCY, "-o"]).arg(&profile);
        let mut running = None;
        match self.target {
            Target::Command | Target::Unprivileged => {
                record.arg("--").arg(python.get_program()).args(python.get_args());
            }
            Target::Attached => {
                let child = python.spawn().expect("the program starts");
                record.args(["-p", &child.id().to_string()]);
                running = Some(child);
            }
            Target::Host => {
                running = Some(python.spawn().expect("the program starts"));
                record.arg("-a");
            }
        }
        // A process that was started here must be waited for, or it never ends for others.
        let waiter = running.map(|mut child| std::thread::spawn(move || child.wait()));
        let record = record.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let record = record.expect("profpipe runs");
        if let Some(waiter) = waiter {
            waiter.join().expect("a waiter").expect("the program ends");
        }
        if self.target == Target::Host {
            let pid = rustix::process::Pid::from_raw(record.id() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        }
        let output = record.wait_with_output().expect("profpipe ends");
        drop(one_at_a_time);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "record failed: {printed}");
        let mut logs = vec![Log::read(&log)];
        logs.extend((0..self.children).map(|n| Log::read(&with_number(&log, n))));
        Some(Verdicts::of(&logs, &profile, &PYTHON))
    }

    /// The program, where the user may read it.
    fn program(&self, directory: &Path) -> PathBuf {
        if self.target != Target::Unprivileged {
            return PROGRAM.into();
        }
        copied(Path::new(PROGRAM), directory)
    }
}

fn with_number(path: &Path, number: usize) -> PathBuf {
    path.with_extension(number.to_string())
}

/// profpipe run as nobody, from a copy that nobody can reach.
fn unprivileged(directory: &Path) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    let anyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory, anyone).expect("the directory is ours");
    let profpipe = copied(Path::new(env!("CARGO_BIN_EXE_profpipe")), directory);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(profpipe);
    command
}

fn copied(file: &Path, directory: &Path) -> PathBuf {
    let copy = directory.join(file.file_name().expect("a file"));
    std::fs::copy(file, &copy).expect("the copy fits");
    copy
}
