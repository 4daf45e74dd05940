//! What a sample costs the kernel on this host, measured on the drain thread itself.
//!
//! A block is a short loop that reads the clock: where it jumps, the kernel has interrupted. With a
//! sampling event on this thread the sum of the jumps, less what there is without, is the cost of
//! its samples. Blocks with and without alternate in ABBA order, so that a drift cancels out, and
//! each is as long as the budget of its moment allows. Many short blocks together take some tens of
//! milliseconds of CPU; the limit is [`MAX_CPU_NANOS`].

use std::os::fd::{AsFd, OwnedFd};

use profpipe_engine::overhead::monotonic;

use super::attr::{Choices, Clock, Kind};
use super::sys;
use crate::perf::linux::records::ring::{Records, Ring};

/// Blocks with the event before there is an answer.
const BLOCKS: usize = 8;
/// The period while measuring.
const PERIOD_NANOS: u64 = 100_000;
/// The ring of the event.
const RING_BYTES: usize = 1 << 20;
/// A jump of the clock is what takes longer than this.
const JUMP_NANOS: u64 = 1_500;
/// What takes longer than this was somebody else.
const FOREIGN_NANOS: u64 = 400_000;
/// CPU time that all blocks may take, in nanoseconds.
const MAX_CPU_NANOS: u64 = 300_000_000;
/// How far the slowdown of the profiled may be above the jumps: caches are cold after them.
const MAX_SLOWDOWN: f64 = 1.1;

/// A measurement under way.
pub(crate) struct Calibration {
    event: OwnedFd,
    ring: Ring,
    /// Nanoseconds a sample, of each block.
    found: Vec<f64>,
    /// Jumps and length of the blocks without the event.
    without: (u64, u64),
    turn: usize,
    spent: u64,
}

impl Calibration {
    /// Opens the event; none if the kernel does not allow it.
    pub(crate) fn new(choices: &Choices) -> Option<Self> {
        let choices = Choices {
            clock: Clock::Timer,
            inherit: false,
            sideband: false,
            count: false,
            wakeups: false,
            watermark: (RING_BYTES / 2) as u32,
            ..*choices
        };
        let mut attr = choices.sampling(Kind::Cpu, true);
        attr.set_freq(0);
        attr.__bindgen_anon_1.sample_period = PERIOD_NANOS;
        let event = sys::open_event(&attr, 0, -1).ok()?;
        let ring = Ring::map(event.as_fd(), RING_BYTES).ok()?;
        Some(Self { event, ring, found: Vec::new(), without: (0, 0), turn: 0, spent: 0 })
    }

    /// Runs a block of about this many nanoseconds. The answer, once it is known: the most that a
    /// sample costs, in nanoseconds.
    pub(crate) fn block(&mut self, length: u64) -> Option<f64> {
        let with = matches!(self.turn % 4, 1 | 2);
        self.turn += 1;
        if with && sys::enable(self.event.as_fd()).is_err() {
            return None;
        }
        let began = monotonic();
        let mut last = began;
        let mut jumps = 0;
        while last - began < length {
            let now = monotonic();
            let jump = now - last;
            if (JUMP_NANOS..FOREIGN_NANOS).contains(&jump) {
                jumps += jump;
            }
            last = now;
        }
        let took = last - began;
        self.spent += took;
        if !with {
            self.without = (self.without.0 + jumps, self.without.1 + took);
            return None;
        }
        let _ = sys::disable(self.event.as_fd());
        let samples = self.count();
        if samples > 0 {
            let usual = self.without.0 as f64 / self.without.1.max(1) as f64;
            let cost = (jumps as f64 - usual * took as f64) / samples as f64;
            self.found.push(cost.max(0.0));
        }
        (self.found.len() >= BLOCKS || self.spent > MAX_CPU_NANOS)
            .then(|| upper(&mut self.found))
            .flatten()
    }

    /// Takes the samples out of the ring.
    fn count(&mut self) -> u64 {
        let mut scratch = Vec::new();
        let mut samples = 0;
        self.ring.refresh();
        while let Some(length) = self.ring.peek(&mut scratch).map(<[u8]>::len) {
            samples += 1;
            self.ring.skip(length);
        }
        self.ring.release();
        samples
    }
}

/// The upper limit of what a sample costs: the median and twice its standard error.
pub(crate) fn upper(found: &mut [f64]) -> Option<f64> {
    if found.len() < 3 {
        return None;
    }
    found.sort_unstable_by(f64::total_cmp);
    let count = found.len() as f64;
    let at = |share: f64| found.get((share * (count - 1.0)).round() as usize).copied();
    let (low, middle, high) = (at(0.25)?, at(0.5)?, at(0.75)?);
    // Of a normal distribution the quartiles are 1.35 deviations apart.
    let error = 1.2533 * (high - low) / 1.35 / count.sqrt();
    Some(MAX_SLOWDOWN * (middle + 2.0 * error).max(500.0))
}
