//! What is sent: recordings that profpipe itself makes of different programs at different rates.

use std::path::Path;
use std::process::{Command, Stdio};

/// One OTLP request.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
}

/// Every `.otlp` file of a directory.
pub(crate) fn read(directory: &Path) -> Vec<Payload> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "otlp"));
    paths.sort();
    let payloads: Vec<_> =
        paths.iter().map(|path| Payload { bytes: std::fs::read(path).unwrap() }).collect();
    assert!(!payloads.is_empty(), "no .otlp files in {}", directory.display());
    payloads
}

/// Records each program that can be had at three rates.
pub(crate) fn record(directory: &Path) -> Vec<Payload> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/programs");
    let source = |name: &str| programs.join(name).to_string_lossy().into_owned();
    let binary = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let builds = |command: &str, arguments: &[&str]| {
        let mut command = Command::new(command);
        let quiet = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    let mut commands = Vec::new();
    if builds("cc", &["-O2", "-g", "-o", &binary("c"), &source("split.c")]) {
        commands.push(vec![binary("c")]);
    }
    if builds("go", &["build", "-o", &binary("go"), &source("split.go")]) {
        commands.push(vec![binary("go")]);
    }
    if builds("python3", &["--version"]) {
        commands.push(vec!["python3".into(), source("split.py")]);
    }
    if builds("node", &["--version"]) {
        commands.push(vec!["node".into(), "--perf-basic-prof".into(), source("split.js")]);
    }
    for (number, command) in commands.iter().enumerate() {
        for rate in ["199", "997", "4999"] {
            let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
                .args(["record", "-F", rate, "-o"])
                .arg(directory.join(format!("{number}-{rate}.otlp")))
                .arg("--")
                .args(command)
                .args(["/dev/null", "2"])
                .current_dir(directory)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "recording {command:?}: {stderr}");
        }
    }
    read(directory)
}
