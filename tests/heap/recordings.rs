//! Programs, and what a recording says of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Why nothing can be recorded here, if so.
pub(crate) fn obstacle() -> Option<String> {
    profpipe_testing::sampling_is_permitted().err().map(|error| error.to_string())
}

/// Where the programs are.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/heap/programs").join(name)
}

/// Compiles a program of C, or a library with `-shared`; none where there is no compiler.
pub(crate) fn compile(home: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    let binary = home.join(name.trim_end_matches(".c"));
    let compiler = Command::new("cc")
        .args(["-g", "-O1", "-fno-builtin", "-pthread", "-o"])
        .arg(&binary)
        .arg(source(name))
        .args(options)
        .output();
    let output = compiler.ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(binary)
}

/// Runs the program; it may end as it likes.
pub(crate) fn run(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

/// Records a command into `h.otlp`; returns what was said.
pub(crate) fn record(
    home: &Path,
    event: &str,
    variables: &[(&str, &str)],
    command: &[&str],
) -> String {
    let arguments = ["record", "-e", event, "-o", "h.otlp", "--"];
    let output = run(home, variables, &[&arguments, command].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// The stacks of a sample type, each with its frames from the root and its weight.
pub(crate) fn stacks(home: &Path, file: &str, sample_type: &str) -> Vec<(Vec<String>, f64)> {
    let output = run(home, &[], &["convert", file, "out.folded", "--type", sample_type]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{sample_type}: {said}");
    let text = std::fs::read_to_string(home.join("out.folded")).unwrap();
    let stack = |line: &str| {
        let (frames, weight) = line.rsplit_once(' ')?;
        Some((frames.split(';').map(str::to_owned).collect(), weight.parse().ok()?))
    };
    text.lines().filter_map(stack).collect()
}

/// The weight of the stacks that a function is in.
pub(crate) fn weight_of(stacks: &[(Vec<String>, f64)], function: &str) -> f64 {
    let has = |frames: &[String]| frames.iter().any(|frame| frame == function);
    stacks.iter().filter(|(frames, _)| has(frames)).map(|(_, weight)| weight).sum()
}

/// The weight of all stacks.
pub(crate) fn all(stacks: &[(Vec<String>, f64)]) -> f64 {
    stacks.iter().map(|(_, weight)| weight).sum()
}
