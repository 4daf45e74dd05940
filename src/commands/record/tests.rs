#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;

use super::gate::Held;

fn shell(script: &str) -> Held {
    Held::start(&"sh".into(), &["-c".into(), script.into()], Vec::new()).unwrap()
}

/// Scenario: a command is held at the gate, then released.
/// Guarantees: it has not run before; the id told is its own; its exit code arrives.
#[test]
fn command_waits_at_the_gate() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pid");
    let held = shell(&format!("echo $$ > {}; exit 7", file.display()));
    let pid = held.pid();
    // The process exists and is still ours.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(!status.contains("Name:\tsh"), "{status}");
    assert!(!file.exists());
    let status = held.release().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), pid.to_string());
}

/// Scenario: the profiler gives up before it opens the gate.
/// Guarantees: the command never runs and its process ends.
#[test]
fn command_is_not_run_if_profiling_fails() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ran");
    let held = shell(&format!("touch {}", file.display()));
    let pid = held.pid();
    held.give_up();
    assert!(!file.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// Scenario: a command that is not there, and one that is not executable.
/// Guarantees: releasing says which.
#[test]
fn commands_that_cannot_run() {
    let kind = |program: &str| {
        let held = Held::start(&OsString::from(program), &[], Vec::new()).unwrap();
        held.release().unwrap_err().kind()
    };
    assert_eq!(kind("/no/such/program"), ErrorKind::NotFound);
    assert_eq!(kind("no-such-program-anywhere"), ErrorKind::NotFound);
    assert_eq!(kind("/etc/passwd"), ErrorKind::PermissionDenied);
}

/// Scenario: a command kills itself.
/// Guarantees: the signal arrives as such.
#[test]
fn signals_of_the_command() {
    let status = shell("kill -TERM $$").release().unwrap().wait().unwrap();
    assert_eq!(status.signal(), Some(15));
}
