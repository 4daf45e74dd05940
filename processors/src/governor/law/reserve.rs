//! How much of the budget is kept for work that can wait.
//!
//! It follows demand: what such work took lately, and more for as long as it is kept waiting. Names
//! and binaries that wait get up to [`FOR_THE_REST`]; where profiles themselves are kept waiting, or
//! are late, the reserve grows to [`FOR_DELIVERY`] and [`FOR_THE_LATE`]: what is sampled must also
//! leave. When nothing waits any more it falls back to what is needed.

use std::time::Duration;

use super::estimate::{Mean, Peak};
use profpipe_engine::overhead::Observation;
use profpipe_engine::overhead::longest_age;

/// What is kept in any case.
const LEAST: f64 = 0.05;
/// What binaries and names can have that wait.
const FOR_THE_REST: f64 = 0.6;
/// What delivery can have.
const FOR_DELIVERY: f64 = 0.7;
/// What delivery can have where profiles are late.
const FOR_THE_LATE: f64 = 0.9;
/// For how much of the time work waits before its demand is taken to be more than it gets: what a
/// window leaves to be done is done in turns until the next.
const STARVED: f64 = 0.7;
/// Over how many intervals that is looked at.
const LOOK: f64 = 2.0;
/// How fast the reserve approaches what it should be, of the difference a second: up for
/// binaries and names, up for delivery, down.
const RISE: f64 = 0.06;
/// See [`RISE`].
const RISE_FOR_DELIVERY: f64 = 0.15;
/// See [`RISE`].
const FALL: f64 = 0.1;
/// The most that is kept so that the largest piece of work fits into a second.
const FOR_A_LUMP: f64 = 0.3;
/// The reserve is as large as can be, and profiles are late all the same: for so many seconds.
const HOPELESS: f64 = 60.0;

/// The share of the budget for work that can wait.
#[derive(Debug, Clone)]
pub(super) struct Reserve {
    share: f64,
    /// What such work takes, in nanoseconds a second.
    demand: Mean,
    /// The largest piece lately.
    lump: Peak,
    /// For how much of the time delivery waits lately, and all other work.
    delivery: Mean,
    rest: Mean,
    /// Over how long that is looked at, in seconds.
    look: f64,
    /// The most that profiles may take to leave, in seconds.
    longest: f64,
    late: bool,
    /// For how long everything there is was not enough, in seconds.
    hopeless: f64,
}

impl Reserve {
    /// Before the first window much is to be done: programs are read that will be known later.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            share: 0.5,
            demand: Mean::default(),
            lump: Peak::default(),
            delivery: Mean::default(),
            rest: Mean::default(),
            look: LOOK * interval.as_secs_f64(),
            longest: longest_age(interval).as_secs_f64(),
            late: false,
            hopeless: 0.0,
        }
    }

    /// Learns from a window in which work that can wait had this pace; it and `budget` are in
    /// nanoseconds a second.
    pub(super) fn observe(&mut self, window: &Observation, pace: f64, budget: f64) {
        let seconds = window.seconds;
        self.demand.observe((window.deferrable - window.allowed).max(0.0) / seconds, seconds, 20.0);
        self.lump.observe(window.lump, seconds, 0.1);
        self.late = window.is_late;
        // For a piece that does not fit into a second samples make room: it does not lack a share.
        let is_short = f64::from(u8::from(window.pending <= pace));
        self.delivery.observe(window.delivery_waited * is_short, seconds, self.look);
        self.rest.observe(window.rest_waited * is_short, seconds, self.look);
        let lump = (1.1 * self.lump.get() / budget).min(FOR_A_LUMP);
        let needed =
            (1.05 * self.demand.get() / budget + 0.02).max(lump).clamp(LEAST, FOR_THE_REST);
        let (wanted, gain) = if self.late {
            (FOR_THE_LATE, RISE_FOR_DELIVERY)
        } else if self.delivery.get() > STARVED {
            (FOR_DELIVERY.max(self.share), RISE_FOR_DELIVERY)
        } else if self.rest.get() > STARVED {
            (FOR_THE_REST, RISE)
        } else {
            (needed, FALL)
        };
        self.share += (gain * seconds).min(1.0) * (wanted - self.share);
        let is_hopeless = window.age > self.longest && self.share > 0.9 * FOR_THE_LATE;
        self.hopeless = if is_hopeless { self.hopeless + seconds } else { 0.0 };
    }

    /// The share of the budget.
    pub(super) fn get(&self) -> f64 {
        self.share
    }

    /// Whether profiles are late.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// Whether they stay late although all that can be done for them is done.
    pub(super) fn is_hopeless(&self) -> bool {
        self.hopeless >= HOPELESS
    }
}
