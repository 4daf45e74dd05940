//! Compiles a program, records it with `profpipe record`, and holds the profile against what the
//! program does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::reading::{Reading, Stack};

/// How often a second samples are taken.
const FREQUENCY: &str = "499";

/// A recording.
pub(crate) struct Recorded {
    pub(crate) reading: Reading,
    /// The profile and what was printed.
    bytes: Vec<u8>,
}

/// The machine has two cores: one recording at a time.
static RECORDING: Mutex<()> = Mutex::new(());

/// Compiles the program `source`, with other sources and flags, and records a run with arguments; or
/// why that cannot be done here.
pub(crate) fn record(
    source: &str,
    flags: &[&str],
    others: &[&str],
    arguments: &[&str],
) -> Result<Recorded, String> {
    profpipe_testing::sampling_is_permitted().map_err(|why| why.to_string())?;
    let directory = tempfile::Builder::new().prefix("profpipe-stacks-").tempdir().unwrap();
    let program = compile(source, flags, others, directory.path())?;
    let profile = directory.path().join("profile.otlp");
    let one_at_a_time = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["record", "-F", FREQUENCY, "-o"])
        .arg(&profile)
        .arg("--")
        .arg(&program)
        .args(arguments)
        .output()
        .expect("profpipe runs");
    drop(one_at_a_time);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "record failed: {printed}");
    let mut bytes = std::fs::read(&profile).expect("a profile");
    bytes.extend(&output.stderr);
    bytes.extend(&output.stdout);
    let reading = Reading::of(&profile);
    eprintln!("{source} {flags:?} {arguments:?}: {} samples", reading.samples);
    Ok(Recorded { reading, bytes })
}

fn compile(
    source: &str,
    flags: &[&str],
    others: &[&str],
    directory: &Path,
) -> Result<PathBuf, String> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks/programs");
    let output = directory.join("program");
    let mut command = match source.ends_with(".go") {
        true => {
            let mut go = Command::new("go");
            go.arg("build").envs([("CGO_ENABLED", "1"), ("GO111MODULE", "off"), ("GOFLAGS", "")]);
            go
        }
        false => Command::new("cc"),
    };
    command.args(flags).arg("-o").arg(&output).arg(programs.join(source));
    command.args(others.iter().map(|other| programs.join(other)));
    match command.output() {
        Ok(result) if result.status.success() => Ok(output),
        Ok(result) => panic!("{command:?}: {}", String::from_utf8_lossy(&result.stderr)),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

impl Recorded {
    /// At least so many percent of the user time have stacks in this state (or any) that show these
    /// functions in this order, from the root to the leaf.
    pub(crate) fn at_least(&self, percent: f64, state: &str, functions: &[&str]) {
        let share = self.share(|stack| is(stack, state) && shows(stack, functions));
        assert!(share >= percent, "{state} {functions:?}: {share:.1} %\n{}", self.sketch());
    }

    /// No stack in this state shows these functions in this order.
    pub(crate) fn never(&self, functions: &[&str], state: &str) {
        let share = self.share(|stack| is(stack, state) && shows(stack, functions));
        assert!(share == 0.0, "{state} {functions:?}: {share:.1} %\n{}", self.sketch());
    }

    /// The share of the user time in stacks that are chosen, in percent.
    pub(crate) fn share(&self, chosen: impl Fn(&Stack) -> bool) -> f64 {
        let user = self.reading.time_of(Stack::has_user_frames);
        let chosen = self.reading.time_of(|stack| stack.has_user_frames() && chosen(stack));
        100.0 * chosen as f64 / user.max(1) as f64
    }

    /// The bytes are nowhere in the profile and in what was printed, also not as an address near them
    /// or in hexadecimal digits; and no user frame but the interrupted one is outside of all code.
    pub(crate) fn has_nowhere(&self, secret: &[u8; 8]) {
        let word = u64::from_le_bytes(*secret);
        let contains = |bytes: &[u8]| self.bytes.windows(bytes.len()).any(|at| at == bytes);
        for near in [word.wrapping_sub(1), word, word.wrapping_add(1)] {
            let mut number = Vec::new();
            prost::encoding::encode_varint(near, &mut number);
            let hex = format!("{near:x}");
            let found = [&near.to_le_bytes()[..], &near.to_be_bytes(), &number, hex.as_bytes()];
            assert!(!found.into_iter().any(contains), "{near:#x} came out\n{}", self.sketch());
        }
        let outside = self.share(|stack| stack.frames.iter().any(|frame| frame.module.is_empty()));
        assert!(outside == 0.0, "{outside:.1} % outside of all code\n{}", self.sketch());
    }

    /// The heaviest stacks.
    pub(crate) fn sketch(&self) -> String {
        self.reading.sketch(|_| true)
    }
}

fn is(stack: &Stack, state: &str) -> bool {
    state == "any" || stack.state.as_deref().unwrap_or("complete") == state
}

fn shows(stack: &Stack, functions: &[&str]) -> bool {
    let mut frames = stack.frames.iter().rev();
    functions.iter().all(|function| {
        frames.any(|frame| {
            let name = frame.name.strip_prefix("_cgoexp_").unwrap_or(&frame.name);
            name == *function || name.trim_end_matches(".abi0") == *function
        })
    })
}
