//! The sampler under a budget: what the drain thread does for it, window by window.
//!
//! The governor decides; this carries its decisions out with the events' levers, keeps samples until
//! the weight of their window is certain, breaks storms in the side band within the window, and
//! measures what a sample costs here.

use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::Services;
use profpipe_engine::overhead::{
    Governor, Levers, Overhead, Rung, Sampled, SamplingTarget, Stage, State, thread_cpu,
};

use super::exposure::Exposure;
use crate::perf::Config;
use crate::perf::linux::events::attr::Choices;
use crate::perf::linux::events::calibrate::Calibration;
use crate::perf::linux::events::every::uniform;
use crate::perf::linux::events::levers::period;
use crate::perf::linux::events::session::Session;
use crate::perf::linux::handoff::Counted;
use crate::perf::linux::processes::process::Processes;
use crate::perf::linux::records::record::Sample;
use crate::perf::linux::thread::now;
use crate::perf::linux::unwind::Unwinding;

/// How long the drain thread waits for files to be opened, in a second.
pub(crate) const LOADER_TIMEOUT: Duration = Duration::from_millis(5);
/// The most samples kept for one window.
const MAX_KEPT: usize = 1 << 16;
/// How long measuring what a sample costs may take of a window's budget.
const CALIBRATION_SHARE: f64 = 0.12;
/// The most blocks of measuring in a window of the start.
const MAX_BLOCKS_AT_START: u32 = 12;
/// The shortest block that has samples in it, in nanoseconds.
const MIN_BLOCK_NANOS: f64 = 450_000.0;
/// The period is changed if it is so far off, in either direction.
const PERIOD_TOLERANCE: f64 = 0.08;
/// To change it restarts the timer: not before so many periods have passed, or it never expires.
const MIN_PERIODS_BETWEEN_CHANGES: u64 = 4;
/// How far the period differs from window to window, in either direction, so that no work that
/// repeats itself keeps step with it.
const JITTER: f64 = 0.1;

/// Whether finding out about a process is affordable now.
pub(crate) enum Discovery {
    /// There is nothing to find out, or nothing is counted.
    Free,
    /// It began at this time.
    Began(u64),
    /// Not now.
    Refused,
}

impl Discovery {
    pub(crate) fn of(governed: Option<&Governed>, processes: &Processes, pid: u32) -> Self {
        let Some(governed) = governed else { return Self::Free };
        if !processes.is_unread(pid) {
            return Self::Free;
        }
        match governed.overhead.wait(Stage::Discover) {
            None => Self::Began(thread_cpu()),
            Some(_) => Self::Refused,
        }
    }
}

/// What changes with a window, beyond the events.
pub(crate) struct Change {
    /// Records are or were missing: what is known of processes is to be doubted.
    pub(crate) invalidate: bool,
    /// How long profiles are, in nanoseconds.
    pub(crate) profile: u64,
}

/// A sampler under a budget.
pub(crate) struct Governed {
    governor: Governor,
    overhead: Arc<Overhead>,
    /// What the configuration asks for.
    wanted: Choices,
    levers: Levers,
    /// The numbers of the CPUs, and what is known of each.
    cpus: Vec<(u32, Exposure)>,
    kept: Vec<(usize, Counted)>,
    began: u64,
    end: u64,
    /// Samples a second and CPU in force.
    frequency: f64,
    /// When it was set.
    changed: u64,
    samples: u64,
    processed: u64,
    sideband: u64,
    reporting: bool,
    stormy: bool,
    capped: u32,
    busy: f64,
    calibration: Option<Calibration>,
    /// Windows until the next block.
    rest: u32,
    /// When the record at hand was begun, and what of its time is discovery.
    record: u64,
    discovery: u64,
    /// CPU time of this window.
    unwinding: f64,
}

impl Governed {
    /// Takes hold of the governor; none without a budget.
    pub(crate) fn new(
        config: &Config,
        session: &Session,
        services: &Services,
        id: &str,
    ) -> Option<Self> {
        let target = SamplingTarget {
            frequency: f64::from(config.frequency),
            cpus: session.cpus.len() as u32,
            interval: config.interval.0,
            ladder: true,
            looks: session.chosen.looks_share(),
        };
        let overhead = Arc::clone(&services.overhead);
        let mut governor = overhead.govern(id, target, &services.metrics)?;
        let levers = governor.levers();
        let start = now();
        let first = period(levers.frequency);
        let cpus = session.cpus.iter().map(|cpu| (*cpu as u32, Exposure::new(start, first)));
        Some(Self {
            governor,
            overhead,
            wanted: session.choices,
            cpus: cpus.collect(),
            kept: Vec::new(),
            began: start,
            end: start,
            frequency: levers.frequency,
            changed: start,
            samples: 0,
            processed: 0,
            sideband: 0,
            reporting: true,
            stormy: false,
            capped: 0,
            busy: 0.0,
            // Opened by the thread that is to be measured.
            calibration: None,
            rest: 0,
            record: 0,
            discovery: 0,
            unwinding: 0.0,
            levers,
        })
    }

    /// Begins the first window.
    pub(crate) fn start(&mut self, session: &mut Session, unwinding: &mut Unwinding) {
        self.calibration = Calibration::new(&self.wanted);
        let rung = self.levers.rung;
        self.frequency = session.possible(self.levers.frequency);
        if let Err(error) = session.reopen(&self.wanted, rung, self.frequency) {
            tracing::warn!("{error}");
        }
        unwinding.set_rung(rung);
        self.apply(session, now());
    }

    /// How long the drain thread may sleep.
    pub(crate) fn time_left(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(now()).clamp(200_000, 60_000_000_000))
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.end
    }

    /// Counts a sample; returns what it stands for before the window's correction.
    pub(crate) fn weigh(&mut self, sample: &Sample<'_>) -> u64 {
        if sample.pid == 0 {
            return 0;
        }
        self.samples += 1;
        match self.cpus.iter_mut().find(|(cpu, _)| *cpu == sample.cpu) {
            Some((_, exposure)) => exposure.sample(sample.time),
            None => period(self.frequency),
        }
    }

    /// A sample of an event that is not a clock has interrupted the profiled, too.
    pub(crate) fn count_other(&mut self) {
        self.samples += 1;
    }

    pub(crate) fn begin_record(&mut self) {
        self.record = thread_cpu();
        self.discovery = 0;
    }

    pub(crate) fn end_record(&mut self, is_sample: bool) {
        let took = thread_cpu().saturating_sub(self.record);
        if is_sample {
            let unwinding = took.saturating_sub(self.discovery);
            self.unwinding += unwinding as f64;
            self.overhead.ledger().add(Stage::Drain, unwinding);
            self.processed += 1;
        } else {
            self.sideband += 1;
            self.overhead.spend(Stage::Discover, took);
        }
    }

    /// A look was taken in.
    pub(crate) fn end_look(&mut self) {
        let took = thread_cpu().saturating_sub(self.record);
        self.overhead.ledger().add(Stage::Look, took.saturating_sub(self.discovery));
    }

    /// Samples were tried again.
    pub(crate) fn end_retry(&mut self, samples: u64) {
        let took = thread_cpu().saturating_sub(self.record);
        self.overhead.ledger().add(Stage::Drain, took.saturating_sub(self.discovery));
        self.processed += samples;
        // A record may have led to this: what follows is its own.
        self.begin_record();
    }

    /// What was found out about a process since then is not part of unwinding.
    pub(crate) fn discovered(&mut self, since: u64) {
        let took = thread_cpu().saturating_sub(since);
        self.discovery += took;
        self.overhead.spend(Stage::Discover, took);
    }

    /// Whether unwinding has used up its part of the window.
    pub(crate) fn is_spent(&self) -> bool {
        self.unwinding > self.levers.unwinding
    }

    /// Keeps a sample until the weights of its window are certain.
    pub(crate) fn keep(&mut self, cpu: u32, counted: Counted) {
        let at = self.cpus.iter().position(|(known, _)| *known == cpu);
        if self.kept.len() < MAX_KEPT {
            self.kept.push((at.unwrap_or(usize::MAX), counted));
        }
    }

    /// Ends the window for all CPUs; returns the samples with their weights.
    pub(crate) fn end_exposures(&mut self, now: u64) -> impl Iterator<Item = Counted> + use<> {
        let length = now.saturating_sub(self.began).max(1) as f64;
        self.capped = 0;
        self.busy = 0.0;
        let mut factors = Vec::with_capacity(self.cpus.len());
        for (_, exposure) in &mut self.cpus {
            let samples = f64::from(exposure.samples());
            let (factor, capped) = exposure.end(now);
            self.capped += u32::from(capped);
            self.busy += samples * exposure.period() as f64 * factor / length;
            factors.push(factor);
        }
        let kept = std::mem::take(&mut self.kept);
        kept.into_iter().map(move |(at, mut counted)| {
            let factor = factors.get(at).copied().unwrap_or(1.0);
            counted.weight = (counted.weight as f64 * factor).round() as u64;
            counted
        })
    }

    /// Whether the side band has cost more than a window can bear.
    pub(crate) fn is_storm(&self) -> bool {
        self.reporting && self.sideband as f64 > self.levers.sideband_records
    }

    /// Turns the side band off before the window ends, and reads no more of it.
    pub(crate) fn stop_reports(&mut self, session: &mut Session) {
        let read = self.sideband;
        session.report(false);
        // The kernel has made them.
        self.sideband += session.drop_reports();
        let after = now().saturating_sub(self.began);
        tracing::debug!(read, dropped = self.sideband - read, after, "storm");
        self.reporting = false;
        self.stormy = true;
        self.governor.storm();
    }

    /// Ends a window and begins the next.
    pub(crate) fn window(&mut self, session: &mut Session, unwinding: &mut Unwinding) -> Change {
        self.calibrate();
        let sampled = Sampled {
            samples: std::mem::take(&mut self.samples),
            processed: std::mem::take(&mut self.processed),
            sideband: std::mem::take(&mut self.sideband),
            busy: self.busy,
            capped: self.capped,
        };
        self.unwinding = 0.0;
        let before = self.levers.rung;
        self.levers = self.governor.window(&sampled);
        session.pause_others(self.levers.state == State::Stopped);
        let rung = self.levers.rung;
        if rung != before || session.wanted_wakeups != session.has_wakeups() {
            self.change_rung(rung, session, unwinding);
        }
        let invalidate = self.stormy || self.levers.sideband != self.reporting;
        self.stormy = false;
        if self.levers.sideband != self.reporting {
            self.reporting = self.levers.sideband;
            session.report(self.reporting);
        }
        self.apply(session, now());
        Change { invalidate, profile: self.levers.profile.as_nanos() as u64 }
    }

    fn change_rung(&mut self, rung: Rung, session: &mut Session, unwinding: &mut Unwinding) {
        session.hold();
        match session.reopen(&self.wanted, rung, self.frequency) {
            Ok(()) => {
                self.cpus.iter_mut().for_each(|(_, exposure)| exposure.reopened());
                unwinding.set_rung(rung);
            }
            // The events there are go on.
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Gives the events what the levers say.
    fn apply(&mut self, session: &Session, now: u64) {
        let Levers { credits, window, .. } = self.levers;
        let frequency = session.possible(self.levers.frequency);
        self.began = now;
        self.end = now + window.as_nanos() as u64;
        if credits == 0 {
            session.hold();
            self.cpus.iter_mut().for_each(|(_, exposure)| exposure.hold());
            return;
        }
        let change = frequency / self.frequency;
        let passed = now.saturating_sub(self.changed) / period(self.frequency).max(1);
        // Often enough in a window: a little different in every one.
        let often = period(frequency) * 2 * MIN_PERIODS_BETWEEN_CHANGES < window.as_nanos() as u64;
        let jitter = if often { 1.0 + JITTER * (2.0 * uniform(now) - 1.0) } else { 1.0 };
        let frequency = session.possible(frequency * jitter);
        if (often || !(1.0 - PERIOD_TOLERANCE..1.0 + PERIOD_TOLERANCE).contains(&change))
            && (passed >= MIN_PERIODS_BETWEEN_CHANGES || change < 0.5)
            && session.set_frequency(frequency)
        {
            self.frequency = frequency;
            self.changed = now;
        }
        let in_force = period(self.frequency);
        // Half of the credits go where the work is, half to every CPU alike.
        let all: f64 = self.cpus.iter().map(|(_, exposure)| share(exposure)).sum();
        let count = self.cpus.len().max(1) as f64;
        for (at, (_, exposure)) in self.cpus.iter_mut().enumerate() {
            let part = 0.5 * share(exposure) / all.max(1e-9) + 0.5 / count;
            let granted = (f64::from(credits) * part).floor() as u32;
            exposure.change(now, in_force);
            session.refill(at, exposure.begin(now, granted));
        }
    }

    /// Measures a little of what a sample costs here, if the window has room for it.
    fn calibrate(&mut self) {
        let Some(calibration) = &mut self.calibration else { return };
        if matches!(self.levers.state, State::Paying | State::Stopped) {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let budget = self.overhead.limits().unwrap_or_default();
        let room = CALIBRATION_SHARE * budget.nanoseconds(self.levers.window);
        let length = room.clamp(MIN_BLOCK_NANOS, 4_000_000.0);
        // The start pays for several at once, or else one is done with all other work that can wait.
        let mut most = MAX_BLOCKS_AT_START;
        while most > 0 && self.overhead.wait(Stage::Calibrate).is_none() {
            most = if self.overhead.has_allowance() { most - 1 } else { 0 };
            self.rest = (length / room.max(1.0)).ceil() as u32 - 1;
            let began = thread_cpu();
            let found = calibration.block(length as u64);
            let took = thread_cpu().saturating_sub(began);
            self.overhead.spend(Stage::Calibrate, took);
            if let Some(cost) = found {
                tracing::info!("a sample costs the kernel at most {:.1} µs here", cost / 1000.0);
                self.governor.calibrated(cost);
                self.calibration = None;
                return;
            }
        }
    }
}

/// How much of the work is on a CPU, by its last window.
fn share(exposure: &Exposure) -> f64 {
    f64::from(exposure.before()) + 0.5
}
