//! Tables and files without a symbolizer around them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use super::super::answer::{Frame, Reason, Resolution};
use super::super::protocol::WireFunction;
use super::TableReader;
use super::content::{FileState, HashStep, Hashing};
use super::directory::{Directory, MAX_FILES};
use super::format::{Sources, WINDOW};

/// Scenario: several processes (here threads, each with tables of its own) add windows to one table at
/// the same time.
/// Guarantees: every window is there, whole and right.
#[test]
fn tables_are_shared_by_writers() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 50;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables");
    let answer = |window: u64| {
        let name = format!("function {window}");
        let function = std::sync::Arc::new(WireFunction { name, ..WireFunction::default() });
        Resolution::Named([Frame { function, line: window as u32, column: 0 }].into())
    };
    let sources = Sources { has_executable: true, has_debug_info: true, ..Sources::default() };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (path, sources) = (&path, &sources);
            scope.spawn(move || {
                let mut tables = TableReader::open(path).unwrap();
                let tables = tables.inner();
                for number in 0..EACH {
                    let window = (number * WRITERS + writer) * WINDOW;
                    let half = window + WINDOW / 2;
                    let ranges = [
                        (window..half, answer(window)),
                        (half..window + WINDOW, Resolution::Unnamed(Reason::NoSymbol)),
                    ];
                    // Who finds another at it for long gives up for now.
                    let deadline = Instant::now() + Duration::from_secs(60);
                    while !tables.is_whole("key", window, sources) {
                        assert!(Instant::now() < deadline, "nobody lets go of the table");
                        tables.add("key", (sources, None), (window, true), &ranges);
                    }
                }
            });
        }
    });
    let mut tables = TableReader::open(&path).unwrap();
    let mut addresses: Vec<u64> = (0..WRITERS * EACH).map(|it| it * WINDOW + 5).collect();
    let found = tables.inner().take_known("key", &mut addresses);
    for known in &found {
        assert_eq!(known.answer, answer(known.address - 5));
    }
    assert_eq!(found.len() as u64, WRITERS * EACH);
}

/// Scenario: files are read for their hash; one is written to meanwhile.
/// Guarantees: the SHA-256 of all of it, which is kept only of a file that was not changed a moment ago;
/// none of the one that was written to.
#[test]
fn hashes_are_of_one_state() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![7; 3 << 20]).unwrap();
    let opened = File::open(file.path()).unwrap();
    let state = FileState::of(&opened).unwrap();
    let run = |mut hashing: Hashing| loop {
        match hashing.step() {
            HashStep::More => {}
            done => return done,
        }
    };
    let HashStep::Done(hash, is_lasting) = run(Hashing::begin(&opened, state).unwrap()) else {
        panic!("it can be read")
    };
    assert_eq!(&hash[..16], "fadc8b76fb9e2447");
    assert!(!is_lasting);
    assert!(state.is_settled(SystemTime::now() + Duration::from_secs(10)));
    let mut second = Hashing::begin(&opened, state).unwrap();
    assert!(matches!(second.step(), HashStep::More));
    file.write_all(&[7]).unwrap();
    assert!(matches!(run(second), HashStep::Failed));
    let other = FileState::of(&opened).unwrap();
    assert_ne!(state.key(), other.key());
}

/// Scenario: more files than a directory may have, each a few bytes.
/// Guarantees: those that are there longest go.
#[test]
fn files_are_few() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let mut directory = Directory::open(&path, u64::MAX).unwrap();
    for number in 0..=MAX_FILES {
        directory.create(&format!("key-{number}"), b"x", false).unwrap();
    }
    let left = std::fs::read_dir(&path).unwrap().count();
    assert!(left <= MAX_FILES && left > MAX_FILES / 2, "{left}");
    let last = format!("key-{MAX_FILES}");
    assert!(directory.find(&last).is_some());
    let error = directory.create(&last, b"y", false).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    directory.create(&last, b"y", true).unwrap();
    assert_eq!(std::fs::read(path.join(format!("{last}.names"))).unwrap(), b"y");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), left);
}

/// Scenario: batch after batch asks for the same windows of a large binary, whose decoded blocks take half as much
/// again as is kept; then for others only.
/// Guarantees: what is decoded stays within the limit and one block; half of the windows need not be decoded again,
/// though each is asked for in its turn; those that nobody asks for any more make room.
#[test]
fn a_large_binary_keeps_what_fits() {
    const EACH: u64 = 1024;
    let directory = tempfile::tempdir().unwrap();
    let mut reader = TableReader::open(&directory.path().join("tables")).unwrap();
    let sources = Sources { has_executable: true, has_debug_info: true, ..Sources::default() };
    let add = |tables: &mut super::Tables, number: u64| {
        let window = number * WINDOW;
        let step = WINDOW / EACH;
        let range = |at: u64| {
            let name = format!("function {at} of {number} {}", "with a long name ".repeat(60));
            let function = std::sync::Arc::new(WireFunction { name, ..WireFunction::default() });
            let frames = [Frame { function, line: at as u32, column: 0 }];
            let start = window + at * step;
            (start..start + step, Resolution::Named(frames.into()))
        };
        let ranges: Vec<_> = (0..EACH).map(range).collect();
        tables.add("key", (&sources, None), (window, true), &ranges);
    };
    add(reader.inner(), 0);
    reader.inner().take_known("key", &mut vec![1]);
    let block = reader.decoded_bytes();
    let fit = (super::MAX_DECODED_BYTES / block) as u64;
    let count = fit + fit / 2;
    for number in 1..2 * count {
        add(reader.inner(), number);
    }
    let mut pass = |from: u64| {
        let mut addresses: Vec<u64> = (from..from + count).map(|it| it * WINDOW + 1).collect();
        let known = reader.inner().take_known("key", &mut addresses);
        assert_eq!(known.len() as u64, count);
        assert!(reader.decoded_bytes() <= super::MAX_DECODED_BYTES + 2 * block);
        let frames = known.into_iter().map(|known| match known.answer {
            Resolution::Named(frames) => frames,
            Resolution::Unnamed(reason) => panic!("{reason:?}"),
        });
        frames.collect::<Vec<_>>()
    };
    // The frames of a block that was decoded again are others, though they say the same.
    let mut kept = |from: u64, passes: u32| {
        let mut before = pass(from);
        let mut kept = 0;
        for _ in 0..passes {
            let now = pass(from);
            let same = before.iter().zip(&now);
            kept = same.filter(|(one, other)| std::sync::Arc::ptr_eq(one, other)).count();
            before = now;
        }
        kept as u64
    };
    let same = kept(0, 2);
    assert!(same >= count / 2, "{same} of {count} windows, {fit} fit");
    // As long as the first are remembered as needed lately, plus one pass.
    let passes = (super::RECENT_WINDOWS / count) as u32 + 2;
    let same = kept(count, passes);
    assert!(same >= count / 2, "{same} of {count} windows after others, {fit} fit");
}
