//! Random work on the log over a disk that may lose power before each of its operations.
//!
//! A ledger knows what was accepted, what was finished and which numbers were seen. Before each
//! operation of the simulated disk some of the possible states after a loss of power are opened as a
//! new log, which must give exactly what the ledger says: this is where Q1 to Q8 and Q11 of the
//! module's documentation are checked. `PROFPIPE_QUEUE_SEED` runs one seed, `PROFPIPE_QUEUE_STATES`
//! so many states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;

use super::simulated::{Faults, Image, Random, Simulated};
use crate::journal::Journal;
use crate::journal::reader::LeaseOutcome;
use crate::journal::recover::Mode;
use crate::journal::writer::Prepared;
use crate::storage::Storage;
use crate::{LogSettings, Record, WhenFull};

const DESTINATIONS: [&str; 3] = ["otlp_http/a", "otlp_grpc", "pyroscope/ü"];
const LIMIT: u64 = 13_000;
const SEGMENT: u64 = 4096;

/// What must be true, told by what the log answered.
#[derive(Debug, Default, Clone)]
struct Ledger {
    next: u32,
    /// Who each record is for.
    to: BTreeMap<u32, BTreeSet<usize>>,
    /// Answered with success.
    accepted: BTreeSet<u32>,
    /// (destination, record): finished, or a dead letter.
    finished: BTreeSet<(usize, u32)>,
    /// Finished, and a cursor that says so was written.
    settled: BTreeSet<(usize, u32)>,
    /// (destination, record): asked to become a dead letter.
    dying: BTreeSet<(usize, u32)>,
    /// A record is safe from the end of the process, not from a loss of power.
    os: bool,
    /// Which record a number was seen with.
    numbers: BTreeMap<u64, u32>,
}

fn payload(id: u32) -> Bytes {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut random = Random(1);
        (0..1024).map(|_| random.next() as u8).collect()
    });
    let mixed = id.wrapping_mul(2_654_435_761) as usize;
    let length = if mixed & 0x700 == 0 { 600 } else { (mixed >> 12) % 200 };
    let start = (mixed >> 20) % 400;
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend_from_slice(&PATTERN[start..start + length]);
    bytes.into()
}

fn id_of(record: &Record) -> u32 {
    let id = u32::from_le_bytes(record.payload[..4].try_into().unwrap());
    // Q3
    assert_eq!(record.payload, payload(id), "what arrives is what was sent");
    assert_eq!(record.samples, u64::from(id));
    id
}

fn settings(when_full: WhenFull) -> LogSettings {
    LogSettings {
        max_bytes: LIMIT,
        segment_bytes: SEGMENT,
        min_free: Some(0),
        when_full,
        cache_bytes: 1500,
        ..LogSettings::default()
    }
}

fn open(disk: &Arc<Simulated>, when_full: WhenFull, durable: bool) -> Journal {
    let storage: Arc<dyn Storage> = Arc::new(Arc::clone(disk));
    let journal = Journal::open(storage, settings(when_full), durable, Mode::Own);
    let journal = journal.expect("Q6: opening always succeeds");
    for id in DESTINATIONS {
        journal.state().reader(id);
    }
    journal
}

fn index(journal: &Journal, destination: usize) -> usize {
    journal.state().reader(DESTINATIONS[destination])
}

/// Everything that every destination gets, in order.
fn drain(journal: &Journal) -> Vec<Vec<(u64, u32)>> {
    let all = (0..DESTINATIONS.len()).map(|destination| {
        let reader = index(journal, destination);
        let mut got = Vec::new();
        while let LeaseOutcome::Leased(leased) = journal.lease(reader, true) {
            got.push((leased.seq, id_of(&leased.record)));
        }
        got
    });
    all.collect()
}

/// Opens what a loss of power left, and compares it with the ledger.
fn check(image: &Image, ledger: &Ledger, when_full: WhenFull, killed: bool, random: &mut Random) {
    let disk = Simulated::new(image, random.next());
    let journal = open(&disk, when_full, true);
    let before = journal.state().readers.iter().map(|reader| reader.durable).max().unwrap_or(0);
    assert!(before <= journal.writer().next(), "Q4: no cursor is beyond the log");
    let pending: Vec<u64> = (0..3).map(|d| journal.pending(index(&journal, d)).records).collect();
    let got = drain(&journal);
    for (destination, got) in got.iter().enumerate() {
        let mut missing: BTreeSet<u32> = ledger.accepted.iter().copied().collect();
        missing.retain(|id| {
            ledger.to[id].contains(&destination) && !ledger.finished.contains(&(destination, *id))
        });
        for (seq, id) in got {
            let known = ledger.to.get(id).is_some_and(|to| to.contains(&destination));
            assert!(known, "only what was sent arrives, and where it was sent");
            missing.remove(id);
            let settled = ledger.settled.contains(&(destination, *id));
            assert!(!settled, "Q4: {id} comes again, past a cursor that was written");
            let seen = ledger.numbers.get(seq);
            assert!(seen.is_none_or(|seen| seen == id), "Q2: {seq} was {seen:?} and is {id}");
            assert!(*seq < journal.writer().next(), "Q2: a number would be given out again");
        }
        if let Some((highest, _)) = ledger.numbers.last_key_value() {
            assert!(*highest < journal.writer().next(), "Q2: a number would be given out again");
        }
        assert!(got.is_sorted_by(|a, b| a.0 < b.0), "the oldest first, and each once");
        missing.retain(|id| {
            !(ledger.dying.contains(&(destination, *id)) && has_letter(image, destination, *id))
        });
        let (dropped, lost) = {
            let reader = index(&journal, destination);
            let state = journal.state();
            (state.readers[reader].slot.dropped, state.readers[reader].slot.lost)
        };
        // Q1, Q5
        assert!(
            (ledger.os && !killed) || missing.len() as u64 <= dropped,
            "Q1: accepted and gone: {missing:?}, destination {destination}, {dropped} dropped"
        );
        assert!(lost == 0 || ledger.os, "a loss of power damages nothing that counts");
        // Q8
        if !ledger.os {
            assert_eq!(pending[destination], got.len() as u64, "Q8: pending is what can be read");
        }
    }
    let bytes: usize = disk
        .shown()
        .iter()
        .filter(|(name, _)| name.starts_with("seg-"))
        .map(|(_, b)| b.len())
        .sum();
    assert!(bytes as u64 <= LIMIT + SEGMENT + 2048, "Q7: {bytes} bytes on disk");
    if random.once_in(8) {
        let again = open(&disk, when_full, true);
        assert_eq!(drain(&again), got, "Q6: opening again gives the same");
    }
}

fn has_letter(image: &Image, _destination: usize, id: u32) -> bool {
    image.iter().any(|(name, bytes)| name.ends_with(".otlp") && *bytes == payload(id)[..])
}

/// The log at work, and its ledger.
struct Work {
    random: Random,
    disk: Arc<Simulated>,
    journal: Journal,
    ledger: Arc<Mutex<Ledger>>,
    leases: Vec<(usize, u64, u32)>,
    when_full: WhenFull,
    /// What was finished since the start.
    finished: BTreeSet<(usize, u32)>,
    /// Operations have failed since the start.
    faulty: bool,
    states: Arc<AtomicU64>,
}

impl Work {
    fn new(seed: u64, states: Arc<AtomicU64>) -> Self {
        let mut random = Random(seed);
        let when_full = if random.once_in(4) { WhenFull::DropOldest } else { WhenFull::Refuse };
        let os = random.once_in(8);
        let disk = Simulated::new(&Image::new(), random.next());
        let journal = open(&disk, when_full, !os);
        let ledger = Arc::new(Mutex::new(Ledger { os, ..Ledger::default() }));
        let mut work = Self {
            random,
            disk,
            journal,
            ledger,
            leases: Vec::new(),
            finished: BTreeSet::new(),
            when_full,
            faulty: false,
            states,
        };
        work.watch();
        work
    }

    /// Checks some of what a loss of power may leave, before each operation from now on.
    fn watch(&mut self) {
        let (ledger, states) = (Arc::clone(&self.ledger), Arc::clone(&self.states));
        let (mut random, when_full) = (Random(self.random.next()), self.when_full);
        self.disk.set_hook(move |crash| {
            let ledger = ledger.lock().unwrap();
            for _ in 0..2 {
                let image = crash.image(&mut random);
                check(&image, &ledger, when_full, false, &mut random);
                states.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=6 => self.append(),
            7..=10 => self.lease(),
            11..=14 => self.finish(),
            15..=16 => self.tick(),
            17 => self.fault(),
            18 => self.reopen(),
            _ => self.lose_power(),
        }
    }

    fn append(&mut self) {
        let mut group = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..=self.random.below(4) {
            let mut to = BTreeSet::from([self.random.below(3) as usize]);
            if self.random.once_in(2) {
                to.insert(self.random.below(3) as usize);
            }
            let id = {
                let mut ledger = self.ledger.lock().unwrap();
                ledger.next += 1;
                let id = ledger.next;
                ledger.to.insert(id, to.clone());
                id
            };
            let readers: Vec<usize> = to.iter().map(|d| index(&self.journal, *d)).collect();
            let record = Record {
                payload: payload(id),
                samples: u64::from(id),
                tenant: self.random.once_in(2).then(|| "t".into()),
                receiver: "otlp".into(),
            };
            group.push(Prepared::new(&self.journal, record, readers.into()));
            ids.push(id);
        }
        let answers = self.journal.append(&group);
        assert_eq!(answers.len(), ids.len());
        let mut ledger = self.ledger.lock().unwrap();
        for (id, answer) in ids.into_iter().zip(answers) {
            if answer.is_ok() {
                ledger.accepted.insert(id);
            }
        }
    }

    fn lease(&mut self) {
        for _ in 0..=self.random.below(6) {
            let destination = self.random.below(3) as usize;
            let reader = index(&self.journal, destination);
            let LeaseOutcome::Leased(leased) = self.journal.lease(reader, true) else { continue };
            let id = id_of(&leased.record);
            let mut ledger = self.ledger.lock().unwrap();
            let seen = ledger.numbers.insert(leased.seq, id);
            assert!(seen.is_none_or(|seen| seen == id), "Q2: number {} again", leased.seq);
            let leased_already =
                self.leases.iter().any(|(d, s, _)| (*d, *s) == (destination, leased.seq));
            assert!(!leased_already, "nobody else has it");
            self.leases.push((destination, leased.seq, id));
        }
    }

    fn finish(&mut self) {
        for _ in 0..=self.random.below(6) {
            if self.leases.is_empty() {
                return;
            }
            let at = self.random.below(self.leases.len() as u64) as usize;
            let (destination, seq, id) = self.leases.swap_remove(at);
            let reader = index(&self.journal, destination);
            match self.random.below(8) {
                0 => self.journal.give_back(reader, seq),
                1 => {
                    self.ledger.lock().unwrap().dying.insert((destination, id));
                    self.journal.give_up(reader, seq, "refused");
                }
                _ => {
                    // First the ledger: the log may write its cursor at any time.
                    self.ledger.lock().unwrap().finished.insert((destination, id));
                    self.journal.done(reader, seq);
                    self.finished.insert((destination, id));
                }
            }
        }
    }

    fn tick(&mut self) {
        self.journal.tick();
        for destination in 0..DESTINATIONS.len() {
            let reader = index(&self.journal, destination);
            let written = {
                let state = self.journal.state();
                state.readers[reader].written == state.readers[reader].changes
            };
            if written {
                let mut ledger = self.ledger.lock().unwrap();
                let finished = self.finished.iter().filter(|(d, _)| *d == destination);
                let settled: Vec<_> = finished.copied().collect();
                ledger.settled.extend(settled);
            }
        }
    }

    fn fault(&mut self) {
        self.faulty = true;
        let often = [0, 0, 1, 2, 6];
        let mut pick = || often[self.random.below(5) as usize];
        let faults = Faults { space: pick(), sync: pick(), other: pick() };
        self.disk.set_faults(if faults.space == 1 {
            Faults { sync: 0, other: 0, ..faults }
        } else {
            faults
        });
    }

    /// Q11: closing and opening without faults.
    fn reopen(&mut self) {
        self.disk.set_faults(Faults::default());
        self.journal.tick();
        let buried: Vec<_> =
            (0..3).map(|d| self.journal.pending(index(&self.journal, d))).collect();
        self.journal.close();
        let image = self.disk.shown();
        self.start(&image);
        let after: Vec<_> = (0..3).map(|d| self.journal.pending(index(&self.journal, d))).collect();
        // A write that failed half, of records that were refused, may come back; nothing else.
        let faulty = std::mem::take(&mut self.faulty);
        for (before, after) in buried.iter().zip(&after) {
            let fine = before == after || (faulty && before.records < after.records);
            assert!(fine, "Q11: closing loses and repeats nothing: {buried:?} {after:?}");
        }
        self.leases.clear();
    }

    fn lose_power(&mut self) {
        self.disk.set_faults(Faults::default());
        // Or only the process goes. In mode `os` nothing else is promised.
        let killed = self.random.once_in(3) || self.ledger.lock().unwrap().os;
        let image =
            if killed { self.disk.shown() } else { self.disk.crash().image(&mut self.random) };
        check(&image, &self.ledger.lock().unwrap(), self.when_full, killed, &mut self.random);
        self.leases.clear();
        self.faulty = false;
        self.start(&image);
    }

    fn start(&mut self, image: &Image) {
        self.finished.clear();
        self.disk = Simulated::new(image, self.random.next());
        if self.random.once_in(2) {
            // The power goes again while it starts.
            self.watch();
        }
        let durable = !self.ledger.lock().unwrap().os;
        self.journal = open(&self.disk, self.when_full, durable);
        self.watch();
    }
}

struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with PROFPIPE_QUEUE_SEED={}", self.0);
        }
    }
}

/// Scenario: random work with random faults; the power goes before any operation, any number of
/// times, also while starting.
/// Guarantees: Q1 to Q8 and Q11, in more than 100,000 states.
#[test]
fn nothing_accepted_is_lost_with_the_power() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("PROFPIPE_QUEUE_STATES").unwrap_or(100_000);
    let one = number("PROFPIPE_QUEUE_SEED");
    let states: Arc<AtomicU64> = Arc::default();
    let run = |seed: u64| {
        let _tell = Tell(seed);
        let mut work = Work::new(seed, Arc::clone(&states));
        for _ in 0..60 {
            work.step();
        }
    };
    if let Some(seed) = one {
        return run(seed);
    }
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (run, states) = (&run, &states);
            scope.spawn(move || {
                let mut seed = thread;
                while states.load(Ordering::Relaxed) < wanted {
                    run(seed);
                    seed += 2;
                }
            });
        }
    });
    let checked = states.load(Ordering::Relaxed);
    eprintln!("{checked} states after a loss of power were checked");
    assert!(checked >= wanted);
}
