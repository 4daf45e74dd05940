//! When work that can wait is done: a bucket of CPU time that the controller fills.
//!
//! Work asks before it begins how long it must wait ([`Pacer::wait`]) and tells afterwards what it
//! took ([`Pacer::take`]). It may begin when the bucket is not empty, so one piece may overdraw it;
//! everybody then waits until that is paid. Long work is cut into pieces by asking again. Time is
//! a parameter.

use std::time::Duration;

/// A bucket of CPU time.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    /// What may be spent, in nanoseconds; negative after an overdraft.
    tokens: f64,
    /// What comes in, in nanoseconds of CPU for each of time.
    rate: f64,
    /// The most that is kept.
    cap: f64,
    /// When it was filled last, in nanoseconds.
    filled: u64,
}

impl Pacer {
    /// An empty bucket; see [`Pacer::set`].
    pub fn new(share: f64, lump: f64, now: u64) -> Self {
        let mut pacer = Self { tokens: 0.0, rate: 0.0, cap: 0.0, filled: now };
        pacer.set(share, lump, now);
        pacer
    }

    /// From now on no second spends more than `share` (nanoseconds of CPU for each of time), as far
    /// as that is possible where the largest piece of work takes `lump`: the bucket holds such a
    /// piece, and fills with the rest.
    pub fn set(&mut self, share: f64, lump: f64, now: u64) {
        self.fill(now);
        let second = share * 1e9;
        self.cap = (1.1 * lump).clamp(0.25 * second, 0.7 * second);
        self.rate = share - self.cap / 1e9;
    }

    fn fill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.filled) as f64;
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.cap);
    }

    /// Spends; what is negative was given and not spent.
    pub fn take(&mut self, nanoseconds: f64, now: u64) {
        self.fill(now);
        self.tokens -= nanoseconds;
    }

    /// What of a piece of work that takes about `estimate` is waited for.
    pub fn at_most(&self, estimate: f64) -> f64 {
        estimate.min(self.cap * 0.95)
    }

    /// How long a piece of work that takes about `estimate` must wait: until that much is there,
    /// or the bucket is full.
    pub fn wait(&mut self, estimate: f64, now: u64) -> Duration {
        self.fill(now);
        let missing = self.at_most(estimate) - self.tokens;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = missing / self.rate.max(1e-9) / 1e9;
        // Also what never fills is asked again now and then: the rate may have changed.
        Duration::from_secs_f64(seconds.clamp(0.000_2, 5.0))
    }

    /// How long a piece of work should be between two looks at the clock, in nanoseconds.
    pub fn piece(&self) -> f64 {
        (0.25 * (self.rate * 1e9 + self.cap)).clamp(100_000.0, 2_000_000.0)
    }

    /// What is there now, in nanoseconds.
    pub fn tokens(&mut self, now: u64) -> f64 {
        self.fill(now);
        self.tokens
    }
}
