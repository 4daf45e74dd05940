//! Whole windows of programs against what each address alone is called.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use super::super::answer::{Resolution, ranges_from_wire};
use super::super::tables::format::{BLOCK_HEADER, Block, BlockHeader, WINDOW, encode_block};
use super::super::worker::{binary, sweep};
use super::languages::compile_go;
use super::support::*;

/// Everything about a window, by one question after the other as the answers are cut.
fn sweep_all(
    ask: &mut impl FnMut(Range<u64>) -> super::super::protocol::Names,
    window: u64,
) -> Vec<(Range<u64>, Resolution)> {
    let end = window + WINDOW;
    let mut all: Vec<(Range<u64>, Resolution)> = Vec::new();
    let mut at = window;
    while at < end {
        all.extend(ranges_from_wire(ask(at..end), at, end).unwrap());
        let next = all.last().unwrap().0.end;
        assert!(next > at, "no progress at {at:#x}");
        at = next;
    }
    all
}

/// Compares the windows of a program's code with its addresses, every `step`th; how many of those had
/// names, and how many had inlined frames.
fn compare(program: &Path, windows: usize, step: usize) -> (usize, usize) {
    let data = std::fs::read(program).unwrap();
    let object = object::File::parse(data.as_slice()).unwrap();
    let places = object.sections().filter(|section| section.kind() == object::SectionKind::Text);
    let mut all: Vec<u64> = places
        .flat_map(|section| {
            let end = section.address() + section.size();
            (section.address() / WINDOW..=(end - 1) / WINDOW).map(|number| number * WINDOW)
        })
        .collect();
    all.dedup();
    let every = all.len().div_ceil(windows).max(1);
    let file = File::open(program).unwrap().into();
    let (mut ask, mut alone) = (sweep::sweeper(&file), binary::look_up(&file));
    let (mut named, mut inlined) = (0, 0);
    for window in all.into_iter().step_by(every) {
        let ranges = sweep_all(&mut ask, window);
        let bytes = encode_block(window, true, &ranges).unwrap();
        let (header, payload) = bytes.split_at(BLOCK_HEADER);
        let header_read = BlockHeader::decode(header).unwrap();
        let mut block = Block::decode(&header_read, header, payload).unwrap();
        let addresses: Vec<u64> = (window..window + WINDOW).step_by(step).collect();
        for chunk in addresses.chunks(512) {
            for expected in alone(chunk) {
                let found = block.find(expected.address).unwrap();
                assert_eq!(found.answer, expected.answer, "{:#x} of {program:?}", found.address);
                assert!(found.same.contains(&found.address));
                if let Resolution::Named(frames) = &found.answer {
                    named += 1;
                    inlined += usize::from(frames.len() > 1);
                }
            }
        }
    }
    (named, inlined)
}

/// Scenario: every address of small programs: with debug information in one unit and in several, put
/// together by the linker, in the older format, each function in a section; with symbols only, with
/// dynamic symbols only, with stubs, with labels that have no size.
/// Guarantees: in the window it has the frames, files and lines that it has alone.
#[test]
fn windows_say_what_addresses_say() {
    let files = Files::new();
    let sources: Vec<_> =
        super::units::PARTS.iter().map(|(name, text)| files.write(name, text)).collect();
    for flags in [
        &["-O2", "-g"][..],
        &["-O2", "-g", "-flto", "-flto-partition=none"],
        &["-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-O1", "-gdwarf-4"],
        &["-O2"],
    ] {
        let program = files.path("program");
        run(Command::new("cc").args(flags).arg("-o").arg(&program).args(&sources)).unwrap();
        let (named, _) = compare(&program, usize::MAX, 1);
        assert!(named > 100, "{named}");
    }
    let whole = files.compile_c(&["-O2", "-g"]);
    let (_, inlined) = compare(&whole, usize::MAX, 1);
    assert!(inlined > 3, "{inlined}");
    let stripped = files.path("stripped");
    if run(Command::new("strip").arg("-o").args([&stripped, &whole])).is_some() {
        compare(&stripped, usize::MAX, 1);
    }
    let labels = files.write("labels.c", super::sizeless::SOURCE);
    let library = files.path("labels.so");
    let mut link = Command::new("cc");
    run(link.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(labels)).unwrap();
    compare(&library, usize::MAX, 1);
    let partly = files.path("partly.so");
    if run(Command::new("strip").args(["-x", "-o"]).args([&partly, &library])).is_some() {
        compare(&partly, usize::MAX, 1);
    }
}

/// Scenario: windows of large programs: this one, which is Rust, the C library, and a Go program,
/// stripped or not. Guarantees: as above.
#[test]
fn windows_of_large_programs_say_the_same() {
    let (named, inlined) = compare(&std::env::current_exe().unwrap(), 6, 61);
    assert!(named > 1000 && inlined > 200, "{named} {inlined}");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    if let Some(library) = paths.find(|path| path.contains("libc.so")) {
        let (named, _) = compare(Path::new(library), 12, 31);
        assert!(named > 1000, "{named}");
    }
    let files = Files::new();
    for (name, flags) in [("whole", &[][..]), ("stripped", &["-ldflags=-s -w"][..])] {
        let Some(go) = compile_go(&files, name, flags) else { return };
        let (named, inlined) = compare(&go, 8, 17);
        assert!(named > 1000 && inlined > 100, "{named} {inlined}");
    }
}
