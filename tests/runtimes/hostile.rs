//! Programs that lie about what they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtimes/programs/liar.c");
/// The longest name that is shown, in characters.
const MAX_NAME: usize = 1024;

fn compiled(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("liar");
    let compiled = Command::new("cc")
        .args(["-O1", "-g0", "-rdynamic", "-w", "-o"])
        .arg(&program)
        .arg(SOURCE)
        .status();
    compiled.is_ok_and(|status| status.success()).then_some(program)
}

/// What came of recording a program.
struct Recorded {
    samples: u64,
    managed: usize,
    names: Vec<String>,
    printed: String,
}

fn record(program: &Path, directory: &Path, script: &str) -> Option<Recorded> {
    let profile = directory.join("profile.json");
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["record", "-F", "499", "-o"])
        .arg(&profile)
        .args(["--", "sh", "-c", script])
        .arg(program)
        .env("PROFPIPE_LOG", "debug")
        .output()
        .expect("profpipe runs");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(101), "{script}: {printed}");
    assert!(!printed.contains("panicked"), "{script}: {printed}");
    if output.status.code() == Some(77) {
        return None;
    }
    assert!(output.status.success(), "{script}: {printed}");
    let profile: Value = serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap();
    let dictionary = &profile["dictionary"];
    let strings = dictionary["stringTable"].as_array().unwrap();
    let string = |at: &Value| strings[at.as_u64().unwrap_or(0) as usize].as_str().unwrap_or("");
    let functions = dictionary["functionTable"].as_array().unwrap();
    let names = functions
        .iter()
        .flat_map(|it| [&it["nameStrindex"], &it["filenameStrindex"]])
        .map(|at| string(at).to_owned())
        .collect();
    let kinds = dictionary["attributeTable"].as_array().unwrap();
    let is_managed = |location: &&Value| {
        let attributes = location["attributeIndices"].as_array().into_iter().flatten();
        attributes
            .map(|at| &kinds[at.as_u64().unwrap() as usize])
            .any(|attribute| attribute["value"]["stringValue"] == "cpython")
    };
    let managed = dictionary["locationTable"].as_array().unwrap().iter().filter(is_managed).count();
    let mut samples = 0;
    for resource in profile["resourceProfiles"].as_array().unwrap() {
        let profiles = resource["scopeProfiles"][0]["profiles"].as_array().unwrap();
        for sample in profiles[0]["samples"].as_array().into_iter().flatten() {
            samples += sample["timestampsUnixNano"].as_array().map_or(0, Vec::len) as u64;
        }
    }
    Some(Recorded { samples, managed, names, printed })
}

/// Scenario: a program exports what CPython exports, and its frames form rings, lead to where nothing
/// is, are deeper than the bounds, have texts of 2⁶³ characters, change at random, or another program
/// is executed in the middle.
/// Guarantees: the recording ends as it should, every sample is there, no managed frame comes of what
/// cannot be, and no text moves a cursor.
#[test]
fn liars() {
    let _alone = crate::alone_on_the_host();
    if let Err(why) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {why}");
    }
    let directory = tempfile::Builder::new().prefix("profpipe-runtimes-").tempdir().unwrap();
    let Some(program) = compiled(directory.path()) else {
        profpipe_testing::skip!("there is no C compiler")
    };
    let modes = [
        ("true", true),
        ("loop", true),
        ("deep", true),
        ("exec", true),
        ("length", true),
        ("changing", true),
        ("self", false),
        ("unmapped", false),
        ("wrapping", false),
        ("type", false),
        ("position", false),
        ("interpreters", false),
        ("threads", false),
    ];
    for (mode, may_be_shown) in modes {
        let script = format!("exec \"$0\" {mode} 1");
        let Some(recorded) = record(&program, directory.path(), &script) else { return };
        let Recorded { samples, managed, names, printed } = recorded;
        assert!(samples >= 400, "{mode}: {samples} samples: {printed}");
        assert!(may_be_shown || managed == 0, "{mode}: {managed} frames of what is not");
        if mode == "true" {
            assert!(managed > 0, "the program is not taken for CPython: {printed}");
        }
        for name in names {
            assert!(!name.chars().any(char::is_control), "{mode}: {name:?}");
            assert!(name.chars().count() <= MAX_NAME, "{mode}: a name of {}", name.len());
        }
    }
}

/// Scenario: processes have a page that never comes where a frame should be, or a name: reading it does
/// not end before they do. First one of them, then more than are borne.
/// Guarantees: sampling goes on, with native stacks; each is left alone after the first read, which is
/// said; the recording ends.
#[test]
fn pages_that_never_come() {
    let _alone = crate::alone_on_the_host();
    if let Err(why) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {why}");
    }
    let directory = tempfile::Builder::new().prefix("profpipe-runtimes-").tempdir().unwrap();
    let Some(program) = compiled(directory.path()) else {
        profpipe_testing::skip!("there is no C compiler")
    };
    let several = "for i in 1 2 3 4 5 6; do \"$0\" endless 1 & done; wait";
    let scripts = [("exec \"$0\" endless 1", 1), ("exec \"$0\" nameless 3", 1), (several, 3)];
    for (script, stuck) in scripts {
        let Some(recorded) = record(&program, directory.path(), script) else {
            profpipe_testing::skip!("this kernel has no userfaultfd for everybody")
        };
        let Recorded { samples, managed, printed, .. } = recorded;
        assert!(samples >= 400, "{script}: {samples} samples: {printed}");
        let reported = printed.matches("does not end").count();
        assert!(reported >= 1, "{script}: nothing is said: {printed}");
        let is_over = printed.contains("from now on") && printed.contains("have kept");
        assert_eq!(is_over, stuck >= 3, "{script}: {printed}");
        assert!(managed == 0 || script.contains("nameless"), "{script}: {managed} frames");
    }
}
