//! What people are told where the kernel allows less: by which setting, what they lose, what grants it.
//!
//! The tests become another user or enter a namespace, for which they must run as root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Burns CPU in a shell for a while.
const BURN: &str = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
/// Users without any rights, one for each test: they share the memory for rings.
const NOBODY: [u32; 3] = [64_501, 64_502, 64_503];

/// A directory that everybody can use.
fn home() -> Option<TempDir> {
    if !rustix::process::geteuid().is_root() {
        profpipe_testing::skip!("only root can become another user or enter a namespace");
    }
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    Some(home)
}

fn number(path: &str) -> i64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(i64::MAX)
}

/// A shell line with `$PROFPIPE`, run in the directory.
fn shell(home: &TempDir, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PROFPIPE", env!("CARGO_BIN_EXE_profpipe"));
    command.env("BURN", BURN).current_dir(home.path()).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the user without rights can run the program and profile with it; the setting is one where
/// that is so.
fn can_profile(home: &TempDir, user: u32) -> bool {
    let paranoid = number("/proc/sys/kernel/perf_event_paranoid");
    let runs = shell(home, "exec $PROFPIPE --version").uid(user).gid(user).output().unwrap();
    if !(0..=2).contains(&paranoid) || !runs.status.success() {
        profpipe_testing::skip!("another user cannot profile here, or everything");
    }
    true
}

/// Scenario: a user without rights records a set-user-ID program, and a shell that starts one.
/// Guarantees: they are told that the kernel does not show it and who can see it; what can be seen is
/// recorded; the frequency is not blamed.
#[test]
fn set_user_id_programs() {
    let Some(home) = home() else { return };
    if !can_profile(&home, NOBODY[0]) {
        return;
    }
    let program = home.path().join("privileged");
    fs::copy("/bin/sh", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let record = |command: &str| {
        let line = format!("exec $PROFPIPE record -F 499 -o out.pb.gz -- {command}");
        shell(&home, &line).uid(NOBODY[0]).gid(NOBODY[0]).output().unwrap()
    };
    let output = record("./privileged -c \"$BURN; exit 3\"");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("set-user-ID program") && text.contains("profile privileged"), "{text}");
    assert!(text.contains("no samples") && !text.contains("ran long enough"), "{text}");
    let output = record("sh -c \"$BURN; ./privileged -c true; exit 4\"");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("profile privileged") && !text.contains("no samples"), "{text}");
}

/// Scenario: a user without rights records while another recording of theirs holds the memory that
/// they may lock.
/// Guarantees: smaller rings are taken and said; where there is none left, that is said, with the
/// settings, and perf events themselves are not blamed.
#[test]
fn memory_for_rings() {
    let Some(home) = home() else { return };
    if !can_profile(&home, NOBODY[1]) {
        return;
    }
    if !(256..1024).contains(&number("/proc/sys/kernel/perf_event_mlock_kb")) {
        profpipe_testing::skip!("the memory for rings is not limited as usual");
    }
    let mut first = shell(
        &home,
        "ulimit -l 0; exec $PROFPIPE record -o a.pb.gz -- sh -c 'echo ready; exec sleep 1000' 2>a.err",
    );
    let mut first =
        Hog(first.uid(NOBODY[1]).gid(NOBODY[1]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(first.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{:?}", fs::read_to_string(home.path().join("a.err")));
    let second = |limit: usize| {
        let line = format!(
            "ulimit -l {limit}; exec $PROFPIPE record -F 499 -o b.pb.gz -- sh -c \"$BURN\""
        );
        shell(&home, &line).uid(NOBODY[1]).gid(NOBODY[1]).output().unwrap()
    };
    // Rings of 16 KiB, each with a page more.
    let cpus = std::thread::available_parallelism().unwrap().get();
    let output = second(24 * cpus);
    let text = said(&output);
    assert!(
        output.status.success() && text.contains("of ring buffer per CPU are permitted"),
        "{text}"
    );
    assert!(text.contains("deep stacks are truncated") && text.contains("samples in"), "{text}");
    let output = second(0);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["is used up", "perf_event_mlock_kb", "ulimit -l"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains("not permitted"), "{text}");
    drop(first);
}

/// A recording that is ended with the test.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Scenario: the whole host and a command are recorded in a PID namespace, with its own `/proc` and with
/// that of the host, and `doctor` is asked there.
/// Guarantees: with its own, all works and both say that others are not seen; with another's nothing is
/// recorded, and both say why.
#[test]
fn namespaces() {
    let Some(home) = home() else { return };
    let within = |mount: &str, line: &str| {
        let line = format!("exec unshare -m -p -f {mount} sh -c '{line}'");
        shell(&home, &line).output().unwrap()
    };
    if !within("--mount-proc", "true").status.success() {
        profpipe_testing::skip!("there is no `unshare`, or it may not make namespaces");
    }
    let own = within("--mount-proc", "exec $PROFPIPE record -a -d 0.2 -o out.pb.gz");
    let text = said(&own);
    assert!(own.status.success() && text.contains("PID namespace"), "{text}");
    let command =
        within("--mount-proc", "exec $PROFPIPE record -F 499 -o out.pb.gz -- sh -c \"$BURN\"");
    let text = said(&command);
    assert!(command.status.success() && text.contains("samples in"), "{text}");
    assert!(!text.contains("PID namespace"), "{text}");
    let doctor = within("--mount-proc", "exec $PROFPIPE doctor");
    let shown = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && shown.contains("processes outside of it"), "{shown}");

    for what in ["-a -d 0.2", "-- true"] {
        let other = within("", &format!("exec $PROFPIPE record -o other.pb.gz {what}"));
        let text = said(&other);
        assert_eq!(other.status.code(), Some(1), "{text}");
        assert!(text.contains("/proc is that of another PID namespace"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let doctor = within("", "exec $PROFPIPE doctor");
    assert_eq!(doctor.status.code(), Some(1), "{}", String::from_utf8_lossy(&doctor.stdout));
}

/// A program with 300 threads that work a little and rest a little.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *work(void *unused) {
    for (;;) {
        for (volatile int i = 0; i < 200000; i++) {}
        usleep(30000);
    }
    return unused;
}
int main(void) {
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        pthread_create(&thread, 0, work, 0);
    }
    puts("ready");
    fflush(stdout);
    sleep(600);
}
"#;

/// Scenario: a process has more threads than there are descriptors for, with and without rights.
/// Guarantees: with them nearly all threads have samples; without, nothing is recorded and the message
/// says how many threads there are, how many could be, and what to raise.
#[test]
fn more_threads_than_descriptors() {
    let Some(home) = home() else { return };
    fs::write(home.path().join("threads.c"), THREADS).unwrap();
    let compile = shell(&home, "cc -O1 -pthread threads.c -o threads").status().unwrap();
    assert!(compile.success(), "no C compiler");
    let start = |user: u32| {
        let mut program = shell(&home, "exec ./threads");
        let mut child = program.uid(user).gid(user).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Hog(child)
    };
    let record = |target: &Hog, user: u32, out: &str| {
        let line = format!(
            "ulimit -n 200; exec $PROFPIPE record -F 499 -d 2 -p {} -o {out}",
            target.0.id()
        );
        shell(&home, &line).uid(user).gid(user).output().unwrap()
    };
    let target = start(0);
    let output = record(&target, 0, "out.otlp");
    let text = said(&output);
    assert!(
        output.status.success() && text.contains("more than there are descriptors for"),
        "{text}"
    );
    let written = fs::read(home.path().join("out.otlp")).unwrap();
    let profiles = profpipe::otlp::decode(&written).unwrap();
    let mut threads = std::collections::HashSet::new();
    let dictionary = &profiles.dictionary;
    for (resource, _, profile) in profiles.iter() {
        let pid = resource.get("process.pid").and_then(|pid| pid.as_int());
        assert_eq!(pid, Some(i64::from(target.0.id())));
        for sample in profile.samples.iter() {
            let of = sample.attributes.iter();
            let id = of.filter(|at| {
                dictionary.strings.get(dictionary.attributes.key(**at)) == "thread.id"
            });
            threads.extend(id.filter_map(|at| dictionary.attributes.value(*at).as_int()));
        }
    }
    assert!(threads.len() > 100, "{} threads in: {text}", threads.len());
    drop(target);

    if !can_profile(&home, NOBODY[2]) {
        return;
    }
    let target = start(NOBODY[2]);
    let output = record(&target, NOBODY[2], "none.otlp");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(" threads, and at most ") && text.contains("ulimit -n"), "{text}");
    assert!(!home.path().join("none.otlp").exists());
}
