//! Housekeeping: cursors to disk, segments that are done with from it, limits of room and age.

use std::io;

use super::Journal;
use super::writer::Writer;
use crate::AppendError;
use crate::format::{FileName, Slot, destination_name, segment_name};
use crate::state::DropCause;
use crate::storage::Access;

/// The free room that is kept at most, where settings do not say.
const MAX_FREE_BYTES: u64 = 256 << 20;

impl Journal {
    /// What is to be done every now and then: letters, cursors, removal, age.
    pub(crate) fn tick(&self) {
        let mut writer = self.writer();
        self.bury(&mut writer);
        self.expire(&mut writer);
        self.write_cursors();
        self.remove_finished();
        self.state().trim_cache();
    }

    /// Writes every cursor that has moved. True if all that had to be written are.
    pub(crate) fn write_cursors(&self) -> bool {
        let (count, mut all) = {
            let mut state = self.state();
            state.acknowledged = 0;
            (state.readers.len(), true)
        };
        for index in 0..count {
            let Some((slot, cursor, second, changes)) =
                self.state().readers.get(index).and_then(|reader| {
                    (reader.changes != reader.written)
                        .then(|| (reader.slot(), reader.cursor(), !reader.second, reader.changes))
                })
            else {
                continue;
            };
            let cursor = slot.unfinished.first().map_or(slot.head, |record| record.seq).min(cursor);
            match self.write_slot(&slot, second) {
                Ok(()) => {
                    let mut state = self.state();
                    let Some(reader) = state.readers.get_mut(index) else { continue };
                    reader.slot.generation = slot.generation;
                    reader.second = second;
                    reader.durable = cursor;
                    reader.written = changes;
                }
                Err(error) => {
                    all = false;
                    self.trouble(format!("cannot write the cursor of {}: {error}", slot.id));
                }
            }
        }
        all
    }

    fn write_slot(&self, slot: &Slot, second: bool) -> io::Result<()> {
        let letter = if second { "b" } else { "a" };
        let name = format!("cur-{}.{letter}", destination_name(&slot.id));
        let file = match self.storage.open(&name, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.storage.create(&name)?;
                self.state().folder_synced = false;
                file
            }
            file => file?,
        };
        let bytes = slot.encode();
        file.write_at(0, &[&bytes])?;
        // In this order even without `durable`: what is removed next relies on it.
        file.sync()?;
        // Also for a file whose first writing failed.
        if !self.state().folder_synced {
            self.storage.sync_folder("")?;
            self.state().folder_synced = true;
        }
        Ok(())
    }

    /// Removes the segments that every destination is past, as the cursors on disk have it.
    pub(crate) fn remove_finished(&self) {
        let removable = self.state().removable();
        for first in removable {
            match self.storage.remove(&segment_name(first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.trouble(format!("cannot remove {}: {error}", segment_name(first)));
                }
                _ => {
                    self.state().segments.remove(&first);
                }
            }
        }
    }

    /// Makes room for so many bytes within the limits. True if the active segment has to be closed
    /// for that, because it is done with and in the way.
    pub(crate) fn make_room(&self, writer: &mut Writer, bytes: u64) -> Result<bool, AppendError> {
        let limit = self.settings.max_bytes;
        let free_enough = self.free_enough(bytes);
        if free_enough.is_ok() && self.used() + bytes <= limit {
            return Ok(false);
        }
        self.write_cursors();
        self.remove_finished();
        if self.used() + bytes > limit && self.settings.when_full == crate::WhenFull::DropOldest {
            while self.used() + bytes > limit && self.drop_oldest(writer) {}
        }
        let used = self.used();
        let idle = self.idle();
        if used.saturating_sub(idle) + bytes > limit {
            self.state().counts.refused_records += 1;
            return Err(AppendError::Full { used, limit });
        }
        self.free_enough(bytes).map_err(|error| self.failed(error)).map(|()| used + bytes > limit)
    }

    fn used(&self) -> u64 {
        self.state().bytes()
    }

    /// What the newest segment takes, if everybody is done with it.
    fn idle(&self) -> u64 {
        let state = self.state();
        let newest = state.segments.last_key_value().map(|(_, segment)| segment);
        newest.filter(|segment| segment.is_done()).map_or(0, |segment| segment.file_bytes)
    }

    fn free_enough(&self, bytes: u64) -> Result<(), AppendError> {
        // A file system that does not tell has no guard; writing to it will tell.
        let Ok(room) = self.storage.room() else { return Ok(()) };
        let keep = self.settings.min_free.unwrap_or((room.total / 20).min(MAX_FREE_BYTES));
        if room.free >= keep.saturating_add(bytes) {
            return Ok(());
        }
        Err(AppendError::LowSpace { free: room.free, kept: keep })
    }

    /// Drops the oldest segment that holds anything. False if there is none.
    fn drop_oldest(&self, writer: &mut Writer) -> bool {
        let oldest = {
            let state = self.state();
            let oldest = state.segments.iter().find(|(_, segment)| !segment.is_done());
            oldest.map(|(first, segment)| (*first, segment.active))
        };
        let Some((first, active)) = oldest else { return false };
        if active {
            self.seal(writer);
        }
        let dropped = self.state().drop_segment(first, DropCause::Room);
        tracing::warn!("queue: {dropped} of the oldest records were dropped to make room");
        // The drop is on disk before the records are gone from it.
        let written = self.write_cursors();
        self.remove_finished();
        written
    }

    /// Drops segments whose newest record is too old.
    fn expire(&self, writer: &mut Writer) {
        let Some(limit) = self.settings.max_age else { return };
        let old: Vec<(u64, bool)> = {
            let state = self.state();
            let old =
                |segment: &crate::state::Segment| segment.age.now() > limit && !segment.is_done();
            let segments = state.segments.iter().filter(|(_, segment)| old(segment));
            segments.map(|(first, segment)| (*first, segment.active)).collect()
        };
        for (first, active) in old {
            if active {
                self.seal(writer);
            }
            let dropped = self.state().drop_segment(first, DropCause::Age);
            tracing::warn!("queue: {dropped} records were dropped: older than max_age");
        }
    }

    /// Drops everything that one destination has not finished. The number of records.
    pub(crate) fn drop_destination(&self, id: &str) -> u64 {
        let _writer = self.writer();
        let dropped = {
            let mut state = self.state();
            let reader = state.reader(id);
            state.drop_reader(reader)
        };
        self.write_cursors();
        self.remove_finished();
        dropped
    }

    /// Ends everything; what is kept stays kept.
    pub(crate) fn close(&self) {
        let mut writer = self.writer();
        {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            for reader in &state.readers {
                reader.notify.notify_one();
            }
        }
        self.bury(&mut writer);
        self.write_cursors();
        self.seal(&mut writer);
        self.remove_finished();
        self.storage.unlock();
    }
}

/// Whether a name is a cursor's slot, and which.
pub(crate) fn slot_of(name: &str) -> Option<bool> {
    (FileName::parse(name) == FileName::Cursor).then(|| name.ends_with(".b"))
}
