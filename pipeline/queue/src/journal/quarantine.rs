//! Damage is copied to `quarantine/` before it is gone with its segment, up to a limit.
//!
//! A copy's name says where it was: `<segment>-<offset>`. Failing to copy is no reason to stop.

use super::Journal;
use crate::cache::Place;
use crate::format::segment_name;
use crate::storage::{Access, Storage, StoredFile, read_range};

/// The folder of what was damaged.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The most that it takes, in bytes.
const QUARANTINE_BYTES: u64 = 64 << 20;
/// How much is copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

impl Journal {
    /// Tells of damage at a place, counts and copies it.
    pub(crate) fn quarantine(&self, file: &dyn StoredFile, place: Place, end: u64) {
        let (first, offset) = place;
        let name = segment_name(first);
        let bytes = end.saturating_sub(offset);
        tracing::error!("queue: {name} is damaged at byte {offset}: {bytes} bytes are left out");
        {
            let mut state = self.state();
            state.counts.damaged_ranges += 1;
            state.counts.damaged_bytes += bytes;
        }
        copy(&*self.storage, file, place, end);
    }
}

/// Copies a range of a segment to the quarantine, if there is room.
pub(crate) fn copy(storage: &dyn Storage, file: &dyn StoredFile, place: Place, end: u64) {
    let (first, offset) = place;
    let name = format!("{QUARANTINE}/{}-{offset}", segment_name(first));
    let mut room = QUARANTINE_BYTES.saturating_sub(size(storage));
    // What is there already was copied before; what cannot be copied is only counted.
    let made = storage.make_folder(QUARANTINE).and_then(|()| storage.create(&name));
    let Ok(copy) = made else { return };
    let mut at = offset;
    while at < end && room > 0 {
        let wanted = CHUNK_BYTES.min(end - at).min(room);
        let Ok(bytes) = read_range(file, at, wanted) else { return };
        if bytes.is_empty() || copy.write_at(at - offset, &[&bytes]).is_err() {
            return;
        }
        at += bytes.len() as u64;
        room -= bytes.len() as u64;
    }
}

/// What the quarantine takes, in bytes.
pub(crate) fn size(storage: &dyn Storage) -> u64 {
    let names = storage.list(QUARANTINE).unwrap_or_default();
    let length = |name: &String| {
        let file = storage.open(&format!("{QUARANTINE}/{name}"), Access::Read).ok()?;
        file.length().ok()
    };
    names.iter().filter_map(length).sum()
}
