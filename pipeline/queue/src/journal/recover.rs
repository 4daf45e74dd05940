//! Opening a log: what is in the directory becomes the state in memory.
//!
//! Always succeeds, whatever is there, unless another process holds the lock or the directory
//! cannot be listed. A segment with a valid footer is not read. One without, which is the last one
//! after a crash, is read whole, cut off behind its last valid record and given a footer; nothing is
//! ever appended to it. Doing it again gives the same.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::keep::slot_of;
use super::quarantine;
use super::writer::SPAN_BYTES;
use super::{Journal, now};
use crate::LogSettings;
use crate::cache::Cache;
use crate::format::{
    CURSOR_LIMIT, FOOTER_LIMIT, FileName, Footer, HEADER, Header, Slot, TRAILER, Tally, VERSION,
    segment_name,
};
use crate::state::{Age, Segment, Share, State};
use crate::storage::{Access, Storage, StoredFile, read_all, read_range};
use crate::walk::{Scope, Step, content, meta};

/// Names above this are not ours: numbers must not run out.
const MAX_SEQUENCE: u64 = 1 << 62;

/// Whether opening may change what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The log is ours: it is locked and repaired.
    Own,
    /// Somebody only looks.
    Look,
}

impl Journal {
    /// Opens the log in a directory.
    ///
    /// # Errors
    /// If the lock is held or the directory cannot be read.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        settings: LogSettings,
        durable: bool,
        mode: Mode,
    ) -> io::Result<Self> {
        if mode == Mode::Own {
            storage.lock()?;
        }
        let names = storage.list("")?;
        let mut state = State { cache: Cache::new(settings.cache_bytes), ..State::default() };
        let mut firsts: Vec<u64> = Vec::new();
        for name in &names {
            match FileName::parse(name) {
                FileName::Segment(first) if first < MAX_SEQUENCE => firsts.push(first),
                _ => {}
            }
        }
        firsts.sort_unstable();
        let mut next = 1;
        for (index, first) in firsts.iter().enumerate() {
            let below = firsts.get(index + 1).copied().unwrap_or(u64::MAX);
            let mut opening = Opening { storage: &*storage, state: &mut state, mode };
            next = next.max(opening.segment(*first, below));
        }
        for slot in slots(&*storage, &names) {
            let (slot, second) = slot;
            let last = slot.unfinished.last().map_or(0, |record| record.seq + 1);
            next = next.max(slot.head).max(last);
            place(&*storage, &mut state, slot, second);
        }
        Ok(Self::new(storage, settings, durable, state, next))
    }
}

/// The best slot of each destination, and whether it is the second.
fn slots(storage: &dyn Storage, names: &[String]) -> Vec<(Slot, bool)> {
    let mut best: BTreeMap<Arc<str>, (Slot, bool)> = BTreeMap::new();
    for name in names {
        let Some(second) = slot_of(name) else { continue };
        let bytes = storage
            .open(name, Access::Read)
            .and_then(|file| read_all(&*file, CURSOR_LIMIT))
            .unwrap_or_default();
        let Some(slot) = Slot::decode(&bytes) else { continue };
        let better = best.get(&slot.id).is_none_or(|(known, _)| known.generation < slot.generation);
        if better && slot.head < MAX_SEQUENCE {
            best.insert(Arc::clone(&slot.id), (slot, second));
        }
    }
    best.into_values().collect()
}

/// Sets a destination to where its cursor says.
fn place(storage: &dyn Storage, state: &mut State, slot: Slot, second: bool) {
    let index = state.reader(&slot.id);
    let firsts: Vec<u64> = state.segments.keys().copied().collect();
    for (at, first) in firsts.iter().enumerate() {
        let below = firsts.get(at + 1).copied().unwrap_or(u64::MAX);
        let Some(segment) = state.segments.get_mut(first) else { continue };
        let scope = Scope { salt: Some(segment.salt), from: *first, below, end: segment.data_end };
        let Some(share) = segment.shares.get_mut(&index).filter(|share| share.first < slot.head)
        else {
            continue;
        };
        if share.last < slot.head {
            share.done = share.total;
            let unfinished = slot.unfinished.iter();
            for record in unfinished.filter(|record| (*first..below).contains(&record.seq)) {
                let mut one = super::Pending::default();
                one.add(record.bytes, record.samples);
                share.done = share.done.minus(one);
            }
        } else {
            // The cursor is within: its records are looked at, without their payloads.
            let done = storage
                .open(&segment_name(*first), Access::Read)
                .and_then(|file| finished(&*file, scope, &slot));
            share.done = done.unwrap_or_default();
        }
    }
    let Some(reader) = state.readers.get_mut(index) else { return };
    reader.skip = slot.head;
    reader.recovered = slot.unfinished.iter().map(|record| (record.seq, *record)).collect();
    reader.head = slot.unfinished.first().map_or(slot.head, |record| record.seq).min(slot.head);
    reader.durable = reader.cursor();
    reader.second = second;
    reader.slot = Slot { unfinished: Vec::new(), ..slot };
}

/// What of a segment was finished, by a cursor within it.
fn finished(file: &dyn StoredFile, mut scope: Scope, slot: &Slot) -> io::Result<super::Pending> {
    let mut done = super::Pending::default();
    let mut offset = HEADER;
    loop {
        match scope.step(file, offset)? {
            Step::Record(head) if head.seq >= slot.head => return Ok(done),
            Step::Record(head) => {
                let over = slot.unfinished.iter().all(|record| record.seq != head.seq);
                if over
                    && let Some(meta) = meta(file, offset, &head)?
                    && meta.to.contains(&slot.id)
                {
                    done.add(u64::from(head.payload), meta.samples);
                }
                scope.from = head.seq + 1;
                offset += head.length();
            }
            Step::Gap(next) => offset = next,
            Step::Tail { .. } => return Ok(done),
        }
    }
}

struct Opening<'a> {
    storage: &'a dyn Storage,
    state: &'a mut State,
    mode: Mode,
}

/// What was found in a segment that had to be read.
#[derive(Default)]
struct Scanned {
    salt: Option<u64>,
    last: u64,
    newest: u64,
    data_end: u64,
    records: u64,
    shares: BTreeMap<usize, Share>,
    damage: Vec<(u64, u64)>,
    /// There is something behind the last record.
    torn: bool,
}

impl Opening<'_> {
    /// Takes a segment into the state; the lowest number that is free as far as it knows.
    fn segment(&mut self, first: u64, below: u64) -> u64 {
        // Also what cannot be read may hold numbers.
        let beyond = first + SPAN_BYTES;
        let name = segment_name(first);
        let Ok(file) = self.storage.open(&name, Access::Read) else { return beyond };
        match segment_form(&*file, first) {
            Ok(SegmentForm::Footer(footer)) => self.sealed(&footer, &*file),
            Ok(SegmentForm::Foreign) => {
                self.state.counts.foreign_files += 1;
                tracing::warn!(
                    "queue: {name} is not a segment of this log and version: left alone"
                );
                beyond
            }
            Ok(SegmentForm::Unsealed(salt)) => match self.scan(&*file, first, below, salt) {
                Ok(scanned) => self.unsealed(first, &*file, scanned),
                Err(error) => self.unreadable(&name, first, &error),
            },
            Err(error) => self.unreadable(&name, first, &error),
        }
    }

    fn unreadable(&mut self, name: &str, first: u64, error: &io::Error) -> u64 {
        tracing::error!("queue: cannot read {name}: {error}: left alone until the next start");
        self.state.counts.failures += 1;
        self.insert(
            first,
            Segment {
                salt: 0,
                data_end: 0,
                file_bytes: 0,
                records: 0,
                active: false,
                keep: true,
                shares: BTreeMap::new(),
                newest: now(),
                age: Age::new(Duration::ZERO),
            },
        );
        first + SPAN_BYTES
    }

    fn insert(&mut self, first: u64, segment: Segment) {
        self.state.segments.insert(first, segment);
    }

    fn sealed(&mut self, footer: &Footer, file: &dyn StoredFile) -> u64 {
        let mut shares = BTreeMap::new();
        for tally in &footer.tallies {
            let Tally { first, last, total, .. } = *tally;
            let share = Share { first, last, start: 0, total, ..Share::default() };
            shares.insert(self.state.reader(&tally.id), share);
        }
        let age = Duration::from_nanos(now().saturating_sub(footer.newest));
        let file_bytes = file.length().unwrap_or(footer.data_end);
        self.insert(
            footer.first,
            Segment {
                salt: footer.salt,
                data_end: footer.data_end,
                file_bytes,
                records: footer.records,
                active: false,
                keep: false,
                shares,
                newest: footer.newest,
                age: Age::new(age),
            },
        );
        footer.next
    }

    fn scan(
        &mut self,
        file: &dyn StoredFile,
        first: u64,
        below: u64,
        salt: Option<u64>,
    ) -> io::Result<Scanned> {
        let mut scanned = Scanned { salt, data_end: HEADER, newest: now(), ..Scanned::default() };
        let end = file.length()?;
        let mut scope = Scope { salt, from: first, below, end };
        let mut offset = HEADER;
        // Damage counts as such only if a valid record follows: else it is a torn tail.
        let mut maybe: Vec<(u64, u64)> = Vec::new();
        loop {
            match scope.step(file, offset)? {
                Step::Record(head) => {
                    let next = offset + head.length();
                    scope.salt = Some(head.salt);
                    scope.from = head.seq + 1;
                    scanned.salt = scope.salt;
                    scanned.last = head.seq;
                    match content(file, offset, &head)? {
                        Some((meta, payload)) => {
                            scanned.newest = head.time;
                            scanned.data_end = next;
                            scanned.records += 1;
                            scanned.damage.append(&mut maybe);
                            for id in &meta.to {
                                let reader = self.state.reader(id);
                                let share = scanned.shares.entry(reader).or_default();
                                share.add(head.seq, offset, payload.len() as u64, meta.samples);
                            }
                        }
                        None => maybe.push((offset, next)),
                    }
                    offset = next;
                }
                Step::Gap(next) => {
                    maybe.push((offset, next));
                    offset = next;
                }
                Step::Tail { clean } => {
                    scanned.torn = !clean || !maybe.is_empty();
                    return Ok(scanned);
                }
            }
        }
    }

    fn unsealed(&mut self, first: u64, file: &dyn StoredFile, scanned: Scanned) -> u64 {
        let next = (first + SPAN_BYTES).max(scanned.last + 1);
        let salt = scanned.salt.unwrap_or_default();
        let length = file.length().unwrap_or(scanned.data_end);
        for (from, to) in &scanned.damage {
            self.state.counts.damaged_ranges += 1;
            self.state.counts.damaged_bytes += to - from;
            self.state.damage.insert((first, *from));
        }
        self.state.counts.torn_tails += u64::from(scanned.torn);
        let tallies = scanned.shares.iter().filter_map(|(reader, share)| {
            let id = Arc::clone(&self.state.readers.get(*reader)?.id);
            Some(Tally { id, first: share.first, last: share.last, total: share.total })
        });
        let footer = Footer {
            first,
            salt,
            next,
            newest: scanned.newest,
            data_end: scanned.data_end,
            records: scanned.records,
            tallies: tallies.collect(),
        };
        let mut file_bytes = length;
        if self.mode == Mode::Own {
            for (from, to) in &scanned.damage {
                quarantine::copy(self.storage, file, (first, *from), *to);
            }
            if scanned.torn {
                quarantine::copy(self.storage, file, (first, scanned.data_end), length);
            }
            // If this cannot be done now, the next start does it.
            if let Ok(sealed) = self.repair(first, &footer) {
                file_bytes = sealed;
            }
        }
        let age = Duration::from_nanos(now().saturating_sub(scanned.newest));
        self.insert(
            first,
            Segment {
                salt,
                data_end: scanned.data_end,
                file_bytes,
                records: footer.records,
                active: false,
                keep: false,
                shares: scanned.shares,
                newest: scanned.newest,
                age: Age::new(age),
            },
        );
        next
    }

    /// Cuts off what is behind the last record and writes a footer; the new length.
    fn repair(&self, first: u64, footer: &Footer) -> io::Result<u64> {
        let file = self.storage.open(&segment_name(first), Access::Write)?;
        if file.length()? > footer.data_end {
            file.truncate(footer.data_end)?;
        }
        // What was read may only be in memory, and the cut must not come after the footer.
        file.sync()?;
        let bytes = footer.encode();
        file.write_at(footer.data_end, &[&bytes])?;
        file.sync()?;
        Ok(footer.data_end + bytes.len() as u64)
    }
}

enum SegmentForm {
    Footer(Footer),
    Unsealed(Option<u64>),
    Foreign,
}

fn segment_form(file: &dyn StoredFile, first: u64) -> io::Result<SegmentForm> {
    let header = Header::decode(&read_range(file, 0, HEADER)?);
    if header.is_some_and(|header| header.first != first || header.version > VERSION) {
        return Ok(SegmentForm::Foreign);
    }
    let salt = header.map(|header| header.salt);
    let length = file.length()?;
    let trailer = read_range(file, length.saturating_sub(TRAILER), TRAILER)?;
    let footer = match Footer::length(&trailer) {
        Some(size) if size <= FOOTER_LIMIT && size + HEADER <= length => {
            Footer::decode(&read_range(file, length - size, size)?)
                .filter(|footer| footer.data_end == length - size)
        }
        _ => None,
    };
    Ok(match footer {
        Some(footer) if footer.first == first && salt.is_none_or(|it| it == footer.salt) => {
            SegmentForm::Footer(footer)
        }
        _ => SegmentForm::Unsealed(salt),
    })
}

/// What a segment is, for those who only look.
pub(crate) struct Opened {
    pub(crate) salt: Option<u64>,
    pub(crate) sealed: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) foreign: bool,
    /// The header is as it should be.
    pub(crate) header: bool,
}

/// Looks at a segment's header and footer.
pub(crate) fn examine(file: &dyn StoredFile, first: u64) -> io::Result<Opened> {
    let end = file.length()?;
    let header = Header::decode(&read_range(file, 0, HEADER)?).is_some();
    let opened = Opened { salt: None, sealed: false, start: HEADER, end, foreign: false, header };
    Ok(match segment_form(file, first)? {
        SegmentForm::Footer(footer) => {
            Opened { salt: Some(footer.salt), sealed: true, end: footer.data_end, ..opened }
        }
        SegmentForm::Unsealed(salt) => Opened { salt, ..opened },
        SegmentForm::Foreign => Opened { foreign: true, ..opened },
    })
}
