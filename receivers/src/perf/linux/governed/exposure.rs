//! What a sample stands for while the sampler's frequency and credits change.
//!
//! A sample of a timer stands for its period. Two things break that, and both are mended without
//! bias where the load is the same throughout a window:
//! - a change of the period restarts the timer, and what had passed of the old period is never
//!   counted. It is given to the first sample after the change: what had passed since the last
//!   sample where that is known, half of the old period where it is not;
//! - credits run out, so that the end of a window is not seen. If the timer expired `n` times until
//!   the last of `k` samples (at the other times the CPU was idle), the CPU is busy `(k - 1) / (n - 1)`
//!   of the time (inverse binomial sampling), and the samples stand for so much of the window. A
//!   pause before the window counts to its length.

/// How late a timer may be, in periods.
const MAX_DELAY_PERIODS: f64 = 0.1;
/// The longest pause that a window may stand for, in nanoseconds. Beyond, it is unknown.
const MAX_PAUSE_NANOS: u64 = 10_000_000_000;

/// The sampler of one CPU within a window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exposure {
    /// From when on the window stands for what happened, in nanoseconds.
    began: u64,
    /// Since when it is sampled: later than `began` after a pause.
    opened: u64,
    /// Samples so far, and in the window before.
    samples: u32,
    before: u32,
    /// The time of the last one, of this window or one before.
    last: u64,
    /// Credits that the kernel has not used yet.
    left: u32,
    period: u64,
    /// The period before, and until when it was in force.
    past: (u64, u64),
    /// What the next sample gets on top, if it comes by that time.
    owed: Option<(u64, u64)>,
    /// Nothing is sampled.
    held: bool,
}

impl Exposure {
    /// Before the first window.
    pub(crate) fn new(now: u64, period: u64) -> Self {
        Self { began: now, opened: now, period, ..Self::default() }
    }

    /// Counts a sample; returns its weight before any correction of the window: the period that was
    /// in force. The one that the kernel writes into samples of its timer is the one that the event
    /// was opened with, whatever it was changed to since (seen on 6.18).
    pub(crate) fn sample(&mut self, time: u64) -> u64 {
        let (past, until) = self.past;
        let period = if time < until { past } else { self.period };
        self.samples += 1;
        self.left = self.left.saturating_sub(1);
        self.last = self.last.max(time);
        match self.owed.take() {
            Some((owed, until)) if time <= until => period.saturating_add(owed),
            _ => period,
        }
    }

    /// The period changes now.
    pub(crate) fn change(&mut self, now: u64, period: u64) {
        if period == self.period {
            return;
        }
        self.past = (self.period, now);
        if self.held || self.is_exhausted() {
            self.period = period;
            return;
        }
        let passed = now.saturating_sub(self.last);
        let lost = if passed < self.period { passed } else { self.period / 2 };
        // Only the first expiry of the timer counts, which may find the CPU idle.
        let until = now.saturating_add(period).saturating_add(period / 8);
        self.owed = Some((lost, until));
        self.period = period;
    }

    /// True if the kernel has stopped the sampler of this CPU.
    fn is_exhausted(&self) -> bool {
        self.left == 0 && self.samples > 0
    }

    /// Ends the window; returns what every weight of it is to be multiplied with, and whether its
    /// credits were used up.
    pub(crate) fn end(&mut self, now: u64) -> (f64, bool) {
        self.before = std::mem::take(&mut self.samples);
        let samples = f64::from(self.before);
        if self.held {
            // Nothing was sampled: the next window stands for this one too.
            return (1.0, false);
        }
        let capped = self.left == 0 && samples > 0.0;
        let length = now.saturating_sub(self.began) as f64;
        let end = if capped { self.last } else { now };
        let seen = end.saturating_sub(self.opened) as f64;
        self.began = now;
        self.opened = now;
        if capped && samples >= 2.0 && seen > 0.0 {
            let period = self.period.max(1) as f64;
            // It was restarted when the window was opened, or runs on: the last may be a whole
            // number of periods after that, and a little late.
            let expired = (seen / period - MAX_DELAY_PERIODS).ceil().max(samples);
            let busy = (samples - 1.0) / (expired - 1.0);
            return (busy * length / (samples * period), true);
        }
        let factor = if seen > 0.0 && !capped { length / seen } else { 1.0 };
        (factor, capped)
    }

    /// A window with `credits` begins; returns how many to add. At least two samples are needed to
    /// tell a rate.
    pub(crate) fn begin(&mut self, now: u64, credits: u32) -> u32 {
        if std::mem::take(&mut self.held) {
            self.began = self.began.max(now.saturating_sub(MAX_PAUSE_NANOS));
            self.opened = now;
        }
        let more = credits.max(2).saturating_sub(self.left).max(1);
        self.left = self.left.saturating_add(more);
        more
    }

    /// Nothing is sampled from now on. Credits that are left stay.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// The events were opened again: credits are gone.
    pub(crate) fn reopened(&mut self) {
        self.left = 0;
    }

    /// Samples of this window, as far as they were read.
    pub(crate) fn samples(&self) -> u32 {
        self.samples
    }

    /// Samples of the window before.
    pub(crate) fn before(&self) -> u32 {
        self.before
    }

    /// The period in force.
    pub(crate) fn period(&self) -> u64 {
        self.period
    }
}
