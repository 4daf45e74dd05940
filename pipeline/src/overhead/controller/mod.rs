//! The control law: from what a window cost to what the next one may do.
//!
//! Feed-forward: what a sample costs is estimated from above, and the number of samples follows from
//! what the budget leaves for them. Nothing integrates an error over time but the debt, which only
//! ever takes away; so there is no gain that could make it swing. Frequency falls at once and rises
//! by a quarter a window at most. Time and measurements are parameters: the same observations give
//! the same levers.
//!
//! What a window may cost is divided so:
//! - the *base*, which is there whatever one does: wake-ups, timers;
//! - the *reserve* for work that can wait: it is spread by the [pacer](super::Pacer), and the
//!   largest piece that was seen lately must fit in;
//! - *samples*: the rest. The credits that the kernel enforces are what the rest pays for.

mod estimate;
mod ladder;

use std::time::Duration;

use self::estimate::{Cost, Peak};
use self::ladder::Ladder;
use super::limits::Limits;

pub use self::ladder::Rung;

/// How much of a window's budget is planned for.
const PLANNED: f64 = 0.85;
/// The same where costs have proved to be as estimated, and what of that the frequency is set for;
/// credits are for all of it.
const TRUSTED: (f64, f64) = (0.95, 0.9);
/// How much trust grows in a second that stays below this share of the budget, in which it is lost
/// beyond the other.
const TRUST: (f64, f64, f64) = (0.04, 0.88, 0.95);
/// What a window may inherit from cheaper ones, in windows.
const INHERITED: f64 = 0.03;
/// The deepest debt that is remembered, in seconds of budget.
const DEEPEST: f64 = 10.0;
/// Debt beyond this, in seconds of budget, stops everything that can be stopped.
const PAYING: f64 = 0.5;
/// The least and the most of the budget that is kept for work that can wait.
const RESERVE: (f64, f64) = (0.1, 0.5);
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
/// How long work that can wait should wait at most.
const LATENCY: f64 = 10.0;

/// What a host is like, and what was wanted without a governor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Samples a second and CPU.
    pub frequency: f64,
    /// CPUs.
    pub cpus: u32,
    /// How long a profile is.
    pub interval: Duration,
    /// Whether quality can be lowered.
    pub ladder: bool,
}

/// What a window was like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observation {
    /// Its length in seconds.
    pub seconds: f64,
    /// The CPU time of this process and its worker, in nanoseconds as are all below.
    pub user: f64,
    /// Of that, what samples took: reading and unwinding them.
    pub sampling: f64,
    /// Of that, work that can wait.
    pub deferrable: f64,
    /// The largest piece of that work.
    pub lump: f64,
    /// The largest piece of writing, processing and sending profiles.
    pub flush: f64,
    /// How long work that can wait had waited, in seconds.
    pub waited: f64,
    /// Interruptions by samples.
    pub samples: f64,
    /// Samples that were unwound, those twice that had to wait for tables.
    pub processed: f64,
    /// Records of mappings, names, forks and ends.
    pub sideband: f64,
    /// The CPUs that were busy, as far as the samples say.
    pub busy: f64,
    /// CPUs whose credits were used up.
    pub capped: u32,
    /// The most that a sample costs the kernel on this host.
    pub kernel_sample: f64,
    /// The most that a record of the side band costs the kernel.
    pub kernel_record: f64,
    /// Resident bytes, where they were measured.
    pub resident: Option<u64>,
}

impl Observation {
    /// What it cost in all.
    pub fn total(&self) -> f64 {
        self.user + self.samples * self.kernel_sample + self.sideband * self.kernel_record
    }
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// At the frequency that was wished for.
    Steady,
    /// Slower than wished, to stay within the budget.
    Limited,
    /// Nothing is sampled until a debt is paid.
    Paying,
    /// The base alone takes too much of the budget: windows are longer.
    Infeasible,
    /// The budget cannot be kept: off.
    Stopped,
}

impl State {
    /// As an attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Limited => "limited",
            Self::Paying => "paying",
            Self::Infeasible => "infeasible",
            Self::Stopped => "stopped",
        }
    }
}

/// What the governor sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levers {
    /// Samples a second and CPU.
    pub frequency: f64,
    /// The samples that the kernel may take in the next window, on all CPUs; 0: none.
    pub credits: u32,
    /// How user stacks are taken.
    pub rung: Rung,
    /// Whether mappings, names, forks and ends are reported.
    pub sideband: bool,
    /// The records of the side band that the next window can bear.
    pub sideband_records: f64,
    /// CPU time that unwinding may take in the next window, in nanoseconds.
    pub unwinding: f64,
    /// CPU time for work that can wait, in nanoseconds for each of time.
    pub pace: f64,
    /// The largest piece of such work lately, in nanoseconds.
    pub lump: f64,
    /// The length of the next window.
    pub window: Duration,
    /// The length of a profile.
    pub profile: Duration,
    /// Whether names may be looked for here.
    pub symbols: bool,
    /// How it goes.
    pub state: State,
}

/// The control law.
#[derive(Debug, Clone)]
pub struct Controller {
    limits: Limits,
    wish: Wish,
    user: Cost,
    /// By second, as are `lump` and `deferrable`.
    base: Peak,
    /// The base over a minute.
    usual: f64,
    lump: Peak,
    /// Pieces of writing and sending profiles, over minutes.
    flush: Peak,
    deferrable: f64,
    /// The share of the budget for work that can wait.
    reserve: f64,
    busy: f64,
    /// What is left over, in nanoseconds; negative: a debt.
    tokens: f64,
    frequency: f64,
    /// How far costs are believed to be what they usually are rather than what they may be.
    trust: f64,
    kernel: f64,
    record: f64,
    ladder: Ladder,
    length: f64,
    heavy: u32,
    light: u32,
    hopeless: u32,
    storm: f64,
    stopped: f64,
    memory_ok: bool,
    paying: bool,
}

impl Controller {
    /// Before the first window. `kernel_sample` is the most that a sample may cost the kernel.
    pub fn new(limits: Limits, wish: Wish, kernel_sample: f64) -> Self {
        let mut new = Self {
            limits,
            wish,
            user: Cost::new(40_000.0, 15_000.0),
            base: Peak::default(),
            usual: 0.0,
            lump: Peak::default(),
            flush: Peak::default(),
            deferrable: 0.0,
            reserve: RESERVE.1,
            busy: f64::from(wish.cpus),
            tokens: 0.0,
            frequency: 1.0,
            trust: 0.0,
            kernel: kernel_sample,
            record: 5_000.0,
            ladder: Ladder::new(),
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
        let usual = new.affordable(Rung::Full, (1.0 - INHERITED) * new.budget(), 0.0);
        new.frequency = (CAUTION * usual / new.busy.max(1.0)).clamp(SLOWEST, new.wish.frequency);
        new
    }

    /// The limits it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Nanoseconds of CPU a second.
    fn budget(&self) -> f64 {
        self.limits.cpu * 1e9
    }

    /// Learns from a window.
    pub fn observe(&mut self, window: &Observation) {
        let seconds = window.seconds.max(0.001);
        let budget = self.budget();
        let spent = window.total();
        self.kernel = window.kernel_sample;
        self.record = window.kernel_record;
        self.tokens = (self.tokens + budget * seconds - spent)
            .clamp(-DEEPEST * budget, INHERITED * budget * seconds);
        if window.processed >= 1.0 {
            // A few samples say little about what one costs.
            let weight = (window.processed / 5.0).min(1.0);
            let measured = window.sampling / window.processed;
            if weight >= 1.0 && measured > self.user.upper() {
                self.trust = 0.0;
            }
            self.user.observe(self.user.mean() + weight * (measured - self.user.mean()));
        }
        let base = (window.user - window.sampling - window.deferrable).max(0.0) / seconds;
        // A burst that no stage has claimed is not there every second.
        self.base.observe(base.min(BURST * budget), seconds, 0.3);
        self.usual += (0.05 * seconds).min(0.5) * (base - self.usual);
        self.lump.observe(window.lump, seconds, 0.03);
        self.flush.observe(window.flush, seconds, 0.002);
        self.deferrable +=
            (0.1 * seconds).min(0.5) * (window.deferrable / seconds - self.deferrable);
        let share = spent / (budget * seconds);
        let (gain, low, high) = TRUST;
        if share > high {
            self.trust *= 0.5;
        } else if share < low && window.samples > 0.0 {
            self.trust = (self.trust + gain * seconds).min(1.0);
        }
        self.busy = window.busy.max(self.busy * 0.9_f64.powf(seconds)).min(self.cpus());
        if let (Some(limit), Some(resident)) = (self.limits.memory, window.resident) {
            self.memory_ok = resident < limit - if self.memory_ok { 0 } else { limit / 10 };
        }
        self.reserve(window, seconds);
        self.sideband(window, seconds);
        self.feasibility(base, seconds);
    }

    fn cpus(&self) -> f64 {
        f64::from(self.wish.cpus.max(1))
    }

    /// How much is kept for work that can wait.
    fn reserve(&mut self, window: &Observation, seconds: f64) {
        let needed = (1.2 * self.lump.get()).max(1.2 * self.deferrable) / self.budget();
        let wanted = needed.clamp(RESERVE.0, RESERVE.1);
        if window.waited > LATENCY {
            self.reserve = (self.reserve * 1.25).min(RESERVE.1);
        } else {
            self.reserve += (0.1 * seconds).min(1.0) * (wanted - self.reserve);
        }
        self.reserve = self.reserve.max(wanted.min(RESERVE.1));
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

    /// A storm was seen within a window, and the side band is off already.
    pub fn storm(&mut self) {
        self.storm = STORM;
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
        if self.hopeless >= 2 || self.tokens <= -DEEPEST * self.budget() && share > TOO_HEAVY {
            self.hopeless = 0;
            self.stopped = self.limits.retry.as_secs_f64();
        }
    }

    /// The samples that a window can pay for on a rung, by second.
    fn affordable(&self, rung: Rung, available: f64, base: f64) -> f64 {
        let (user_here, kernel_here) = self.ladder.rung.relative();
        let (user, kernel) = rung.relative();
        let cost = self.user.upper() * user / user_here + self.kernel * kernel / kernel_here;
        let room = PLANNED * available - base - self.reserve * self.budget();
        (room / cost.max(100.0)).max(0.0)
    }

    /// The same on the rung in force, the more of it the more the costs are trusted.
    fn trusted(&self, available: f64) -> f64 {
        let careful = self.affordable(self.ladder.rung, available, self.base.get());
        let cost = self.user.mean() + self.kernel;
        let base = self.usual.max(0.5 * self.base.get());
        let room = TRUSTED.0 * available - base - self.reserve * self.budget();
        let most = (room / cost.max(100.0)).max(careful);
        careful + self.trust * (most - careful)
    }

    /// What the next window may do.
    pub fn plan(&mut self) -> Levers {
        let budget = self.budget();
        // After long windows a small debt by second is paid over the window.
        let available =
            ((1.0 - INHERITED) * budget + self.tokens / self.length.max(1.0)).clamp(0.0, budget);
        if self.wish.ladder && self.stopped <= 0.0 && !self.paying {
            let before = self.ladder.rung;
            let shared = (1.1 * self.busy).max(0.5);
            let fair = (1.0 - INHERITED) * budget;
            let predicted = Rung::ALL.map(|rung| self.affordable(rung, fair, self.usual) / shared);
            let rung =
                self.ladder.step(|rung| predicted.get(rung as usize).copied().unwrap_or(0.0));
            if rung != before {
                self.user.scale(rung.relative().0 / before.relative().0);
            }
        }
        let samples = self.trusted(available);
        // A debt takes credits, which the kernel enforces; the frequency is for the long run.
        let usual = TRUSTED.1 * self.trusted((1.0 - INHERITED) * budget);
        let wanted = (usual / self.busy.max(0.5)).min(self.wish.frequency);
        let faster = self.frequency.max(1.0) * 1.25_f64.powf(self.length.min(4.0));
        self.paying = self.tokens < -PAYING * budget;
        // While nothing is sampled the frequency says nothing: it is kept for afterwards.
        if !self.paying && usual > 0.0 {
            self.frequency = wanted.min(faster).max(SLOWEST);
        }
        let stopped = self.stopped > 0.0;
        let off = self.paying || stopped;
        // The frequency keeps to what is affordable in the long run, also where that is less than a
        // sample in each window.
        let credits = match samples * self.length {
            _ if off => 0.0,
            few if few < LEAST => 0.0,
            some => some.max(1.0),
        };
        let state = if stopped {
            State::Stopped
        } else if self.length > self.limits.window.0.as_secs_f64() {
            State::Infeasible
        } else if off || credits < 1.0 {
            State::Paying
        } else if self.frequency < 0.95 * self.wish.frequency {
            State::Limited
        } else {
            State::Steady
        };
        let sampling = (samples * self.length).min(self.frequency * self.cpus() * self.length);
        let planned = if off { 0.0 } else { sampling / self.length };
        let cost = self.user.upper() + self.kernel;
        // What the end of a window takes falls into one second, however long the window was.
        let busiest = self.base.get() * self.length.max(1.0) + UNCERTAIN;
        let left = 0.9 * available - busiest - planned * cost;
        let pace = if off { 0.05 * budget } else { left.clamp(0.05 * budget, 0.7 * budget) };
        Levers {
            frequency: self.frequency,
            credits: credits as u32,
            rung: self.ladder.rung,
            sideband: self.storm <= 0.0 && !stopped,
            sideband_records: SIDEBAND * budget * self.length / self.record.max(100.0),
            unwinding: (samples * self.user.upper() * self.length).max(0.1 * budget),
            pace: pace / 1e9,
            lump: self.lump.get(),
            window: Duration::from_secs_f64(self.length),
            profile: self.profile(),
            symbols: self.memory_ok && !stopped && self.limits.cpu >= NAMES,
            state,
        }
    }

    /// How long a profile is: longer where writing and sending one is a large piece.
    fn profile(&self) -> Duration {
        let longest = self.limits.longest_profile.max(self.wish.interval).as_secs_f64();
        let wanted = self.wish.interval.as_secs_f64();
        let share = self.flush.get() / self.budget();
        let length = if share > RESERVE.1 { longest } else { wanted * (1.0 + 4.0 * share) };
        // Whole multiples of what was wished, so that boundaries stay put.
        let multiple = if share > 0.2 { (length / wanted).round().max(1.0) } else { 1.0 };
        Duration::from_secs_f64(wanted * multiple)
    }

    /// What is left over, in seconds of budget; negative: a debt.
    pub fn balance(&self) -> f64 {
        self.tokens / self.budget()
    }

    /// What a sample is taken to cost user space, in nanoseconds: usually, and at most.
    pub fn user_sample(&self) -> (f64, f64) {
        (self.user.mean(), self.user.upper())
    }
}
