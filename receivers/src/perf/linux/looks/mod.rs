//! Time that is not spent on a CPU, by looks at threads at random moments.
//!
//! Nothing is traced: however often threads are switched, the looks are as many. A moment is random, and
//! the threads that are looked at then are chosen at random, so that the time a thread is found blocked at
//! a place is in the mean the time that it was blocked there. What a look found is handed on as a
//! sample ([`Look`]), and unwound as samples are; what is known exactly, how long each process was blocked
//! in all, comes beside it ([`Looks::take_times`]).
//!
//! [`mod@look`] is a single look, with what the thread waits for ([`wait`]); [`threads`] are those that there
//! are, [`rights`] whose may be seen; [`pace`] says when. Under a budget, looks take a share of it and become
//! fewer; where that leaves too few, they stop, and it is said.

mod look;
mod pace;
pub(super) mod rights;
mod threads;
pub(super) mod wait;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use crate::perf::linux::runtimes::attached::{Attached, AttachedTable};
use crate::perf::linux::runtimes::join::MAX_LEFT_BEHIND;
use crate::perf::linux::runtimes::memory::ProcessMemory;
use crate::perf::linux::runtimes::reader::{Reading, Seat};
use crate::perf::linux::runtimes::{ManagedThread, Walk};
use crate::perf::linux::thread::{self, now};

pub(super) use self::look::Blocked;
pub(super) use self::threads::ProcessTime;

/// Looks a second, where nothing else is said.
pub(super) const DEFAULT_RATE: u32 = 100;
/// The looks that wait to be unwound.
const MAX_WAITING: usize = 256;
/// How long a look may take before its thread is taken for stuck, in nanoseconds.
const STUCK_NANOS: u64 = 1_000_000_000;
/// How often the end looks whether the thread has ended.
const STOP_PAUSE: Duration = Duration::from_millis(2);
/// How long the stack of a managed program may take, in nanoseconds.
const WALK_NANOS: u64 = 300_000;
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
    /// What a managed program was in there.
    pub(super) reading: Option<Reading>,
}

/// What the thread is started with.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) target: Target,
    /// Looks a second.
    pub(super) rate: u32,
    /// The part of a budget that they may take.
    pub(super) share: f64,
    pub(super) parked: Parked,
    /// The most bytes of a stack.
    pub(super) stack: usize,
    pub(super) overhead: Arc<Overhead>,
    /// Wakes who unwinds, where many looks wait.
    pub(super) waker: Option<Arc<OwnedFd>>,
    /// The processes whose runtime is understood.
    pub(super) attached: Option<Arc<AttachedTable>>,
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
    seat: Seat,
}

/// The thread that looks, and what it has found.
pub(super) struct Looks {
    setup: Setup,
    found_by: SyncSender<Look>,
    found: Receiver<Look>,
    /// The looks that wait.
    waiting: Arc<AtomicUsize>,
    /// The next of them.
    next: Option<Look>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Processes whose memory has kept a thread: they are not looked at again.
    barred: Vec<u32>,
}

impl Looks {
    /// Starts to look.
    pub(super) fn start(setup: Setup) -> std::io::Result<Self> {
        let (found_by, found) = sync_channel(MAX_WAITING);
        let mut looks = Self {
            setup,
            found_by,
            found,
            waiting: Arc::default(),
            next: None,
            shared: Arc::default(),
            thread: None,
            barred: Vec::new(),
        };
        looks.spawn()?;
        Ok(looks)
    }

    fn spawn(&mut self) -> std::io::Result<()> {
        self.shared = Arc::default();
        let setup = self.setup.clone();
        let allowed = setup.overhead.limits().map(|limits| setup.share * limits.cpu);
        let looker = Looker {
            found: self.found_by.clone(),
            waiting: Arc::clone(&self.waiting),
            shared: Arc::clone(&self.shared),
            barred: self.barred.clone(),
            threads: Threads::new(setup.target, setup.parked),
            pace: Pace::new(setup.rate, allowed),
            random: Random::new(now()),
            buffer: vec![0; setup.stack],
            walk: Walk::default(),
            overhead: setup.overhead,
            waker: setup.waker,
            attached: setup.attached,
            counters: setup.counters,
            is_off: false,
        };
        let thread =
            std::thread::Builder::new().name("perf-look".into()).spawn(move || looker.run())?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Leaves a thread behind that the memory of a process keeps from going on, and starts another, which
    /// does not look there; not more than a few times.
    pub(super) fn replace_stuck(&mut self) {
        let Some(process) = self.shared.seat.stuck(STUCK_NANOS).filter(|_| self.thread.is_some())
        else {
            return;
        };
        self.shared.seat.leave();
        self.thread = None;
        self.barred.push(process);
        tracing::warn!(
            "perf: reading the memory of process {process} does not end; it is not looked at from now on"
        );
        if self.barred.len() >= MAX_LEFT_BEHIND as usize || self.spawn().is_err() {
            self.setup.counters.available.set(0);
            tracing::warn!(
                "perf: processes have kept the threads that look at them: no `off_cpu` any more"
            );
        }
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
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(look)
    }

    /// How processes, by their pids, have spent their time since this was asked last.
    pub(super) fn take_times(&self) -> HashMap<u32, ProcessTime> {
        std::mem::take(&mut *self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks no more; the times are those until now.
    pub(super) fn stop(&mut self) {
        self.shared.seat.leave();
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // It ends within a listing, unless memory keeps it: then it is left behind.
        let deadline = now() + STUCK_NANOS;
        while !thread.is_finished() && now() < deadline {
            std::thread::sleep(STOP_PAUSE);
        }
        if thread.is_finished() {
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
    waiting: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    barred: Vec<u32>,
    threads: Threads,
    pace: Pace,
    random: Random,
    buffer: Vec<u8>,
    walk: Walk,
    overhead: Arc<Overhead>,
    waker: Option<Arc<OwnedFd>>,
    attached: Option<Arc<AttachedTable>>,
    counters: Counters,
    is_off: bool,
}

impl Looker {
    fn run(mut self) {
        self.shared.seat.take();
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
        self.shared.seat.is_left()
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

    /// Looks at a thread; with what its runtime is, if that has frames of its own there.
    fn look_at(&mut self, pid: u32, tid: u32) -> (Seen, Option<Arc<Attached>>) {
        let attached = self.attached.as_ref().and_then(|table| {
            let attached = Arc::clone(table.current().get(&pid)?);
            // Of a nested process the runtime knows its threads by other numbers.
            let is_readable = !attached.is_nested && !attached.barred.load(Ordering::Relaxed);
            is_readable.then_some(attached)
        });
        let walk = &mut self.walk;
        let mut is_walked = false;
        let seen = look::look(pid, tid, &mut self.buffer, || {
            let runtime = attached.as_ref().and_then(|attached| attached.runtime.heap());
            let Some(runtime) = runtime else { return };
            walk.restart(now() + WALK_NANOS);
            let mut thread = ManagedThread { tid, state: None };
            let found = runtime.walk(&mut thread, &mut ProcessMemory::of(pid), walk);
            is_walked = found == Ok(true);
        });
        (seen, attached.filter(|_| is_walked))
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
            if self.barred.contains(&pid) {
                continue;
            }
            self.counters.looks.add(1);
            self.shared.seat.begin(pid, now());
            let (seen, attached) = self.look_at(pid, tid);
            self.shared.seat.end();
            let blocked = match seen {
                Seen::Blocked(blocked) => blocked,
                Seen::Running | Seen::Nothing => continue,
            };
            self.threads.found(id, weight);
            self.counters.torn.add(u64::from(blocked.is_torn));
            let time = now();
            let reading = attached.filter(|_| !blocked.is_torn).map(|attached| Reading {
                time,
                tid,
                attached,
                frames: self.walk.frames.as_slice().into(),
                truncated: self.walk.truncated,
            });
            let look = Look { time, pid, tid, weight, blocked, reading };
            // Before it is there: who takes it counts it off.
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            if let Err(TrySendError::Full(_)) = self.found.try_send(look) {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn counter() -> Counter {
        Counter::default()
    }

    fn setup() -> Setup {
        Setup {
            target: Target::Tree(std::process::id()),
            rate: 100,
            share: 0.25,
            parked: Parked::Keep,
            stack: 4096,
            overhead: Arc::default(),
            waker: None,
            attached: None,
            counters: Counters {
                looks: counter(),
                torn: counter(),
                lost: counter(),
                delay: counter(),
                available: counter(),
            },
        }
    }

    /// Scenario: the memory of one process after another keeps the thread that looks.
    /// Guarantees: each time it is left behind and another takes its place, which does not look there, but not
    /// for ever; one that is not stuck is left alone; the end does not wait for any of them.
    #[test]
    fn a_stuck_look_is_left_behind() {
        let mut looks = Looks::start(setup()).unwrap();
        looks.replace_stuck();
        assert!(looks.thread.is_some() && looks.barred.is_empty());
        for process in 1..=MAX_LEFT_BEHIND {
            let before = Arc::clone(&looks.shared);
            // It is found waiting once it has begun, and looks itself now and then.
            for _ in 0..10_000 {
                before.seat.begin(process, now() - STUCK_NANOS - 1);
                looks.replace_stuck();
                if before.seat.is_left() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(before.seat.is_left());
            assert_eq!(looks.barred.len() as u32, process);
            assert_eq!(looks.thread.is_some(), process < MAX_LEFT_BEHIND);
        }
        looks.stop();
        assert_eq!(looks.next_time(), None);
    }
}
