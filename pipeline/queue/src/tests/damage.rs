//! Damaged directories: every byte flipped, cut off anywhere, blocks of zeros, and files that are not
//! ours. The start always succeeds, and what is lost was touched.
//!
//! `cargo test` flips every byte of headers, heads and footers and every 61st of the rest; the
//! ignored test flips every byte of 1 MiB.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::simulated::{Image, Random, Simulated};
use crate::format::{HEAD, HEADER, segment_name};
use crate::journal::Journal;
use crate::journal::reader::LeaseOutcome;
use crate::journal::recover::Mode;
use crate::journal::writer::Prepared;
use crate::storage::Storage;
use crate::{LogSettings, Record};

fn open(disk: &Arc<Simulated>, segment_bytes: u64) -> Journal {
    let storage: Arc<dyn Storage> = Arc::new(Arc::clone(disk));
    let settings = LogSettings { segment_bytes, cache_bytes: 0, ..LogSettings::default() };
    let journal =
        Journal::open(storage, settings, true, Mode::Own).expect("opening always succeeds");
    journal.state().reader("d");
    journal
}

fn append(journal: &Journal, index: u64, bytes: usize) {
    let payload: Vec<u8> = (0..bytes).map(|at| (at as u64 * 31 + index) as u8).collect();
    let record = Record {
        payload: Bytes::from(payload),
        samples: index,
        tenant: None,
        receiver: "otlp".into(),
    };
    let prepared = Prepared::new(journal, record, Arc::new([0]));
    for answer in journal.append(&[prepared]) {
        answer.unwrap();
    }
}

/// The records that can be read; how many the log says are lost.
fn read(disk: &Arc<Simulated>) -> (BTreeSet<u64>, u64) {
    let journal = open(disk, 1 << 30);
    let mut got = BTreeSet::new();
    while let LeaseOutcome::Leased(leased) = journal.lease(0, true) {
        let index = leased.record.samples;
        let fine = leased
            .record
            .payload
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == (at as u64 * 31 + index) as u8);
        assert!(fine, "what is delivered is what was accepted");
        assert!(got.insert(index), "once");
        journal.done(0, leased.seq);
    }
    let pending = journal.pending(0);
    assert_eq!(pending.records, 0, "what is lost is not waited for");
    // It goes on.
    append(&journal, 1_000_000, 10);
    let LeaseOutcome::Leased(leased) = journal.lease(0, true) else { panic!("it goes on") };
    assert_eq!(leased.record.samples, 1_000_000);
    let lost = journal.state().readers[0].slot.lost;
    (got, lost)
}

struct Made {
    image: Image,
    /// Where each record is, in the first segment.
    records: Vec<std::ops::Range<u64>>,
    /// Where the records end.
    end: u64,
}

/// A log with one segment of such records and a second one, sealed or as a crash leaves it.
fn made(sizes: &[usize], sealed: bool) -> Made {
    let disk = Simulated::new(&Image::new(), 7);
    let journal = open(&disk, 1 << 30);
    let mut records = Vec::new();
    let mut at = HEADER;
    for (index, size) in sizes.iter().enumerate() {
        append(&journal, index as u64, *size);
        let end = journal.state().segments[&1].data_end;
        records.push(at..end);
        at = end;
    }
    if sealed {
        journal.seal(&mut journal.writer());
        append(&journal, 500_000, 100);
    }
    Made { image: disk.shown(), records, end: at }
}

impl Made {
    fn length(&self) -> u64 {
        self.image[&segment_name(1)].len() as u64
    }

    /// Damages the first segment and compares what is left with what was touched.
    fn damage(&self, what: &str, touched: impl Fn(u64) -> bool, change: impl FnOnce(&mut Vec<u8>)) {
        let mut image = self.image.clone();
        change(image.get_mut(&segment_name(1)).unwrap());
        let (got, _) = read(&Simulated::new(&image, 3));
        for (index, range) in self.records.iter().enumerate() {
            let kept = got.contains(&(index as u64));
            let harmed = range.clone().any(&touched);
            assert!(kept || harmed, "{what}: record {index} is gone and was not touched");
        }
    }

    fn flip(&self, at: u64, bits: u8) {
        self.damage(&format!("byte {at}"), |byte| byte == at, |bytes| bytes[at as usize] ^= bits);
    }

    /// Whether a byte is not part of a payload.
    fn is_structure(&self, at: u64) -> bool {
        at >= self.end
            || at < HEADER
            || self.records.iter().any(|range| range.contains(&at) && at < range.start + HEAD + 32)
    }
}

/// Scenario: any byte of a segment is flipped, in a sealed segment and in one as a crash leaves it.
/// Guarantees: the start succeeds and no record is lost but the one that was touched (Q10).
#[test]
fn a_flipped_byte_loses_one_record_at_most() {
    for sealed in [true, false] {
        let made = made(&[300, 0, 1, 7, 1000, 20, 333, 4000, 5], sealed);
        for at in 0..made.length() {
            if made.is_structure(at) || at % 61 == 0 {
                made.flip(at, 1 << (at % 8));
            }
        }
    }
}

/// Scenario: every byte of a segment of 1 MiB is flipped.
/// Guarantees: as above. Takes minutes: `cargo test --release -- --ignored every_byte`.
#[test]
#[ignore = "reads 1 MiB a million times"]
fn every_byte_of_a_mebibyte() {
    let sizes: Vec<usize> = (0..64).map(|index| 16 * 1024 - (index % 7) * 100).collect();
    let made = made(&sizes, true);
    let part = made.length() / 2;
    std::thread::scope(|scope| {
        let made = &made;
        scope.spawn(move || (0..part).for_each(|at| made.flip(at, 0xff)));
        (part..made.length()).for_each(|at| made.flip(at, 0xff));
    });
}

/// Scenario: a segment of 1 MiB with flips all over.
/// Guarantees: as for every byte.
#[test]
fn some_bytes_of_a_mebibyte() {
    let sizes: Vec<usize> = (0..64).map(|index| 16 * 1024 - (index % 7) * 100).collect();
    let made = made(&sizes, true);
    for at in (0..made.length()).step_by(30_011) {
        made.flip(at, 0x10);
    }
}

/// Scenario: a segment is cut off at any length.
/// Guarantees: the start succeeds, and every record before the cut is delivered.
#[test]
fn a_cut_loses_what_was_behind_it() {
    for sealed in [true, false] {
        let made = made(&[30, 0, 100, 7], sealed);
        for length in 0..made.length() {
            made.damage(
                &format!("cut at {length}"),
                |byte| byte >= length,
                |bytes| bytes.truncate(length as usize),
            );
        }
    }
}

/// Scenario: blocks of a segment become zeros, or noise.
/// Guarantees: the start succeeds, and every record outside of the block is delivered.
#[test]
fn a_bad_block_loses_what_was_in_it() {
    let mut random = Random(5);
    for sealed in [true, false] {
        let made = made(&[300; 40], sealed);
        for start in (0..made.length()).step_by(512) {
            for noise in [false, true] {
                let end = (start + 512).min(made.length());
                made.damage(
                    &format!("block at {start}"),
                    |byte| (start..end).contains(&byte),
                    |bytes| {
                        for byte in &mut bytes[start as usize..end as usize] {
                            *byte = if noise { random.next() as u8 } else { 0 };
                        }
                    },
                );
            }
        }
    }
}

/// Scenario: a directory with files that are not ours: folders and segments of other versions, names
/// out of range, copies of segments under other names, damaged cursors, a missing segment.
/// Guarantees: the start succeeds, what is ours is delivered, and nobody else's file is touched.
#[test]
fn foreign_files_are_left_alone() {
    let made = made(&[10, 20, 30], true);
    let mut image = made.image.clone();
    let copy = image[&segment_name(1)].clone();
    let mut newer = copy.clone();
    newer[8] = 9;
    let crc = crc32fast::hash(&newer[8..64]);
    newer[4..8].copy_from_slice(&crc.to_le_bytes());
    for (name, bytes) in [
        ("notes.txt".to_owned(), b"hello".to_vec()),
        (segment_name(77), copy.clone()),
        (segment_name(u64::MAX), copy.clone()),
        ("seg-1.pq".to_owned(), copy.clone()),
        ("cur-x-1.a".to_owned(), vec![1, 2, 3]),
        ("cur-x-1.b".to_owned(), vec![0; 5000]),
        (segment_name(5), Vec::new()),
        (segment_name(6), vec![0; 9000]),
        ("dead/what".to_owned(), vec![1]),
    ] {
        image.insert(name, bytes);
    }
    let disk = Simulated::new(&image, 3);
    let (got, lost) = read(&disk);
    assert_eq!((got, lost), (BTreeSet::from([0, 1, 2, 500_000]), 0));
    let shown = disk.shown();
    for name in ["notes.txt", "seg-1.pq", &segment_name(77), &segment_name(u64::MAX)] {
        assert_eq!(shown.get(name), image.get(name), "{name}");
    }
    // A segment of a newer version is left alone, too.
    image.insert(segment_name(1), newer.clone());
    let disk = Simulated::new(&image, 3);
    let (got, _) = read(&disk);
    assert_eq!(got, BTreeSet::from([500_000]));
    assert_eq!(disk.shown()[&segment_name(1)], newer);
    image.remove(&segment_name(1));
    assert_eq!(read(&Simulated::new(&image, 3)).0, BTreeSet::from([500_000]));
}

/// Scenario: damage in the middle of a segment that was sealed.
/// Guarantees: it is counted, told as lost to the destination it was for, and copied to the quarantine.
#[test]
fn damage_is_counted_and_copied() {
    let made = made(&[100, 200, 300], true);
    let mut image = made.image.clone();
    let hit = made.records[1].clone();
    image.get_mut(&segment_name(1)).unwrap()[hit.start as usize + 100] ^= 1;
    let disk = Simulated::new(&image, 3);
    let (got, lost) = read(&disk);
    assert_eq!((got, lost), (BTreeSet::from([0, 2, 500_000]), 1));
    let copies: Vec<_> =
        disk.shown().into_iter().filter(|(name, _)| name.starts_with("quarantine/")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let (from, to) = (hit.start as usize, hit.end as usize);
    assert_eq!(copies[0].1, image[&segment_name(1)][from..to]);
}

/// Scenario: a queue of 64 segments, 64 MiB, whose cursor is in the middle, opened.
/// Guarantees: no more than headers, footers, cursors and one segment's heads are read: 1 GiB in
/// segments of 16 MiB is no more.
#[test]
fn opening_does_not_read_what_is_sealed() {
    let disk = Simulated::new(&Image::new(), 7);
    let journal = open(&disk, 1 << 20);
    let count = 64 * 8;
    for index in 0..count {
        append(&journal, index, 128 << 10);
    }
    for _ in 0..count / 2 {
        let LeaseOutcome::Leased(leased) = journal.lease(0, true) else {
            panic!("there are records")
        };
        journal.done(0, leased.seq);
    }
    journal.tick();
    journal.close();
    let image = disk.shown();
    let total: usize = image.values().map(Vec::len).sum();
    assert!(total > 32 << 20, "{total}");
    let disk = Simulated::new(&image, 3);
    let journal = open(&disk, 1 << 20);
    assert_eq!(journal.pending(0).records, count / 2);
    assert!(disk.bytes_read() < 64 << 10, "{} bytes were read", disk.bytes_read());
}
