//! When work that can wait is done: what it took in the last second and the last ten, against what
//! it may take.
//!
//! Work asks before it begins how long it must wait ([`Pacer::wait`]) and reports afterwards what it
//! took ([`Pacer::take`]). It may begin when it fits into both spans, so no second and no ten
//! seconds see more than their share, and all of the share can be used. A piece that is larger than
//! a second's share waits a little for a larger one, and then has a second to itself; the ten seconds
//! around it pay for it. Long work is cut
//! into pieces by asking again. Time is a parameter; units are nanoseconds of CPU time, or bytes
//! where bytes are paced.

use std::time::Duration;

/// The length of a slot, in nanoseconds.
const SLOT_NANOS: u64 = 25_000_000;
/// The slots of ten seconds, with the one that is being filled.
const SLOTS: usize = 401;
/// The slots of a second, with the one that is being filled: a little more than a second.
const SECOND_SLOTS: usize = 41;
/// What of a span's share one piece may count with: larger ones are let in where nothing else is.
const MAX_PIECE_SHARE: f64 = 0.95;

/// What was spent lately, and what may be.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// What was spent in each slot; the newest is at `at`.
    slots: Vec<f64>,
    at: usize,
    /// The number of the newest slot since the clock began.
    slot: u64,
    /// What may be spent in a second.
    second: f64,
    /// What may be spent in ten.
    ten: f64,
}

impl Pacer {
    /// Nothing was spent yet; `share` (nanoseconds of CPU time for each of time) may be.
    pub fn new(share: f64, now: u64) -> Self {
        let mut pacer =
            Self { slots: vec![0.0; SLOTS], at: 0, slot: now / SLOT_NANOS, second: 0.0, ten: 0.0 };
        pacer.set(share, share, now);
        pacer
    }

    /// From now on no second spends more than `second` and no ten seconds more than `ten`, both in
    /// nanoseconds of CPU time for each of time.
    pub fn set(&mut self, second: f64, ten: f64, now: u64) {
        self.advance(now);
        self.second = second * 1e9;
        self.ten = ten * 1e10;
    }

    fn advance(&mut self, now: u64) {
        let slot = now / SLOT_NANOS;
        let steps = slot.saturating_sub(self.slot);
        for _ in 0..steps.min(SLOTS as u64) {
            self.at = (self.at + 1) % SLOTS;
            if let Some(newest) = self.slots.get_mut(self.at) {
                *newest = 0.0;
            }
        }
        self.slot = self.slot.max(slot);
    }

    /// Spends; what is negative was given and not spent.
    pub fn take(&mut self, spent: f64, now: u64) {
        self.advance(now);
        if let Some(newest) = self.slots.get_mut(self.at) {
            *newest += spent;
        }
    }

    /// The newest slots, newest first.
    fn newest(&self, count: usize) -> impl DoubleEndedIterator<Item = f64> + '_ {
        (0..count).map(|back| {
            self.slots.get((self.at + SLOTS - back) % SLOTS).copied().unwrap_or_default()
        })
    }

    /// What may be spent in a second.
    pub fn second(&self) -> f64 {
        self.second
    }

    /// What of a piece of work that takes about `estimate` is waited for.
    pub fn at_most(&self, estimate: f64) -> f64 {
        estimate.min(self.ten * MAX_PIECE_SHARE)
    }

    /// How long a piece of work must wait that takes about `estimate` and has waited so long.
    pub fn wait(&mut self, estimate: f64, waited: Duration, now: u64) -> Duration {
        self.wait_for_second(estimate, waited, now).max(self.wait_for_ten(estimate, now))
    }

    fn wait_for_second(&mut self, estimate: f64, waited: Duration, now: u64) -> Duration {
        self.advance(now);
        if estimate > self.second && waited < ROOM_TIMEOUT {
            return ROOM_POLL_INTERVAL;
        }
        let room = self.second - estimate.min(self.second * MAX_PIECE_SHARE);
        self.until(SECOND_SLOTS, room, now)
    }

    /// The same where only the mean of ten seconds counts.
    pub fn wait_for_ten(&mut self, estimate: f64, now: u64) -> Duration {
        self.advance(now);
        let room = self.ten - estimate.min(self.ten * MAX_PIECE_SHARE);
        self.until(SLOTS, room, now)
    }

    /// How long it takes until so many slots have no more than `room` in them.
    fn until(&self, slots: usize, room: f64, now: u64) -> Duration {
        let mut spent: f64 = self.newest(slots).sum();
        // Rounding must not keep anything waiting.
        let room = room + 1.0;
        if spent <= room {
            return Duration::ZERO;
        }
        let passed = Duration::from_nanos(now % SLOT_NANOS);
        for (at, oldest) in self.newest(slots).rev().enumerate() {
            spent -= oldest;
            if spent <= room {
                let steps = Duration::from_nanos(SLOT_NANOS * (at as u64 + 1));
                return steps.saturating_sub(passed).clamp(MIN_WAIT, MAX_WAIT);
            }
        }
        MAX_WAIT
    }

    /// How long a piece of work should be between two looks at the clock, in nanoseconds.
    pub fn piece(&self) -> f64 {
        (0.2 * self.second).clamp(100_000.0, 2_000_000.0)
    }
}

/// How long a piece that does not fit into a second waits for samples to make room for it.
const ROOM_TIMEOUT: Duration = Duration::from_millis(2500);
/// How often it asks meanwhile.
const ROOM_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest wait that is told: less is not worth a sleep.
const MIN_WAIT: Duration = Duration::from_micros(200);
/// The longest: the shares may have changed until then.
const MAX_WAIT: Duration = Duration::from_secs(5);
