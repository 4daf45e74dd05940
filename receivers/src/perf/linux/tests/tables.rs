//! Short-lived processes without end: every table is as large afterwards as before.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_engine::overhead::Overhead;
use profpipe_engine::telemetry::Counter;
use profpipe_profile::attribute_names::THREAD_NAME;

use super::super::aggregate::Aggregation;
use super::super::aggregate::stacks::{GENERATION, MAX_FRAMES, MAX_STACKS, Stacks};
use super::super::aggregate::types::SampleTypes;
use super::super::events::chosen::Chosen;
use super::super::events::target::Target;
use super::super::handoff::{
    Counted, EventIx, FileFacts, Frame, KERNEL_ROW, Message, ProcessFacts, REMEMBERED, RowFacts,
    Source, Unwound,
};
use super::super::images::image::{FileKey, UNWINDER_BYTES};
use super::super::images::loader::{FileMapping, Loader};
use super::super::images::table::{BUDGET, MAX_UNMAPPED};
use super::super::processes::announced::Announced;
use super::super::processes::host::ThisHost;
use super::super::processes::process::Processes;
use super::super::records::record::{FileId, Map};
use crate::perf::Event;

/// The pids of the kernel end below.
const NOBODY: u32 = 5_000_000;

fn host() -> ThisHost {
    let patience = Duration::from_secs(60);
    ThisHost::new(Loader::start(patience, Counter::default(), Arc::<Overhead>::default()).unwrap())
}

fn frame(row: u32, address: u64) -> Frame {
    Frame { row, address }
}

/// Scenario: 100,000 programs are compiled, run and thrown away, each under a name of its own, too
/// soon to be opened; each is sampled, one late, after its end. A process that stays begins and
/// ends as many threads.
/// Guarantees: the tables of processes, threads and rows are as large at the end as at the
/// beginning, and were never larger than what runs and what ended since the last sweep.
#[test]
fn short_processes_leave_nothing_in_the_tables() {
    let (mut processes, mut host) = (Processes::default(), host());
    let own = std::process::id();
    processes.sampled(own, own, &mut host).unwrap();
    let row = host.jit_row(0, own);
    assert!(row > KERNEL_ROW);
    let _ = host.take_rows().count();
    let _ = host.sweep(&processes);
    let before = (processes.len(), host.rows());
    for number in 0..100_000_u32 {
        let pid = NOBODY + number % 5000;
        processes.fork(pid, pid, own, own);
        processes.name(pid, pid, true, b"program");
        let path = format!("/nowhere/program-{number}");
        processes.map(
            &Map {
                pid,
                start: 0x1000,
                length: 0x1000,
                offset: 0,
                executable: true,
                file: FileId::Inode { major: 8, minor: 1, inode: u64::from(number) + 1 },
                path: path.as_bytes(),
            },
            &mut host,
        );
        processes.exit(pid, pid);
        let process = processes.sampled(pid, pid, &mut host).unwrap();
        process.announced.process = true;
        host.jit_row(process.id, pid);

        let tid = NOBODY + 10_000 + number;
        processes.fork(own, tid, own, own);
        processes.name(own, tid, false, b"worker");
        processes.exit(own, tid);
        // The sample of its very end comes after the record that says so.
        let process = processes.sampled(own, tid, &mut host).unwrap();
        let _ = process.thread_name(tid, &mut host);
        assert!(process.announced.sampled_thread_in(tid, u64::from(number / 1000)));

        if number % 1000 == 999 {
            processes.forget_ended();
            assert_eq!(processes.take_forgotten().len(), 1000);
            processes.forget_threads(u64::from(number / 1000));
            let told: HashSet<_> = host.take_rows().map(|(row, _)| row).collect();
            let forgotten = host.sweep(&processes);
            assert!(forgotten.len() >= 2000 && forgotten.iter().all(|row| told.contains(row)));
            assert_eq!((processes.len(), host.rows()), before, "{number}");
        }
    }
    let process = processes.sampled(own, own, &mut host).unwrap();
    assert_eq!(process.threads_known(), (1, 0));
    processes.forget_threads(100 + REMEMBERED);
    let process = processes.sampled(own, own, &mut host).unwrap();
    assert_eq!(process.announced.threads_sent(), 0);
}

/// Scenario: a row that no sample has had its process told of yet is forgotten.
/// Guarantees: it is neither told nor taken back: the other thread would keep it for good.
#[test]
fn what_was_not_told_is_not_taken_back() {
    let mut host = host();
    let row = host.jit_row(7, NOBODY);
    assert!(host.sweep(&Processes::default()).is_empty());
    assert!(host.take_rows().all(|(told, _)| told != row));
}

/// Scenario: a thousand files are opened that no process maps, then nobody asks any more.
/// Guarantees: a few of them, those asked for last, stay for a while, then none.
#[test]
fn files_that_nobody_maps_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    let mut keys = Vec::new();
    for number in 0..1000 {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, b"no program").unwrap();
        let inode = File::open(&path).unwrap().metadata().unwrap().ino();
        let key = FileKey::Inode { major: 0, minor: 0, inode };
        let place =
            FileMapping { pid: NOBODY, start: 0, end: 1, path: path.to_str().unwrap().into() };
        assert!(host.images.find(&key, place.clone()).is_some());
        keys.push((key, place));
        std::fs::remove_file(&path).unwrap();
    }
    assert!(host.has_grown());
    let _ = host.sweep(&Processes::default());
    assert!(!host.has_grown());
    assert_eq!(host.images.len(), MAX_UNMAPPED);
    let (key, place) = keys.pop().unwrap();
    assert!(host.images.find(&key, place).is_some());
    for _ in 0..10 {
        let _ = host.sweep(&Processes::default());
    }
    assert_eq!(host.images.len(), 0);
}

/// Scenario: a file is opened by its number, then overwritten in place, as `cp` does.
/// Guarantees: under the same number it is another file then, with what it says of itself now; the
/// one before stays what it was.
#[test]
fn a_file_overwritten_in_place_is_another() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut host = host();
    let inode = file.as_file().metadata().unwrap().ino();
    let key = FileKey::Inode { major: 0, minor: 0, inode };
    let path = file.path().to_str().unwrap();
    let place = FileMapping { pid: NOBODY, start: 0, end: 1, path: path.into() };
    std::fs::copy("/proc/self/exe", file.path()).unwrap();
    let first = host.images.find(&key, place.clone()).unwrap();
    assert_eq!(host.images.find(&key, place.clone()), Some(first));
    let before = host.images.get(first).unwrap().identity.clone();
    assert!(!before.segments.is_empty());
    std::fs::write(file.path(), b"no program").unwrap();
    let second = host.images.find(&key, place.clone()).unwrap();
    assert_ne!(first, second);
    assert!(host.images.get(second).unwrap().identity.segments.is_empty());
    assert_eq!(host.images.get(first).unwrap().identity, before);
    assert_eq!(host.images.find(&key, place), Some(second));
    // Rules that are not read yet would be the other file's.
    assert!(!host.images.is_unready(first));
}

/// Scenario: a thousand small programs have their unwinding rules read.
/// Guarantees: what each unwinder takes beside its few rules is counted, so the budget holds.
#[test]
fn the_budget_of_rules_counts_unwinders() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    let deadline = Instant::now() + Duration::from_secs(60);
    for number in 0..1000 {
        let path = directory.path().join(number.to_string());
        std::fs::copy("/bin/true", &path).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let key = FileKey::Inode { major: 0, minor: 0, inode };
        let place =
            FileMapping { pid: NOBODY, start: 0, end: 1, path: path.to_str().unwrap().into() };
        let image = host.images.find(&key, place).unwrap();
        while host.images.is_unready(image) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(
            host.images.tables(image).is_some_and(|tables| tables.unwinder.is_some()),
            "{number}"
        );
        std::fs::remove_file(&path).unwrap();
        let (bytes, count) = host.images.held();
        assert!(bytes <= BUDGET && bytes >= count * UNWINDER_BYTES, "{bytes} {count}");
    }
    assert!(host.images.held().1 < 1000);
}

/// What the aggregation thread makes of the stacks it is told.
#[derive(Default)]
struct OtherSide {
    known: HashSet<u32>,
    forgotten: Vec<u32>,
}

impl OtherSide {
    fn sample(&mut self, stacks: &mut Stacks, frames: &[Frame]) -> u32 {
        let (number, new) = stacks.intern(frames);
        if let Some(told) = new {
            assert_eq!(&*told, frames);
            assert!(self.known.insert(number), "{number} was given twice");
        }
        assert!(self.known.contains(&number), "{number} is not known");
        number
    }

    /// With room for messages only now and then.
    fn end_window(&mut self, stacks: &mut Stacks, has_room: bool) {
        stacks.end_window();
        for stack in self.forgotten.drain(..) {
            assert!(self.known.remove(&stack));
        }
        let forgotten = stacks.take_forgotten();
        match has_room {
            true => self.forgotten = forgotten,
            false => stacks.put_back(forgotten),
        }
    }
}

/// Scenario: a hundred new stacks in every window, one stack that is in all, and one that comes back
/// before a generation is over; the other thread cannot always be told.
/// Guarantees: both sides know the same stacks, no sample refers to one that was forgotten, what is
/// in use keeps its number, and the table holds no more than two generations.
#[test]
fn stacks_that_are_not_seen_any_more_are_forgotten() {
    let (mut stacks, mut other) = (Stacks::default(), OtherSide::default());
    let steady = other.sample(&mut stacks, &[frame(1, 1)]);
    let rare = other.sample(&mut stacks, &[frame(1, 2)]);
    for window in 0..1000_u64 {
        for new in 0..100 {
            other.sample(&mut stacks, &[frame(2, window * 100 + new), frame(1, 1)]);
        }
        assert_eq!(other.sample(&mut stacks, &[frame(1, 1)]), steady);
        if window % GENERATION == GENERATION - 1 {
            assert_eq!(other.sample(&mut stacks, &[frame(1, 2)]), rare);
        }
        other.end_window(&mut stacks, window % 3 == 0);
        let most = 2 * GENERATION as usize * 100 + 2;
        assert!(stacks.len() <= most && other.known.len() <= most + 300, "{window}");
    }
    for _ in 0..2 * GENERATION + 2 {
        other.end_window(&mut stacks, true);
    }
    assert_eq!((stacks.len(), other.known.len()), (0, 0));
}

/// Scenario: more stacks in one window than the table may hold: short ones, then deep ones.
/// Guarantees: the bounds hold; the stack that is in use keeps its number throughout; nothing told is
/// forgotten by one side only.
#[test]
fn a_storm_of_stacks_stays_within_bounds() {
    for (count, depth) in [(3 * MAX_STACKS, 1), (3 * MAX_FRAMES / 128, 128)] {
        let (mut stacks, mut other) = (Stacks::default(), OtherSide::default());
        let steady = other.sample(&mut stacks, &[frame(1, 1)]);
        for new in 0..count as u64 {
            let frames: Vec<_> = (0..depth).map(|at| frame(at, new)).collect();
            other.sample(&mut stacks, &frames);
            assert_eq!(other.sample(&mut stacks, &[frame(1, 1)]), steady);
            assert!(stacks.len() <= MAX_STACKS.min(MAX_FRAMES / depth as usize + 2));
        }
        other.end_window(&mut stacks, true);
        other.end_window(&mut stacks, true);
        assert_eq!(other.known.len(), stacks.len());
    }
}

fn process(id: u32, pid: u32) -> Message {
    Message::Process(Box::new(ProcessFacts {
        id,
        pid,
        parent: 0,
        start_time: 1,
        name: "program".into(),
        executable: None,
        kernel: false,
    }))
}

fn row(source: Source) -> Box<RowFacts> {
    Box::new(RowFacts { source, memory_start: 0, memory_limit: 1 << 20, file_offset: 0 })
}

fn counted(process: u32, tid: u32, stack: u32, time: u64) -> Message {
    let (event, unwound) = (EventIx::FIRST, Unwound::Complete);
    Message::Sample(Counted {
        event,
        label: None,
        process,
        tid,
        stack,
        unwound,
        weight: 1,
        events: 1,
        time,
    })
}

/// The types of time on CPUs.
fn types() -> SampleTypes {
    SampleTypes::new(&Chosen::new(&[Event::Cpu], &Target::Host, &mut Vec::new()).unwrap(), 99)
}

fn sample(process: u32, stack: u32) -> Message {
    counted(process, process, stack, 5)
}

const WINDOW: Message =
    Message::Window { start: 0, end: 1, lost: 0, totals: Vec::new(), partial: None, waiting: None };

/// Scenario: 100,000 processes, each with a file, a stack and a thread of its own, in windows of a
/// hundred; the drain thread takes them back in the window of their samples already. One process
/// stays and has a new thread each time.
/// Guarantees: every sample is written with its frames and its process; afterwards the tables are as
/// large as before, and no file is held.
#[test]
fn the_aggregation_forgets_with_the_drain() {
    let mut aggregation = Aggregation::new(Arc::default(), types(), None, None);
    let file = Arc::new(File::open("/dev/null").unwrap());
    let facts = |number: u32| {
        row(Source::File(FileFacts {
            path: format!("/nowhere/{number}").into(),
            pid: NOBODY,
            file: Some(Arc::clone(&file)),
            build_id: None,
            go_build_id: None,
            htlhash: Some(format!("{number:032x}")),
        }))
    };
    aggregation.take(process(1, NOBODY));
    let mut most = (0, 0, 0, 0);
    for window in 0..1000_u32 {
        let numbers = window * 100 + 10..window * 100 + 110;
        for number in numbers.clone() {
            aggregation.take(Message::Row(number, facts(number)));
            aggregation.take(process(number, NOBODY));
            aggregation.take(Message::Thread {
                process: 1,
                tid: number,
                name: "w".into(),
                since: 1,
            });
            aggregation.take(Message::Stack(number, [frame(number, 1), frame(number, 2)].into()));
            aggregation.take(sample(number, number));
        }
        aggregation.take(sample(1, window * 100 + 10));
        aggregation.take(Message::ForgetStacks(numbers.clone().collect()));
        aggregation.take(Message::ForgetRows(numbers.clone().collect()));
        aggregation.take(Message::ForgetProcesses(numbers.collect()));
        let (profiles, _) = aggregation.take(WINDOW).unwrap();
        assert_eq!(profiles.resources.len(), 101);
        assert_eq!(profiles.dictionary.locations.len(), 201);
        let sizes = aggregation.sizes();
        let (stacks, rows, processes, threads) = most;
        most =
            (sizes.0.max(stacks), sizes.1.max(rows), sizes.2.max(processes), sizes.3.max(threads));
    }
    let windows = REMEMBERED as usize + 1;
    assert_eq!((most.0, most.1, most.2), (0, 0, 1));
    assert!(most.3 <= 100 * windows, "{most:?}");
    for _ in 0..=REMEMBERED {
        // Nothing was sampled: there is nothing to write, but to forget.
        assert!(aggregation.take(WINDOW).is_none());
    }
    assert_eq!(aggregation.sizes(), (0, 0, 0, 0));
    aggregation.modules().forget_unused(Instant::now() + Duration::from_secs(3600));
    assert_eq!(Arc::strong_count(&file), 1);
}

/// Scenario: a process names the code that it compiles, rests so long that the store forgets the file,
/// and is sampled again, at the end of its life.
/// Guarantees: the file is published again although the process is gone.
#[test]
fn a_symbol_file_is_published_again_after_a_rest() {
    let pid = NOBODY + 1;
    let mut aggregation = Aggregation::new(Arc::default(), types(), None, None);
    aggregation.take(Message::Row(5, row(Source::Jit { pid })));
    aggregation.take(process(5, pid));
    aggregation.take(Message::Stack(5, [frame(5, 0x1000)].into()));
    let content = Content::PerfMap(Arc::new(File::open("/dev/null").unwrap()));
    let module = Arc::new(Module { path: "/tmp/perf.map".into(), pid, content });
    aggregation.set_found(5, module);
    for _ in 0..2 {
        aggregation.take(sample(5, 5));
        assert!(aggregation.take(WINDOW).is_some());
        assert!(aggregation.modules().find(&ModuleId::Jit(pid)).is_some());
        let later = Instant::now() + Duration::from_secs(3600);
        aggregation.modules().forget_unused(later);
        assert!(aggregation.modules().find(&ModuleId::Jit(pid)).is_none());
    }
}

/// Scenario: a thread is sampled, rests, and is sampled again; another has samples all the time.
/// Guarantees: the name is told again before the other side, which knows it for `REMEMBERED` windows,
/// may have forgotten it, and not otherwise; many threads do not grow without bound.
#[test]
fn names_of_threads_are_told_again_after_a_rest() {
    let mut announced = Announced::default();
    assert!(announced.sampled_thread_in(1, 0));
    for window in 0..100 {
        assert_eq!(announced.sampled_thread_in(2, window), window == 0);
    }
    assert!(announced.sampled_thread_in(1, REMEMBERED));
    assert!(!announced.sampled_thread_in(1, REMEMBERED + 1));
    for tid in 0..100_000 {
        announced.sampled_thread_in(tid, 0);
        assert!(announced.threads_sent() <= 16_384);
    }
}

/// Scenario: a thread is renamed twice within a window, and samples come late; the next window begins
/// with its last name.
/// Guarantees: every sample has the name that the thread had when it was taken.
#[test]
fn a_sample_has_the_name_of_its_time() {
    let mut aggregation = Aggregation::new(Arc::default(), types(), None, None);
    aggregation.take(process(1, NOBODY));
    aggregation.take(Message::Stack(1, [frame(KERNEL_ROW, 1)].into()));
    for (name, since) in [("first", 10), ("second", 20), ("second", 25), ("third", 30)] {
        let name = name.into();
        aggregation.take(Message::Thread { process: 1, tid: 7, name, since });
    }
    let at = |time| counted(1, 7, 1, time);
    let mut names_of = |times: &[u64]| {
        times.iter().for_each(|time| assert!(aggregation.take(at(*time)).is_none()));
        let (profiles, _) = aggregation.take(WINDOW).unwrap();
        let dictionary = &profiles.dictionary;
        let (_, _, profile) = profiles.iter().next().unwrap();
        let name = |row| {
            let is_name = dictionary.strings.get(dictionary.attributes.key(row)) == THREAD_NAME;
            is_name.then(|| dictionary.attributes.value(row).as_str().unwrap().to_owned())
        };
        let samples = profile.samples.iter();
        let names = samples.map(|sample| {
            (sample.attributes.iter().find_map(|row| name(*row)).unwrap(), sample.weight())
        });
        names.collect::<Vec<_>>()
    };
    let expected = [("first".into(), 2), ("second".into(), 3), ("third".into(), 1)];
    assert_eq!(names_of(&[31, 9, 29, 10, 20, 24]), expected);
    assert_eq!(names_of(&[15, 40]), [("third".into(), 2)]);
}
