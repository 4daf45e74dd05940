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
}

/// The tests of this file run on threads; the recordings must not.
static RECORDING: Mutex<()> = Mutex::new(());

/// Records `program` until it has used `seconds` of CPU time.
pub(crate) fn record(name: &str, frequency: u32, program: &Program, seconds: f64) -> Recorded {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("truth");
    let file = directory.join(format!("{name}.otlp"));
    let truth_file = directory.join(format!("{name}.truth.json"));
    let _ = std::fs::remove_file(&file);
    let _ = std::fs::remove_file(&truth_file);

    let one_at_a_time = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = profpipe()
        .args(["record", "-F", &frequency.to_string(), "-o"])
        .arg(&file)
        .arg("--")
        .args(&program.command)
        .arg(&truth_file)
        .arg(seconds.to_string())
        .output()
        .expect("profpipe runs");
    drop(one_at_a_time);

    let report = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{name}: record failed: {report}");
    let truth = std::fs::read(&truth_file).unwrap_or_else(|error| {
        panic!("{name}: the program left no truth in {}: {error}\n{report}", truth_file.display())
    });
    Recorded {
        truth: serde_json::from_slice(&truth).expect("the program's truth is JSON"),
        reading: Reading::of(&file),
        file,
        report,
        source: program.source.clone(),
        frequency,
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
