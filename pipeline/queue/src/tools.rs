//! What people do with a log while nothing runs, or while it runs if they only look.
//!
//! [`inspect`] and [`verify`] change nothing and take no lock: of a log in use they show a moment.
//! [`replay`] and [`discard`] need the lock. All of them block.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::disk::Disk;
use super::format::{CURSOR_LIMIT, FileName, Slot, destination_name, segment_name};
use super::journal::Journal;
use super::journal::dead::{DEAD, folders, read_letter, remove_letter, sizes};
use super::journal::keep::slot_of;
use super::journal::quarantine;
use super::journal::recover::{Mode, Opened, examine};
use super::journal::writer::Prepared;
use super::storage::{Access, Storage, read_all};
use super::walk::{Scope, Step, content};
use super::{LogSettings, Pending, QueueError, Record};

/// A log at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Whether a process has it open.
    pub in_use: bool,
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentReport>,
    /// Everybody it holds or held something for.
    pub destinations: Vec<DestinationReport>,
    /// What was damaged and copied aside, in bytes.
    pub quarantine_bytes: u64,
}

/// A segment.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentReport {
    /// The file.
    pub name: String,
    /// Its records.
    pub records: u64,
    /// The file's length in bytes.
    pub bytes: u64,
}

/// How far a destination is.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationReport {
    /// The exporter's id.
    pub id: String,
    /// No record with a lower number waits.
    pub cursor: u64,
    /// What waits.
    pub pending: Pending,
    /// Records delivered since the log was made.
    pub delivered_records: u64,
    /// Records dropped since the log was made.
    pub dropped_records: u64,
    /// Records found damaged since the log was made.
    pub lost_records: u64,
    /// Dead letters that are there.
    pub dead_letters: u64,
    /// What they take in bytes.
    pub dead_bytes: u64,
}

/// What reading everything has shown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// Segments read.
    pub segments: u64,
    /// Valid records.
    pub records: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
    /// Dead letters read.
    pub dead_letters: u64,
    /// What is wrong, one line each.
    pub damage: Vec<String>,
    /// What a crash leaves and is not wrong, one line each.
    pub notes: Vec<String>,
}

/// What came of a replay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Replay {
    /// Dead letters that wait in the queue again.
    pub replayed: u64,
    /// Those that could not be read and stay where they are, one line each.
    pub problems: Vec<String>,
}

fn disk(directory: &Path) -> Result<Disk, QueueError> {
    Disk::open(directory)
        .map_err(|source| QueueError::Read { directory: directory.to_owned(), source })
}

fn open(directory: &Path, mode: Mode) -> Result<(Arc<Disk>, Journal), QueueError> {
    let disk = Arc::new(disk(directory)?);
    let storage: Arc<dyn Storage> = Arc::<Disk>::clone(&disk);
    // No limit but the disk's: what is replayed was kept before.
    let settings = LogSettings { max_bytes: 1 << 60, cache_bytes: 0, ..LogSettings::default() };
    let journal = Journal::open(storage, settings, true, mode)
        .map_err(|error| QueueError::of_opening(directory, error))?;
    Ok((disk, journal))
}

/// Shows what a log holds.
///
/// # Errors
/// If the directory cannot be read.
pub fn inspect(directory: &Path) -> Result<Inspection, QueueError> {
    let (disk, journal) = open(directory, Mode::Look)?;
    let state = journal.state();
    let segments = state.segments.iter().map(|(first, segment)| SegmentReport {
        name: segment_name(*first),
        records: segment.records,
        bytes: segment.file_bytes,
    });
    let destinations = state.readers.iter().enumerate().map(|(index, reader)| {
        let folder = format!("{DEAD}/{}", destination_name(&reader.id));
        let letters = sizes(&*disk, &folder).unwrap_or_default();
        DestinationReport {
            id: reader.id.to_string(),
            cursor: reader.cursor(),
            pending: state.pending(index),
            delivered_records: reader.slot.delivered,
            dropped_records: reader.slot.dropped,
            lost_records: reader.slot.lost,
            dead_letters: letters.len() as u64,
            dead_bytes: letters.values().sum(),
        }
    });
    Ok(Inspection {
        in_use: disk.in_use(),
        segments: segments.collect(),
        destinations: destinations.collect(),
        quarantine_bytes: quarantine::size(&*disk),
    })
}

/// Reads everything and tells what is damaged.
///
/// # Errors
/// If the directory cannot be read.
pub fn verify(directory: &Path) -> Result<Verification, QueueError> {
    let disk = disk(directory)?;
    let fail = |source| QueueError::Read { directory: directory.to_owned(), source };
    let mut names = disk.list("").map_err(fail)?;
    names.sort_unstable();
    let mut report = Verification::default();
    let mut firsts: Vec<u64> = Vec::new();
    for name in &names {
        if let FileName::Segment(first) = FileName::parse(name) {
            firsts.push(first);
        }
    }
    for (index, first) in firsts.iter().enumerate() {
        let below = firsts.get(index + 1).copied().unwrap_or(u64::MAX);
        if let Err(error) = segment(&disk, *first, below, &mut report) {
            report.damage.push(format!("{}: cannot be read: {error}", segment_name(*first)));
        }
    }
    for name in names.iter().filter(|name| slot_of(name).is_some()) {
        let bytes = disk.open(name, Access::Read).and_then(|file| read_all(&*file, CURSOR_LIMIT));
        if bytes.ok().and_then(|bytes| Slot::decode(&bytes)).is_none() {
            report.notes.push(format!("{name}: an unfinished write; the other slot counts"));
        }
    }
    for folder in folders(&disk) {
        for seq in sizes(&disk, &folder).unwrap_or_default().into_keys() {
            match read_letter(&disk, &folder, seq) {
                Ok(_) => report.dead_letters += 1,
                Err(error) => report.damage.push(format!("{folder}/{seq:020}: {error}")),
            }
        }
    }
    Ok(report)
}

fn segment(disk: &Disk, first: u64, below: u64, report: &mut Verification) -> io::Result<()> {
    let name = segment_name(first);
    let file = disk.open(&name, Access::Read)?;
    let Opened { salt, sealed, start, end, foreign, header } = examine(&*file, first)?;
    if foreign {
        report.notes.push(format!("{name}: not a segment of this log and version"));
        return Ok(());
    }
    report.segments += 1;
    let mut scope = Scope { salt, from: first, below, end };
    let mut offset = start;
    // Behind the last valid record of a segment that was not sealed there may be anything.
    let mut maybe = Vec::new();
    let tail = loop {
        match scope.step(&*file, offset)? {
            Step::Record(head) => {
                scope.from = head.seq + 1;
                scope.salt = Some(head.salt);
                if content(&*file, offset, &head)?.is_some() {
                    report.damage.append(&mut maybe);
                    report.records += 1;
                    report.bytes += u64::from(head.payload);
                } else {
                    maybe.push(format!("{name}: record {} at byte {offset} is damaged", head.seq));
                }
                offset += head.length();
            }
            Step::Gap(next) => {
                maybe.push(format!("{name}: damaged from byte {offset} to {next}"));
                offset = next;
            }
            Step::Tail { clean } => break !clean,
        }
    };
    // A file without a record is what a crash leaves while it is made.
    if !header && (sealed || offset > start) {
        report.damage.push(format!("{name}: the header is damaged"));
    }
    if sealed {
        report.damage.append(&mut maybe);
        if tail {
            report.damage.push(format!("{name}: damaged from byte {offset} to {end}"));
        }
    } else if tail || !maybe.is_empty() {
        report.notes.push(format!("{name}: ends in an unfinished write at byte {offset}"));
    }
    Ok(())
}

/// Puts dead letters back into the queue of their destination, or of one destination.
///
/// # Errors
/// If the log is in use, or cannot take them.
pub fn replay(directory: &Path, destination: Option<&str>) -> Result<Replay, QueueError> {
    let (disk, journal) = open(directory, Mode::Own)?;
    let mut replay = Replay::default();
    let mut outcome = Ok(());
    'all: for folder in folders(&*disk) {
        for seq in sizes(&*disk, &folder).unwrap_or_default().into_keys() {
            let (letter, request) = match read_letter(&*disk, &folder, seq) {
                Ok(read) => read,
                Err(error) => {
                    replay.problems.push(format!("{folder}/{seq:020}: {error}"));
                    continue;
                }
            };
            if destination.is_some_and(|wanted| wanted != letter.destination) {
                continue 'all;
            }
            let reader = journal.state().reader(&letter.destination);
            let record = Record {
                payload: Bytes::from(request),
                samples: letter.samples,
                tenant: letter.tenant.map(Into::into),
                receiver: letter.receiver.into(),
            };
            let prepared = Prepared::new(&journal, record, Arc::new([reader]));
            if let Some(Err(source)) = journal.append(&[prepared]).pop() {
                outcome = Err(QueueError::Replay { replayed: replay.replayed, source });
                break 'all;
            }
            // If this fails it is replayed twice, which is better than never.
            if let Err(error) = remove_letter(&*disk, &folder, seq) {
                replay.problems.push(format!("{folder}/{seq:020}: cannot be removed: {error}"));
            }
            replay.replayed += 1;
        }
        // As above.
        let _ = disk.sync_folder(&folder);
    }
    journal.close();
    outcome.map(|()| replay)
}

/// Drops everything that waits for a destination, as for one that is no longer configured. The
/// number of records.
///
/// # Errors
/// If the log is in use, or knows no such destination.
pub fn discard(directory: &Path, destination: &str) -> Result<u64, QueueError> {
    let (_, journal) = open(directory, Mode::Own)?;
    let known = journal.state().readers.iter().any(|reader| &*reader.id == destination);
    let dropped = if known { journal.drop_destination(destination) } else { 0 };
    journal.close();
    if !known {
        let (directory, destination) = (directory.to_owned(), destination.to_owned());
        return Err(QueueError::UnknownDestination { directory, destination });
    }
    Ok(dropped)
}
