//! What was written last, so that destinations that keep up never read from the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Record;

/// A record's place: the segment's first number, and the offset in it.
pub(super) type Place = (u64, u64);

/// A record in memory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) record: Record,
    pub(super) to: Arc<[usize]>,
    /// Where the next record is.
    pub(super) next: u64,
}

/// The records written last, up to so many bytes.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Place, Entry>,
    bytes: u64,
    limit: u64,
}

impl Cache {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn get(&self, place: Place) -> Option<&Entry> {
        self.entries.get(&place)
    }

    pub(super) fn put(&mut self, place: Place, entry: Entry) {
        self.bytes += entry.record.payload.len() as u64;
        self.entries.insert(place, entry);
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.entries.pop_first() else { break };
            self.bytes -= oldest.record.payload.len() as u64;
        }
    }

    /// Forgets what is before a place.
    pub(super) fn forget_before(&mut self, place: Place) {
        while let Some(oldest) = self.entries.first_entry().filter(|entry| *entry.key() < place) {
            self.bytes -= oldest.remove().record.payload.len() as u64;
        }
    }
}
