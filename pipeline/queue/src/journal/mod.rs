//! The log without threads: what its writer and its readers do, each call to its end.
//!
//! The memory is behind one lock that is never held over input or output; the writing side is
//! behind another. The methods are spread over `recover` (opening), `writer` (appending), `reader`
//! (leases), `keep` (cursors, removal, limits), `dead` and `quarantine`.

pub(crate) mod dead;
pub(crate) mod keep;
pub(crate) mod quarantine;
pub(crate) mod reader;
pub(crate) mod recover;
pub(crate) mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::writer::Writer;
use crate::state::State;
use crate::storage::Storage;
use crate::{AppendError, LogSettings, Pending, Stats};

/// The log without threads.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) settings: LogSettings,
    /// Whether a record must survive a loss of power.
    pub(crate) durable: bool,
    state: Mutex<State>,
    writer: Mutex<Writer>,
}

impl Journal {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        settings: LogSettings,
        durable: bool,
        state: State,
        next: u64,
    ) -> Self {
        let writer = Mutex::new(Writer::new(next));
        Self { storage, settings, durable, state: Mutex::new(state), writer }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken before the state, never after it.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large a segment may become.
    pub(crate) fn segment_bytes(&self) -> u64 {
        // A full log must be able to let a part of itself go.
        self.settings.segment_bytes.min(self.settings.max_bytes / 4).max(4096)
    }

    pub(crate) fn pending(&self, reader: usize) -> Pending {
        self.state().pending(reader)
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let mut stats = state.counts.clone();
        stats.bytes = state.bytes();
        stats.segments = state.segments.len() as u64;
        for reader in &state.readers {
            stats.dead_letters += reader.slot.dead;
            stats.lost_records += reader.slot.lost;
        }
        stats
    }

    /// Notes that a record was not kept, and why.
    pub(crate) fn failed(&self, error: AppendError) -> AppendError {
        if let Some(trouble) = error.trouble() {
            self.trouble(trouble);
        }
        error
    }

    /// Tells what went wrong with the disk, and remembers it until something goes well.
    pub(crate) fn trouble(&self, what: String) -> String {
        let mut state = self.state();
        state.counts.failures += 1;
        if state.counts.trouble.as_ref() != Some(&what) {
            tracing::error!("queue: {what}");
            state.counts.trouble = Some(what.clone());
        }
        what
    }
}

/// The time, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The same as the library has it.
pub(crate) fn system_time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds)).unwrap_or(UNIX_EPOCH)
}
