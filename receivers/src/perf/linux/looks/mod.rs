//! Time that is not spent on a CPU, by looks at threads at random moments.
//!
//! Nothing is traced: however often threads are switched, the looks are as many. A moment is random, and
//! the threads that are looked at then are chosen at random, so that the time a thread is found blocked at
//! a place is in the mean the time that it was blocked there. What a look found is handed on as a
//! sample ([`Look`]), and unwound as samples are; what is known exactly, how long each process was blocked
//! in all, comes beside it ([`Looks::take_times`]).
//!
//! [`mod@look`] is a single look, with the [`memory`] of the thread and what it waits for ([`wait`]);
//! [`threads`] are those that there are, [`rights`] whose may be seen; [`pace`] says when. Under a budget, looks take a share of it and
//! become fewer; where that leaves too few, they stop, and it is said.

mod look;
pub(super) mod memory;
mod pace;
pub(super) mod rights;
mod threads;
pub(super) mod wait;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use profpipe_engine::overhead::{Overhead, Stage, State, thread_cpu};
use profpipe_engine::telemetry::Counter;

use self::look::Seen;
use self::pace::{BATCH, Pace, Random};
use self::threads::Threads;
use crate::perf::Parked;
use crate::perf::linux::events::target::Target;
use crate::perf::linux::thread::{self, now};

pub(super) use self::look::Blocked;
pub(super) use self::pace::BUDGET_SHARE;
pub(super) use self::threads::ProcessTime;

/// Looks a second, where nothing else is said.
pub(super) const DEFAULT_RATE: u32 = 100;
/// The looks that wait to be unwound.
const MAX_WAITING: usize = 512;
/// The share of looks for threads that have not run for long, where they are kept.
const RESTING_SHARE: f64 = 0.1;
/// The longest sleep: the stop is noticed then, too.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// What a look found.
#[derive(Debug)]
pub(super) struct Look {
    /// In nanoseconds of the monotonic clock.
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// The time that it stands for, in nanoseconds.
    pub(super) weight: u64,
    pub(super) blocked: Blocked,
}

/// What the thread is started with.
pub(super) struct Setup {
    pub(super) target: Target,
    /// Looks a second.
    pub(super) rate: u32,
    pub(super) parked: Parked,
    /// The most bytes of a stack.
    pub(super) stack: usize,
    pub(super) overhead: Arc<Overhead>,
    /// Wakes who unwinds, where many looks wait.
    pub(super) waker: Option<Arc<OwnedFd>>,
    pub(super) counters: Counters,
}

/// The counters of the thread.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// Looks at threads.
    pub(super) looks: Counter,
    /// Of these, at threads that went on meanwhile.
    pub(super) torn: Counter,
    /// Of these, that nobody had the time to unwind.
    pub(super) lost: Counter,
    /// How late looks are in the mean, in nanoseconds: so much shorter, over the CPUs, blocks seem.
    pub(super) delay: Counter,
    /// 1, or 0 while a budget is too small for looks.
    pub(super) available: Counter,
}

#[derive(Debug, Default)]
struct Shared {
    times: Mutex<HashMap<u32, ProcessTime>>,
    /// The looks that wait.
    waiting: AtomicUsize,
    stop: AtomicBool,
}

/// The thread that looks, and what it has found.
pub(super) struct Looks {
    found: Receiver<Look>,
    /// The next of them.
    next: Option<Look>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Looks {
    /// Starts to look.
    pub(super) fn start(setup: Setup) -> std::io::Result<Self> {
        let (found_by, found) = sync_channel(MAX_WAITING);
        let shared = Arc::<Shared>::default();
        let looker = Looker {
            found: found_by,
            shared: Arc::clone(&shared),
            threads: Threads::new(setup.target, setup.parked),
            pace: Pace::new(setup.rate, setup.overhead.limits().map(|limits| limits.cpu)),
            random: Random::new(now()),
            buffer: vec![0; setup.stack],
            overhead: setup.overhead,
            waker: setup.waker,
            counters: setup.counters,
            is_off: false,
        };
        let thread =
            std::thread::Builder::new().name("perf-look".into()).spawn(move || looker.run())?;
        Ok(Self { found, next: None, shared, thread: Some(thread) })
    }

    /// When the next look was, if there is one.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        if self.next.is_none() {
            self.next = self.receive();
        }
        self.next.as_ref().map(|look| look.time)
    }

    /// Takes the next look.
    pub(super) fn take(&mut self) -> Option<Look> {
        self.next.take().or_else(|| self.receive())
    }

    fn receive(&self) -> Option<Look> {
        let look = self.found.try_recv().ok()?;
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(look)
    }

    /// How processes, by their pids, have spent their time since this was asked last.
    pub(super) fn take_times(&self) -> HashMap<u32, ProcessTime> {
        std::mem::take(&mut *self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks no more; the times are those until now.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within a listing.
            let _ = thread.join();
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread.
struct Looker {
    found: SyncSender<Look>,
    shared: Arc<Shared>,
    threads: Threads,
    pace: Pace,
    random: Random,
    buffer: Vec<u8>,
    overhead: Arc<Overhead>,
    waker: Option<Arc<OwnedFd>>,
    counters: Counters,
    is_off: bool,
}

impl Looker {
    fn run(mut self) {
        let priority = thread::raise_priority();
        tracing::debug!(priority, "looking at waiting threads");
        self.list();
        let mut at = now();
        let mut next_listing = at + self.pace.listing_interval();
        at += self.pace.gap(&mut self.random);
        loop {
            let wake = at.min(next_listing);
            while now() < wake && !self.is_stopping() {
                let left = Duration::from_nanos(wake.saturating_sub(now()));
                std::thread::park_timeout(left.min(MAX_SLEEP));
            }
            if self.is_stopping() {
                break;
            }
            if now() >= next_listing {
                if self.is_stopped() {
                    self.threads.forget();
                } else {
                    self.list();
                }
                next_listing = now() + self.pace.listing_interval();
            }
            let woken = now();
            if woken < at {
                continue;
            }
            self.pace.was_late(woken - at);
            // Moments that have passed meanwhile are this one, too.
            let mut moments = 0;
            while at <= woken {
                moments += 1;
                at += self.pace.gap(&mut self.random);
            }
            if !self.pace.is_off() && !self.is_stopped() {
                self.look(moments);
            }
        }
        if !self.is_stopped() {
            self.list();
        }
    }

    /// Whether profiling is off for want of a budget.
    fn is_stopped(&self) -> bool {
        self.overhead.status().is_some_and(|status| status.levers.state == State::Stopped)
    }

    fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Lists the threads again and tells how their time was spent.
    fn list(&mut self) {
        let began = thread_cpu();
        self.threads.list();
        {
            let mut times = self.shared.times.lock().unwrap_or_else(PoisonError::into_inner);
            for (pid, new) in self.threads.times.drain() {
                let time = times.entry(pid).or_default();
                time.blocked += new.blocked;
                time.ready += new.ready;
                time.parked += new.parked;
                time.looks += new.looks;
            }
        }
        let took = thread_cpu().saturating_sub(began);
        self.overhead.ledger().add(Stage::Look, took);
        self.pace.listed(took);
        self.counters.delay.set(self.pace.delay());
        self.tell();
    }

    /// Says once that the budget is too small, and once that it suffices again.
    fn tell(&mut self) {
        let is_off = self.pace.is_off();
        self.counters.available.set(u64::from(!is_off));
        if std::mem::replace(&mut self.is_off, is_off) != is_off {
            match is_off {
                true => tracing::warn!(
                    "perf: the budget pays for less than {} looks at waiting threads in a second: \
                     `off_cpu` is off; allow more with `governor::cpu`",
                    pace::MIN_RATE
                ),
                false => tracing::info!("perf: `off_cpu` is within the budget again"),
            }
        }
    }

    /// Looks at some threads; the moment stands for so many.
    fn look(&mut self, moments: u32) {
        let began = thread_cpu();
        let (is_resting, share) = match (self.threads.active.len(), self.threads.resting.len()) {
            (0, 0) => return,
            (_, 0) => (false, 1.0),
            (0, _) => (true, 1.0),
            _ if self.random.uniform() < RESTING_SHARE => (true, RESTING_SHARE),
            _ => (false, 1.0 - RESTING_SHARE),
        };
        let from = if is_resting { &mut self.threads.resting } else { &mut self.threads.active };
        let all = from.len();
        let some = self.random.choose(from, BATCH);
        let weight = self.pace.weight(moments, all, some.len(), share);
        for id in some {
            let (pid, tid) = id;
            self.counters.looks.add(1);
            let blocked = match look::look(pid, tid, &mut self.buffer) {
                Seen::Blocked(blocked) => blocked,
                Seen::Running | Seen::Nothing => continue,
            };
            self.threads.found(id, weight);
            self.counters.torn.add(u64::from(blocked.is_torn));
            let look = Look { time: now(), pid, tid, weight, blocked };
            // Before it is there: who takes it counts it off.
            let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            if let Err(TrySendError::Full(_)) = self.found.try_send(look) {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                self.counters.lost.add(1);
            }
            if waiting == MAX_WAITING / 2
                && let Some(waker) = &self.waker
            {
                // Who does not wake up now does so at the end of a window.
                let _ = rustix::io::write(&**waker, &1_u64.to_ne_bytes());
            }
        }
        let took = thread_cpu().saturating_sub(began);
        self.overhead.ledger().add(Stage::Look, took);
        self.pace.looked(took);
    }
}
