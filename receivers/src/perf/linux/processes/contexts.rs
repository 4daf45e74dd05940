//! The thread that reads process contexts, and what is known of them.
//!
//! Reading the memory of a process can take for ever: the memory may lie in a file system that a
//! program serves, or be filled on demand by the process itself. So a thread of its own does it,
//! and whoever asks never waits. A thread that got stuck is left behind and another started, a few
//! times; then no more contexts are read.
//!
//! A process is looked at when its first sample comes, and again at ends of windows, ever more
//! rarely until a context is found: an SDK starts later than its program. Once found, only its
//! header is read again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use profpipe_engine::overhead::{Overhead, Stage, Work};
use profpipe_engine::telemetry::{Counter, Metrics};
use profpipe_host::proc::{self, Stat};
use profpipe_profile::{KeyValue, Resource};

use super::process_context::{self, ContextReading, Memory, Rejection};
use crate::perf::linux::handoff::ProcessFacts;
use crate::perf::linux::thread;

/// The requests that wait for the thread; what is too much is asked in another window.
const MAX_REQUESTS: usize = 4096;
/// The most of `/proc/PID/maps` that is read: some ten thousand mappings.
const MAX_MAPS: u64 = 4 << 20;
/// Windows between two looks for a context that is not there, at most.
const MAX_PAUSE_WINDOWS: u64 = 64;
/// How often the context of a process may change before it is not read any more: every change
/// makes a new resource.
const MAX_CHANGES: u32 = 16;
/// Looks for a context a second, where there are many new processes, and how many at once: to look
/// is to read all of a process's mappings.
const LOOKS_PER_SECOND: f64 = 10.0;
/// How many of them at once.
const MAX_LOOKS: f64 = 512.0;
/// After how long without a response the thread is taken for stuck.
const STUCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How many threads are left behind before no more are started.
const MAX_STUCK_THREADS: u32 = 3;

/// Contexts that were read and used.
const READ: &str = "profpipe_perf_process_contexts_total";
/// What had the name of a context and was none, by reason.
const REFUSED: &str = "profpipe_perf_process_contexts_refused_total";
/// Threads that got stuck in the memory of a process.
const STUCK_THREADS: &str = "profpipe_perf_process_contexts_stuck_total";
/// CPU time of the thread in nanoseconds.
const CONTEXT_CPU: &str = "profpipe_perf_context_cpu_nanoseconds";

/// What counts.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    read: Counter,
    refused: [Counter; Rejection::ALL.len()],
    stuck: Counter,
    cpu: Counter,
}

impl Counters {
    /// The counters of a receiver.
    pub(crate) fn new(metrics: &Metrics, id: &str) -> Self {
        let refused =
            |reason: Rejection| metrics.labelled(REFUSED, id, &[("reason", reason.label())]);
        Self {
            read: metrics.counter(READ, id),
            refused: Rejection::ALL.map(refused),
            stuck: metrics.counter(STUCK_THREADS, id),
            cpu: metrics.counter(CONTEXT_CPU, id),
        }
    }

    fn refuse(&self, reason: Rejection) {
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.add(1);
        }
    }
}

/// The contexts of processes, by our number for them.
#[derive(Debug)]
pub(crate) struct Contexts {
    counters: Counters,
    /// The name of services is given by the configuration.
    fixed: bool,
    state: HashMap<u32, ContextState>,
    thread: Option<Thread>,
    overhead: Arc<Overhead>,
    stuck: u32,
    /// Looks that are allowed now, and when that was counted.
    looks: f64,
    counted: Instant,
}

#[derive(Debug)]
struct Thread {
    requests: SyncSender<ContextRequest>,
    responses: Receiver<ContextResponse>,
    /// Questions without a response, and when the last response came or the first request went.
    open: usize,
    since: Instant,
    /// It waits for its turn.
    waits: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct ContextState {
    pid: u32,
    start_time: u64,
    /// Where the header is, and when it was published.
    place: Option<(u64, u64)>,
    attributes: Vec<KeyValue>,
    changes: u32,
    asked: bool,
    /// The window of the next look, and the pause after it.
    next: u64,
    pause: u64,
}

#[derive(Debug)]
struct ContextRequest {
    process: u32,
    pid: u32,
    start_time: u64,
    place: Option<(u64, u64)>,
}

#[derive(Debug)]
struct ContextResponse {
    process: u32,
    /// Where the header is.
    address: u64,
    found: Option<ContextReading>,
}

impl Contexts {
    /// Starts the thread.
    pub(crate) fn start(counters: Counters, fixed: bool, overhead: Arc<Overhead>) -> Self {
        let thread = Thread::start(counters.cpu.clone(), &overhead);
        Self {
            counters,
            fixed,
            state: HashMap::new(),
            thread,
            overhead,
            stuck: 0,
            looks: MAX_LOOKS,
            counted: Instant::now(),
        }
    }

    /// A process has its first sample.
    pub(crate) fn begin(&mut self, facts: &ProcessFacts, window: u64) {
        if facts.kernel {
            return;
        }
        let state = self.state.entry(facts.id).or_insert_with(|| ContextState {
            pid: facts.pid,
            start_time: facts.start_time,
            next: window,
            pause: 1,
            ..ContextState::default()
        });
        state.next = state.next.min(window);
        // Where the sampler itself reads nothing of new processes, there are too many.
        if facts.start_time != 0 {
            self.ask(facts.id, window);
        }
    }

    /// A process had samples in a window that ends: looks again if it is time.
    pub(crate) fn sampled(&mut self, process: u32, window: u64) {
        self.ask(process, window);
    }

    /// Puts what a process says of itself into its resource.
    pub(crate) fn describe(&self, process: u32, resource: &mut Resource) {
        if let Some(state) = self.state.get(&process) {
            process_context::apply(&state.attributes, self.fixed, resource);
        }
    }

    /// Forgets a process.
    pub(crate) fn forget(&mut self, keep: impl Fn(u32) -> bool) {
        self.state.retain(|process, _| keep(*process));
    }

    fn ask(&mut self, process: u32, window: u64) {
        let Some(state) = self.state.get_mut(&process) else { return };
        let Some(thread) = &mut self.thread else { return };
        if state.asked || window < state.next || state.changes >= MAX_CHANGES {
            return;
        }
        if state.place.is_none() {
            let now = Instant::now();
            let earned =
                now.saturating_duration_since(self.counted).as_secs_f64() * LOOKS_PER_SECOND;
            self.looks = (self.looks + earned).min(MAX_LOOKS);
            self.counted = now;
            if self.looks < 1.0 {
                return;
            }
            self.looks -= 1.0;
        }
        let request = ContextRequest {
            process,
            pid: state.pid,
            start_time: state.start_time,
            place: state.place,
        };
        match thread.requests.try_send(request) {
            Ok(()) => {
                if thread.open == 0 {
                    thread.since = Instant::now();
                }
                thread.open += 1;
                state.asked = true;
                state.next = window.saturating_add(state.pause);
                if state.place.is_none() {
                    state.pause = (state.pause * 2).min(MAX_PAUSE_WINDOWS);
                }
            }
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => self.thread = None,
        }
    }

    /// Takes what the thread has found out; the numbers of processes whose context is new.
    pub(crate) fn receive_all(&mut self) -> Vec<u32> {
        let mut new = Vec::new();
        while let Some(response) =
            self.thread.as_ref().and_then(|thread| thread.responses.try_recv().ok())
        {
            new.extend(self.receive(response));
        }
        let Some(thread) = &mut self.thread else { return new };
        if thread.waits.load(Ordering::Relaxed) {
            thread.since = Instant::now();
        }
        let stuck = thread.open > 0 && thread.since.elapsed() > STUCK_TIMEOUT;
        if stuck {
            self.replace_thread();
        }
        new
    }

    /// Takes a response; the number of the process if its context is new.
    fn receive(&mut self, response: ContextResponse) -> Option<u32> {
        if let Some(thread) = &mut self.thread {
            thread.open = thread.open.saturating_sub(1);
            thread.since = Instant::now();
        }
        let state = self.state.get_mut(&response.process)?;
        state.asked = false;
        match response.found? {
            ContextReading::Context { published, attributes } => {
                state.place = Some((response.address, published));
                state.pause = 1;
                state.changes += 1;
                self.counters.read.add(1);
                if state.attributes != attributes {
                    state.attributes = attributes;
                    return Some(response.process);
                }
            }
            ContextReading::Nothing(refusal) => {
                self.counters.refuse(refusal);
                // Unmapped or mapped elsewhere: it is looked for again. What it said was true.
                state.place = None;
            }
            // Soon again.
            ContextReading::Changing => state.pause = 1,
            ContextReading::Same => {}
        }
        None
    }

    /// Waits a little for responses, asleep.
    pub(crate) fn settle(&mut self, deadline: Instant) -> Vec<u32> {
        let mut new = self.receive_all();
        while let Some(thread) = self.thread.as_ref().filter(|thread| thread.open > 0)
            && let left = deadline.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && let Ok(response) = thread.responses.recv_timeout(left)
        {
            new.extend(self.receive(response));
        }
        new
    }

    fn replace_thread(&mut self) {
        self.counters.stuck.add(1);
        self.stuck += 1;
        if self.stuck >= MAX_STUCK_THREADS {
            tracing::warn!(
                "perf: reading process contexts got stuck {MAX_STUCK_THREADS} times; no more are read"
            );
            self.thread = None;
            return;
        }
        // Which process it was is not known for sure, so all that were asked about are left alone.
        for state in self.state.values_mut().filter(|state| state.asked) {
            state.changes = MAX_CHANGES;
        }
        self.thread = Thread::start(self.counters.cpu.clone(), &self.overhead);
    }
}

impl Thread {
    fn start(cpu: Counter, overhead: &Arc<Overhead>) -> Option<Self> {
        let (requests, inbox) = sync_channel(MAX_REQUESTS);
        let (outbox, responses) = channel();
        let waits = Arc::<AtomicBool>::default();
        let (waiting, overhead) = (Arc::clone(&waits), Arc::clone(overhead));
        let run = move || work(&inbox, &outbox, &cpu, &waiting, &overhead);
        // Without the thread there are no contexts, and everything else is as it was.
        std::thread::Builder::new().name("perf-contexts".into()).spawn(run).ok()?;
        Some(Self { requests, responses, open: 0, since: Instant::now(), waits })
    }
}

fn work(
    requests: &Receiver<ContextRequest>,
    responses: &Sender<ContextResponse>,
    cpu: &Counter,
    waits: &AtomicBool,
    overhead: &Arc<Overhead>,
) {
    while let Ok(request) = requests.recv() {
        let process = request.process;
        waits.store(true, Ordering::Relaxed);
        let _counted = Work::in_turn(overhead, Stage::Discover);
        waits.store(false, Ordering::Relaxed);
        let (address, found) = look(&request).map_or((0, None), |(at, found)| (at, Some(found)));
        if responses.send(ContextResponse { process, address, found }).is_err() {
            return;
        }
        cpu.set(thread::thread_cpu_time());
    }
}

/// Looks for the context of a process; nothing if it has none or is not the process meant.
fn look(request: &ContextRequest) -> Option<(u64, ContextReading)> {
    let ContextRequest { pid, start_time, place, .. } = *request;
    let is_same = || {
        let stat = Stat::read(pid)?;
        (start_time == 0 || stat.start_time == start_time).then_some(())
    };
    is_same()?;
    let addresses = match place {
        Some((address, _)) => vec![address],
        None => process_context::candidates(&proc::text(pid, "maps", MAX_MAPS)?),
    };
    if addresses.is_empty() {
        return None;
    }
    let state = place.map(|(_, published)| published);
    let Ok(file) = File::open(format!("/proc/{pid}/mem")) else {
        return Some((0, ContextReading::Nothing(Rejection::Unreadable)));
    };
    let mut memory = OtherMemory(file);
    let mut last = None;
    for address in addresses {
        let found = process_context::read(&mut memory, address, state);
        let is_context = !matches!(found, ContextReading::Nothing(_));
        last = Some((address, found));
        if is_context {
            break;
        }
    }
    // The descriptor shows the memory of the process that had the id when it was opened.
    is_same()?;
    last
}

/// The memory of another process.
struct OtherMemory(File);

impl Memory for OtherMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        self.0.read_exact_at(into, address).is_ok()
    }
}
