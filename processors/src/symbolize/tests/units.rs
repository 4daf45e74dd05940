//! Debug information read unit by unit against all of it at once.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::super::worker::binary::look_up;
use super::support::*;

/// Compares answers with those from a copy without the section that says where units are.
fn compare(files: &Files, program: &Path, step: usize) {
    let copy = files.path("copy");
    let mut objcopy = Command::new("objcopy");
    if run(objcopy.args(["-R", ".debug_aranges"]).args([program, &copy])).is_none() {
        return;
    }
    let addresses: Vec<u64> = super::fetched::code(program).into_iter().step_by(step).collect();
    let mut by_unit = look_up(&File::open(program).unwrap().into());
    let mut at_once = look_up(&File::open(&copy).unwrap().into());
    let mut lines = 0;
    for chunk in addresses.chunks(1000) {
        let expected = at_once(chunk);
        assert_eq!(by_unit(chunk), expected);
        lines += expected.len();
    }
    assert!(lines > 20, "{lines} answers");
}

pub(super) const PARTS: [(&str, &str); 3] = [
    ("one.c", "int two(int); int main(int argc, char **argv) { return two(argc) + 1; }"),
    (
        "two.c",
        "int three(int); static inline __attribute__((always_inline)) int twice(int x)\n\
         { return three(x) * 2; }\nint two(int x) { return twice(x) + twice(x + 1); }",
    ),
    (
        "three.c",
        "int three(int x) { int s = 0;\nfor (int i = 0; i < x; i++) s += i * x;\nreturn s; }",
    ),
];

/// Scenario: programs of several units: side by side, put together by the linker so that they refer
/// to each other, each function in a section of its own, in the older format.
/// Guarantees: the same answers, whether units are read one by one or all at once.
#[test]
fn units_are_read_alone() {
    let files = Files::new();
    let sources: Vec<_> = PARTS.iter().map(|(name, text)| files.write(name, text)).collect();
    for flags in [
        &["-O2", "-g"][..],
        &["-O2", "-g", "-flto", "-flto-partition=none"],
        &["-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-O1", "-gdwarf-4"],
    ] {
        let program = files.path("program");
        if run(Command::new("cc").args(flags).arg("-o").arg(&program).args(&sources)).is_none() {
            return;
        }
        compare(&files, &program, 1);
    }
}

/// Scenario: this test program. Guarantees: the same.
#[test]
fn large_programs_are_read_by_unit() {
    compare(&Files::new(), &std::env::current_exe().unwrap(), 104_729);
}
