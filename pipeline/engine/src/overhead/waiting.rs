//! The windows whose profiles have not left yet: how old the oldest is, and what it waits for.
//!
//! The sampler opens a [`WaitingWindow`] when a window ends; it goes with the window's batch, through
//! processors, into every copy for an exporter, and what drops the last copy ends it. So its age is
//! what a user waits for, whichever way the profile takes. It says until when the batch may wait for
//! names, and each stage notes on it what it waits for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ledger::{Stage, monotonic};

/// What a window's profile may take beyond two intervals.
const AGE_SLACK: Duration = Duration::from_secs(10);

/// A window may wait for names for an interval, but not for more than this of the longest age.
const NAMES_SHARE: f64 = 0.45;
/// Where intervals are short it waits for so long.
const MIN_NAMES_TIMEOUT: Duration = Duration::from_secs(2);
/// From this share of the longest age on a window is late; it waits for names for less.
const LATE_SHARE: f64 = 0.6;

/// The latest that the profile of a window of a sampler with this interval leaves, after its end.
pub fn longest_age(interval: Duration) -> Duration {
    2 * interval + AGE_SLACK
}

/// Every window that waits, by the time of its end and its number.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitingWindows(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    windows: BTreeMap<(u64, u64), Arc<WaitingEntry>>,
    next: u64,
    /// The oldest age at which one has left since this was last asked, in nanoseconds.
    oldest_left: u64,
}

/// Where a window's profile is, and the interval of its sampler in nanoseconds.
#[derive(Debug)]
struct WaitingEntry {
    stage: AtomicU8,
    interval: u64,
}

/// The oldest window that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestWindow {
    /// How long ago it ended.
    pub age: Duration,
    /// What it waits for.
    pub stage: Stage,
    /// The interval of its sampler.
    pub interval: Duration,
    /// The number of windows that wait, by stage.
    windows: [usize; Stage::ALL.len()],
}

impl OldestWindow {
    /// Whether its profile must go before everything else: it has had the time that it may wait for
    /// names, and some for what comes after.
    pub fn is_late(&self) -> bool {
        self.age > longest_age(self.interval).mul_f64(LATE_SHARE)
    }

    /// The number of windows that wait for a stage.
    pub fn windows_at(&self, stage: Stage) -> usize {
        self.windows.get(stage as usize).copied().unwrap_or_default()
    }
}

/// A window whose profile is under way; dropped, it has left.
#[derive(Debug)]
pub struct WaitingWindow {
    all: WaitingWindows,
    key: (u64, u64),
    place: Arc<WaitingEntry>,
}

impl WaitingWindows {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A window that ended at `end`, in nanoseconds of the monotonic clock.
    pub(super) fn open(&self, end: u64, interval: Duration) -> WaitingWindow {
        let place = Arc::new(WaitingEntry {
            stage: AtomicU8::new(Stage::Aggregate as u8),
            interval: interval.as_nanos() as u64,
        });
        let mut table = self.table();
        table.next += 1;
        let key = (end, table.next);
        table.windows.insert(key, Arc::clone(&place));
        drop(table);
        WaitingWindow { all: self.clone(), key, place }
    }

    /// The oldest at a time of the monotonic clock.
    pub(super) fn oldest(&self, now: u64) -> Option<OldestWindow> {
        let table = self.table();
        let ((end, _), place) = table.windows.first_key_value()?;
        let mut windows = [0; Stage::ALL.len()];
        for place in table.windows.values() {
            if let Some(count) = windows.get_mut(place.stage() as usize) {
                *count += 1;
            }
        }
        Some(OldestWindow {
            age: Duration::from_nanos(now.saturating_sub(*end)),
            stage: place.stage(),
            interval: Duration::from_nanos(place.interval),
            windows,
        })
    }

    /// The age of the oldest that has left since the last call or waits now.
    pub(super) fn take_oldest_age(&self, now: u64) -> Duration {
        let mut table = self.table();
        let left = std::mem::take(&mut table.oldest_left);
        let waiting =
            table.windows.first_key_value().map_or(0, |((end, _), _)| now - end.min(&now));
        Duration::from_nanos(left.max(waiting))
    }
}

impl WaitingEntry {
    fn stage(&self) -> Stage {
        let stage = self.stage.load(Ordering::Relaxed);
        Stage::ALL.get(usize::from(stage)).copied().unwrap_or(Stage::Aggregate)
    }
}

impl WaitingWindow {
    /// Notes what the window waits for from now on.
    pub fn waits_for(&self, stage: Stage) {
        self.place.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// How long ago the window ended.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(monotonic().saturating_sub(self.key.0))
    }

    /// How long the window's profile may still wait for names, so that there is enough for
    /// everything after.
    pub fn patience(&self) -> Duration {
        let interval = Duration::from_nanos(self.place.interval).max(MIN_NAMES_TIMEOUT);
        interval.min(longest_age(interval).mul_f64(NAMES_SHARE)).saturating_sub(self.age())
    }
}

impl Drop for WaitingWindow {
    fn drop(&mut self) {
        let age = monotonic().saturating_sub(self.key.0);
        let mut table = self.all.table();
        table.windows.remove(&self.key);
        table.oldest_left = table.oldest_left.max(age);
    }
}
