//! What bounds a log besides its size: the age of records, the folder of dead letters, the quarantine;
//! and links, by which somebody might lead it elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::simulated::{Image, Simulated};
use crate::format::segment_name;
use crate::journal::Journal;
use crate::journal::quarantine::{self, QUARANTINE};
use crate::journal::reader::LeaseOutcome;
use crate::journal::recover::Mode;
use crate::journal::writer::Prepared;
use crate::storage::{Access, Storage};
use crate::{Durability, Log, LogSettings, Record};

fn open(disk: &Arc<Simulated>, settings: LogSettings) -> Journal {
    let storage: Arc<dyn Storage> = Arc::new(Arc::clone(disk));
    let journal = Journal::open(storage, settings, true, Mode::Own).unwrap();
    journal.state().reader("d");
    journal
}

fn append(journal: &Journal, index: u64, payload: &[u8]) {
    let record = Record {
        payload: Bytes::copy_from_slice(payload),
        samples: index,
        tenant: None,
        receiver: "otlp".into(),
    };
    for answer in journal.append(&[Prepared::new(journal, record, Arc::new([0]))]) {
        answer.unwrap();
    }
}

/// Scenario: records in sealed segments and in the one that is written, one of them finished; the
/// longest age is an hour, then nothing at all.
/// Guarantees: young records stay; what is too old is dropped, counted and gone from the disk; the log
/// goes on.
#[test]
fn what_is_too_old_is_dropped() {
    let disk = Simulated::new(&Image::new(), 11);
    let settings = LogSettings { segment_bytes: 8192, cache_bytes: 0, ..LogSettings::default() };
    let hour = Some(Duration::from_secs(3600));
    let journal = open(&disk, LogSettings { max_age: hour, ..settings.clone() });
    for index in 0..20 {
        append(&journal, index, &[7; 1000]);
    }
    let LeaseOutcome::Leased(first) = journal.lease(0, true) else { panic!("there are records") };
    journal.done(0, first.seq);
    journal.tick();
    assert_eq!((journal.pending(0).records, journal.stats().dropped_records), (19, 0));
    journal.close();
    drop(journal);

    let journal = open(&disk, LogSettings { max_age: Some(Duration::ZERO), ..settings });
    journal.tick();
    assert_eq!((journal.pending(0).records, journal.stats().dropped_records), (0, 19));
    assert!(matches!(journal.lease(0, true), LeaseOutcome::Empty));
    let segments = disk.shown().keys().filter(|name| name.starts_with("seg-")).count();
    assert!(segments <= 1, "{:?}", disk.shown().keys());
    append(&journal, 99, &[7; 1000]);
    let LeaseOutcome::Leased(leased) = journal.lease(0, true) else { panic!("there is a record") };
    assert_eq!(leased.record.samples, 99);
}

/// Scenario: five records get too old: one waits, one was given back, and three are with consumers, who
/// deliver one, give one back and give one up.
/// Guarantees: each is lost once or delivered once, in the sums of samples and in the cursor; what was
/// dropped does not become a dead letter.
#[test]
fn what_gets_too_old_in_the_hands_of_a_consumer_is_counted_once() {
    let disk = Simulated::new(&Image::new(), 14);
    let settings = LogSettings { max_age: Some(Duration::ZERO), ..LogSettings::default() };
    let journal = open(&disk, settings);
    for samples in [1, 10, 100, 1000, 10_000] {
        append(&journal, samples, &[7; 100]);
    }
    let leases: Vec<u64> = (0..4)
        .map(|_| match journal.lease(0, true) {
            LeaseOutcome::Leased(leased) => leased.seq,
            other => panic!("{other:?}"),
        })
        .collect();
    journal.give_back(0, leases[3]);
    journal.tick();
    let expired = |journal: &Journal| journal.state().readers[0].losses.expired;
    assert_eq!((journal.pending(0).samples, expired(&journal)), (0, 11_000));
    assert_eq!(journal.state().readers[0].slot().dropped, 5);
    journal.done(0, leases[0]);
    journal.give_back(0, leases[1]);
    assert!(!journal.give_up(0, leases[2], "400"), "it was dropped");
    assert_eq!(expired(&journal), 11_110);
    let slot = journal.state().readers[0].slot();
    assert_eq!((slot.delivered, slot.dropped, slot.dead), (1, 4, 0));
    journal.tick();
    assert!(!disk.shown().keys().any(|name| name.starts_with("dead/")));
    assert!(matches!(journal.lease(0, true), LeaseOutcome::Empty));
}

/// Scenario: ten records of 1,000 bytes become dead letters, where 4,000 bytes are allowed; after a
/// restart, one more.
/// Guarantees: the folder is within its limit all the time, the latest are there, and each that had to
/// go is counted.
#[test]
fn dead_letters_make_room_for_later_ones() {
    let disk = Simulated::new(&Image::new(), 12);
    let settings = LogSettings { dead_bytes: 4000, cache_bytes: 0, ..LogSettings::default() };
    let letters = |disk: &Arc<Simulated>| -> Vec<Vec<u8>> {
        let all = disk.shown();
        let dead = all.iter().filter(|(name, _)| name.starts_with("dead/"));
        assert!(dead.clone().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 4000);
        dead.filter(|(name, _)| name.ends_with(".otlp")).map(|(_, bytes)| bytes.clone()).collect()
    };
    let mut dropped = 0;
    for (records, latest) in [(0..10_u8, 9_u8), (10..11, 10)] {
        let journal = open(&disk, settings.clone());
        for index in records {
            append(&journal, index.into(), &[index; 1000]);
            let LeaseOutcome::Leased(leased) = journal.lease(0, true) else {
                panic!("there is a record")
            };
            journal.give_up(0, leased.seq, "400");
            journal.tick();
            letters(&disk);
        }
        let left = letters(&disk);
        assert!(left.len() >= 2 && left.contains(&vec![latest; 1000]), "{}", left.len());
        dropped += journal.stats().dropped_letters;
        journal.close();
    }
    assert_eq!(letters(&disk).len() as u64 + dropped, 11);
}

/// Scenario: a damaged range of 100 MiB, then another one.
/// Guarantees: the quarantine takes 64 MiB and no more.
#[test]
fn the_quarantine_is_bounded() {
    let disk = Simulated::new(&Image::from([(segment_name(1), vec![7; 100 << 20])]), 13);
    let file = disk.open(&segment_name(1), Access::Read).unwrap();
    quarantine::copy(&disk, &*file, (1, 0), 100 << 20);
    quarantine::copy(&disk, &*file, (1, 4096), 100 << 20);
    let copies = disk.shown();
    let copies = copies.iter().filter(|(name, _)| name.starts_with(QUARANTINE));
    assert_eq!(copies.map(|(_, bytes)| bytes.len()).sum::<usize>(), 64 << 20);
}

/// Scenario: in the directory of a queue somebody has put links in the place of the lock, a segment, the
/// folder of dead letters.
/// Guarantees: nothing behind a link is written or read; a queue whose lock is a link does not open.
#[tokio::test]
async fn links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, elsewhere) = (directory.path().join("queue"), directory.path().join("elsewhere"));
    std::fs::create_dir(&queue).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    let precious = elsewhere.join("precious");
    std::fs::write(&precious, "precious").unwrap();
    let link =
        |from: &Path, name: &str| std::os::unix::fs::symlink(from, queue.join(name)).unwrap();
    link(&elsewhere, "dead");
    link(&precious, &segment_name(1));
    {
        let settings = LogSettings { durability: Durability::Os, ..LogSettings::default() };
        let log = Log::open(&queue, settings).unwrap();
        let destination = log.destination("d").unwrap();
        let record = Record {
            payload: Bytes::from_static(b"bad"),
            samples: 1,
            tenant: None,
            receiver: "otlp".into(),
        };
        log.append(record, &[destination.id()]).await.unwrap();
        destination.next().await.unwrap().dead("400");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while log.stats().trouble.is_none() {
            assert!(
                std::time::Instant::now() < deadline,
                "it is told that letters cannot be written"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        log.close().await;
    }
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);

    std::fs::remove_file(queue.join("LOCK")).unwrap();
    link(&precious, "LOCK");
    assert!(Log::open(&queue, LogSettings::default()).is_err());
}
