//! The reading side: leases.
//!
//! Reading happens without the lock: a place is looked up under it, read without it, and what was
//! read counts only if the destination is still at that place.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Journal, system_time};
use crate::Record;
use crate::cache::Place;
use crate::format::{Head, Meta, segment_name};
use crate::state::{End, Open, State};
use crate::storage::{Access, StoredFile};
use crate::walk::{Scope, Step, content};

/// What a destination gets.
#[derive(Debug)]
pub(crate) enum LeaseOutcome {
    /// The oldest record that nobody has.
    Leased(Leased),
    /// Nothing for now.
    Empty,
    /// It has to be read from the disk.
    OnDisk,
    /// It cannot be read now, for want of something that may come back.
    Trouble,
    /// The log is closed.
    Closed,
}

/// A record that somebody has.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) record: Record,
    pub(crate) enqueued: SystemTime,
    pub(crate) seq: u64,
}

/// What to do next.
enum Plan {
    Answer(LeaseOutcome),
    Again { seq: u64, place: Place },
    Walk { place: Place, scope: Scope },
}

/// What is at a place of a segment.
enum Here {
    Record(Head, Option<(Meta, bytes::Bytes)>),
    /// Nothing before this offset; whether that is damage.
    Skip(u64, bool),
    /// The file is gone.
    Gone,
}

impl Journal {
    /// The oldest record that nobody has; from the disk only if that is allowed.
    pub(crate) fn lease(&self, reader: usize, disk: bool) -> LeaseOutcome {
        loop {
            let plan = self.state().plan(reader, disk);
            match plan {
                Plan::Answer(found) => return found,
                Plan::Again { seq, place } => match self.again(seq, place) {
                    Ok(Some(leased)) => return LeaseOutcome::Leased(leased),
                    Err(error) if !is_final(&error) => {
                        self.trouble(format!("cannot read {}: {error}", segment_name(place.0)));
                        self.give_back(reader, seq);
                        return LeaseOutcome::Trouble;
                    }
                    _ => {
                        self.state().finish(reader, seq, End::Lost);
                    }
                },
                Plan::Walk { place, scope } => {
                    let Some(here) = self.look(place, scope) else { return LeaseOutcome::Trouble };
                    if let Some(leased) = self.take(reader, place, scope, here) {
                        return LeaseOutcome::Leased(leased);
                    }
                }
            }
        }
    }

    /// Reads a record that was read before.
    pub(crate) fn again(&self, seq: u64, place: Place) -> io::Result<Option<Leased>> {
        let (first, offset) = place;
        let file = self.storage.open(&segment_name(first), Access::Read)?;
        let end = file.length()?;
        let scope = Scope { salt: None, from: seq, below: seq + 1, end };
        let Step::Record(head) = scope.step(&*file, offset)? else { return Ok(None) };
        Ok(content(&*file, offset, &head)?.map(|(meta, payload)| leased(&head, &meta, payload)))
    }

    /// What is at a place; `None` if it cannot be read now.
    fn look(&self, place: Place, scope: Scope) -> Option<Here> {
        let (first, offset) = place;
        let file = match self.storage.open(&segment_name(first), Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Here::Gone),
            Err(error) => return self.unreadable(first, scope.end, &error),
        };
        let found = scope.step(&*file, offset).and_then(|step| match step {
            Step::Record(head) => Ok(Here::Record(head, content(&*file, offset, &head)?)),
            Step::Gap(next) => Ok(Here::Skip(next, true)),
            Step::Tail { clean } => Ok(Here::Skip(scope.end, !clean)),
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.unreadable(first, scope.end, &error),
        };
        match &found {
            Here::Record(head, None) => self.damaged(&*file, place, offset + head.length()),
            Here::Skip(next, true) => self.damaged(&*file, place, *next),
            _ => {}
        }
        Some(found)
    }

    /// The rest of a segment on a bad disk is given up until the next start; its file stays.
    fn unreadable(&self, first: u64, end: u64, error: &io::Error) -> Option<Here> {
        self.trouble(format!("cannot read {}: {error}", segment_name(first)));
        if !is_final(error) {
            return None;
        }
        if let Some(segment) = self.state().segments.get_mut(&first) {
            segment.keep = true;
        }
        Some(Here::Skip(end, false))
    }

    fn damaged(&self, file: &dyn StoredFile, place: Place, end: u64) {
        if self.state().damage.insert(place) {
            self.quarantine(file, place, end);
        }
    }

    /// Goes on from a place with what was found there.
    fn take(&self, reader: usize, place: Place, scope: Scope, here: Here) -> Option<Leased> {
        let mut state = self.state();
        let state = &mut *state;
        if state.readers.get(reader)?.at != Some(place) {
            return None;
        }
        let (first, offset) = place;
        let (head, read) = match here {
            Here::Record(head, read) => (head, read),
            Here::Skip(next, _) => {
                state.readers.get_mut(reader)?.at = Some((first, next));
                return None;
            }
            Here::Gone => {
                // Somebody else removed it. Its records are lost, and counted so.
                state.leave(reader, first);
                let head = state.readers.get(reader)?.head;
                state.readers.get_mut(reader)?.head = head.max(scope.from);
                if let Some(segment) = state.segments.get_mut(&first) {
                    segment.data_end = 0;
                }
                return None;
            }
        };
        let next = offset + head.length();
        let this = state.readers.get_mut(reader)?;
        this.at = Some((first, next));
        let wanted = this.wants(head.seq);
        let id = Arc::clone(&this.id);
        let (meta, payload) = read?;
        if !wanted || !meta.to.contains(&id) {
            return None;
        }
        let leased = leased(&head, &meta, payload);
        let bytes = leased.record.payload.len() as u64;
        this.open(head.seq, place, bytes, meta.samples);
        Some(leased)
    }

    /// A destination has a record.
    pub(crate) fn done(&self, reader: usize, seq: u64) -> bool {
        let mut state = self.state();
        state.finish(reader, seq, End::Delivered);
        state.acknowledged >= 1000
    }

    /// A record goes back to be read again.
    pub(crate) fn give_back(&self, reader: usize, seq: u64) {
        let mut state = self.state();
        let Some(reader) = state.readers.get_mut(reader) else { return };
        if reader.open.contains_key(&seq) {
            reader.returned.insert(seq);
        } else {
            reader.end_doomed(seq, false);
        }
        reader.notify.notify_one();
    }

    /// A record is to go to the dead letters. False if it was dropped meanwhile.
    pub(crate) fn give_up(&self, reader: usize, seq: u64, reason: &str) -> bool {
        let mut state = self.state();
        let Some(reader) = state.readers.get_mut(reader) else { return false };
        match reader.open.get_mut(&seq) {
            Some(open) => open.dying = Some(reason.into()),
            None => {
                reader.end_doomed(seq, false);
                return false;
            }
        }
        true
    }
}

/// Whether trying again is of no use: the disk is bad, or the file is gone.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn leased(head: &Head, meta: &Meta, payload: bytes::Bytes) -> Leased {
    let record = Record {
        payload,
        samples: meta.samples,
        tenant: meta.tenant.clone(),
        receiver: Arc::clone(&meta.receiver),
    };
    Leased { record, enqueued: system_time(head.time), seq: head.seq }
}

impl crate::state::Reader {
    /// Whether a record has not been read yet, nor finished before the start.
    fn wants(&self, seq: u64) -> bool {
        seq >= self.head && (seq >= self.skip || self.recovered.contains_key(&seq))
    }

    fn open(&mut self, seq: u64, place: Place, bytes: u64, samples: u64) {
        let (segment, offset) = place;
        self.head = seq + 1;
        self.recovered.remove(&seq);
        self.open.insert(seq, Open { segment, offset, bytes, samples, dying: None });
    }
}

impl State {
    fn plan(&mut self, index: usize, disk: bool) -> Plan {
        if self.closed {
            return Plan::Answer(LeaseOutcome::Closed);
        }
        let Some(reader) = self.readers.get_mut(index) else {
            return Plan::Answer(LeaseOutcome::Empty);
        };
        if let Some(seq) = reader.returned.first().copied() {
            let place = reader.open.get(&seq).map(|open| (open.segment, open.offset));
            let Some(place) = place else {
                reader.returned.remove(&seq);
                return self.plan(index, disk);
            };
            if let Some(entry) = self.cache.get(place) {
                let enqueued = system_time(entry.time);
                let record = entry.record.clone();
                reader.returned.remove(&seq);
                return Plan::Answer(LeaseOutcome::Leased(Leased { record, enqueued, seq }));
            }
            if !disk {
                return Plan::Answer(LeaseOutcome::OnDisk);
            }
            reader.returned.remove(&seq);
            return Plan::Again { seq, place };
        }
        while let Some(place) = self.position(index) {
            let Some(entry) = self.cache.get(place) else {
                if !disk {
                    return Plan::Answer(LeaseOutcome::OnDisk);
                }
                let Some(scope) = self.scope(place) else { break };
                return Plan::Walk { place, scope };
            };
            let Some(reader) = self.readers.get_mut(index) else { break };
            reader.at = Some((place.0, entry.next));
            if entry.to.contains(&index) && reader.wants(entry.seq) {
                let record = entry.record.clone();
                let bytes = record.payload.len() as u64;
                reader.open(entry.seq, place, bytes, record.samples);
                let enqueued = system_time(entry.time);
                return Plan::Answer(LeaseOutcome::Leased(Leased {
                    record,
                    enqueued,
                    seq: entry.seq,
                }));
            }
        }
        Plan::Answer(LeaseOutcome::Empty)
    }

    fn scope(&self, (first, _): Place) -> Option<Scope> {
        let segment = self.segments.get(&first)?;
        let next = self.segments.range(first + 1..).next();
        let below = next.map_or(u64::MAX, |(next, _)| *next);
        Some(Scope { salt: Some(segment.salt), from: first, below, end: segment.data_end })
    }
}
