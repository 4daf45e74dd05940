#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use profpipe_receivers::perf::{Finding, Level};

use super::{debug_packages, json_of, symbols, text, works};

fn finding(name: &'static str, level: Level) -> Finding {
    let (cost, grant) = match level {
        Level::Good => (String::new(), String::new()),
        _ => ("less is seen".into(), "sudo grant".into()),
    };
    Finding { name, level, detail: "2".into(), cost, grant }
}

/// Scenario: a host that lacks something, and one that lacks what profiling needs.
/// Guarantees: what is missing is told with its cost and its command; only the second host fails.
#[test]
fn tells_cost_and_command() {
    let mut findings = vec![finding("kernel", Level::Good), finding("paranoid", Level::Limited)];
    assert!(works(&findings));
    let shown = text(&findings);
    assert_eq!(
        shown,
        "ok       kernel    2\n\
         limited  paranoid  2\n\
         \x20                  costs: less is seen\n\
         \x20                  grant: sudo grant\n\
         \nprofiling works, with the limits above\n"
    );
    findings.push(finding("events", Level::Missing));
    assert!(!works(&findings));
    assert!(text(&findings).contains("profiling does not work here"), "{}", text(&findings));
    let json: serde_json::Value = serde_json::from_str(&json_of(&findings)).unwrap();
    assert_eq!(json["works"], false);
    assert_eq!(json["findings"][2]["level"], "missing");
    assert_eq!(json["findings"][1]["grant"], "sudo grant");
}

/// Scenario: no debug files, on several distributions.
/// Guarantees: the command is the distribution's.
#[test]
fn debug_files() {
    let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
    let found = symbols(Path::new("/no/such/directory"), ubuntu);
    assert_eq!(found[0].level, Level::Limited);
    assert_eq!(found[0].grant, "sudo apt install libc6-dbg");
    assert_eq!(
        debug_packages("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\""),
        "sudo dnf debuginfo-install glibc"
    );
    assert!(debug_packages("").starts_with("install the debug packages"));
}
