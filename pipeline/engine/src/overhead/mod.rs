//! What profiling costs, and what keeps that within a budget.
//!
//! One [`Overhead`] belongs to the [`Services`](crate::Services) of a program. Everything
//! that works for profiles tells it what that took ([`Work`]); with limits and a law
//! ([`Overhead::limit`], [`Overhead::install`], both by the processor `governor`) it also says when work
//! that can wait may be done. The sampler owns the loop: at the end of every window it tells what the window was like
//! and is told what the next one may do ([`Governor::window`]).
//!
//! # Layout
//! - [`Limits`]: what is allowed. [`Ledger`]: what was spent, by [`Stage`].
//! - [`ControlLaw`]: what decides, a pure state machine that the governor brings. [`Pacer`]: when work that can wait is
//!   done, pure too. `turns`: whose turn it is, and how long each stage was kept waiting.
//! - [`WaitingWindow`]: what has been sampled and has not left yet, and how old it is.
//! - [`Governor`]: the two with real clocks, metrics and log lines.
//! - `worker`: the CPU time of the symbolizer's processes.

mod governor;
mod law;
mod ledger;
mod limits;
pub mod metric_names;
mod pacer;
#[cfg(test)]
mod tests;
mod turns;
mod waiting;
mod work;
mod worker;

pub use governor::{Governor, Sampled, Status};
pub use law::{ControlLaw, Levers, MakeLaw, Observation, Rung, SamplingTarget, State};
pub use ledger::{Ledger, Stage, monotonic, process_cpu, thread_cpu};
pub use limits::{Allowance, Limits};
pub use pacer::Pacer;
pub use waiting::{OldestWindow, WaitingWindow, longest_age};
pub use work::{Metered, Work, aside, checkpoint};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::turns::Turns;
use self::waiting::WaitingWindows;
use self::worker::Workers;

/// How long a piece of work waits for room in a second; then only the mean of ten counts for it.
const SECOND_TIMEOUT: Duration = Duration::from_millis(1200);
/// The longest sleep of who waits: what it waits for may have changed.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// The ledger of a program, and the way to its governor.
#[derive(Debug, Default)]
pub struct Overhead {
    ledger: Ledger,
    /// Whether a governor runs; then work that can wait does.
    governed: AtomicBool,
    shared: Mutex<Shared>,
    /// How long a piece of work should be, in nanoseconds.
    piece: AtomicU64,
    /// Told when everybody shall stop waiting.
    hurry: Condvar,
    windows: WaitingWindows,
}

#[derive(Debug, Default)]
struct Shared {
    limits: Option<Limits>,
    law: Option<MakeLaw>,
    /// What the last governor had, so that the next one of the same receiver, limits and target goes on with
    /// what is known of costs, and owes what was owed.
    known: Option<KnownLaw>,
    pacer: Option<Pacer>,
    /// The same for bytes on their way out.
    network: Option<Pacer>,
    /// The receivers whose batches are paced.
    receivers: Vec<Arc<str>>,
    turns: Turns,
    /// What is left of the allowance for the start, in nanoseconds, and until when it may be used.
    allowance: f64,
    allowance_ends: u64,
    /// What was taken of it since the last window.
    allowed: f64,
    /// A governor has had the allowance: it is for the start of the program.
    has_started: bool,
    /// The largest piece since the last window.
    lump: f64,
    workers: Workers,
    status: Option<Status>,
    /// The engine stops: nothing waits any more.
    hurried: bool,
}

/// A law that a governor and the one after it have together.
type Law = Arc<Mutex<Box<dyn ControlLaw>>>;

/// A law, and what it was made for.
#[derive(Debug)]
struct KnownLaw {
    receiver: String,
    limits: Limits,
    target: SamplingTarget,
    law: Law,
}

impl Overhead {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limits for the samplers that start from now on; the strictest of several counts.
    pub fn limit(&self, limits: Limits) {
        let mut shared = self.shared();
        let stricter = shared.limits.is_none_or(|known| limits.cpu < known.cpu);
        if stricter {
            shared.limits = Some(limits);
        }
    }

    /// Sets the law by which samplers that start from now on keep the limits.
    pub fn install(&self, law: MakeLaw) {
        self.shared().law = Some(law);
    }

    /// The limits, if there are any.
    pub fn limits(&self) -> Option<Limits> {
        self.shared().limits
    }

    /// Forgets the limits: another configuration is about to be built.
    pub(crate) fn begin(&self) {
        let mut shared = self.shared();
        (shared.limits, shared.law) = (None, None);
        shared.hurried = false;
    }

    /// Nothing waits any more: the engine stops.
    pub(crate) fn hurry(&self) {
        self.shared().hurried = true;
        self.hurry.notify_all();
    }

    /// What was spent.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the governor did last, if there is one.
    pub fn status(&self) -> Option<Status> {
        self.shared().status
    }

    /// Whether a governor runs.
    pub fn is_governed(&self) -> bool {
        self.governed.load(Ordering::Relaxed)
    }

    /// Whether batches of this receiver are paced.
    pub fn paces(&self, receiver: &str) -> bool {
        self.is_governed() && self.shared().receivers.iter().any(|known| &**known == receiver)
    }

    /// Whether names may be looked for here and now.
    pub fn allows_symbols(&self) -> bool {
        !self.is_governed() || self.shared().status.is_none_or(|status| status.levers.symbols)
    }

    /// Spends CPU time on a stage.
    pub fn spend(&self, stage: Stage, nanoseconds: u64) {
        self.ledger.add(stage, nanoseconds);
        if !stage.is_deferrable() || !self.is_governed() {
            return;
        }
        let mut shared = self.shared();
        let taken = nanoseconds as f64;
        // Measuring is planned for by itself.
        if stage != Stage::Calibrate {
            shared.lump = shared.lump.max(taken);
        }
        shared.turns.learn(stage, taken);
        shared.charge(stage, taken);
    }

    /// Spends CPU time on what is done again and again, whatever there is to do: it says nothing
    /// of the size of a piece of work.
    pub fn spend_a_little(&self, stage: Stage, nanoseconds: u64) {
        self.ledger.add(stage, nanoseconds);
        if self.is_governed() {
            self.shared().charge(stage, nanoseconds as f64);
        }
    }

    /// Whether there is something left of the allowance for the start.
    pub fn has_allowance(&self) -> bool {
        let shared = self.shared();
        shared.allowance > 0.0 && monotonic() < shared.allowance_ends
    }

    /// How long a piece of work should be between two looks at the clock.
    pub fn piece(&self) -> Duration {
        Duration::from_nanos(self.piece_nanoseconds())
    }

    fn piece_nanoseconds(&self) -> u64 {
        self.piece.load(Ordering::Relaxed)
    }

    /// How long work of a stage has to wait now; none: not at all.
    pub fn wait(&self, stage: Stage) -> Option<Duration> {
        if !self.is_governed() {
            return None;
        }
        let now = monotonic();
        let is_late = stage.is_delivery() && self.is_late(now);
        let mut shared = self.shared();
        if shared.hurried {
            return None;
        }
        let wait = shared.wait(stage, is_late, now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Waits on this thread until work of a stage may go on.
    pub fn pause(&self, stage: Stage) {
        while let Some(wait) = self.wait(stage) {
            let shared = self.shared();
            if shared.hurried {
                return;
            }
            let waited = self.hurry.wait_timeout(shared, wait);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Waits until a batch of so many bytes may be sent.
    pub async fn sendable(&self, bytes: u64) {
        self.ledger.add_bytes(bytes);
        while let Some(wait) = self.wait_for_network(bytes) {
            tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
        }
        if let Some(network) = &mut self.shared().network {
            network.take(bytes as f64, monotonic());
        }
        self.admitted(Stage::Send).await;
    }

    fn wait_for_network(&self, bytes: u64) -> Option<Duration> {
        let mut shared = self.shared();
        if shared.hurried {
            return None;
        }
        let wait = shared.network.as_mut()?.wait(bytes as f64, Duration::MAX, monotonic());
        (!wait.is_zero()).then_some(wait)
    }

    /// Waits until work of a stage may go on.
    pub async fn admitted(&self, stage: Stage) {
        while let Some(wait) = self.wait(stage) {
            tokio::time::sleep(wait).await;
        }
    }

    /// A window of a sampler ended, at a time of the [monotonic clock](monotonic): what is returned
    /// goes with its profile until that has left.
    pub fn window_ended(&self, end: u64, interval: Duration) -> WaitingWindow {
        self.windows.open(end, interval)
    }

    /// The oldest window whose profile has not left yet.
    pub fn oldest_window(&self) -> Option<OldestWindow> {
        self.windows.oldest(monotonic())
    }

    /// The age at which the oldest window since the last call has left, or which it has now.
    fn take_oldest_age(&self, now: u64) -> Duration {
        self.windows.take_oldest_age(now)
    }

    /// Whether a window has waited for so long that its profile goes before everything else.
    fn is_late(&self, now: u64) -> bool {
        self.windows.oldest(now).is_some_and(|oldest| oldest.is_late())
    }

    /// A process of the symbolizer has started: its CPU time counts.
    pub fn worker_began(&self, pid: u32) {
        self.shared().workers.began(pid);
    }

    /// It is about to be ended: what it has taken without an answer is spent, too.
    pub fn worker_ends(&self, pid: u32) {
        let taken = {
            let mut shared = self.shared();
            let taken = shared.workers.untold(Some(pid));
            shared.workers.ends(pid);
            taken
        };
        self.spend_a_little(Stage::Symbolize, taken);
    }

    /// CPU time of the symbolizer's processes so far, in nanoseconds.
    pub fn worker_cpu(&self) -> u64 {
        self.shared().workers.cpu()
    }

    /// Spends what one of them has taken since it was last asked for, for whom it works.
    pub fn spend_worker(&self, pid: u32) {
        let taken = self.shared().workers.untold(Some(pid));
        self.spend(Stage::Symbolize, taken);
    }

    /// Spends what all of them have taken without being asked: they tidy up when they have answered.
    fn spend_workers(&self) {
        let taken = self.shared().workers.untold(None);
        if taken > 0 {
            self.spend_a_little(Stage::Symbolize, taken);
        }
    }

    /// A governor for a sampler; none without limits and a law, or where another sampler has it.
    pub fn govern(
        self: &Arc<Self>,
        receiver: &str,
        target: SamplingTarget,
        metrics: &crate::telemetry::Metrics,
    ) -> Option<Governor> {
        let (limits, law) = {
            let shared = self.shared();
            (shared.limits?, shared.law?)
        };
        if self.governed.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "receivers::{receiver}: another sampler is governed already: this one is not"
            );
            return None;
        }
        let cpu = limits.cpu;
        let limits = Limits { cpu: cpu * (1.0 - target.looks.clamp(0.0, 0.9)), ..limits };
        let law = {
            let mut shared = self.shared();
            let is_same = |known: &&KnownLaw| {
                known.receiver == receiver && known.limits == limits && known.target == target
            };
            match shared.known.as_ref().filter(is_same) {
                Some(known) => Arc::clone(&known.law),
                None => {
                    let law = law(limits, target, governor::KERNEL_SAMPLE_NANOS);
                    let law = Arc::new(Mutex::new(law));
                    let receiver = receiver.to_owned();
                    shared.known =
                        Some(KnownLaw { receiver, limits, target, law: Arc::clone(&law) });
                    law
                }
            }
        };
        Some(Governor::new(Arc::clone(self), receiver, cpu, law, metrics))
    }
}

impl Shared {
    /// How long work of a stage has to wait; if not at all, it has been given its turn.
    fn wait(&mut self, stage: Stage, is_late: bool, now: u64) -> Duration {
        let estimate = self.turns.estimate(stage, now);
        if now < self.allowance_ends && self.allowance > estimate {
            self.turns.begin(stage, 0.0, now);
            return Duration::ZERO;
        }
        let Some(pacer) = &mut self.pacer else { return Duration::ZERO };
        // What is found out about a process cannot be made up for later, and a late profile must
        // go: there only the mean counts.
        let waited = self.turns.waited(stage, now);
        let is_urgent = is_late || waited > SECOND_TIMEOUT && estimate < pacer.second();
        let wait = if is_urgent || stage == Stage::Discover {
            pacer.wait_for_ten(estimate, now)
        } else {
            pacer.wait(estimate, waited, now)
        };
        let wait = wait.max(self.turns.wait(stage, now));
        if !wait.is_zero() {
            let wait = wait.min(MAX_SLEEP);
            self.turns.queue(stage, wait, now);
            return wait;
        }
        // Others shall not count on the same.
        let given = pacer.at_most(estimate);
        pacer.take(given, now);
        self.turns.begin(stage, given, now);
        Duration::ZERO
    }

    /// Work of a stage took so much: of the allowance for the start first.
    fn charge(&mut self, stage: Stage, taken: f64) {
        let now = monotonic();
        let given = self.turns.settle(stage);
        let allowed = if now < self.allowance_ends { self.allowance.min(taken) } else { 0.0 };
        self.allowance -= allowed;
        self.allowed += allowed;
        if let Some(pacer) = &mut self.pacer {
            pacer.take(taken - allowed - given, now);
        }
    }
}
