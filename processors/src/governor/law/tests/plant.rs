//! A host that is profiled, as far as cost goes: the model of the evaluation in the method notes,
//! with costs drawn anew in every window. Deterministic by its seed.

use std::time::Duration;

use profpipe_engine::overhead::{
    ControlLaw as _, Levers, Limits, Observation, Pacer, Rung, SamplingTarget,
};

use crate::governor::law::Controller;

/// A small generator of random numbers; the tests need no good one, only the same each time.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Between 0 and 1.
    pub(super) fn uniform(&mut self) -> f64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().max(1e-12).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Around 1, on a logarithmic scale.
    fn noise(&mut self, deviation: f64) -> f64 {
        (deviation * self.normal()).exp()
    }
}

/// What happens on the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scenario {
    Idle,
    Steady,
    /// All CPUs are busy after 120 s.
    Step,
    /// 1500 short-lived processes a second for a minute.
    Forks,
    /// 4000 new mappings a second for a minute.
    Mappings,
    /// Stacks become ten times as deep after 120 s.
    Deep,
    /// Everything takes eight times as long after 120 s.
    SlowHost,
    /// Busy and idle in turns of 7 s.
    Bursts,
    /// 300 new processes at once after 120 s.
    Crowd,
}

pub(super) const ALL: [Scenario; 9] = [
    Scenario::Idle,
    Scenario::Steady,
    Scenario::Step,
    Scenario::Forks,
    Scenario::Mappings,
    Scenario::Deep,
    Scenario::SlowHost,
    Scenario::Bursts,
    Scenario::Crowd,
];

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The cost of every second, in budgets.
    pub(super) seconds: Vec<f64>,
    /// The same as the agent sees it, with the most that the kernel may take.
    pub(super) accounted: Vec<f64>,
    pub(super) frequencies: Vec<f64>,
    /// The samples of every second for each busy CPU.
    pub(super) rates: Vec<f64>,
    /// The age of the oldest profile that was not sent, at the end of every second.
    pub(super) ages: Vec<f64>,
    pub(super) last: Option<Levers>,
    pub(super) rungs: u32,
}

impl Outcome {
    /// The share of seconds that cost more than the budget.
    pub(super) fn over(&self) -> f64 {
        self.share(1)
    }

    /// The share of means over so many seconds that cost more than the budget.
    pub(super) fn share(&self, length: usize) -> f64 {
        let windows = self.seconds.windows(length);
        let count = windows.len().max(1) as f64;
        let over = windows.filter(|window| window.iter().sum::<f64>() > length as f64);
        over.count() as f64 / count
    }

    /// The first time from `from` on after which ten seconds stay within 5 % above the budget.
    pub(super) fn settled(&self, from: usize) -> usize {
        let good = |at: &usize| self.seconds.iter().skip(*at).take(10).all(|cost| *cost <= 1.05);
        (from..self.seconds.len()).find(good).unwrap_or(self.seconds.len()) - from
    }

    pub(super) fn mean(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len() as f64
    }

    /// The mean as the agent sees it, from so many seconds on.
    pub(super) fn accounted_from(&self, from: usize) -> f64 {
        let later = self.accounted.get(from..).unwrap_or_default();
        later.iter().sum::<f64>() / later.len().max(1) as f64
    }

    /// By how much the variance of a share is larger than that of a fixed rate of the same cost: a
    /// sample weighs one by its frequency, and there are as many as the frequency. A window after one
    /// without samples stands for both.
    pub(super) fn variance(&self, from: usize) -> f64 {
        let later = self.rates.get(from..).unwrap_or_default();
        let (mut squares, mut samples, mut windows) = (0.0, 0.0, 0.0);
        let mut unseen = 0.0;
        for rate in later {
            if *rate > 0.0 {
                let weight = (1.0 + unseen) / rate;
                squares += rate * weight * weight;
                (samples, windows, unseen) = (samples + rate, windows + 1.0 + unseen, 0.0);
            } else {
                unseen += 1.0;
            }
        }
        squares * samples / (windows * windows)
    }
}

/// What cannot be refused, each second and each wake-up.
const BASE: f64 = 60_000.0;
const WAKE: f64 = 90_000.0;
/// What writing and sending one profile takes, in pieces.
const FLUSH: [f64; 4] = [500_000.0, 300_000.0, 400_000.0, 700_000.0];

const SECOND: u64 = 1_000_000_000;

/// How far costs usually are from their mean in a second, on a logarithmic scale: on a host that is
/// shared with others, and on a quiet one.
pub(super) const NOISY: f64 = 0.25;
/// See [`NOISY`].
pub(super) const QUIET: f64 = 0.08;

/// Runs a controller on a noisy host for so many seconds.
pub(super) fn run(scenario: Scenario, cpu: f64, seed: u64, seconds: usize) -> Outcome {
    run_on(NOISY, scenario, cpu, seed, seconds)
}

/// Runs a controller on a host with so much noise.
pub(super) fn run_on(
    noise: f64,
    scenario: Scenario,
    cpu: f64,
    seed: u64,
    seconds: usize,
) -> Outcome {
    let cpus = 32.0;
    let limits = Limits { cpu, ..Limits::default() };
    let interval = Duration::from_secs(10);
    let target =
        SamplingTarget { frequency: 99.0, cpus: cpus as u32, interval, ladder: true, looks: 0.0 };
    let mut random = Random::new(seed);
    let kernel_at_most = 20_000.0;
    let mut controller = Controller::new(limits, target, kernel_at_most);
    let mut levers = controller.plan();
    let mut outcome = Outcome::default();
    let budget = cpu * 1e9;
    // Work that can wait: pieces in order, and for how long they have waited.
    let mut pieces: std::collections::VecDeque<f64> = std::collections::VecDeque::new();
    let mut profile: std::collections::VecDeque<f64> = std::collections::VecDeque::new();
    let mut pacer = Pacer::new(levers.pace, 0);
    let mut flushed = 0.0;
    // Since when the first piece of each queue waits.
    let mut begun: (Option<u64>, Option<u64>) = (None, None);
    // When profiles that were not sent ended, and the pieces written by then; and those sent.
    let mut profiles: std::collections::VecDeque<(f64, usize)> = std::collections::VecDeque::new();
    let (mut written, mut sent) = (0, 0);
    let mut window = Observation::default();
    let mut ended = 0.0;
    for second in 0..seconds {
        let time = second as f64;
        let late = second >= 120;
        let storm = late && second < 180;
        let factor = if scenario == Scenario::SlowHost && late { 8.0 } else { 1.0 };
        let jitter = factor * random.noise(noise);
        let busy = match scenario {
            Scenario::Idle => 0.2,
            Scenario::Step if late => 31.0,
            Scenario::Bursts if (second / 7) % 2 == 1 => 31.0,
            Scenario::Bursts => 4.0,
            _ => 12.0 + 2.0 * (time / 40.0).sin(),
        } * random.noise(0.05);
        let depth = if scenario == Scenario::Deep && late { 250.0 } else { 30.0 };
        let (user, kernel) = match levers.rung {
            Rung::Full => (12.0 + 1.1 * depth, 8.0 + 0.02 * depth),
            Rung::Half => (10.0 + 0.7 * depth, 7.0 + 0.02 * depth),
            Rung::Quarter => (8.0 + 0.4 * depth, 6.5 + 0.02 * depth),
            Rung::FramePointers => (3.0 + 0.02 * depth, 6.0 + 0.03 * depth),
            Rung::Leaf => (2.0, 5.0),
        };
        let (user, kernel) = (user * 1000.0 * jitter, kernel * 1000.0 * jitter);
        let length = levers.window.as_secs_f64();
        let credits = f64::from(levers.credits) / length;
        let samples =
            if levers.credits == 0 { 0.0 } else { (levers.frequency * busy).min(credits) };
        // Beyond what the window has for unwinding a stack is its leaf only.
        let full = (levers.unwinding / length / user).min(samples);
        let sampling = full * user + (samples - full) * 1500.0;
        let records = match scenario {
            Scenario::Forks if storm => 1500.0 * 9.0,
            Scenario::Mappings if storm => 4000.0,
            _ => 4.0,
        } * random.noise(0.2);
        // The breaker acts within the window.
        let most = levers.sideband_records * 1.2 + 64.0;
        let seen = if levers.sideband { records.min(most) } else { 0.0 };
        if levers.sideband && records > most {
            controller.storm();
        }
        pieces.extend((0..(seen / 50.0) as usize).map(|_| 60_000.0 * jitter));
        if scenario == Scenario::Crowd && second == 120 {
            pieces.extend((0..300).map(|_| 300_000.0 * jitter));
        }
        flushed += 1.0;
        if flushed >= levers.profile.as_secs_f64() {
            flushed = 0.0;
            profile.extend(FLUSH.map(|piece| piece * jitter));
            written += FLUSH.len();
            profiles.push_back((time, written));
        }
        // The pacer, in twenty steps; what profiles cannot leave without goes first.
        pacer.set(levers.pace, levers.pace_of_ten, second as u64 * SECOND);
        let (mut deferrable, mut delivery, mut lump) = (0.0, 0.0, 0.0_f64);
        let (mut delivery_waited, mut rest_waited) = (0.0, 0.0);
        for step in 0..20 {
            let now = second as u64 * SECOND + step * SECOND / 20;
            let queues = [(&mut profile, &mut begun.0, true), (&mut pieces, &mut begun.1, false)];
            let mut is_blocked = false;
            for (queue, since, is_delivery) in queues {
                while !is_blocked
                    && let Some(piece) = queue.front().copied()
                    && let waited = Duration::from_nanos(now - *since.get_or_insert(now))
                    && pacer.wait(piece, waited, now).is_zero()
                {
                    *since = None;
                    queue.pop_front();
                    sent += usize::from(is_delivery);
                    pacer.take(piece, now);
                    deferrable += piece;
                    delivery += if is_delivery { piece } else { 0.0 };
                    lump = lump.max(piece);
                }
                is_blocked = !queue.is_empty();
            }
            delivery_waited += if profile.is_empty() { 0.0 } else { 0.05 };
            rest_waited += if pieces.is_empty() { 0.0 } else { 0.05 };
        }
        while profiles.front().is_some_and(|(_, pieces)| sent >= *pieces) {
            profiles.pop_front();
        }
        let age = profiles.front().map_or(0.0, |(began, _)| time - began);
        outcome.ages.push(age);
        let base = (BASE + WAKE / length) * factor * random.noise(0.1);
        let total = sampling + samples * kernel + seen * 600.0 * factor + deferrable + base;
        outcome.seconds.push(total / budget);
        outcome.frequencies.push(levers.frequency);
        outcome.rates.push(samples / busy);
        window.seconds += 1.0;
        window.user += sampling + deferrable + base;
        window.sampling += sampling;
        window.deferrable += deferrable;
        window.delivery += delivery;
        window.lump = window.lump.max(lump);
        window.delivery_waited = delivery_waited;
        window.rest_waited = rest_waited;
        window.age = age;
        window.is_late = age > 18.0;
        window.pending =
            profile.iter().take(1).chain(pieces.iter().take(1)).copied().fold(0.0, f64::max);
        window.samples += samples;
        window.processed += samples;
        window.sideband += seen;
        window.busy = busy;
        window.capped = u32::from(samples >= credits);
        window.kernel_sample = kernel_at_most.max(kernel);
        window.kernel_record = 5_000.0;
        let accounted =
            sampling + samples * window.kernel_sample + seen * 5000.0 + deferrable + base;
        outcome.accounted.push(accounted / budget);
        if time + 1.0 >= ended + length - 0.01 {
            ended = time + 1.0;
            controller.observe(&window);
            let rung = levers.rung;
            levers = controller.plan();
            outcome.rungs += u32::from(levers.rung != rung);
            window = Observation::default();
        }
    }
    outcome.last = Some(levers);
    outcome
}
