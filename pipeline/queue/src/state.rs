//! What the log knows, in memory: its segments and how far each destination is. No input or output.
//!
//! For each segment and destination there is a [`Share`]: how much the segment holds for it, and
//! how much of that is over. What is pending is the difference, so a segment that disappears takes
//! its part of every sum along. A share whose destination has gone past the end of the segment with
//! something left over was damaged: the rest is counted as lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::cache::{Cache, Place};
use super::format::{HEADER, Slot, Unfinished};
use super::{Losses, Pending, Stats};

/// The log in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) closed: bool,
    /// By the first number.
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) readers: Vec<Reader>,
    pub(super) cache: Cache,
    pub(super) counts: Stats,
    /// Acknowledgements since the cursors were written.
    pub(super) acknowledged: u64,
    /// Whether every file that was made is known to survive a loss of power.
    pub(super) folder_synced: bool,
    /// Damage that has been told already.
    pub(super) damage: BTreeSet<Place>,
}

/// A segment in memory.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) salt: u64,
    /// Where the records end that may be read.
    pub(super) data_end: u64,
    /// What the file takes.
    pub(super) file_bytes: u64,
    /// How many records it holds.
    pub(super) records: u64,
    /// More is going to be written to it.
    pub(super) active: bool,
    /// It could not be read: kept, whoever is past it.
    pub(super) keep: bool,
    pub(super) shares: BTreeMap<usize, Share>,
    /// When the newest record was accepted: wall clock when the log was opened or written to, ...
    pub(super) newest: u64,
    /// ... and how old it is, by a clock that does not jump.
    pub(super) age: Age,
}

impl Segment {
    /// Whether everybody is done with it.
    pub(super) fn is_done(&self) -> bool {
        self.shares.values().all(|share| share.done.records >= share.total.records)
    }
}

/// A duration that goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    pub(super) was: Duration,
    pub(super) at: Instant,
}

impl Age {
    pub(super) fn new(was: Duration) -> Self {
        Self { was, at: Instant::now() }
    }

    pub(super) fn now(&self) -> Duration {
        self.was + self.at.elapsed()
    }
}

/// What a segment holds for one destination.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The offset of the first, if it is known.
    pub(super) start: u64,
    pub(super) total: Pending,
    pub(super) done: Pending,
}

impl Share {
    pub(super) fn add(&mut self, seq: u64, offset: u64, bytes: u64, samples: u64) {
        if self.total.records == 0 {
            self.first = seq;
            self.start = offset;
        }
        self.last = seq;
        self.total.add(bytes, samples);
    }

    pub(super) fn rest(&self) -> Pending {
        self.total.minus(self.done)
    }
}

impl Pending {
    pub(super) fn add(&mut self, bytes: u64, samples: u64) {
        self.plus(Self { records: 1, bytes, samples });
    }

    pub(super) fn plus(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.samples += other.samples;
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
            samples: self.samples.saturating_sub(other.samples),
        }
    }
}

/// How far a destination is.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) id: Arc<str>,
    pub(super) notify: Arc<Notify>,
    /// Whose turn it is to wait for the next record.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Every record below is finished, open, or in `recovered`.
    pub(super) head: u64,
    /// Where the next record is looked for.
    pub(super) at: Option<Place>,
    pub(super) open: BTreeMap<u64, Open>,
    /// Those of `open` that nobody has.
    pub(super) returned: BTreeSet<u64>,
    /// Unfinished records below `skip` that have not been found again after a start.
    pub(super) recovered: BTreeMap<u64, Unfinished>,
    /// Below this, a record that is not in `recovered` was finished before the start.
    pub(super) skip: u64,
    /// Records that somebody has while their segment was dropped: how many samples each holds, and why
    /// they are lost unless they are delivered.
    pub(super) doomed: BTreeMap<u64, (u64, DropCause)>,
    /// What left it undelivered since the log was opened.
    pub(super) losses: Losses,
    /// Finished so far, by outcome.
    pub(super) slot: Slot,
    /// Which of the two files the last good slot is in.
    pub(super) second: bool,
    /// The cursor on disk.
    pub(super) durable: u64,
    /// Counts changes, so that a written cursor knows whether it is still the newest.
    pub(super) changes: u64,
    pub(super) written: u64,
}

/// A record that somebody has or had.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    /// Why it is to go to the dead letters.
    pub(super) dying: Option<Arc<str>>,
}

/// Why what is not delivered is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropCause {
    /// It is too old.
    Age,
    /// Others need the room.
    Room,
    /// Somebody asked for it, while no engine has the log.
    Request,
}

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Delivered,
    Dead,
    Lost,
}

impl Reader {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            slot: Slot { id: Arc::clone(&id), ..Slot::default() },
            id,
            notify: Arc::default(),
            turn: Arc::default(),
            head: 0,
            at: None,
            open: BTreeMap::new(),
            returned: BTreeSet::new(),
            recovered: BTreeMap::new(),
            doomed: BTreeMap::new(),
            losses: Losses::default(),
            skip: 0,
            second: true,
            durable: 0,
            changes: 0,
            written: 0,
        }
    }

    /// No record below this is unfinished.
    pub(super) fn cursor(&self) -> u64 {
        let open = self.open.first_key_value().map(|(seq, _)| *seq);
        let recovered = self.recovered.first_key_value().map(|(seq, _)| *seq);
        let lowest = open.into_iter().chain(recovered).min();
        lowest.unwrap_or(u64::MAX).min(self.head.max(self.skip))
    }

    /// Ends a record whose segment was dropped while somebody had it.
    pub(super) fn end_doomed(&mut self, seq: u64, delivered: bool) -> bool {
        let Some((samples, cause)) = self.doomed.remove(&seq) else { return false };
        self.changes += 1;
        if delivered {
            self.slot.delivered += 1;
        } else {
            self.slot.dropped += 1;
            self.losses.add(cause, samples);
        }
        true
    }

    /// What to write to disk.
    pub(super) fn slot(&self) -> Slot {
        let mut unfinished: Vec<Unfinished> = self.recovered.values().copied().collect();
        unfinished.extend(self.open.iter().map(|(seq, open)| Unfinished {
            seq: *seq,
            bytes: open.bytes,
            samples: open.samples,
        }));
        unfinished.sort_by_key(|record| record.seq);
        let mut head = self.head.max(self.skip);
        // More than a slot holds: those above are read once more.
        if let Some(first) = unfinished.get(MAX_UNFINISHED) {
            head = first.seq;
            unfinished.truncate(MAX_UNFINISHED);
        }
        let dropped = self.slot.dropped + self.doomed.len() as u64;
        Slot {
            generation: self.slot.generation + 1,
            head,
            unfinished,
            dropped,
            ..self.slot.clone()
        }
    }
}

/// How many unfinished records a slot names.
const MAX_UNFINISHED: usize = 16_384;

impl State {
    /// The destination of this id, new if need be.
    pub(super) fn reader(&mut self, id: &str) -> usize {
        if let Some(found) = self.readers.iter().position(|reader| &*reader.id == id) {
            return found;
        }
        self.readers.push(Reader::new(id.into()));
        self.readers.len() - 1
    }

    /// Where the next record of a destination is looked for, if there may be one.
    pub(super) fn position(&mut self, reader: usize) -> Option<Place> {
        loop {
            let this = self.readers.get_mut(reader)?;
            let known = this.at.filter(|(first, _)| self.segments.contains_key(first));
            let (first, offset) = known.or_else(|| {
                let head = this.head;
                self.segments.iter().find_map(|(first, segment)| {
                    let share = segment.shares.get(&reader)?;
                    (share.last >= head).then_some((*first, share.start.max(HEADER)))
                })
            })?;
            this.at = Some((first, offset));
            let segment = self.segments.get(&first)?;
            let read = segment.shares.get(&reader).is_none_or(|share| share.last < this.head);
            if segment.active {
                return (offset < segment.data_end).then_some((first, offset));
            }
            if !read && offset < segment.data_end {
                return Some((first, offset));
            }
            self.leave(reader, first);
        }
    }

    /// A destination has read all of a segment: what was not found in it is lost.
    pub(super) fn leave(&mut self, reader: usize, first: u64) {
        let Some(this) = self.readers.get_mut(reader) else { return };
        this.at = None;
        let Some(share) =
            self.segments.get_mut(&first).and_then(|segment| segment.shares.get_mut(&reader))
        else {
            return;
        };
        this.head = this.head.max(share.last + 1);
        let gone: Vec<u64> =
            this.recovered.range(first..=share.last).map(|(seq, _)| *seq).collect();
        for seq in gone {
            this.recovered.remove(&seq);
        }
        let mut open = Pending::default();
        for record in this.open.range(first..=share.last).map(|(_, open)| open) {
            open.add(record.bytes, record.samples);
        }
        let lost = share.rest().minus(open);
        share.done.plus(lost);
        if lost.records > 0 {
            this.slot.lost += lost.records;
            this.losses.damaged += lost.samples;
            this.changes += 1;
        }
    }

    /// A record is over for a destination. False if it was over before.
    pub(super) fn finish(&mut self, reader: usize, seq: u64, end: End) -> bool {
        let Some(this) = self.readers.get_mut(reader) else { return false };
        let Some(open) = this.open.remove(&seq) else {
            this.end_doomed(seq, end == End::Delivered);
            return false;
        };
        this.returned.remove(&seq);
        this.changes += 1;
        match end {
            End::Delivered => this.slot.delivered += 1,
            End::Dead => this.slot.dead += 1,
            End::Lost => {
                this.slot.lost += 1;
                // One that is dying was counted by whoever gave it up.
                this.losses.damaged += if open.dying.is_some() { 0 } else { open.samples };
            }
        }
        if let Some(share) =
            self.segments.get_mut(&open.segment).and_then(|segment| segment.shares.get_mut(&reader))
        {
            share.done.add(open.bytes, open.samples);
        }
        self.acknowledged += 1;
        true
    }

    /// Drops what a segment still holds, for everybody; counted. The number of records.
    pub(super) fn drop_segment(&mut self, first: u64, cause: DropCause) -> u64 {
        let Some(segment) = self.segments.get_mut(&first) else { return 0 };
        let mut dropped = 0;
        for (index, share) in &mut segment.shares {
            dropped += drop_share(&mut self.readers, *index, (first, share), cause);
        }
        self.counts.dropped_records += dropped;
        dropped
    }

    /// Drops everything that a destination has not finished; counted. The number of records.
    pub(super) fn drop_reader(&mut self, reader: usize) -> u64 {
        let mut dropped = 0;
        for (first, segment) in &mut self.segments {
            if let Some(share) = segment.shares.get_mut(&reader) {
                dropped +=
                    drop_share(&mut self.readers, reader, (*first, share), DropCause::Request);
            }
        }
        self.counts.dropped_records += dropped;
        dropped
    }

    /// How much a destination has not finished.
    pub(super) fn pending(&self, reader: usize) -> Pending {
        let mut pending = Pending::default();
        for share in self.segments.values().filter_map(|segment| segment.shares.get(&reader)) {
            pending.plus(share.rest());
        }
        pending
    }

    /// The segments that nobody needs any more, as the cursors on disk have it.
    pub(super) fn removable(&self) -> Vec<u64> {
        let Some((newest, _)) = self.segments.last_key_value() else { return Vec::new() };
        let past = |(reader, share): (&usize, &Share)| {
            self.readers.get(*reader).is_some_and(|reader| reader.durable > share.last)
        };
        self.segments
            .iter()
            // The newest one's name keeps its numbers from being given out again.
            .filter(|(first, segment)| {
                *first != newest
                    && !segment.active
                    && !segment.keep
                    && segment.shares.iter().all(past)
            })
            .map(|(first, _)| *first)
            .collect()
    }

    /// What all segments take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.file_bytes).sum()
    }

    /// Forgets what no destination is going to read next.
    pub(super) fn trim_cache(&mut self) {
        let lowest = self.readers.iter().filter_map(|reader| reader.at).min();
        if let Some(lowest) = lowest {
            self.cache.forget_before(lowest);
        }
    }
}

impl Losses {
    fn add(&mut self, cause: DropCause, samples: u64) {
        match cause {
            DropCause::Age => self.expired += samples,
            DropCause::Room => self.evicted += samples,
            DropCause::Request => {}
        }
    }
}

fn drop_share(
    readers: &mut [Reader],
    index: usize,
    (first, share): (u64, &mut Share),
    cause: DropCause,
) -> u64 {
    let mut rest = share.rest();
    let Some(reader) = readers.get_mut(index) else { return 0 };
    share.done = share.total;
    let range = first..=share.last;
    let mut lost = rest.samples;
    for (seq, open) in reader.open.extract_if(range.clone(), |_, _| true) {
        if open.dying.is_some() {
            // It was counted by whoever gave it up.
            lost = lost.saturating_sub(open.samples);
        } else if !reader.returned.contains(&seq) {
            // Somebody has it, and may still deliver it.
            lost = lost.saturating_sub(open.samples);
            rest.records = rest.records.saturating_sub(1);
            reader.doomed.insert(seq, (open.samples, cause));
        }
    }
    reader.losses.add(cause, lost);
    reader.returned.retain(|seq| !range.contains(seq));
    reader.recovered.retain(|seq, _| !range.contains(seq));
    reader.head = reader.head.max(share.last + 1);
    reader.slot.dropped += rest.records;
    reader.changes += 1;
    rest.records
}
