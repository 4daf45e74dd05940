//! Files that belong to others: their unwinding tables, and those of just-in-time compilers.

use std::sync::LazyLock;

use object::{Object, ObjectSection};
use profpipe_host::proc;
use proptest::prelude::*;

use super::super::events::tasks::parse_cpus;
use super::super::images::sections::Sections;
use super::super::images::{cfi, go};
use super::super::processes::perf_map::PerfMapPlace;

/// A real ELF file: this test program.
static PROGRAM: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(std::env::current_exe().unwrap()).unwrap());

/// Scenario: this program's own file is read piece by piece, and by `object` from memory.
/// Guarantees: the unwinding sections are the same.
#[test]
fn agrees_with_object() {
    let file = object::File::parse(&PROGRAM[..]).unwrap();
    let section = |name| file.section_by_name(name).unwrap().data().unwrap();
    let rules = Sections::read(&PROGRAM[..]);
    assert_eq!(&*rules.eh_frame.unwrap().1, section(".eh_frame"));
    assert_eq!(&*rules.eh_frame_hdr.unwrap().1, section(".eh_frame_hdr"));
}

/// Scenario: the section headers of a program are gone.
/// Guarantees: its unwinding rules are found through the program headers, and begin the same.
#[test]
fn finds_rules_without_section_headers() {
    let mut bytes = PROGRAM.clone();
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    let (whole, bare) = (Sections::read(&PROGRAM[..]), Sections::read(&bytes[..]));
    let (range, rules) = whole.eh_frame.unwrap();
    let (found_range, found) = bare.eh_frame.unwrap();
    assert_eq!(found_range.start, range.start);
    assert!(found.starts_with(&rules));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Scenario: a real program is cut off and some of its bits are flipped, mostly in its headers.
    /// Guarantees: reading it ends without a panic; whatever is found fits into the file.
    #[test]
    fn a_damaged_elf_file_is_harmless(
        flips in proptest::collection::vec((0_usize..1200, any::<u8>()), 0..20),
        anywhere in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = PROGRAM.clone();
        let sections = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
        for (at, value) in flips {
            bytes[at] ^= value;
            if let Some(byte) = bytes.get_mut(sections + at) {
                *byte ^= value;
            }
        }
        for (at, value) in anywhere {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let read = Sections::read(&bytes[..]);
        let held = [read.debug_frame, read.gopclntab].into_iter().flatten();
        let framed = [read.eh_frame, read.eh_frame_hdr].into_iter().flatten();
        for table in held.chain(framed.map(|(_, table)| table)) {
            prop_assert!(table.len() <= bytes.len());
        }
    }

    /// Scenario: arbitrary text as a list of CPUs.
    /// Guarantees: no panic.
    #[test]
    fn arbitrary_text_is_harmless(text in "[0-9,\\- \n]{0,200}") {
        let _ = parse_cpus(&text);
    }
}

/// Scenario: the kernel's lists of CPUs.
/// Guarantees: ranges and single numbers are read.
#[test]
fn reads_lists_of_cpus() {
    assert_eq!(parse_cpus("0-3,6\n"), [0, 1, 2, 3, 6]);
    assert_eq!(parse_cpus("0\n"), [0]);
    assert!(parse_cpus("").is_empty());
}

/// Scenario: the unwinding tables of this program and of the libraries it uses are checked.
/// Guarantees: what compilers and linkers write passes, the search table included.
#[test]
fn real_unwinding_tables_pass() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut checked = 0;
    for line in proc::executable(&maps).filter(|line| line.path.starts_with('/')) {
        let bytes = std::fs::read(line.path).unwrap();
        let rules = Sections::read(&bytes[..]);
        let (range, eh_frame) = rules.eh_frame.unwrap();
        let frames = cfi::check(&eh_frame, cfi::Kind::EhFrame, &mut || ());
        let frames = frames.unwrap_or_else(|| panic!("{} is refused", line.path));
        let (search_range, search) = rules.eh_frame_hdr.unwrap();
        let search = (search_range.start, &*search);
        assert!(cfi::check_search(search, range.start, &frames), "{}", line.path);
        checked += 1;
    }
    assert!(checked > 1);
}

/// A table of one CIE and one FDE with these instructions.
fn table(instructions: &[u8]) -> Vec<u8> {
    let entry = |body: &[u8]| [&(body.len() as u32).to_le_bytes()[..], body].concat();
    let common = entry(b"\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08");
    let back = common.len() as u32 + 4;
    let frame = [&back.to_le_bytes()[..], &[0; 8], &[0], instructions].concat();
    [common, entry(&frame), vec![0; 4]].concat()
}

/// Scenario: a table whose expression jumps back to its own start, as an attacker would write to
/// keep the profiler busy for ever; and one with unknown instructions, and one that is cut off.
/// Guarantees: none is accepted; the same table without the jump is.
#[test]
fn a_table_that_never_ends_is_refused() {
    let check =
        |instructions: &[u8]| cfi::check(&table(instructions), cfi::Kind::EhFrame, &mut || ());
    assert!(check(&[0x0f, 0x03, 0x77, 0x28, 0x06]).is_some());
    assert!(check(&[0x0f, 0x03, 0x2f, 0xfd, 0xff]).is_none());
    assert!(check(&[0x3f]).is_none());
    assert!(check(&[0x0f, 0x7f]).is_none());
    let whole = table(&[0x44, 0x0e, 0x10]);
    assert!(cfi::check(&whole, cfi::Kind::EhFrame, &mut || ()).is_some());
    assert!(cfi::check(&whole[..whole.len() - 6], cfi::Kind::EhFrame, &mut || ()).is_none());
}

proptest! {
    /// Scenario: arbitrary bytes as a table, as instructions and as a search table.
    /// Guarantees: the check ends without a panic.
    #[test]
    fn checking_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        address: u64,
        rules: u64,
    ) {
        for kind in [cfi::Kind::EhFrame, cfi::Kind::DebugFrame] {
            if let Some(frames) = cfi::check(&bytes, kind, &mut || ()) {
                let _ = cfi::check_search((address, &bytes), rules, &frames);
            }
        }
        let _ = cfi::check(&table(&bytes), cfi::Kind::EhFrame, &mut || ());
    }
}

/// A `.gopclntab` (1.20) of three functions: one with a frame after 5 bytes, one without a frame,
/// and `runtime.goexit`, whose frame is there from its first byte.
fn go_table() -> Vec<u8> {
    let names = b"\0main.work\0main.leaf\0runtime.goexit\0";
    // Depth 0 for 5 bytes, then 8 for 27; depth 0 for all 32; depth 8 for all 32.
    let depths = [2, 5, 16, 27, 0, 0, 2, 32, 0, 18, 32, 0];
    let (names_at, depths_at) = (72, 72 + names.len());
    let functions_at = depths_at + depths.len();
    let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let header = [3, 0, 0x1000, names_at, depths_at, 0, depths_at, functions_at];
    table.extend(header.iter().flat_map(|word| (*word as u64).to_le_bytes()));
    table.extend(names);
    table.extend(depths);
    let data_at = 4 * 7;
    for number in 0..3 {
        table.extend((number * 32_u32).to_le_bytes());
        table.extend((data_at + number * 20).to_le_bytes());
    }
    table.extend(96_u32.to_le_bytes());
    for (number, (name, depths)) in [(1_u32, 0_u32), (11, 6), (21, 9)].into_iter().enumerate() {
        for word in [number as u32 * 32, name, 0, 0, depths] {
            table.extend(word.to_le_bytes());
        }
    }
    table
}

/// Scenario: the function table of a Go program.
/// Guarantees: it says at each address how deep the stack is, and where stacks end.
#[test]
fn reads_the_depths_of_go_functions() {
    let functions = go::Functions::read(&go_table(), 0).unwrap();
    let depths = |offset: u64| functions.depth(0x1000 + offset);
    assert_eq!([0, 4, 5, 31].map(depths), [Some(0), Some(0), Some(8), Some(8)]);
    assert_eq!([32, 63, 64, 95].map(depths), [Some(0), Some(0), Some(8), Some(8)]);
    assert_eq!((depths(96), functions.depth(0), functions.depth(u64::MAX)), (None, None, None));
    let frame = |offset: u64| functions.frame(0x1000 + offset);
    assert_eq!([63, 96].map(frame), [go::GoFrame::Ordinary; 2]);
    assert_eq!([64, 95].map(frame), [go::GoFrame::Root; 2]);
}

proptest! {
    /// Scenario: a Go function table with some bytes changed, cut off anywhere; and noise.
    /// Guarantees: reading and asking never panics.
    #[test]
    fn a_damaged_go_table_is_harmless(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
        noise in proptest::collection::vec(any::<u8>(), 0..100),
        address: u64,
    ) {
        let mut bytes = go_table();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for bytes in [bytes, noise] {
            if let Some(functions) = go::Functions::read(&bytes, 0x1000) {
                let _ = (functions.depth(address), functions.frame(address));
            }
        }
    }
}

/// Scenario: a symbol file for our own process in /tmp, which then belongs to somebody else.
/// Guarantees: it is taken while it is ours, and not when it is another user's: nobody else can put
/// names into our profile. Only root can try the second half.
#[test]
fn symbol_files_of_others_are_not_taken() {
    let pid = std::process::id();
    let path = std::path::PathBuf::from(format!("/tmp/perf-{pid}.map"));
    std::fs::write(&path, "1000 10 ours\n").unwrap();
    let place = PerfMapPlace::of(pid).unwrap();
    assert_eq!(Some(place.path().as_str()), path.to_str());
    assert!(place.open().is_some());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(place.open().is_none());
    }
    std::fs::remove_file(&path).unwrap();
}

/// Scenario: a process ends after its first sample, and writes its symbol file just before.
/// Guarantees: the file is found although the process is gone.
#[test]
fn a_symbol_file_written_at_the_end_is_found() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let place = PerfMapPlace::of(child.id()).unwrap();
    assert!(place.open().is_none());
    std::fs::write(place.path(), "1000 10 late\n").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let found = place.open();
    std::fs::remove_file(place.path()).unwrap();
    assert!(found.is_some() && PerfMapPlace::of(child.id()).is_none());
}
