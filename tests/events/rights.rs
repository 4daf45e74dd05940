//! What users with little rights get of each event, and what they are told.
//!
//! Run as root, which alone can have others; `setpriv` takes rights away. How much of the matrix applies depends
//! on `kernel.perf_event_paranoid`, which is that of the machine and is not changed: rows without `CAP_PERFMON`
//! are those of level 2.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::program;

/// An event, the program that makes it happen, and what is said, by user; nothing: it is seen.
type Row = (&'static str, &'static [&'static str], [&'static str; 4]);

/// The capabilities of the users, beside those that nobody has.
const USERS: [&str; 4] = ["", "perfmon", "perfmon,sys_ptrace,dac_read_search", "sys_admin"];
const WAITS: &[&str] = &["./waits", "1", "/dev/null"];
const TOUCHES: &[&str] = &["./touches", "200", "/dev/null"];
const CALLS: &[&str] = &["./calls", "200", "/dev/null"];
const NO_KERNEL: &str = "time in the kernel is not permitted to be profiled";
const NO_TRACEFS: &str = "may not be read by this user; run as root, or with CAP_DAC_READ_SEARCH";
const NO_PROBES: &str =
    "not permitted (Permission denied (os error 13)); run as root or with CAP_SYS_ADMIN";
const NO_OTHERS: &str =
    "threads of other users that wait are not seen; run as root, or with CAP_SYS_PTRACE";
const NO_HOST: &str = "profiling the whole host is not permitted here";

const ROWS: [Row; 7] = [
    ("off_cpu", WAITS, [NO_KERNEL, "", "", ""]),
    (
        "page_faults",
        TOUCHES,
        [
            "those that happen in the kernel, as in `read` and `write`, are not permitted",
            "",
            "",
            "",
        ],
    ),
    ("calls=./calls:recurse", CALLS, [NO_PROBES, NO_PROBES, NO_PROBES, ""]),
    ("block_io", TOUCHES, [NO_TRACEFS, NO_TRACEFS, "", NO_TRACEFS]),
    ("tracepoint:name=sched:sched_process_exec", TOUCHES, [NO_TRACEFS, NO_TRACEFS, "", NO_TRACEFS]),
    (
        "counter:name=context-switches,every=1",
        WAITS,
        ["it happens in the kernel, of which this user may see nothing", "", "", ""],
    ),
    ("counter:name=minor-faults,every=7", TOUCHES, [NO_KERNEL, "", "", ""]),
];

/// The same of the whole host.
const HOST: [(&str, [&str; 4]); 3] = [
    ("cpu", [NO_HOST, "", "", ""]),
    ("off_cpu", [NO_HOST, NO_OTHERS, "", NO_OTHERS]),
    ("page_faults", [NO_HOST, "", "", ""]),
];

/// Scenario: users from nobody to one with a capability or two record their own programs and the whole host, one
/// event after the other.
/// Guarantees: what is allowed is seen, without a word; for what is not, a line says what is missing and which
/// right grants it, and the recording ends well all the same.
#[test]
fn rights_are_as_documented() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    if !rustix::process::geteuid().is_root() {
        profpipe_testing::skip!("only root can be others");
    }
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    if level.trim() != "2" {
        profpipe_testing::skip!("kernel.perf_event_paranoid is {}, and not 2", level.trim());
    }
    for name in ["waits.c", "touches.c", "calls.c"] {
        let Some(_) = program(home, name, &["-O1"]) else { return };
    }
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o777)).unwrap();
    // Where the build directory is, others may not go.
    std::fs::copy(env!("CARGO_BIN_EXE_profpipe"), home.join("profpipe")).unwrap();
    let mut wrong = Vec::new();
    for (at, capabilities) in USERS.iter().enumerate() {
        for (event, program, expected) in &ROWS {
            let arguments = [&["record", "-e", event, "-o", "x.otlp", "--"], *program].concat();
            let Some(said) = run(home, capabilities, &arguments) else { return };
            check(&mut wrong, (event, capabilities), expected[at], &said);
        }
        for (event, expected) in &HOST {
            let arguments = ["record", "-a", "-d", "0.5", "-e", event, "-o", "x.otlp"];
            let Some(said) = run(home, capabilities, &arguments) else { return };
            check(&mut wrong, (event, capabilities), expected[at], &said);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Adds what is not as expected.
fn check(wrong: &mut Vec<String>, (event, user): (&str, &str), expected: &str, said: &str) {
    // Without a kernel part there are fewer.
    let is_missing = said.contains("left out");
    let is_as_expected = match expected {
        "" => !said.contains("WARN"),
        text => said.contains(text),
    };
    let has_samples = is_missing || said.contains(" samples in ") || event == "block_io";
    if !is_as_expected || !has_samples {
        wrong.push(format!("`{event}` as nobody with [{user}]: wanted {expected:?}, said {said}"));
    }
}

/// What profpipe says as nobody with these capabilities; none where nobody can be that.
fn run(home: &Path, capabilities: &str, arguments: &[&str]) -> Option<String> {
    let plus: String = capabilities
        .split(',')
        .filter(|one| !one.is_empty())
        .map(|one| format!(",+{one}"))
        .collect();
    let output = Command::new("setpriv")
        .current_dir(home)
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([format!("--inh-caps=-all{plus}"), format!("--ambient-caps=-all{plus}")])
        .arg("./profpipe")
        .args(arguments)
        .output();
    let Ok(output) = output else { profpipe_testing::skip!("there is no `setpriv`") };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?} with [{capabilities}]: {said}");
    Some(said)
}
