//! What profiling costs, and what keeps that within a budget.
//!
//! One [`Overhead`] belongs to the [`Services`](crate::engine::Services) of a program. Everything
//! that works for profiles tells it what that took ([`Work`]); with limits
//! ([`Overhead::limit`], set by the processor `governor`) it also says when work that can wait may
//! be done. The sampler owns the loop: at the end of every window it tells what the window was like
//! and is told what the next one may do ([`Governor::window`]).
//!
//! # Layout
//! - [`Limits`]: what is allowed. [`Ledger`]: what was spent, by [`Stage`].
//! - [`Controller`]: the control law, a pure state machine. [`Pacer`]: a bucket for work that can
//!   wait, pure too.
//! - [`Governor`]: the two with real clocks, metrics and log lines.
//! - `worker`: the CPU time of the symbolizer's processes.

mod controller;
mod governor;
mod ledger;
mod limits;
mod pacer;
#[cfg(test)]
mod tests;
mod work;
mod worker;

pub use controller::{Controller, Levers, Observation, Rung, State, Wish};
pub use governor::{Governor, Sampled, Status};
pub use ledger::{Ledger, Stage, monotonic, process_cpu, thread_cpu};
pub use limits::Limits;
pub use pacer::Pacer;
pub use work::{Metered, Work, aside};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::worker::Workers;

/// What a piece of work is taken to need before the first of its stage, in nanoseconds.
const UNKNOWN: f64 = 300_000.0;

/// How long work waits where other work has waited longer.
const QUEUED: Duration = Duration::from_millis(250);
/// What has not asked for so long, in nanoseconds, does not wait any more.
const GONE: u64 = 6_000_000_000;

/// The ledger of a program, and the way to its governor.
#[derive(Debug, Default)]
pub struct Overhead {
    ledger: Ledger,
    /// Whether a governor runs; then work that can wait does.
    governed: AtomicBool,
    shared: Mutex<Shared>,
    /// Told when everybody shall stop waiting.
    hurry: Condvar,
}

#[derive(Debug, Default)]
struct Shared {
    limits: Option<Limits>,
    pacer: Option<Pacer>,
    /// The same for bytes on their way out.
    network: Option<Pacer>,
    /// The receivers whose batches are paced.
    receivers: Vec<Arc<str>>,
    /// The usual size of a piece of work of each stage, from above.
    typical: [f64; Stage::ALL.len()],
    /// What the pacer has given to work of each stage that has not told yet what it took.
    given: [f64; Stage::ALL.len()],
    /// Since when each stage waits, and when it asked last.
    queue: [Option<(u64, u64)>; Stage::ALL.len()],
    /// The largest piece since the last window, and the largest of writing and sending profiles.
    lump: f64,
    flush: f64,
    /// The longest wait since the last window, in seconds.
    waited: f64,
    workers: Workers,
    status: Option<Status>,
    /// The engine stops: nothing waits any more.
    hurried: bool,
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

    /// The limits, if there are any.
    pub fn limits(&self) -> Option<Limits> {
        self.shared().limits
    }

    /// Forgets the limits: another configuration is about to be built.
    pub(crate) fn begin(&self) {
        let mut shared = self.shared();
        shared.limits = None;
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
        if matches!(stage, Stage::Aggregate | Stage::Process | Stage::Send) {
            shared.flush = shared.flush.max(taken);
        }
        if let Some(typical) = shared.typical.get_mut(stage as usize) {
            *typical = taken.max(*typical - 0.1 * taken);
        }
        let given = shared.given.get_mut(stage as usize).map_or(0.0, std::mem::take);
        if let Some(pacer) = &mut shared.pacer {
            pacer.take(taken - given, monotonic());
        }
    }

    /// Spends CPU time on what is done again and again, whatever there is to do: it says nothing
    /// of the size of a piece of work.
    pub fn spend_a_little(&self, stage: Stage, nanoseconds: u64) {
        self.ledger.add(stage, nanoseconds);
        if !self.is_governed() {
            return;
        }
        let mut shared = self.shared();
        let given = shared.given.get_mut(stage as usize).map_or(0.0, std::mem::take);
        if let Some(pacer) = &mut shared.pacer {
            pacer.take(nanoseconds as f64 - given, monotonic());
        }
    }

    /// How long a piece of work should be between two looks at the clock.
    pub fn piece(&self) -> Duration {
        let piece = self.shared().pacer.map_or(2_000_000.0, |pacer| pacer.piece());
        Duration::from_nanos(piece as u64)
    }

    /// How long work of a stage has to wait now; none: not at all.
    pub fn wait(&self, stage: Stage) -> Option<Duration> {
        if !self.is_governed() {
            return None;
        }
        let mut shared = self.shared();
        if shared.hurried {
            return None;
        }
        let known = shared.typical.get(stage as usize).copied().filter(|taken| *taken > 0.0);
        let estimate = known.unwrap_or(UNKNOWN);
        let now = monotonic();
        let pacer = shared.pacer.as_mut()?;
        let mut wait = pacer.wait(estimate, now);
        // Small pieces of others shall not keep a large one waiting for ever. Some stages do
        // without rather than wait: they have no place in the queue.
        if !matches!(stage, Stage::Discover | Stage::Calibrate) {
            let at = stage as usize;
            let since = shared.queue.get(at).copied().flatten().map_or(now, |(since, _)| since);
            let first = shared.queue.iter().enumerate().all(|(other, place)| {
                other == at
                    || place.is_none_or(|(before, asked)| before >= since || asked + GONE < now)
            });
            if !first {
                wait = wait.max(QUEUED);
            }
            if let Some(place) = shared.queue.get_mut(at) {
                *place = (!wait.is_zero()).then_some((since, now));
            }
        }
        if !wait.is_zero() {
            return Some(wait);
        }
        let pacer = shared.pacer.as_mut()?;
        // Others shall not count on the same.
        let given = pacer.at_most(estimate);
        pacer.take(given, now);
        if let Some(all) = shared.given.get_mut(stage as usize) {
            *all += given;
        }
        None
    }

    /// Waits on this thread until work of a stage may go on.
    pub fn pause(&self, stage: Stage) {
        let began = monotonic();
        while let Some(wait) = self.wait(stage) {
            let shared = self.shared();
            if shared.hurried {
                return;
            }
            let waited = self.hurry.wait_timeout(shared, wait);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.waited(began);
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
        let wait = shared.network.as_mut()?.wait(bytes as f64, monotonic());
        (!wait.is_zero()).then_some(wait)
    }

    /// Waits until work of a stage may go on.
    pub async fn admitted(&self, stage: Stage) {
        let began = monotonic();
        while let Some(wait) = self.wait(stage) {
            tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
            self.waited(began);
        }
    }

    fn waited(&self, since: u64) {
        let seconds = monotonic().saturating_sub(since) as f64 / 1e9;
        let mut shared = self.shared();
        shared.waited = shared.waited.max(seconds);
    }

    /// A process of the symbolizer has started: its CPU time counts.
    pub fn worker_began(&self, pid: u32) {
        self.shared().workers.began(pid);
    }

    /// It is about to be ended.
    pub fn worker_ends(&self, pid: u32) {
        self.shared().workers.ends(pid);
    }

    /// CPU time of the symbolizer's processes so far, in nanoseconds.
    pub fn worker_cpu(&self) -> u64 {
        self.shared().workers.cpu()
    }

    /// The same of one of them, while it runs.
    pub fn worker_cpu_of(&self, pid: u32) -> u64 {
        self.shared().workers.cpu_of(pid)
    }

    /// A governor for a sampler; none without limits, or where another sampler has it.
    pub fn govern(
        self: &Arc<Self>,
        receiver: &str,
        wish: Wish,
        metrics: &crate::telemetry::Metrics,
    ) -> Option<Governor> {
        let limits = self.limits()?;
        if self.governed.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "receivers::{receiver}: another sampler is governed already: this one is not"
            );
            return None;
        }
        Some(Governor::new(Arc::clone(self), receiver, limits, wish, metrics))
    }
}
