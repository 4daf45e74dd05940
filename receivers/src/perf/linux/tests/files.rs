//! Files that belong to others: ELF, maps, cgroups.

use std::sync::LazyLock;

use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use proptest::prelude::*;

use super::super::elf::{Elf, htlhash};
use super::super::host::start_time;
use super::super::maps;
use super::super::resource::{container_id, unit};
use super::super::session::parse_cpus;

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
    let build_id = file.build_id().unwrap().map(super::super::elf::hex);
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
    assert_eq!(&*elf.sections.eh_frame.unwrap().1, section(".eh_frame"));
    assert_eq!(&*elf.sections.eh_frame_hdr.unwrap().1, section(".eh_frame_hdr"));
    assert!(!elf.go);
}

/// Scenario: the section headers of a program are gone.
/// Guarantees: its unwinding rules are found through the program headers, and begin the same.
#[test]
fn finds_rules_without_section_headers() {
    let mut bytes = PROGRAM.clone();
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    let (whole, bare) = (Elf::read(&PROGRAM[..]).unwrap(), Elf::read(&bytes[..]).unwrap());
    let (range, rules) = whole.sections.eh_frame.unwrap();
    let (found_range, found) = bare.sections.eh_frame.unwrap();
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
        super::super::elf::hex(&hash.finalize()[..16])
    };
    assert_eq!(htlhash(&b"abc"[..]).unwrap(), of(b"abc", b"abc", 3));
    let long: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
    assert_eq!(htlhash(&long[..]).unwrap(), of(&long[..4096], &long[5904..], 10_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
        if let Some(elf) = Elf::read(&bytes[..]) {
            prop_assert!(elf.sections.bytes() <= 3 * bytes.len());
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
        let _ = (start_time(&text), container_id(&text), unit(&text), parse_cpus(&text));
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
/// Guarantees: its start time is found.
#[test]
fn a_name_cannot_hide_the_start_time() {
    let line = "1 (a) b (c)) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
    assert_eq!(start_time(line), Some(4711));
    assert_eq!(start_time("1 (a"), None);
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
