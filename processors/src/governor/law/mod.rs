//! The governor's control law: from what a window cost to what the next one may do.
//!
//! Feed-forward: what a sample costs is estimated, and the number of samples follows from what the
//! budget leaves for them. Only a slow trim within bounds looks back at what was spent: it makes up
//! for what estimates are off by, and has no part in how fast anything reacts. Frequency falls at
//! once and rises by a quarter a window at most. Time and measurements are parameters: the same
//! observations give the same levers.
//!
//! What a window may cost is divided so:
//! - the *base*, which is there whatever one does: wake-ups, timers, reports of mappings and forks;
//! - the *reserve* for work that can wait: what it took lately, and more for as long as it is kept
//!   waiting; most of the budget where profiles are late. The [pacer](profpipe_engine::overhead::Pacer) spreads it;
//! - *samples*: the rest. The credits that the kernel enforces are what the rest pays for.

mod estimate;
mod ladder;
mod profile_length;
mod reserve;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::estimate::{Cost, Margin, Mean, Peak};
use self::ladder::{Ladder, Quality};
use self::profile_length::ProfileLength;
use self::reserve::Reserve;
use profpipe_engine::overhead::{
    ControlLaw, Levers, Limits, Observation, Rung, SamplingTarget, State,
};

/// What of the budget the mean shall be.
const TARGET: f64 = 0.9;
/// The most of the budget that is planned for a second, or for ten.
const FULL: f64 = 0.97;
/// How far the trim may go, and how much of a difference it makes up for in a second.
const TRIM: (f64, f64) = (0.75, 1.3);
/// See [`TRIM`].
const TRIM_GAIN: f64 = 0.03;
/// The time over which the mean is trimmed, in seconds.
const TRIM_TIME: f64 = 20.0;
/// A sample that costs so many times the usual is news: what is known of costs is less certain.
const SURPRISE: f64 = 1.7;
/// What a window may inherit from cheaper ones, in windows.
const INHERITED: f64 = 0.03;
/// The deepest debt that is remembered, in seconds of budget.
const DEEPEST: f64 = 10.0;
/// Debt beyond this, in seconds of budget, stops everything that can be stopped.
const PAYING: f64 = 0.5;
/// The most that samples make room for, of the budget.
const YIELDED: f64 = 0.6;
/// For how many seconds on end samples make room for a piece that waits, at most: one that has not gone
/// by then waits for something else, and what is not sampled for long cannot be made up for.
const YIELDING: f64 = 6.0;
/// What work that can wait gets at least, of the budget.
const TRICKLE: f64 = 0.05;
/// A base beyond this share of the budget lengthens windows.
const HEAVY: f64 = 0.2;
/// More than this share of the budget in one window is taken for a burst of work, not for the base.
const BURST: f64 = 0.3;
/// A base beyond this share cannot be lived with.
const TOO_HEAVY: f64 = 0.75;
/// Windows in a row before either is believed.
const CONVINCED: u32 = 5;
/// The slowest that one samples before it is no use: samples a second and CPU.
const SLOWEST: f64 = 0.05;
/// What a second may take more than it was planned to, on any host: caches are cold, pages come back.
const UNCERTAIN: f64 = 50_000.0;
/// Side-band records may cost this share of the budget.
const SIDEBAND: f64 = 0.15;
/// How long the side band stays off after a storm.
const STORM: f64 = 30.0;
/// Budgets below this do not pay for names: to start what looks for them takes some milliseconds.
const NAMES: f64 = 0.002;
/// The samples in a window below which none is better.
const LEAST: f64 = 0.1;
/// What of the frequency that seems affordable one begins with.
const CAUTION: f64 = 0.4;

/// The control law.
#[derive(Debug, Clone)]
pub(crate) struct Controller {
    limits: Limits,
    target: SamplingTarget,
    user: Cost,
    /// What is there whatever one does, at most, by second.
    base: Peak,
    /// The same over a minute, with what the kernel takes for reports of mappings and forks.
    usual: Mean,
    reserve: Reserve,
    /// What a second may cost more than planned, but for a few in a hundred.
    margin: Margin,
    /// What samples and the base took over ten seconds, by second.
    fixed: Mean,
    /// What was planned for them in the window that is on, by second.
    planned: f64,
    /// What work that can wait may take in a second of it.
    pace: f64,
    /// What was spent, of the budget.
    spent: Mean,
    /// What samples get of what estimates say that they can have.
    trim: f64,
    busy: f64,
    /// The largest piece that waits.
    pending: f64,
    /// For how many seconds on end samples have made room for one.
    yielded: f64,
    /// What is left over, in nanoseconds; negative: a debt.
    tokens: f64,
    /// What of the allowance for the start is to be paid back, in nanoseconds.
    owed: f64,
    frequency: f64,
    kernel: f64,
    record: f64,
    ladder: Ladder,
    profile: ProfileLength,
    length: f64,
    heavy: u32,
    light: u32,
    hopeless: u32,
    storm: f64,
    stopped: f64,
    memory_ok: bool,
    paying: bool,
}

impl ControlLaw for Controller {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn observe(&mut self, window: &Observation) {
        let seconds = window.seconds.max(0.001);
        self.owed = (self.owed - self.payment() * seconds).max(0.0) + window.allowed;
        let budget = self.budget();
        let spent = window.total() - window.allowed;
        self.kernel = window.kernel_sample;
        self.record = window.kernel_record;
        self.tokens = (self.tokens + budget * seconds - spent)
            .clamp(-DEEPEST * budget, INHERITED * budget * seconds);
        let mut is_news = false;
        if window.processed >= 1.0 {
            // A few samples say little about what one costs.
            let weight = (window.processed / 5.0).min(1.0);
            let measured = window.sampling / window.processed;
            is_news = weight >= 1.0 && measured > SURPRISE * self.user.mean();
            if is_news {
                self.margin.doubt();
            }
            self.user.observe(self.user.mean() + weight * (measured - self.user.mean()));
        }
        let base = (window.user - window.sampling - window.deferrable).max(0.0) / seconds;
        // A burst that no stage has claimed is not there every second.
        self.base.observe(base.min(BURST * budget), seconds, 0.3);
        let reports = window.sideband * window.kernel_record / seconds;
        // Nor is a second of it more than all there is: one burst is no reason to give up.
        self.usual.observe(base.min(budget) + reports.min(SIDEBAND * budget), seconds, 20.0);
        let fixed = (window.total() - window.deferrable).max(0.0) / seconds;
        self.fixed.observe(fixed, seconds, 10.0);
        let share = spent / (budget * seconds);
        // Neither the start nor a step is what later windows are like; and what the base or a storm of
        // reports took more than usual says nothing of samples.
        if window.allowed <= 0.0 && !is_news && !self.paying && self.stopped <= 0.0 {
            let samples = (window.sampling + window.samples * window.kernel_sample) / seconds;
            let usual = self.usual.get();
            let deferrable = window.deferrable.min(self.pace * seconds) / seconds;
            let is_over = samples + usual + deferrable > budget;
            self.margin.observe((samples - (self.planned - usual)) / budget, is_over, seconds);
        }
        self.spent.observe(share.min(2.0), seconds, TRIM_TIME);
        if self.frequency < 0.98 * self.target.frequency && !self.paying {
            let difference = TARGET - self.spent.get();
            self.trim =
                (self.trim + TRIM_GAIN * seconds.min(5.0) * difference).clamp(TRIM.0, TRIM.1);
        }
        self.busy = window.busy.max(self.busy * 0.9_f64.powf(seconds)).min(self.cpus());
        if let (Some(limit), Some(resident)) = (self.limits.memory, window.resident) {
            self.memory_ok = resident < limit - if self.memory_ok { 0 } else { limit / 10 };
        }
        self.pending = window.pending.min(YIELDED * budget);
        self.reserve.observe(window, self.pace, budget);
        self.profile.observe(window, budget);
        self.sideband(window, seconds);
        self.feasibility(base, seconds);
    }

    fn plan(&mut self) -> Levers {
        let budget = self.budget();
        // After long windows a small debt by second is paid over the window.
        let available =
            ((1.0 - INHERITED) * budget + self.tokens / self.length.max(1.0)).clamp(0.0, budget);
        if self.target.ladder && self.stopped <= 0.0 && !self.paying {
            let before = self.ladder.rung;
            let shared = (1.1 * self.busy).max(0.5);
            let predicted = Rung::ALL.map(|rung| self.affordable(rung) / shared);
            let rung =
                self.ladder.step(|rung| predicted.get(rung as usize).copied().unwrap_or(0.0));
            if rung != before {
                self.user.scale(rung.relative().0 / before.relative().0);
                self.margin.begin_anew();
            }
        }
        let rung = self.ladder.rung;
        // A debt takes credits, which the kernel enforces; the frequency is for the long run.
        let usual = self.affordable(rung);
        let wanted = (usual / self.busy.max(0.5)).min(self.target.frequency);
        let faster = self.frequency.max(1.0) * 1.25_f64.powf(self.length.min(4.0));
        self.paying = self.tokens < -PAYING * budget;
        // While nothing is sampled the frequency says nothing: it is kept for afterwards.
        if !self.paying && usual > 0.0 {
            self.frequency = wanted.min(faster).max(SLOWEST);
        }
        let stopped = self.stopped > 0.0;
        let off = self.paying || stopped;
        let base = self.usual.get();
        // What the kernel enforces: a little more than is usual, so that it is rarely met where all
        // is as planned, and never more than what is there.
        let room = available - base - self.reserve.get().min(0.5) * budget;
        let most = (room / self.cost(rung)).max(1.2 * usual * available / budget);
        let all = (FULL * available - base) / self.cost(rung);
        let samples = most.min(all).max(0.0);
        let (samples, frequency) = match self.beside(available) {
            Some(beside) => {
                let beside = beside / self.cost(rung);
                let frequency = self.frequency.min(beside / self.busy.max(0.5));
                (samples.min(1.2 * beside), frequency)
            }
            None => (samples, self.frequency),
        };
        let yields = frequency < self.frequency;
        self.yielded = if yields { self.yielded + self.length } else { 0.0 };
        // The frequency keeps to what is affordable in the long run, also where that is less than a
        // sample in each window.
        let credits = match samples * self.length {
            _ if off => 0.0,
            few if few < LEAST => 0.0,
            some => some.max(1.0),
        };
        let state = if stopped {
            State::Stopped
        } else if self.length > self.limits.window.0.as_secs_f64() || self.reserve.is_hopeless() {
            State::Infeasible
        } else if off || credits < 1.0 {
            State::Paying
        } else if self.frequency < 0.95 * self.target.frequency {
            State::Limited
        } else {
            State::Steady
        };
        let sampling = samples.min(frequency * self.busy);
        let sampling = if off { 0.0 } else { sampling * self.cost(rung) };
        self.planned = sampling + base;
        let (pace, pace_of_ten) = self.paces(available, off);
        self.pace = pace;
        Levers {
            frequency: frequency.max(SLOWEST),
            credits: credits as u32,
            rung,
            sideband: self.storm <= 0.0 && !stopped,
            sideband_records: SIDEBAND * budget * self.length / self.record.max(100.0),
            unwinding: (samples * self.user.upper() * self.length).max(0.1 * budget),
            pace: pace / 1e9,
            pace_of_ten: pace_of_ten / 1e9,
            reserve: self.reserve.get(),
            window: Duration::from_secs_f64(self.length),
            profile: self.profile.get(),
            symbols: self.memory_ok && !stopped && self.limits.cpu >= NAMES,
            state,
        }
    }

    fn storm(&mut self) {
        self.storm = STORM;
    }

    fn balance(&self) -> f64 {
        self.tokens / self.budget()
    }

    fn owed(&self) -> f64 {
        self.owed
    }
}

impl Controller {
    /// Before the first window. `kernel_sample` is the most that a sample may cost the kernel.
    pub(crate) fn new(limits: Limits, target: SamplingTarget, kernel_sample: f64) -> Self {
        let mut new = Self {
            limits,
            target,
            user: Cost::new(40_000.0, 15_000.0),
            base: Peak::default(),
            usual: Mean::default(),
            reserve: Reserve::new(target.interval),
            margin: Margin::new(),
            fixed: Mean::default(),
            planned: 0.0,
            pace: 0.0,
            spent: Mean::from(TARGET),
            trim: 1.0,
            busy: f64::from(target.cpus),
            pending: 0.0,
            yielded: 0.0,
            tokens: 0.0,
            owed: 0.0,
            frequency: 1.0,
            kernel: kernel_sample,
            record: 5_000.0,
            ladder: Ladder::new(),
            profile: ProfileLength::new(target.interval, limits.longest_profile),
            length: limits.window.0.as_secs_f64(),
            heavy: 0,
            light: 0,
            hopeless: 0,
            storm: 0.0,
            stopped: 0.0,
            memory_ok: true,
            paying: false,
        };
        // Slow at first, and faster as it proves affordable.
        let usual = new.affordable(Rung::Full);
        new.frequency = (CAUTION * usual / new.busy.max(1.0)).clamp(SLOWEST, new.target.frequency);
        new
    }

    /// Nanoseconds of CPU a second: less while the start is paid back.
    fn budget(&self) -> f64 {
        let budget = self.limits.cpu * 1e9;
        if self.owed > 0.0 { budget - self.payment() } else { budget }
    }

    /// What of the start is paid back in a second, in nanoseconds.
    fn payment(&self) -> f64 {
        let start = &self.limits.start;
        start.nanoseconds(self.limits.cpu) / start.payback.as_secs_f64().max(1.0)
    }

    fn cpus(&self) -> f64 {
        f64::from(self.target.cpus.max(1))
    }

    /// Turns the side band off in a storm, and on again after it.
    fn sideband(&mut self, window: &Observation, seconds: f64) {
        let cost = window.sideband * window.kernel_record;
        if cost > SIDEBAND * self.budget() * seconds {
            self.storm = STORM;
        } else {
            self.storm = (self.storm - seconds).max(0.0);
        }
    }

    /// Lengthens windows where the base takes too much, and gives up where that does not help.
    fn feasibility(&mut self, base: f64, seconds: f64) {
        let (shortest, longest) = self.limits.window;
        let (shortest, longest) = (shortest.as_secs_f64(), longest.as_secs_f64());
        if self.stopped > 0.0 {
            self.stopped -= seconds;
            return;
        }
        let share = base / self.budget();
        self.heavy = if share > HEAVY { self.heavy + 1 } else { 0 };
        self.light = if share < HEAVY / 4.0 { self.light + 1 } else { 0 };
        if self.heavy >= CONVINCED {
            self.heavy = 0;
            if self.length < longest {
                self.length = (self.length * 2.0).min(longest);
            } else if share > TOO_HEAVY {
                self.hopeless += 1;
            }
        } else if self.light >= 4 * CONVINCED && self.length > shortest {
            self.light = 0;
            self.length = (self.length / 2.0).max(shortest);
        }
        if self.tokens > -PAYING * self.budget() && share <= TOO_HEAVY {
            self.hopeless = 0;
        }
        let usual = self.usual.get() / self.budget();
        if self.hopeless >= 2 || self.tokens <= -DEEPEST * self.budget() && usual > TOO_HEAVY {
            self.hopeless = 0;
            self.stopped = self.limits.retry.as_secs_f64();
        }
    }

    /// What a sample costs on a rung, from above where the rung was not tried.
    fn cost(&self, rung: Rung) -> f64 {
        if rung == self.ladder.rung {
            return (self.user.mean() + self.kernel).max(100.0);
        }
        let (user_here, kernel_here) = self.ladder.rung.relative();
        let (user, kernel) = rung.relative();
        (self.user.upper() * user / user_here + self.kernel * kernel / kernel_here).max(100.0)
    }

    /// By how much a second may cost more than planned, but for a few in a hundred.
    fn sure(&self) -> f64 {
        self.margin.get() * self.budget()
    }

    /// The samples that a second can pay for on a rung in the long run.
    fn affordable(&self, rung: Rung) -> f64 {
        let budget = self.budget();
        let base = self.usual.get().max(0.3 * self.base.get());
        let kept = self.reserve.get() * budget;
        // What the mean leaves, and what a second leaves that turns out as far off as it may.
        let mean = self.trim * (TARGET * budget - base - kept);
        let second = FULL * budget - base - self.sure();
        (mean.min(second) / self.cost(rung)).max(0.0)
    }

    /// What is left of a second without samples for work that can wait.
    fn without_samples(&self, available: f64) -> f64 {
        // What the end of a window takes falls into one second, however long the window was.
        let busiest = self.usual.get() * (self.length - 1.0).max(0.0);
        FULL * available - self.usual.get() - busiest.min(0.3 * self.budget()) - UNCERTAIN
    }

    /// What samples may take beside a piece that waits; none where nothing waits that they should
    /// make room for, or that would fit into a second without them.
    fn beside(&self, available: f64) -> Option<f64> {
        let room = self.without_samples(available) - 1.05 * self.pending;
        let may = self.yielded + self.length <= YIELDING;
        (self.pending > 0.0 && room >= 0.0 && may).then(|| (room - self.sure()).max(0.0))
    }

    /// What work that can wait may take in any second and any ten, in nanoseconds a second.
    fn paces(&self, available: f64, off: bool) -> (f64, f64) {
        let budget = self.budget();
        if off && !self.reserve.is_late() {
            return (TRICKLE * budget, TRICKLE * budget);
        }
        // Work that can wait is paced by what was really spent; samples by what is planned.
        let samples = (self.planned - self.usual.get()).max(0.0);
        let sure = if samples > 0.0 { 0.7 * self.sure() } else { 0.0 };
        let second = self.without_samples(available) - samples - sure;
        let fixed = self.planned.max(if off { 0.0 } else { self.fixed.get() });
        let ten = FULL * available - fixed;
        let least = TRICKLE * budget;
        (second.clamp(least, budget), ten.clamp(least, budget))
    }
}
