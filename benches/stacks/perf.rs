//! The same programs under `perf record` of the kernel tools.

use std::process::{Command, Stdio};

use crate::differential::{Build, Ended, compile};

/// The share of samples of `perf record --call-graph dwarf` whose stack reaches a start, in percent; none
/// if perf is not there.
pub(crate) fn reached(build: &Build) -> Option<f64> {
    let directory = tempfile::Builder::new().prefix("profpipe-stops-").tempdir().ok()?;
    let program = compile(build, directory.path()).ok()?;
    let data = directory.path().join("perf.data");
    let running = Ended(
        Command::new(&program)
            .args(build.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?,
    );
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-F", "199", "--call-graph", "dwarf,32768", "-o"]).arg(&data);
    record.args(["-p", &running.0.id().to_string(), "--", "sleep", "2"]);
    record.stdout(Stdio::null()).stderr(Stdio::null()).status().ok().filter(|it| it.success())?;
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "ip,sym", "-i"]).arg(&data);
    let output = script.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let stacks: Vec<&str> = text.split("\n\n").filter(|stack| !stack.trim().is_empty()).collect();
    let starts = ["_start", "clone", "clone3", "__clone", "__clone3", "runtime.goexit.abi0"];
    let starts =
        [&starts[..], &["runtime.mstart.abi0", "runtime.mcall", "runtime.rt0_go.abi0"]].concat();
    let reaches = |stack: &&&str| {
        let last = stack.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let name = last.trim().split_once(' ').map_or("", |(_, name)| name);
        starts.iter().any(|start| name == *start || name.starts_with(&format!("{start}+")))
    };
    let reached = stacks.iter().filter(reaches).count();
    Some(100.0 * reached as f64 / stacks.len().max(1) as f64)
}
