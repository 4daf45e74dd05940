//! The table of processes, fed with records on a host that is not there.

use std::collections::HashMap;

use profpipe_host::proc::Stat;

use super::super::processes::process::{Code, Host, NewMapping, Processes};
use super::super::records::record::{FileId, Map};

/// A host of the test's making.
#[derive(Default)]
struct FakeHost {
    /// The maps file and start time of each process.
    processes: HashMap<u32, (String, u64)>,
    /// How often maps were read.
    scans: usize,
    /// Whether files take long to open.
    slow: bool,
}

impl Host for FakeHost {
    fn maps(&mut self, pid: u32) -> Option<String> {
        self.scans += 1;
        self.processes.get(&pid).map(|(maps, _)| maps.clone())
    }

    fn stat(&mut self, pid: u32) -> Option<Stat> {
        self.processes.get(&pid).map(|(_, start)| Stat {
            start_time: *start,
            kernel: false,
            ..Stat::default()
        })
    }

    fn executable(&mut self, pid: u32) -> Option<String> {
        self.processes.contains_key(&pid).then(|| format!("/bin/{pid}"))
    }

    fn thread_name(&mut self, _: u32, tid: u32) -> Option<String> {
        Some(format!("thread {tid}"))
    }

    fn code(&mut self, mapping: &NewMapping<'_>) -> Code {
        // The row tells the test which mapping it was.
        let row = mapping.path.bytes().last().map_or(0, u32::from);
        if self.slow { Code::Jit } else { Code::File { bias: mapping.start, row } }
    }

    fn was_hasty(&mut self) -> bool {
        self.slow
    }

    fn is_settled(&mut self) -> bool {
        !self.slow
    }
}

impl FakeHost {
    fn with(pid: u32, maps: &str, start: u64) -> Self {
        Self { processes: HashMap::from([(pid, (maps.to_owned(), start))]), ..Self::default() }
    }
}

const MAPS: &str = "\
00400000-00500000 r-xp 00000000 08:01 11 /bin/a
00600000-00700000 rw-p 00000000 08:01 11 /bin/a
7f0000000000-7f0000100000 r-xp 00001000 08:01 12 /lib/name with spaces/b
";

fn map(pid: u32, start: u64, end: u64, path: &str) -> Map<'_> {
    Map {
        pid,
        start,
        length: end - start,
        offset: 0,
        executable: true,
        file: FileId::Inode { major: 8, minor: 1, inode: 1 },
        path: path.as_bytes(),
    }
}

/// What is mapped at an address, by the last letter of its path.
fn at(processes: &mut Processes, host: &mut FakeHost, pid: u32, address: u64) -> Option<char> {
    match processes.sampled(pid, pid, host)?.find(address)?.code {
        Code::File { row, .. } => char::from_u32(row),
        _ => None,
    }
}

/// Scenario: a process that was there before the profiler is sampled twice.
/// Guarantees: its executable mappings are read, once, with paths that hold spaces; addresses at
/// the edges belong to the right mapping.
#[test]
fn an_old_process_is_scanned_once() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    assert_eq!(at(&mut processes, &mut host, 5, 0x40_0000), Some('a'));
    assert_eq!(at(&mut processes, &mut host, 5, 0x4f_ffff), Some('a'));
    assert_eq!(at(&mut processes, &mut host, 5, 0x50_0000), None);
    assert_eq!(at(&mut processes, &mut host, 5, 0x60_0000), None);
    assert_eq!(at(&mut processes, &mut host, 5, 0x7f00_0000_0010), Some('b'));
    assert_eq!(host.scans, 1);
}

/// Scenario: of a process it is asked who it is, of another that is not there, too; then the first is sampled.
/// Guarantees: its name is known although nothing that it maps is read before the sample; nothing is kept of
/// one that is not there.
#[test]
fn who_a_process_is_costs_no_scan() {
    let mut host = FakeHost::with(7, "1000-2000 r-xp 00000000 08:01 5 /bin/a\n", 70);
    let mut processes = Processes::default();
    let found = processes.identified(7, &mut host).unwrap();
    assert_eq!((&*found.name, found.start_time, found.mappings_known()), ("thread 7", 70, 0));
    assert_eq!(host.scans, 0);
    assert!(processes.identified(8, &mut host).is_none());
    assert_eq!(processes.len(), 1);
    assert_eq!(at(&mut processes, &mut host, 7, 0x1800), Some('a'));
    assert_eq!(host.scans, 1);
}

/// Scenario: a process forks; the child maps something, then executes another program.
/// Guarantees: the child has its parent's mappings and the parent never the child's; after exec
/// only what the new program maps is there, its first mapping is the executable, and it is
/// another process to the consumer.
#[test]
fn fork_inherits_and_exec_replaces() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    let parent = processes.sampled(5, 5, &mut host).unwrap().id;
    processes.fork(6, 6, 5, 5);
    let child = processes.sampled(6, 6, &mut host).unwrap();
    assert_ne!(child.id, parent);
    assert_eq!((child.parent, child.executable.as_deref()), (5, Some("/bin/5")));
    let child = child.id;
    processes.map(&map(6, 0x80_0000, 0x90_0000, "/lib/c"), &mut host);
    assert_eq!(at(&mut processes, &mut host, 6, 0x40_0000), Some('a'));
    assert_eq!(at(&mut processes, &mut host, 6, 0x80_0000), Some('c'));
    assert_eq!(at(&mut processes, &mut host, 5, 0x80_0000), None);

    processes.name(6, 6, true, b"other");
    processes.map(&map(6, 0x10_0000, 0x20_0000, "/bin/other"), &mut host);
    processes.map(&map(6, 0x30_0000, 0x40_0000, "/lib/ld"), &mut host);
    assert_eq!(at(&mut processes, &mut host, 6, 0x40_0000), None);
    assert_eq!(at(&mut processes, &mut host, 6, 0x10_0000), Some('r'));
    let executed = processes.sampled(6, 6, &mut host).unwrap();
    assert_ne!(executed.id, child);
    assert_eq!(executed.executable.as_deref(), Some("/bin/other"));
    assert_eq!((&*executed.name, executed.parent), ("other", 5));
    assert_eq!(host.scans, 1, "only the oldest process was read from /proc");
}

/// Scenario: a mapping is replaced in its middle, and another at both its edges.
/// Guarantees: what is not covered stays, what is covered is the new one.
#[test]
fn a_new_mapping_cuts_what_it_covers() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, "", 1));
    processes.sampled(5, 5, &mut host);
    for (start, end, path) in
        [(0x1000, 0x9000, "a"), (0x3000, 0x5000, "b"), (0x8000, 0xa000, "c"), (0, 0x2000, "d")]
    {
        processes.map(&map(5, start, end, path), &mut host);
    }
    let found: String = (0..11)
        .map(|page| at(&mut processes, &mut host, 5, page << 12 | 8).unwrap_or('-'))
        .collect();
    assert_eq!(found, "ddabbaaacc-");
}

/// Scenario: threads of a process end one after the other, the first thread first; then the
/// kernel uses the pid again.
/// Guarantees: the process lives as long as any thread, and its successor shares nothing with it.
#[test]
fn a_pid_is_used_again() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    let first = processes.sampled(5, 5, &mut host).unwrap().id;
    processes.fork(5, 7, 5, 5);
    processes.exit(5, 5);
    assert_eq!(processes.sampled(5, 7, &mut host).unwrap().id, first);
    // The first thread's exit was seen; only 7 is left.
    processes.exit(5, 7);
    // The kernel takes samples of a thread that ends after it has said so.
    assert_eq!(processes.sampled(5, 7, &mut host).unwrap().id, first);
    processes.forget_ended();
    assert_eq!(processes.len(), 0);

    // Nobody was told of it.
    assert!(processes.take_forgotten().is_empty());

    processes.fork(5, 5, 1, 1);
    let second = processes.sampled(5, 5, &mut host).unwrap();
    assert_ne!(second.id, first);
    second.announced.process = true;
    let second = second.id;
    processes.exit(5, 5);
    processes.fork(5, 5, 1, 1);
    processes.forget_ended();
    assert_eq!(processes.len(), 1, "the pid was used again before the end was forgotten");
    assert_eq!(processes.take_forgotten(), [second]);
}

/// Scenario: records were lost. Meanwhile a process has mapped something, another has ended, and
/// the pid of a third was taken over by a new one.
/// Guarantees: the first is read again, the second forgotten, the third is another process.
#[test]
fn a_loss_makes_everything_uncertain() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    host.processes.insert(6, (MAPS.into(), 2));
    host.processes.insert(7, (MAPS.into(), 3));
    let ids = [5, 6, 7].map(|pid| {
        let process = processes.sampled(pid, pid, &mut host).unwrap();
        process.announced.process = true;
        process.id
    });
    host.processes.insert(5, ("1000-2000 r-xp 00000000 08:01 13 /lib/z\n".into(), 1));
    host.processes.remove(&6);
    host.processes.insert(7, (MAPS.into(), 9));
    processes.lost(&mut host);
    assert_eq!(processes.len(), 1);
    let mut forgotten = processes.take_forgotten();
    forgotten.sort_unstable();
    assert_eq!(forgotten, ids[1..]);
    assert_eq!(at(&mut processes, &mut host, 5, 0x1000), Some('z'));
    assert_eq!(at(&mut processes, &mut host, 5, 0x40_0000), None);
    assert_eq!(processes.sampled(5, 5, &mut host).unwrap().id, ids[0]);
    assert_ne!(processes.sampled(7, 7, &mut host).unwrap().id, ids[2]);
}

/// Scenario: the child of a process never looked at is sampled, and is gone when we look.
/// Guarantees: it is taken for what its parent is.
#[test]
fn a_child_that_is_gone_is_like_its_parent() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    // The parent is known by name only.
    processes.fork(5, 5, 1, 1);
    processes.fork(6, 6, 5, 5);
    assert_eq!(at(&mut processes, &mut host, 6, 0x40_0000), Some('a'));
    let child = processes.sampled(6, 6, &mut host).unwrap();
    assert_eq!(child.executable.as_deref(), Some("/bin/5"));
}

/// Scenario: the files of a process take long to open when it is first sampled, and of its child
/// too; then they do not.
/// Guarantees: as soon as nothing takes long any more the mappings are read again.
#[test]
fn hasty_answers_are_corrected() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    host.processes.insert(6, (MAPS.into(), 2));
    host.slow = true;
    assert_eq!(at(&mut processes, &mut host, 5, 0x40_0000), None);
    processes.fork(6, 6, 5, 5);
    host.slow = false;
    assert_eq!(at(&mut processes, &mut host, 5, 0x40_0000), Some('a'));
    assert_eq!(at(&mut processes, &mut host, 6, 0x40_0000), Some('a'));
    assert_eq!(at(&mut processes, &mut host, 5, 0x40_0000), Some('a'));
    assert_eq!(host.scans, 3);
}

/// Scenario: threads are named by records, and some never are.
/// Guarantees: a thread has the name it was given last, else its creator's, else what the host
/// says.
#[test]
fn threads_have_names() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::with(5, MAPS, 1));
    processes.sampled(5, 5, &mut host);
    processes.name(5, 5, false, b"main");
    processes.fork(5, 8, 5, 5);
    processes.name(5, 9, false, b"nine");
    let process = processes.sampled(5, 8, &mut host).unwrap();
    assert_eq!(&*process.thread_name(8, &mut host), "main");
    assert_eq!(&*process.thread_name(9, &mut host), "nine");
    assert_eq!(&*process.thread_name(10, &mut host), "thread 10");
}

/// Scenario: two processes execute a program; one ends before its program is mapped, as the kernel
/// reports it when it takes our events away; the other runs and ends.
/// Guarantees: the first is one that cannot be seen, once; the second is not.
#[test]
fn what_ends_before_it_begins_is_hidden() {
    let (mut processes, mut host) = (Processes::default(), FakeHost::default());
    for pid in [5, 6] {
        processes.name(pid, pid, true, b"program");
    }
    processes.exit(5, 5);
    processes.exit(5, 5);
    processes.map(&map(6, 0x1000, 0x2000, "/bin/x"), &mut host);
    processes.exit(6, 6);
    let hidden = processes.take_hidden();
    assert_eq!(
        hidden.iter().map(|(pid, name)| (*pid, &**name)).collect::<Vec<_>>(),
        [(5, "program")]
    );
    assert!(processes.take_hidden().is_empty());
}
