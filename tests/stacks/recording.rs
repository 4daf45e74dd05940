//! Compiles a program, records it with `profpipe record`, and holds the profile against what the
//! program does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

/// Writes a source of so many functions of assembly whose unwinding rules take 3 MiB and more, beside the
/// one that is used, and returns its path.
pub(crate) fn large_table(directory: &Path, functions: usize) -> PathBuf {
    use std::fmt::Write as _;
    let mut text = String::from("    .text\n");
    for number in 0..functions {
        let _ = writeln!(
            text,
            "f{number}:\n .cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n \
             .cfi_rel_offset %rbx, 0\n pop %rbx\n .cfi_adjust_cfa_offset -8\n .cfi_restore %rbx\n \
             ret\n .cfi_endproc"
        );
    }
    text.push_str("    .section .note.GNU-stack, \"\", @progbits\n");
    let path = directory.join("large.S");
    std::fs::write(&path, text).expect("a file");
    path
}

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

/// Compiles the program `source` and lets an agent with a durable queue look at it for some seconds, with
/// stacks unwound as `unwind` says; all that it has written, printed and counted.
pub(crate) fn everything_of_an_agent(
    source: &str,
    flags: &[&str],
    unwind: &str,
) -> Result<Vec<u8>, String> {
    profpipe_testing::sampling_is_permitted().map_err(|why| why.to_string())?;
    let directory = tempfile::Builder::new().prefix("profpipe-stacks-").tempdir().unwrap();
    let program = compile(source, flags, &[], directory.path())?;
    let one_at_a_time = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = Command::new(&program).arg("long").spawn().expect("the program starts");
    let config = directory.path().join("config.yaml");
    // Nobody listens there: what is sent stays in the queue.
    let text = format!(
        "receivers: {{perf: {{frequency: 499, interval: 500ms, unwind: {unwind}, \
         timestamps: true, scope: {{pid: {}}}}}}}\n\
         extensions: {{file_storage: {{directory: {queue}}}}}\n\
         exporters:\n  file: {{path: {files}, format: otlp_json}}\n  \
         otlp_http: {{endpoint: \"http://127.0.0.1:9\", sending_queue: {{storage: file_storage}}}}\n\
         service: {{extensions: [file_storage], telemetry: {{logs: {{level: debug}}}}, \
         pipelines: {{profiles: {{receivers: [perf], exporters: [file, otlp_http]}}}}}}\n",
        running.id(),
        queue = directory.path().join("queue").display(),
        files = directory.path().join("files").display(),
    );
    std::fs::write(&config, text).expect("a configuration");
    let agent = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["run", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("profpipe runs");
    std::thread::sleep(Duration::from_secs(3));
    let pid = rustix::process::Pid::from_raw(agent.id() as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let output = agent.wait_with_output().expect("it ends");
    let _ = running.kill();
    let _ = running.wait();
    drop(one_at_a_time);
    let mut bytes = [output.stdout, output.stderr].concat();
    let before = bytes.len();
    for place in ["files", "queue"] {
        add_files(&directory.path().join(place), &mut bytes);
    }
    let printed = String::from_utf8_lossy(&bytes[..before]);
    assert!(bytes.len() > before + 1000, "the agent wrote nothing: {printed}");
    Ok(bytes)
}

fn add_files(directory: &Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_files(&path, bytes);
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
}

/// Whether the bytes are in others, as they lie there, as an address next to them, or in digits.
pub(crate) fn comes_out(secret: &[u8; 8], bytes: &[u8]) -> bool {
    let word = u64::from_le_bytes(*secret);
    let contains = |wanted: &[u8]| bytes.windows(wanted.len()).any(|at| at == wanted);
    [word.wrapping_sub(1), word, word.wrapping_add(1)].into_iter().any(|near| {
        let mut number = Vec::new();
        prost::encoding::encode_varint(near, &mut number);
        let (hex, decimal) = (format!("{near:x}"), near.to_string());
        let little = near.to_le_bytes();
        let found = [&little[..], &near.to_be_bytes(), &number, hex.as_bytes(), decimal.as_bytes()];
        found.into_iter().any(contains)
    })
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
        assert!(!comes_out(secret, &self.bytes), "the secret came out\n{}", self.sketch());
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
