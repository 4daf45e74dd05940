//! Who was promised what, and what arrived.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::payload::{self, Meaning};

/// All that one test sends. Shared by its senders and its sinks.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    rows: Mutex<BTreeMap<u64, Row>>,
    /// What has arrived of requests that were cut.
    parts: Mutex<BTreeMap<u64, Meaning>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// How often it was sent.
    sent: u32,
    /// Whether one of them was answered with success.
    promised: bool,
    /// How often it arrived.
    arrived: u32,
}

/// The sums at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Numbers that were sent.
    pub(crate) sent: usize,
    /// Those of them that were answered with success.
    pub(crate) promised: usize,
    /// Those that arrived.
    pub(crate) arrived: usize,
    /// Those that were promised and have not arrived.
    pub(crate) missing: usize,
    /// Arrivals beyond the first.
    pub(crate) duplicates: usize,
    /// Arrivals that nobody was promised: their answer was lost with a connection.
    pub(crate) unasked: usize,
}

impl Ledger {
    /// One whose first number is this.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { next: AtomicU64::new(first), ..Self::default() }
    }

    /// The next number.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a request before its first byte is sent.
    pub(crate) fn sent(&self, id: u64) {
        self.with(|rows| rows.entry(id).or_default().sent += 1);
    }

    /// Notes an answer that was success.
    pub(crate) fn promised(&self, id: u64) {
        self.with(|rows| rows.entry(id).or_default().promised = true);
    }

    /// Notes what arrived. Fails if it was never sent, or is neither what was sent nor a part of it
    /// that is missing.
    #[track_caller]
    pub(crate) fn arrived(&self, data: &[u8]) {
        for (id, meaning) in payload::read(data) {
            let whole = Meaning::of(id);
            if meaning != whole {
                let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
                let known = parts.entry(id).or_default();
                assert!(known.add(&meaning, &whole), "{id} is not what was sent: {meaning:?}");
                if *known != whole {
                    continue;
                }
                parts.remove(&id);
            }
            self.with(|rows| {
                let row = rows.get_mut(&id).unwrap_or_else(|| panic!("{id} was never sent"));
                row.arrived += 1;
            });
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        self.with(|rows| {
            let mut sums = Sums { sent: rows.len(), ..Sums::default() };
            for row in rows.values() {
                sums.promised += usize::from(row.promised);
                sums.arrived += usize::from(row.arrived > 0);
                sums.missing += usize::from(row.promised && row.arrived == 0);
                sums.unasked += usize::from(!row.promised && row.arrived > 0);
                // A sender that asks again has made the duplicate itself.
                sums.duplicates += row.arrived.saturating_sub(row.sent.max(1)) as usize;
            }
            sums
        })
    }

    /// Numbers that were promised and have not arrived.
    pub(crate) fn missing(&self) -> Vec<u64> {
        let is_missing = |row: &Row| row.promised && row.arrived == 0;
        self.with(|rows| {
            rows.iter().filter(|(_, row)| is_missing(row)).map(|(id, _)| *id).collect()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<u64, Row>) -> T) -> T {
        look(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
