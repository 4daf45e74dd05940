//! How long one profile is.
//!
//! What adding up, processing and sending a profile takes depends little on how long it is. Where
//! that is much of the budget profiles are made longer, in whole multiples of the interval that was
//! wished, so that boundaries stay put; and shorter again where it has become little.

use std::time::Duration;

use profpipe_engine::overhead::Observation;

/// More than this share of the budget for delivery makes profiles longer.
const MUCH: f64 = 0.3;
/// As many times as it takes to come to about this share.
const FAIR: f64 = 0.2;
/// They become shorter where the shorter one is expected to take less than this.
const LITTLE: f64 = 0.18;
/// A piece of work that is more than this of a second's budget takes a second that samples miss: in
/// few of them.
const LARGE: f64 = 0.5;
/// So many intervals a profile has then at least.
const RARE: f64 = 3.0;
/// How many profiles are looked at before their length is changed, and for how many seconds at
/// least.
const LOOK: (f64, f64) = (2.0, 15.0);

/// The length of profiles.
#[derive(Debug, Clone)]
pub(super) struct ProfileLength {
    interval: f64,
    /// The most intervals.
    most: f64,
    /// How many it is now.
    multiple: f64,
    /// Since the last look: what delivery took, in nanoseconds, and how long that was, in seconds.
    taken: f64,
    passed: f64,
    /// The largest piece of work, in seconds of budget.
    lump: f64,
}

impl ProfileLength {
    pub(super) fn new(interval: Duration, longest: Duration) -> Self {
        let interval = interval.as_secs_f64().max(0.001);
        let most = (longest.as_secs_f64() / interval).floor().max(1.0);
        Self { interval, most, multiple: 1.0, taken: 0.0, passed: 0.0, lump: 0.0 }
    }

    /// Learns from a window; `budget` is in nanoseconds a second.
    pub(super) fn observe(&mut self, window: &Observation, budget: f64) {
        self.taken += window.delivery;
        self.passed += window.seconds;
        if window.allowed <= 0.0 {
            self.lump = self.lump.max(window.lump / budget);
        }
        let (profiles, least) = LOOK;
        if self.passed < (profiles * self.multiple * self.interval).max(least) {
            return;
        }
        let share = self.taken / self.passed / budget;
        let least = if self.lump > LARGE { RARE.min(self.most) } else { 1.0 };
        (self.taken, self.passed, self.lump) = (0.0, 0.0, 0.0);
        let shorter = self.multiple - 1.0;
        if share > MUCH {
            let wanted = (self.multiple * share / FAIR).ceil();
            self.multiple = wanted.min(self.multiple * 4.0).min(self.most);
        } else if shorter >= 1.0 && share * self.multiple / shorter < LITTLE {
            self.multiple = shorter;
        }
        self.multiple = self.multiple.max(least);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_secs_f64(self.interval * self.multiple)
    }
}
