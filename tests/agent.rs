//! What `profpipe run` says it sampled, against what its files hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says when it is skipped"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use profpipe::Profiles;
use profpipe::pprof;
use rustix::process::{Pid, Signal, kill_process};

/// Windows far shorter than usual: every boundary of two is a chance to lose something, and a
/// process that pauses for a few seconds has paused for many windows.
const CONFIG: &str = "\
receivers: {perf: {interval: 200ms}}
processors: {symbolize: }
exporters: {file: {path: ./profiles}}
service: {pipelines: {profiles: {receivers: [perf], processors: [symbolize], exporters: [file]}}}
";

/// Works, pauses for longer than idle processes are remembered, works again, and meanwhile starts
/// short-lived processes.
const LOAD: &str = "\
burn() { i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; }
burn; sleep 8; burn
while :; do /bin/sh -c 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done'; done
";

/// A child, killed with all that it started if the test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Scenario: the agent beside a busy process, one that pauses, and short-lived ones, for a dozen
/// seconds; then Ctrl-C.
/// Guarantees: the files hold every sample that the last line counts, but for the lost ones that it
/// states.
#[test]
fn files_hold_every_counted_sample() {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.yaml"), CONFIG).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["run", "--config", "c.yaml"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut stderr = BufReader::new(agent.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C stops") {
        if stderr.read_line(&mut said).unwrap() == 0 {
            panic!("the agent does not run: {said}");
        }
    }
    let load = Command::new("/bin/sh").args(["-c", LOAD]).spawn().map(Running).unwrap();
    std::thread::sleep(Duration::from_secs(12));
    let process = Pid::from_raw(i32::try_from(agent.0.id()).unwrap()).unwrap();
    kill_process(process, Signal::INT).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(agent.0.wait().unwrap().success(), "{said}");
    drop(load);

    let last = said.lines().last().unwrap();
    let before = |word: &str| -> i64 {
        let (head, _) = last.split_once(word).unwrap_or_else(|| panic!("no {word} in: {said}"));
        head.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap()
    };
    let (counted, lost, files) = (before(" samples"), before(" lost"), before(" files"));
    let mut held = 0;
    let mut read = 0;
    for entry in std::fs::read_dir(directory.path().join("profiles")).unwrap() {
        let profiles = pprof::decode(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        held += samples(&profiles);
        read += 1;
    }
    assert_eq!(read, files, "{said}");
    assert!(counted > 50, "the load was busy for seconds: {said}");
    if lost == 0 {
        assert_eq!(held, counted, "{said}");
    } else {
        // Those that the kernel had no room for are lost without having been counted.
        assert!((counted - lost..=counted).contains(&held), "files hold {held}; {said}");
    }
}

/// The sum of `samples`/`count`.
fn samples(profiles: &Profiles) -> i64 {
    let strings = &profiles.dictionary.strings;
    let scopes = profiles.resources.iter().flat_map(|resource| &resource.scopes);
    let counts = scopes
        .flat_map(|scope| &scope.profiles)
        .filter(|profile| strings.get(profile.sample_type.kind) == "samples");
    counts.flat_map(|profile| profile.samples.iter()).flat_map(|sample| sample.values).sum()
}
