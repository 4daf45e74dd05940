//! The writing side: groups of records into segments.
//!
//! A group is one write and one sync; then its records are published and its senders answered. What
//! fails leaves no trace that counts: the file is cut back to what was good, or given up. A sync
//! that failed is never repeated, because the kernel may have forgotten what it could not write:
//! the segment is closed where it was good, the senders are refused, and a new segment is begun.

use std::io;
use std::sync::Arc;

use super::{Journal, now};
use crate::cache::Entry;
use crate::format::{
    Footer, HEAD, HEADER, Head, Header, Meta, Tally, VERSION, padding, segment_name,
};
use crate::state::{Age, Segment};
use crate::storage::StoredFile;
use crate::{AppendError, Record};

/// How many numbers a segment may use up. After a crash the numbers that may have been used are
/// skipped, so none is ever given out twice.
pub(crate) const SPAN_BYTES: u64 = 1 << 20;
/// The largest payload.
const MAX_RECORD_BYTES: usize = 1 << 30;

/// What is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    active: Option<Active>,
    next: u64,
    /// The dead letters' folders.
    pub(crate) dead: super::dead::Folders,
}

#[derive(Debug)]
struct Active {
    first: u64,
    salt: u64,
    file: Arc<dyn StoredFile>,
    /// What is good.
    length: u64,
}

/// A record on its way to the disk.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    record: Record,
    to: Arc<[usize]>,
    meta: Vec<u8>,
    /// Computed when the record came, so that it tells of damage in memory too.
    crc: u32,
}

impl Prepared {
    pub(crate) fn new(journal: &Journal, record: Record, to: Arc<[usize]>) -> Self {
        let crc = crc32fast::hash(&record.payload);
        let ids = {
            let state = journal.state();
            let ids = to.iter().filter_map(|index| state.readers.get(*index));
            ids.map(|reader| Arc::clone(&reader.id)).collect()
        };
        let meta = Meta {
            samples: record.samples,
            tenant: record.tenant.clone(),
            receiver: Arc::clone(&record.receiver),
            to: ids,
        }
        .encode();
        Self { record, to, meta, crc }
    }

    /// What it takes in a segment.
    pub(crate) fn bytes(&self) -> u64 {
        let content = (self.meta.len() + self.record.payload.len()) as u64;
        HEAD + content + padding(content) as u64
    }
}

impl Writer {
    pub(crate) fn new(next: u64) -> Self {
        Self { active: None, next, dead: super::dead::Folders::default() }
    }

    /// The number of the next record.
    #[cfg(test)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

impl Journal {
    /// Writes records together; an answer for each.
    pub(crate) fn append(&self, group: &[Prepared]) -> Vec<Result<(), AppendError>> {
        let mut writer = self.writer();
        let mut answers = Vec::with_capacity(group.len());
        let mut start = 0;
        let mut run = 0;
        for (index, prepared) in group.iter().enumerate() {
            let bytes = prepared.bytes();
            let fits = writer.active.as_ref().is_some_and(|active| {
                let used = writer.next + (index - start) as u64 - active.first;
                let length = active.length + run;
                // A record that is larger than segments are has one of its own.
                used < SPAN_BYTES - 1
                    && (length == HEADER || length + bytes <= self.segment_bytes())
            });
            if !fits {
                let part = group.get(start..index).unwrap_or_default();
                self.write(&mut writer, part, &mut answers);
                (start, run) = (index, 0);
            }
            match self.admit(&mut writer, prepared, run, fits) {
                Ok(()) => run += bytes,
                Err(error) => {
                    let part = group.get(start..index).unwrap_or_default();
                    self.write(&mut writer, part, &mut answers);
                    answers.push(Err(error));
                    (start, run) = (index + 1, 0);
                }
            }
        }
        let part = group.get(start..).unwrap_or_default();
        self.write(&mut writer, part, &mut answers);
        answers
    }

    /// Makes sure that there is room for a record, and a segment to write it to.
    fn admit(
        &self,
        writer: &mut Writer,
        prepared: &Prepared,
        run: u64,
        fits: bool,
    ) -> Result<(), AppendError> {
        let bytes = prepared.bytes();
        let limit = self.settings.max_bytes;
        let largest = prepared.record.payload.len().max(prepared.meta.len());
        if bytes + HEADER > limit || largest > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { bytes });
        }
        if self.state().closed {
            return Err(AppendError::Closed);
        }
        let roll = self.make_room(writer, run + bytes)?;
        if !fits || roll || writer.active.is_none() {
            self.seal(writer);
            self.begin(writer, HEADER + bytes)
                .map_err(|error| self.failed(AppendError::Begin(Arc::new(error))))?;
            if roll {
                self.remove_finished();
            }
        }
        Ok(())
    }

    /// Writes records to the active segment in one go.
    fn write(
        &self,
        writer: &mut Writer,
        part: &[Prepared],
        answers: &mut Vec<Result<(), AppendError>>,
    ) {
        if part.is_empty() {
            return;
        }
        let time = now();
        let outcome = match writer.active.take() {
            Some(active) => {
                let first = writer.next;
                // Whatever happens, nothing else has these numbers.
                writer.next += part.len() as u64;
                match self.put(&active, first, time, part) {
                    Ok(length) => {
                        self.publish(&active, first, time, part);
                        writer.active = Some(Active { length, ..active });
                        self.state().counts.trouble = None;
                        Ok(())
                    }
                    Err(FailedWrite { error, usable }) => {
                        if usable {
                            writer.active = Some(active);
                        } else {
                            self.abandon(&active);
                        }
                        Err(self.failed(error))
                    }
                }
            }
            // Admitting the records has begun one.
            None => Err(AppendError::Begin(Arc::new(io::ErrorKind::NotFound.into()))),
        };
        answers.extend(part.iter().map(|_| outcome.clone()));
    }

    /// The good length after the write.
    fn put(
        &self,
        active: &Active,
        first: u64,
        time: u64,
        part: &[Prepared],
    ) -> Result<u64, FailedWrite> {
        let heads: Vec<_> = part
            .iter()
            .zip(first..)
            .map(|(prepared, seq)| {
                let head = Head {
                    salt: active.salt,
                    seq,
                    time,
                    payload: prepared.record.payload.len() as u32,
                    meta: prepared.meta.len() as u32,
                    payload_crc: prepared.crc,
                    meta_crc: crc32fast::hash(&prepared.meta),
                };
                (head, head.encode())
            })
            .collect();
        let mut slices: Vec<&[u8]> = Vec::with_capacity(part.len() * 4);
        let mut length = active.length;
        for (prepared, (head, bytes)) in part.iter().zip(&heads) {
            slices.extend([&bytes[..], &prepared.meta, &prepared.record.payload]);
            let content = u64::from(head.meta) + u64::from(head.payload);
            slices.extend(PADDING.get(..padding(content)));
            length += head.length();
        }
        slices.retain(|slice| !slice.is_empty());
        if let Err(error) = active.file.write_at(active.length, &slices) {
            let usable = active.file.truncate(active.length).is_ok();
            let error = AppendError::Write(Arc::new(error));
            return Err(FailedWrite { error, usable });
        }
        if self.durable
            && let Err(error) = active.file.sync()
        {
            self.state().counts.failed_syncs += 1;
            // Best effort: what was refused should not be delivered after a restart too.
            let _ = active.file.truncate(active.length);
            let error = AppendError::Sync(Arc::new(error));
            return Err(FailedWrite { error, usable: false });
        }
        // What is synced into a file that nobody finds again is not kept.
        if let Err(error) = active.file.is_there().and_then(|()| self.storage.is_in_place()) {
            let _ = active.file.truncate(active.length);
            let error = AppendError::Write(Arc::new(error));
            return Err(FailedWrite { error, usable: false });
        }
        Ok(length)
    }

    fn publish(&self, active: &Active, first: u64, time: u64, part: &[Prepared]) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(segment) = state.segments.get_mut(&active.first) else { return };
        let mut offset = active.length;
        for (prepared, seq) in part.iter().zip(first..) {
            let record = &prepared.record;
            let bytes = record.payload.len() as u64;
            for reader in prepared.to.iter() {
                segment.shares.entry(*reader).or_default().add(seq, offset, bytes, record.samples);
            }
            let next = offset + prepared.bytes();
            let to = Arc::clone(&prepared.to);
            state
                .cache
                .put((active.first, offset), Entry { seq, time, record: record.clone(), to, next });
            offset = next;
        }
        segment.data_end = offset;
        segment.file_bytes = offset;
        segment.records += part.len() as u64;
        segment.newest = time;
        segment.age = Age::new(std::time::Duration::ZERO);
        state.counts.appended_records += part.len() as u64;
        state.counts.appended_bytes += offset - active.length;
        for reader in part.iter().flat_map(|prepared| prepared.to.iter()) {
            if let Some(reader) = state.readers.get(*reader) {
                reader.notify.notify_one();
            }
        }
    }

    /// Nothing more is written to the segment; what it held so far is good.
    fn abandon(&self, active: &Active) {
        if let Some(segment) = self.state().segments.get_mut(&active.first) {
            segment.active = false;
        }
    }

    /// Closes the active segment with a footer. One that cannot be written is not missed: the
    /// segment is read whole when the log is opened.
    pub(crate) fn seal(&self, writer: &mut Writer) {
        let Some(active) = writer.active.take() else { return };
        let Some(footer) = self.footer(&active, writer.next) else { return };
        let bytes = footer.encode();
        let length = active.length + bytes.len() as u64;
        let written = active.file.write_at(active.length, &[&bytes]);
        // Gives back what was allocated beyond, too.
        let cut = active.file.truncate(if written.is_ok() { length } else { active.length });
        if self.durable && written.is_ok() && cut.is_ok() && active.file.sync().is_err() {
            self.state().counts.failed_syncs += 1;
        }
        let mut state = self.state();
        if let Some(segment) = state.segments.get_mut(&active.first) {
            segment.active = false;
            segment.file_bytes = length;
        }
    }

    fn footer(&self, active: &Active, next: u64) -> Option<Footer> {
        let state = self.state();
        let segment = state.segments.get(&active.first)?;
        let tallies = segment.shares.iter().filter_map(|(reader, share)| {
            let id = Arc::clone(&state.readers.get(*reader)?.id);
            Some(Tally { id, first: share.first, last: share.last, total: share.total })
        });
        Some(Footer {
            first: active.first,
            salt: active.salt,
            next,
            newest: segment.newest,
            data_end: active.length,
            records: segment.records,
            tallies: tallies.collect(),
        })
    }

    /// Makes a new segment that survives a loss of power, before anything is written to it.
    fn begin(&self, writer: &mut Writer, least: u64) -> io::Result<()> {
        let first = writer.next;
        let name = segment_name(first);
        let begun = self.storage.create(&name).and_then(|file| {
            let made = self.prepare(&*file, first, least);
            if made.is_err() {
                // It holds nothing; if it stays, nobody minds.
                let _ = self.storage.remove(&name);
            }
            made.map(|salt| (file, salt))
        });
        let (file, salt) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // A file of this name may still be there, now or after a loss of power.
                writer.next += 1;
                return Err(error);
            }
        };
        let segment = Segment {
            salt,
            data_end: HEADER,
            file_bytes: HEADER,
            records: 0,
            active: true,
            keep: false,
            shares: Default::default(),
            newest: now(),
            age: Age::new(std::time::Duration::ZERO),
        };
        self.state().segments.insert(first, segment);
        writer.active = Some(Active { first, salt, file, length: HEADER });
        Ok(())
    }

    fn prepare(&self, file: &dyn StoredFile, first: u64, least: u64) -> io::Result<u64> {
        // A disk without room for a whole segment may have some for this record.
        file.allocate(self.segment_bytes().max(least)).or_else(|_| file.allocate(least))?;
        let salt = self.storage.salt();
        let header = Header { version: VERSION, first, salt, created: now() };
        file.write_at(0, &[&header.encode()])?;
        file.sync()?;
        self.storage.sync_folder("")?;
        Ok(salt)
    }
}

static PADDING: [u8; 8] = [0; 8];

/// A write that failed, and whether the file can still be written to.
struct FailedWrite {
    error: AppendError,
    usable: bool,
}
