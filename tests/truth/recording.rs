//! Runs `profpipe record` over a program and keeps what both said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::reading::Reading;
use crate::toolchain::Program;

/// What a program measured of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    /// CPU time that the kernel charged to the process (getrusage), in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// CPU time within each function, callees included, in nanoseconds.
    pub(crate) functions: BTreeMap<String, u64>,
    /// The process, where a file named after it must be removed.
    pub(crate) pid: Option<u32>,
}

/// A recorded program.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) truth: Truth,
    pub(crate) reading: Reading,
    /// The profile, in OTLP protobuf.
    pub(crate) file: PathBuf,
    /// What `profpipe record` printed.
    pub(crate) report: String,
    pub(crate) source: PathBuf,
    pub(crate) frequency: u32,
    /// Removed with this value.
    _directory: tempfile::TempDir,
}

/// The tests of this file run on threads; the recordings must not.
static RECORDING: Mutex<()> = Mutex::new(());

/// A recording that is to be made: what is special about it is set on its fields.
pub(crate) struct Recording<'a> {
    /// Names the files.
    pub(crate) name: &'a str,
    pub(crate) frequency: u32,
    /// CPU seconds that the program shall use.
    pub(crate) seconds: f64,
    pub(crate) target: Target,
}

/// How the program comes under the profiler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `record -- PROGRAM`.
    Command,
    /// `record -- sh -c 'PROGRAM & PROGRAM; wait'`: two processes, half of the seconds each.
    Children,
    /// `record -p PID` of a program that runs already, until it ends.
    Attached,
    /// `record -- PROGRAM` by a user without any privilege.
    Unprivileged,
}

impl Recording<'_> {
    /// Records `program` until it has used its CPU time.
    pub(crate) fn of(&self, program: &Program) -> Recorded {
        // A user without privileges can enter and write only what is outside of the build tree.
        let directory =
            tempfile::Builder::new().prefix("profpipe-truth-").tempdir().expect("a directory");
        let file = directory.path().join(format!("{}.otlp", self.name));
        let truths: Vec<_> = (0..=u8::from(self.target == Target::Children))
            .map(|process| directory.path().join(format!("{process}.json")))
            .collect();
        let seconds = (self.seconds / truths.len() as f64).to_string();

        let one_at_a_time = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = profpipe();
        if self.target == Target::Unprivileged {
            command = unprivileged(directory.path());
        }
        // Node leaves a log where it runs.
        command.current_dir(directory.path());
        command.args(["record", "-F", &self.frequency.to_string(), "-o"]).arg(&file);
        let mut attached = None;
        match self.target {
            Target::Command | Target::Unprivileged => {
                let program = if self.target == Target::Unprivileged {
                    vec![copied(Path::new(&program.command[0]), directory.path()).into()]
                } else {
                    program.command.clone()
                };
                command.arg("--").args(program).arg(&truths[0]).arg(&seconds);
            }
            Target::Children => {
                let script = r#""$0" "$1" "$3" & "$0" "$2" "$3"; wait"#;
                command.args(["--", "sh", "-c", script]).args(&program.command);
                command.args(&truths).arg(&seconds);
            }
            Target::Attached => {
                let mut started = Command::new(&program.command[0]);
                started.args(&program.command[1..]).arg(&truths[0]).arg(&seconds);
                started.current_dir(directory.path());
                let child = started.spawn().expect("the program starts");
                command.args(["-p", &child.id().to_string()]);
                attached = Some(child);
            }
        }
        // A process that was started here must be waited for, or it stays and never ends for others.
        let waiter = attached.map(|mut child| std::thread::spawn(move || child.wait()));
        let output = command.output().expect("profpipe runs");
        if let Some(waiter) = waiter {
            waiter.join().expect("a waiter").expect("the program ends");
        }
        drop(one_at_a_time);

        let report = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{}: record failed: {report}", self.name);
        let truth = truths.iter().map(|truth| Truth::read(truth, &report)).reduce(Truth::plus);
        Recorded {
            truth: truth.expect("a process"),
            reading: Reading::of(&file),
            file,
            report,
            source: program.source.clone(),
            frequency: self.frequency,
            _directory: directory,
        }
    }
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

impl Truth {
    fn read(file: &Path, report: &str) -> Self {
        let bytes = std::fs::read(file).unwrap_or_else(|error| {
            panic!("the program left no truth in {}: {error}\n{report}", file.display())
        });
        serde_json::from_slice(&bytes).expect("the program's truth is JSON")
    }

    fn plus(mut self, other: Self) -> Self {
        self.cpu_ns += other.cpu_ns;
        for (function, spent) in other.functions {
            *self.functions.entry(function).or_default() += spent;
        }
        self
    }
}

impl Recorded {
    /// Removes the symbol file that node leaves in /tmp.
    pub(crate) fn remove_perf_map(&self) {
        if let Some(pid) = self.truth.pid {
            let _ = std::fs::remove_file(format!("/tmp/perf-{pid}.map"));
        }
    }
}

/// The binary under test.
pub(crate) fn profpipe() -> Command {
    Command::new(env!("CARGO_BIN_EXE_profpipe"))
}

/// Runs a command of profpipe that must succeed; what it printed on stdout.
pub(crate) fn profpipe_says(arguments: &[&std::ffi::OsStr]) -> String {
    let output = profpipe().args(arguments).output().expect("profpipe runs");
    assert!(
        output.status.success(),
        "profpipe {arguments:?} failed: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
