//! What an answer says about the addresses around the one that was asked for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use super::super::answer::Resolution;
use super::super::worker::binary;
use super::languages::compile_go;
use super::support::*;

/// Asks for addresses all over the code; of each answer's range some are asked for alone. Returns
/// the bytes that an answer held for on average, and how many answers had names.
fn check(file: &Path, questions: u64) -> (u64, usize) {
    let data = std::fs::read(file).unwrap();
    let object = object::File::parse(data.as_slice()).unwrap();
    let text = object.section_by_name(".text").unwrap();
    // Beside it are stubs, other sections and nothing.
    let (start, end) = (text.address() - 64, text.address() + text.size() + 64);
    let step = ((end - start) / questions).max(1) as usize;
    let addresses: Vec<u64> = (start..end).step_by(step).collect();
    let mut ask = binary::look_up(&File::open(file).unwrap().into());
    let together = ask(&addresses);
    assert_eq!(together.len(), addresses.len());
    let mut bytes = 0;
    for known in &together {
        assert!(known.same.contains(&known.address));
        // Nothing is known of what is far outside of all code.
        let same = known.same.start.max(start)..known.same.end.min(end);
        bytes += same.end - same.start;
        let middle = same.start + (same.end - same.start) / 2;
        let near = [same.start, known.address + 1, middle, same.end - 1];
        for address in near.into_iter().filter(|address| same.contains(address)) {
            let alone = ask(&[address]);
            assert_eq!(alone[0].answer, known.answer, "{address:#x} of {known:x?}, {file:?}");
        }
    }
    let named = together.iter().filter(|known| matches!(known.answer, Resolution::Named(_)));
    (bytes / together.len() as u64, named.count())
}

/// Scenario: every address of a C program with debug information, with symbols, and without.
/// Guarantees: an answer holds for every address of its range; with symbols that is a function.
#[test]
fn what_holds_for_a_range_holds_for_its_addresses() {
    let files = Files::new();
    let with_lines = files.compile_c(&["-O2", "-g"]);
    let symbols = files.path("symbols");
    let stripped = files.path("stripped");
    for (to, option) in [(&symbols, "-g"), (&stripped, "-s")] {
        let mut strip = Command::new("strip");
        if run(strip.arg(option).arg("-o").args([to, &with_lines])).is_none() {
            eprintln!("skipped: no strip");
            return;
        }
    }
    let (lines, named) = check(&with_lines, u64::MAX);
    assert!(lines > 1 && named > 100, "{lines} {named}");
    assert!(check(&symbols, u64::MAX).0 > lines);
    assert!(check(&stripped, u64::MAX).0 > lines);
}

/// Scenario: the same for samples of large programs: this one, which is Rust, the C library, and a
/// Go program. Guarantees: as above.
#[test]
fn ranges_hold_in_large_programs() {
    let (rust, named) = check(&std::env::current_exe().unwrap(), 400);
    assert!(rust > 2 && named > 200, "{rust} {named}");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    if let Some(library) = paths.find(|path| path.contains("libc.so")) {
        let (library, named) = check(&PathBuf::from(library), 2000);
        assert!(library > 20 && named > 500, "{library} {named}");
    }
    let files = Files::new();
    let Some(go) = compile_go(&files, "whole", &[]) else { return };
    let (go, named) = check(&go, 4000);
    assert!(go > 4 && named > 3000, "{go} {named}");
}
