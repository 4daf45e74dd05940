//! A control law with real clocks: what the sampler asks at the end of every window.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::law::{ControlLaw, Levers, Observation, State};
use super::ledger::{Stage, monotonic, process_cpu};
use super::metric_names;
use super::pacer::Pacer;
use super::turns::Turns;
use super::{Law, Overhead};
use crate::telemetry::{Counter, Metrics};

/// What a sample costs the kernel until it was measured: more than on most hosts, real or virtual.
pub(super) const KERNEL_SAMPLE_NANOS: f64 = 80_000.0;
/// What a record of the side band costs the kernel, from above: it looks for the path and the build
/// id of a file.
const KERNEL_RECORD_NANOS: f64 = 5_000.0;
/// How often resident memory and the second clock are looked at.
const LOOK_INTERVAL_NANOS: u64 = 10_000_000_000;

/// What the sampler saw in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampled {
    /// Interruptions by samples.
    pub samples: u64,
    /// Samples that were unwound, those twice that had to wait for tables.
    pub processed: u64,
    /// Records of mappings, names, forks and ends.
    pub sideband: u64,
    /// The CPUs that were busy, as far as the samples say.
    pub busy: f64,
    /// CPUs whose credits were used up.
    pub capped: u32,
}

/// What the governor did last.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// What it set.
    pub levers: Levers,
    /// The budget: 0.01 is one percent of one core.
    pub budget: f64,
    /// What the last window cost, in the same unit.
    pub spent: f64,
    /// What the last ten seconds cost.
    pub spent_lately: f64,
    /// What a sample costs the kernel at most, in nanoseconds.
    pub kernel_sample: f64,
    /// Whether that was measured on this host.
    pub is_measured: bool,
    /// Windows so far whose credits were used up.
    pub capped: u64,
}

/// The governor of one sampler.
#[derive(Debug)]
pub struct Governor {
    overhead: Arc<Overhead>,
    law: Law,
    /// The budget as a share of a core, with what looks take of it.
    cpu: f64,
    receiver: Arc<str>,
    /// When the window began, and the ledger then.
    began: u64,
    user: u64,
    drain: u64,
    deferrable: u64,
    /// By stage, when the window began.
    stages: [u64; Stage::ALL.len()],
    kernel_sample: f64,
    is_measured: bool,
    looked: u64,
    /// Spent and length of the last windows, for ten seconds.
    lately: Vec<(f64, f64)>,
    told: Option<(State, &'static str, bool)>,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    stages: Vec<(Stage, Counter)>,
    base: Counter,
    kernel: Counter,
    spent: Counter,
    budget: Counter,
    frequency: Counter,
    credits: Counter,
    rung: Counter,
    state: Counter,
    windows: Counter,
    over: Counter,
    capped: Counter,
    sideband_off: Counter,
    kernel_sample: Counter,
    is_measured: Counter,
    agreement: Counter,
    resident: Counter,
    sent: Counter,
    reserve: Counter,
    owed: Counter,
}

impl Meters {
    fn new(metrics: &Metrics, receiver: &str) -> Self {
        let one = |name| metrics.counter(name, receiver);
        let stages = Stage::ALL.iter().map(|stage| {
            let label = [("stage", stage.name())];
            (*stage, metrics.labelled(metric_names::CPU, receiver, &label))
        });
        Self {
            stages: stages.collect(),
            base: metrics.labelled(metric_names::CPU, receiver, &[("stage", "base")]),
            kernel: metrics.labelled(metric_names::CPU, receiver, &[("stage", "kernel")]),
            spent: one(metric_names::SPENT),
            budget: one(metric_names::BUDGET),
            frequency: one(metric_names::FREQUENCY),
            credits: one(metric_names::CREDITS),
            rung: one(metric_names::RUNG),
            state: one(metric_names::STATE),
            windows: one(metric_names::WINDOWS),
            over: one(metric_names::WINDOWS_OVER),
            capped: one(metric_names::CAPPED),
            sideband_off: one(metric_names::SIDEBAND_OFF),
            kernel_sample: one(metric_names::KERNEL_SAMPLE),
            is_measured: one(metric_names::MEASURED),
            agreement: one(metric_names::AGREEMENT),
            resident: one(metric_names::RESIDENT),
            sent: one(metric_names::SENT_BYTES),
            reserve: one(metric_names::RESERVE),
            owed: one(metric_names::OWED),
        }
    }
}

impl Governor {
    pub(super) fn new(
        overhead: Arc<Overhead>,
        receiver: &str,
        cpu: f64,
        law: Law,
        metrics: &Metrics,
    ) -> Self {
        let limits = *lock(&law).limits();
        let ledger = overhead.ledger();
        let mut governor = Self {
            law,
            cpu,
            receiver: receiver.into(),
            began: monotonic(),
            user: process_cpu() + overhead.worker_cpu(),
            drain: ledger.of(Stage::Drain),
            deferrable: ledger.deferrable(),
            stages: Stage::ALL.map(|stage| ledger.of(stage)),
            kernel_sample: KERNEL_SAMPLE_NANOS,
            is_measured: false,
            looked: 0,
            lately: Vec::new(),
            told: None,
            meters: Meters::new(metrics, receiver),
            overhead,
        };
        governor.meters.budget.set(ppm(cpu));
        let levers = governor.law().plan();
        governor.publish(levers, 0.0, 0.0);
        if !levers.symbols {
            tracing::warn!(
                "receivers::{receiver}: {} % of a core does not pay for names: have them looked for \
                 at a gateway",
                cpu * 100.0
            );
        }
        let mut shared = governor.overhead.shared();
        let mut pacer = Pacer::new(levers.pace, governor.began);
        pacer.set(levers.pace, levers.pace_of_ten, governor.began);
        governor.overhead.piece.store(pacer.piece() as u64, Ordering::Relaxed);
        shared.pacer = Some(pacer);
        shared.network = limits.network.map(|bytes| Pacer::new(bytes as f64 / 1e9, governor.began));
        shared.turns = Turns::default();
        shared.turns.end_window(governor.began);
        // Another governor of this program has had it.
        if !std::mem::replace(&mut shared.has_started, true) {
            shared.allowance = limits.start.nanoseconds(limits.cpu);
            shared.allowance_ends = governor.began + limits.start.within.as_nanos() as u64;
        }
        shared.receivers.push(Arc::clone(&governor.receiver));
        drop(shared);
        governor
    }

    fn law(&self) -> MutexGuard<'_, Box<dyn ControlLaw>> {
        lock(&self.law)
    }

    /// What the first window may do.
    pub fn levers(&mut self) -> Levers {
        self.law().plan()
    }

    /// What a sample costs the kernel at most was measured, in nanoseconds.
    pub fn calibrated(&mut self, kernel_sample: f64) {
        self.kernel_sample = kernel_sample;
        self.is_measured = true;
        self.meters.is_measured.set(1);
    }

    /// A storm in the side band was seen and it is off already.
    pub fn storm(&mut self) {
        self.law().storm();
    }

    /// A window has ended: what the next one may do.
    pub fn window(&mut self, sampled: &Sampled) -> Levers {
        self.overhead.spend_workers();
        let now = monotonic();
        let ledger = self.overhead.ledger();
        ledger.add_kernel(sampled.samples, sampled.sideband);
        let user = process_cpu() + self.overhead.worker_cpu();
        let drain = ledger.of(Stage::Drain);
        let deferrable = ledger.deferrable();
        let stages = Stage::ALL.map(|stage| ledger.of(stage));
        let since = |now: u64, before: &mut u64| now.saturating_sub(std::mem::replace(before, now));
        let seconds = since(now, &mut self.began) as f64 / 1e9;
        let before = self.stages;
        let looks = stages.iter().zip(before).nth(Stage::Look as usize);
        let looks = looks.map_or(0, |(now, before)| now.saturating_sub(before)) as f64;
        let user = (since(user, &mut self.user) as f64 - looks).max(0.0);
        let sampling = (since(drain, &mut self.drain) as f64).min(user);
        let deferrable = (since(deferrable, &mut self.deferrable) as f64).min(user - sampling);
        let resident = (now - self.looked > LOOK_INTERVAL_NANOS).then(|| self.look(now)).flatten();
        let before = std::mem::replace(&mut self.stages, stages);
        let mut by_stage = stages;
        by_stage.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
        let delivery = Stage::ALL.iter().zip(by_stage).filter(|(stage, _)| stage.is_delivery());
        let delivery = delivery.map(|(_, taken)| taken as f64).sum();
        let age = self.overhead.take_oldest_age(now).as_secs_f64();
        let (lump, allowed, pending, waited) = {
            let mut shared = self.overhead.shared();
            let take = std::mem::take::<f64>;
            let pending = shared.turns.pending(now);
            let lump = take(&mut shared.lump);
            (lump, take(&mut shared.allowed), pending, shared.turns.end_window(now))
        };
        let observation = Observation {
            seconds,
            user,
            sampling,
            deferrable,
            delivery,
            // Of work that is told now some may have been done, and counted, in the window before.
            allowed,
            lump,
            pending,
            delivery_waited: waited.delivery,
            rest_waited: waited.rest,
            age,
            is_late: self.overhead.is_late(now),
            samples: sampled.samples as f64,
            processed: sampled.processed as f64,
            sideband: sampled.sideband as f64,
            busy: sampled.busy,
            capped: sampled.capped,
            kernel_sample: self.kernel_sample,
            kernel_record: KERNEL_RECORD_NANOS,
            resident,
        };
        self.law().observe(&observation);
        let levers = self.law().plan();
        let total = observation.total() + looks;
        self.count(&observation, total);
        let balance = self.law().balance();
        tracing::debug!(?observation, ?levers, balance, ?by_stage, "window");
        self.lately.push((total, seconds));
        while self.lately.iter().skip(1).map(|(_, seconds)| seconds).sum::<f64>() >= 10.0 {
            self.lately.remove(0);
        }
        let (spent, passed) =
            self.lately.iter().fold((0.0, 0.0), |sum, window| (sum.0 + window.0, sum.1 + window.1));
        self.publish(levers, total / 1e9 / seconds.max(1e-3), spent / 1e9 / passed.max(1e-3));
        let mut shared = self.overhead.shared();
        if let Some(pacer) = &mut shared.pacer {
            pacer.set(levers.pace, levers.pace_of_ten, now);
            self.overhead.piece.store(pacer.piece() as u64, Ordering::Relaxed);
        }
        levers
    }

    fn count(&self, window: &Observation, total: f64) {
        let meters = &self.meters;
        let ledger = self.overhead.ledger();
        for (stage, counter) in &meters.stages {
            counter.set(ledger.of(*stage));
        }
        let whole = |nanoseconds: f64| nanoseconds.max(0.0) as u64;
        meters.base.add(whole(window.user - window.sampling - window.deferrable));
        meters.kernel.add(whole(window.total() - window.user));
        meters.windows.add(1);
        let budget = self.cpu * window.seconds * 1e9;
        meters.over.add(u64::from(total > budget));
        meters.capped.add(u64::from(window.capped > 0));
        meters.sent.set(ledger.bytes());
    }

    /// Looks at what changes slowly: resident memory, and whether another clock agrees.
    fn look(&mut self, now: u64) -> Option<u64> {
        self.looked = now;
        let own = process_cpu();
        if let Some(ticks) = stat_ticks()
            && own > 1_000_000_000
        {
            // The kernel counts these in hundredths of a second.
            let other = ticks as f64 * 1e7;
            self.meters.agreement.set(ppm(other / own as f64));
        }
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let resident = pages * rustix::param::page_size() as u64;
        self.meters.resident.set(resident);
        Some(resident)
    }

    fn publish(&mut self, levers: Levers, spent: f64, spent_lately: f64) {
        let budget = self.cpu;
        let meters = &self.meters;
        meters.spent.set(ppm(spent_lately));
        meters.frequency.set((levers.frequency * 1000.0) as u64);
        meters.credits.set(u64::from(levers.credits));
        meters.rung.set(levers.rung as u64);
        meters.state.set(levers.state as u64);
        meters.sideband_off.set(u64::from(!levers.sideband));
        meters.kernel_sample.set(self.kernel_sample as u64);
        meters.reserve.set(ppm(levers.reserve));
        meters.owed.set(self.law().owed() as u64);
        let status = Status {
            levers,
            budget,
            spent,
            spent_lately,
            kernel_sample: self.kernel_sample,
            is_measured: self.is_measured,
            capped: self.meters.capped.get(),
        };
        self.overhead.shared().status = Some(status);
        self.tell(&status);
    }

    /// Logs what has changed, once.
    fn tell(&mut self, status: &Status) {
        let levers = &status.levers;
        // Debts come and go; they are in the metrics.
        let state = match levers.state {
            State::Paying | State::Steady => State::Limited,
            state => state,
        };
        let now = (state, levers.rung.name(), levers.sideband);
        let Some(before) = self.told.replace(now) else { return };
        let receiver = &self.receiver;
        let budget = status.budget * 100.0;
        if before.0 != state {
            match state {
                State::Stopped => tracing::error!(
                    "receivers::{receiver}: profiling within {budget} % of a core is not possible \
                     here: it is off and will be tried again in {:?}; allow more with \
                     `governor::cpu`",
                    self.law().limits().retry
                ),
                State::Infeasible if levers.window > self.law().limits().window.0 => {
                    tracing::warn!(
                        "receivers::{receiver}: profiling costs too much of {budget} % of a core \
                         before the first sample: windows are {:?} long now",
                        levers.window
                    );
                }
                State::Infeasible => tracing::warn!(
                    "receivers::{receiver}: {budget} % of a core does not pay for sending profiles \
                     in time, even without names: allow more with `governor::cpu`"
                ),
                _ => tracing::info!("receivers::{receiver}: within {budget} % of a core again"),
            }
        }
        if before.1 != levers.rung.name() {
            tracing::info!("receivers::{receiver}: stacks are taken as {}", levers.rung.name());
        }
        if before.2 != levers.sideband {
            match levers.sideband {
                true => tracing::info!("receivers::{receiver}: mappings and forks are reported"),
                false => tracing::info!(
                    "receivers::{receiver}: a storm of mappings or forks: they are not reported \
                     for a while; mappings are read when needed"
                ),
            }
        }
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        let mut shared = self.overhead.shared();
        shared.receivers.retain(|receiver| *receiver != self.receiver);
        shared.pacer = None;
        shared.network = None;
        shared.status = None;
        drop(shared);
        for gauge in [&self.meters.budget, &self.meters.spent, &self.meters.frequency] {
            gauge.set(0);
        }
        self.overhead.governed.store(false, Ordering::Release);
        self.overhead.hurry.notify_all();
    }
}

fn lock(law: &Law) -> MutexGuard<'_, Box<dyn ControlLaw>> {
    law.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts in a million.
fn ppm(share: f64) -> u64 {
    (share.max(0.0) * 1e6).round() as u64
}

/// What `/proc/self/stat` says of user and system time.
fn stat_ticks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}
