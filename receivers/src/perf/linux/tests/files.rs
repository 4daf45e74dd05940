//! Files that belong to others: ELF, maps, cgroups.

use std::sync::LazyLock;

use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use proptest::prelude::*;

use super::super::aggregate::perf_map;
use super::super::events::session::parse_cpus;
use super::super::images::elf::{Elf, htlhash};
use super::super::images::{cfi, go};
use super::super::maps;
use super::super::processes::host::stat;
use super::super::processes::process::Stat;
use super::super::processes::resource::{container_id, unit};

/// A real ELF file: this test program.
static PROGRAM: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(std::env::current_exe().unwrap()).unwrap());

/// Scenario: this program's own file is read, and by `object` too.
/// Guarantees: entry, build id, executable segments and unwinding sections are the same.
#[test]
fn agrees_with_object() {
    let elf = Elf::read(&PROGRAM[..]).unwrap();
    let file = object::File::parse(&PROGRAM[..]).unwrap();
    assert_eq!(elf.entry, file.entry());
    let build_id = file.build_id().unwrap().map(super::super::images::elf::hex);
    assert_eq!(elf.build_id, build_id);
    let executable = file.segments().filter(
        |segment| matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & 1 != 0),
    );
    let expected: Vec<_> =
        executable.map(|segment| (segment.file_range(), segment.address())).collect();
    let found: Vec<_> = elf
        .segments
        .iter()
        .map(|segment| ((segment.offset, segment.length), segment.address))
        .collect();
    assert_eq!(found, expected);
    let section = |name| file.section_by_name(name).unwrap().data().unwrap();
    let rules = Elf::read_rules(&PROGRAM[..]);
    assert_eq!(&*rules.eh_frame.unwrap().1, section(".eh_frame"));
    assert_eq!(&*rules.eh_frame_hdr.unwrap().1, section(".eh_frame_hdr"));
    assert!(!elf.go);
}

/// Scenario: the section headers of a program are gone.
/// Guarantees: its unwinding rules are found through the program headers, and begin the same.
#[test]
fn finds_rules_without_section_headers() {
    let mut bytes = PROGRAM.clone();
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    let (whole, bare) = (Elf::read_rules(&PROGRAM[..]), Elf::read_rules(&bytes[..]));
    let (range, rules) = whole.eh_frame.unwrap();
    let (found_range, found) = bare.eh_frame.unwrap();
    assert_eq!(found_range.start, range.start);
    assert!(found.starts_with(&rules));
}

/// Scenario: the hash of a file of three bytes, and of a long one.
/// Guarantees: it is the one that the semantic conventions define.
#[test]
fn hashes_both_ends_and_the_length() {
    use sha2::{Digest, Sha256};
    let of = |first: &[u8], last: &[u8], length: u64| {
        let mut hash = Sha256::new();
        hash.update(first);
        hash.update(last);
        hash.update(length.to_be_bytes());
        super::super::images::elf::hex(&hash.finalize()[..16])
    };
    assert_eq!(htlhash(&b"abc"[..]).unwrap(), of(b"abc", b"abc", 3));
    let long: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
    assert_eq!(htlhash(&long[..]).unwrap(), of(&long[..4096], &long[5904..], 10_000));
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
        let _ = htlhash(&bytes[..]);
        prop_assert!(Elf::read_rules(&bytes[..]).bytes() <= 3 * bytes.len());
        if let Some(elf) = Elf::read(&bytes[..]) {
            for offset in [0, 4096, u64::MAX] {
                let _ = elf.segment_at(offset, 4096);
            }
        }
    }

    /// Scenario: arbitrary text as `maps`, `stat`, `cgroup` and a list of CPUs.
    /// Guarantees: no panic, and no mapping that ends before it starts.
    #[test]
    fn arbitrary_text_is_harmless(text in "[0-9a-f:. \\-/rxp()\\[\\]\n]{0,200}") {
        prop_assert!(maps::executable(&text).all(|line| line.start < line.end));
        let _ = (stat(&text), container_id(&text), unit(&text), parse_cpus(&text));
    }
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Scenario: the cgroup files of the usual container runtimes, version 1 and 2.
/// Guarantees: the container's id is found, and nothing is mistaken for one.
#[test]
fn finds_the_container() {
    for path in [
        "0::/system.slice/docker-ID.scope",
        "12:cpu,cpuacct:/docker/ID",
        "0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-ID.scope",
        "5:memory:/kubepods/burstable/pod1-2-3/ID",
        "0::/kubepods.slice/kubepods-besteffort.slice/crio-ID.scope/container",
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
        "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
        "1:name=systemd:/\n0::/docker/ID",
    ] {
        let cgroup = path.replace("ID", ID);
        assert_eq!(container_id(&cgroup), Some(ID), "{path}");
    }
    for path in [
        "0::/",
        "",
        "0::/system.slice/ssh.service",
        "0::/machine.slice/libpod-conmon-ID.scope",
        "0::/user.slice/session-2.scope",
        "0::/docker/0123",
    ] {
        assert_eq!(container_id(&path.replace("ID", ID)), None, "{path}");
    }
}

/// Scenario: cgroup files of services, of a user's services and of sessions.
/// Guarantees: the unit's name without suffix; a session has none.
#[test]
fn finds_the_systemd_unit() {
    assert_eq!(unit("0::/system.slice/nginx.service"), Some("nginx"));
    assert_eq!(
        unit("0::/system.slice/system-getty.slice/getty@tty1.service/x"),
        Some("getty@tty1")
    );
    let own = "0::/user.slice/user-1.slice/user@1.service/app.slice/player.service";
    assert_eq!(unit(own), Some("player"));
    assert_eq!(unit("0::/user.slice/user-1.slice/user@1.service/init.scope"), None);
    assert_eq!(unit("0::/user.slice/user-1.slice/session-2.scope"), None);
}

/// Scenario: a stat line of a process whose name holds spaces and parentheses.
/// Guarantees: its start time and flags are found.
#[test]
fn a_name_cannot_hide_the_start_time() {
    let line = "1 (a) b (c)) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
    assert_eq!(stat(line), Some(Stat { start_time: 4711, kernel: false }));
    let line = line.replace("4194560", "69238880");
    assert!(stat(&line).unwrap().kernel);
    assert_eq!(stat("1 (a"), None);
}

/// Scenario: the kernel's lists of CPUs.
/// Guarantees: ranges and single numbers are read.
#[test]
fn reads_lists_of_cpus() {
    assert_eq!(parse_cpus("0-3,6\n"), [0, 1, 2, 3, 6]);
    assert_eq!(parse_cpus("0\n"), [0]);
    assert!(parse_cpus("").is_empty());
}

/// Scenario: a maps file with every kind of line.
/// Guarantees: executable mappings are found with path, device and inode; others are left out.
#[test]
fn reads_maps() {
    let text = "\
55d0c0000000-55d0c0021000 r-xp 00002000 fd:01 1234                       /usr/bin/a b (deleted)
55d0c0021000-55d0c0031000 r--p 00023000 fd:01 1234                       /usr/bin/a
7f3300000000-7f3300001000 rwxp 00000000 00:00 0 
7ffe0bdfe000-7ffe0be00000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
nonsense
";
    let lines: Vec<_> = maps::executable(text).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0].path, lines[0].inode, lines[0].major),
        ("/usr/bin/a b (deleted)", 1234, 0xfd)
    );
    assert_eq!((lines[0].offset, lines[1].path, lines[2].path), (0x2000, "", "[vdso]"));
}

/// Scenario: the unwinding tables of this program and of the libraries it uses are checked.
/// Guarantees: what compilers and linkers write passes, the search table included.
#[test]
fn real_unwinding_tables_pass() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut checked = 0;
    for line in maps::executable(&maps).filter(|line| line.path.starts_with('/')) {
        let bytes = std::fs::read(line.path).unwrap();
        let rules = Elf::read_rules(&bytes[..]);
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
/// Guarantees: it says where functions have no frame yet or at all, and where stacks end.
#[test]
fn reads_where_go_functions_have_no_frame() {
    let functions = go::Functions::read(&go_table(), 0).unwrap();
    let frameless = |offset: u64| functions.is_frameless(0x1000 + offset);
    assert!(frameless(0) && frameless(4) && !frameless(5) && !frameless(31));
    assert!(frameless(32) && frameless(63));
    assert!(!frameless(64));
    assert!(!functions.is_frameless(0) && !functions.is_frameless(u64::MAX));
    let root = |offset: u64| functions.is_root(0x1000 + offset);
    assert!(!root(63) && root(64) && root(95) && !root(96));
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
                let _ = (functions.is_frameless(address), functions.is_root(address));
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
    let found = perf_map(pid).map(|(path, _)| path);
    assert_eq!(found.as_deref(), path.to_str());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(perf_map(pid).is_none());
    }
    std::fs::remove_file(&path).unwrap();
}
