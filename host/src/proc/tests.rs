//! Files of `/proc/PID`, real and made ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

/// Scenario: a stat line of a process whose name holds spaces and parentheses, and one that is cut off.
/// Guarantees: parent, flags and times are found; of the other nothing.
#[test]
fn a_name_cannot_hide_the_start_time() {
    let line = "1 (a) b (c)) S 7 3 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
    let stat = Stat { parent: 7, group: 3, start_time: 4711, cpu_time: 11, ..Stat::default() };
    assert_eq!(Stat::parse(line), Some(stat));
    assert!(Stat::parse(&line.replace(") S", ") Z")).unwrap().ended);
    assert!(Stat::parse(&line.replace("4194560", "69238880")).unwrap().kernel);
    assert_eq!(Stat::parse("1 (a"), None);
}

/// Scenario: this process, and one that cannot be there.
/// Guarantees: parent, own pid and user are what the system says; of the other nothing.
#[test]
fn reads_this_process() {
    let stat = Stat::read(std::process::id()).unwrap();
    assert_eq!(stat.parent, std::os::unix::process::parent_id());
    assert!(!stat.kernel && stat.start_time > 0);
    let status = Status::read(std::process::id()).unwrap();
    assert_eq!(status.own_pid, Some(std::process::id()));
    assert!(status.file_user.is_some() && status.capabilities.is_some());
    assert_eq!((Stat::read(u32::MAX), Status::read(u32::MAX)), (None, None));
}

/// Scenario: a status file of a process in a namespace, whose name looks like a line of the file.
/// Guarantees: pid, user and capabilities are the real ones.
#[test]
fn a_name_cannot_hide_the_user() {
    let file =
        "Name:\tUid:\t5 5 5 5\nUid:\t1\t2\t3\t4\nNSpid:\t4711\t7\nCapEff:\t00000000a80425fb\n";
    let status = Status { own_pid: Some(7), file_user: Some(4), capabilities: Some(0xa804_25fb) };
    assert_eq!(Status::parse(file), status);
    assert_eq!(Status::parse("Uid:\tx\n"), Status::default());
}

/// Scenario: a maps file with every kind of line.
/// Guarantees: mappings are found with path, device and inode; nonsense is left out.
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
    let lines: Vec<_> = executable(text).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0].path, lines[0].inode, lines[0].major),
        ("/usr/bin/a b (deleted)", 1234, 0xfd)
    );
    assert_eq!((lines[0].offset, lines[1].path, lines[2].path), (0x2000, "", "[vdso]"));
    let all: Vec<_> = text.lines().filter_map(Mapping::parse).collect();
    assert_eq!(all.len(), 4);
    assert_eq!((all[1].path, all[1].offset), ("/usr/bin/a", 0x23000));
}

proptest! {
    /// Scenario: arbitrary text as `maps`, `stat`, `status` and `cgroup`.
    /// Guarantees: no panic, and no mapping that ends before it starts.
    #[test]
    fn arbitrary_text_is_harmless(text in "[0-9a-f:. \\-/rxpUidNS()\\[\\]\n]{0,200}") {
        prop_assert!(executable(&text).all(|line| line.start < line.end));
        let _ = (Stat::parse(&text), Status::parse(&text));
        let _ = (crate::cgroup::container_id(&text), crate::cgroup::unit(&text));
    }
}
