//! `profpipe doctor` on the host at hand: it tells the truth about whether profiling works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use serde_json::Value;

fn doctor(arguments: &[&str], as_nobody: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.arg("doctor").args(arguments);
    if as_nobody {
        command.uid(65534).gid(65534);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Scenario: the same host is asked as text and as JSON.
/// Guarantees: both have the same findings; each that is lacking says what it costs; the exit code
/// is 0 exactly if profiling works, and then a recording does work.
#[test]
fn text_and_json_agree() {
    let shown = doctor(&[], false);
    let json = doctor(&["--format", "json"], false);
    assert_eq!(shown.status.code(), json.status.code());
    let value: Value = serde_json::from_str(&text(&json)).unwrap();
    let findings = value["findings"].as_array().unwrap();
    assert!(findings.len() >= 3, "{value}");
    let shown_text = text(&shown);
    for finding in findings {
        let name = finding["name"].as_str().unwrap();
        assert!(shown_text.contains(name), "no `{name}` in:\n{shown_text}");
        if finding["level"] != "ok" {
            let cost = finding["cost"].as_str().unwrap();
            assert!(!cost.is_empty(), "{finding}");
            assert!(shown_text.contains(cost), "no `{cost}` in:\n{shown_text}");
            assert!(shown_text.contains(finding["grant"].as_str().unwrap()), "{finding}");
        }
    }
    assert_eq!(value["works"].as_bool().unwrap(), shown.status.code() == Some(0));
    let home = tempfile::tempdir().unwrap();
    let record = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["record", "-o"])
        .arg(home.path().join("out.pb.gz"))
        .args(["--", "true"])
        .output()
        .unwrap();
    assert_eq!(value["works"].as_bool().unwrap(), record.status.success());
}

/// Scenario: a user without privileges asks.
/// Guarantees: whatever root has and they lack is told with the command that grants it.
#[test]
fn without_privileges() {
    if !rustix::process::geteuid().is_root() {
        profpipe_testing::skip!("only root can become another user");
    }
    let level = |finding: &Value| finding["level"].as_str().unwrap().to_owned();
    let of = |as_nobody| -> Vec<Value> {
        let output = doctor(&["--format", "json"], as_nobody);
        let value: Value = serde_json::from_str(&text(&output)).unwrap();
        value["findings"].as_array().unwrap().clone()
    };
    let (root, nobody) = (of(false), of(true));
    let mut lacking = 0;
    for finding in &nobody {
        let same = root.iter().find(|other| other["name"] == finding["name"]).unwrap();
        if level(same) == "ok" && level(finding) != "ok" {
            lacking += 1;
            assert!(!finding["grant"].as_str().unwrap().is_empty(), "{finding}");
        }
    }
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    if paranoid.unwrap_or_default().trim().parse::<i32>().is_ok_and(|level| level > 0) {
        assert!(lacking > 0, "{nobody:?}");
    }
}
