//! The readers: one thread for each CPU, which reads the stack of a managed program at the instant of
//! its sample.
//!
//! A sample wakes the reader of its CPU there, before the thread that was sampled can go on, so that
//! ordinary reads of its memory show what it was doing. That nothing has changed since the sample is
//! not taken for granted: see [`evidence`]. A reader follows the ring with a place of its own and
//! gives nothing back; what it finds goes to the drain thread, which looks it up by CPU and time.
//!
//! [`seats`] starts the readers, and replaces one that a process keeps from going on.

pub(crate) mod evidence;
pub(crate) mod seats;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use profpipe_engine::overhead::Stage;
use ringbuf::HeapProd;
use ringbuf::traits::Producer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attached::{Attached, Processes, Versioned};
use super::discovery::{Discovery, Request, Shared, inner_id};
use super::function::FunctionKey;
use super::memory::ProcessMemory;
use super::{ManagedFrame, ManagedThread, Refusal, Walk};
use crate::perf::linux::events::sys::Attr;
use crate::perf::linux::records::record::{self, Layouts, Record, Sample};
use crate::perf::linux::records::ring::Follower;
use crate::perf::linux::thread::{self, Precedence, now, thread_cpu_time};
use evidence::{Count, Evidence};

/// How long one walk may take, in nanoseconds.
const WALK_NANOS: u64 = 300_000;
/// How often a reader looks whether it is still wanted.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// The most threads whose place is remembered, and the most functions whose name was asked for.
const MAX_REMEMBERED: usize = 8192;
/// The most threads that are counted, with a descriptor each.
const MAX_COUNTS: usize = 256;
/// How long it is remembered that a name was asked for, in nanoseconds.
const ASKED_NANOS: u64 = 10_000_000_000;

/// What a reader has seen of a sample.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The time of the sample, and whose it is.
    pub(crate) time: u64,
    pub(crate) tid: u32,
    pub(crate) attached: Arc<Attached>,
    /// The frames, leaf first, and whether there are more.
    pub(crate) frames: Box<[ManagedFrame]>,
    pub(crate) truncated: bool,
}

/// A reader as others see it.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// The process whose memory is being read, and since when; 0 if none is.
    process: AtomicU32,
    since: AtomicU64,
    /// The number of its thread.
    thread: AtomicU32,
    /// It is not wanted any more.
    left: AtomicBool,
    /// Its CPU time.
    cpu_time: AtomicU64,
}

/// What a reader is started with.
pub(crate) struct Setup {
    pub(crate) cpu: u32,
    /// The event that has the ring.
    pub(crate) event: OwnedFd,
    pub(crate) ring: Follower,
    /// What counts of a thread what the clock does.
    pub(crate) counting: Attr,
    /// How its records are to be read.
    pub(crate) layouts: Arc<Versioned<Layouts>>,
    pub(crate) readings: HeapProd<Reading>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) shared: Shared,
    pub(crate) discovery: Discovery,
}

/// Runs until it is not wanted.
pub(crate) fn run(setup: Setup) {
    if !thread::pin(setup.cpu) {
        tracing::debug!(cpu = setup.cpu, "no reader on this CPU");
        return;
    }
    let precedence = thread::run_at_once();
    setup.seat.take();
    tracing::debug!(cpu = setup.cpu, ?precedence, "reading managed stacks");
    let Setup { event, mut ring, layouts, counting, readings, seat, shared, discovery, .. } = setup;
    let (mut known, mut version) = (layouts.current(), 0);
    let mut reader = Reader {
        precedence,
        readings,
        seat,
        processes: shared.table.current(),
        version: 0,
        shared,
        discovery,
        threads: HashMap::new(),
        counts: HashMap::new(),
        counting,
        asked: HashSet::new(),
        forgotten: now(),
        walk: Walk::default(),
        again: Vec::new(),
    };
    let mut bytes = Vec::new();
    let mut cpu_time = 0;
    while !reader.seat.is_left() {
        let mut watched = [PollFd::new(&event, PollFlags::IN)];
        // An interruption or an error makes this round early, no more.
        let _ = poll(&mut watched, Some(&LOOK_INTERVAL));
        reader.shared.table.renew(&mut reader.processes, &mut reader.version);
        layouts.renew(&mut known, &mut version);
        loop {
            let processes = &reader.processes;
            let is_wanted = |start: &[u8]| {
                let attached = record::sampled_process(start).and_then(|pid| processes.get(&pid));
                attached.is_some_and(|attached| attached.runtime.heap().is_some())
            };
            if !ring.next(&mut bytes, is_wanted) {
                break;
            }
            if let Ok(Record::Sample(sample)) = record::parse(&bytes, &known) {
                reader.sample(&sample);
            }
        }
        let spent = thread_cpu_time();
        reader.seat.cpu_time.store(spent, Ordering::Relaxed);
        // Nothing that another thread could hold is waited for.
        reader.shared.overhead.ledger().add(Stage::Drain, spent - cpu_time);
        cpu_time = spent;
    }
}

struct Reader {
    precedence: Precedence,
    readings: HeapProd<Reading>,
    seat: Arc<Seat>,
    shared: Shared,
    discovery: Discovery,
    processes: Arc<Processes>,
    version: u64,
    /// Where the runtime has threads, by process and thread.
    threads: HashMap<(u32, u32), ManagedThread>,
    /// How long threads have run on this CPU, where that is needed as evidence.
    counts: HashMap<(u32, u32), Option<Count>>,
    counting: Attr,
    /// Functions whose name was asked for, and when that was last forgotten.
    asked: HashSet<FunctionKey>,
    forgotten: u64,
    walk: Walk,
    /// Room to read a stack again.
    again: Vec<u8>,
}

impl Reader {
    fn sample(&mut self, sample: &Sample<'_>) {
        let Some(attached) = self.processes.get(&sample.pid).map(Arc::clone) else { return };
        if attached.barred.load(Ordering::Relaxed) || sample.registers.is_none() {
            return;
        }
        match self.read(sample, &attached) {
            Ok(true) => {
                let counters = &self.shared.counters;
                counters.accepted.add(1);
                counters.truncated.add(u64::from(self.walk.truncated));
                self.ask_for_names(&attached);
            }
            Ok(false) => {
                self.shared.counters.none.add(1);
                self.walk.restart(0);
            }
            Err(refusal) => return self.shared.counters.refuse(refusal),
        }
        let reading = Reading {
            time: sample.time,
            tid: sample.tid,
            attached,
            frames: self.walk.frames.as_slice().into(),
            truncated: self.walk.truncated,
        };
        // Without room it is a sample that no reader has answered for.
        let _ = self.readings.try_push(reading);
    }

    /// Reads the stack of a sample into `self.walk`; false if the thread runs nothing of the runtime.
    fn read(&mut self, sample: &Sample<'_>, attached: &Attached) -> Result<bool, Refusal> {
        let began = now();
        if self.threads.len() >= MAX_REMEMBERED {
            self.threads.clear();
        }
        let (pid, tid) = (sample.pid, sample.tid);
        let thread = self.threads.entry((attached.process, tid)).or_insert_with(|| {
            let status = || inner_id(&format!("/proc/{pid}/task/{tid}/status"));
            let inner = if attached.is_nested { status() } else { None };
            ManagedThread { tid: inner.unwrap_or(tid), state: None }
        });
        // A reader that runs before all others is not late.
        let counts = sample.count.is_some() && self.precedence != Precedence::RealTime;
        if counts && self.counts.len() >= MAX_COUNTS {
            self.counts.clear();
        }
        let (attr, cpu) = (&self.counting, sample.cpu);
        let count = counts
            .then(|| {
                let open = || Count::open(attr, tid, cpu);
                self.counts.entry((attached.process, tid)).or_insert_with(open).as_mut()
            })
            .flatten();
        let evidence = Evidence::begin(self.precedence, sample, count.as_deref(), began)?;
        let mut memory = ProcessMemory::of(pid);
        self.seat.begin(attached.process, began);
        self.walk.restart(began + WALK_NANOS);
        let runtime = attached.runtime.heap();
        let walked = runtime.map_or(Ok(false), |it| it.walk(thread, &mut memory, &mut self.walk));
        let proven = walked.and_then(|found| {
            evidence.check(sample, count, &mut memory, &mut self.again)?;
            Ok(found)
        });
        self.seat.end();
        proven
    }

    /// Has the names read of functions that were not seen before: the process may end any time.
    fn ask_for_names(&mut self, attached: &Arc<Attached>) {
        let time = now();
        if time > self.forgotten + ASKED_NANOS || self.asked.len() >= MAX_REMEMBERED {
            self.asked.clear();
            self.forgotten = time;
        }
        for frame in self.walk.frames.iter().filter(|frame| frame.code != 0) {
            let key =
                FunctionKey { process: attached.process, code: frame.code, cookie: frame.cookie };
            if !self.asked.contains(&key) {
                let request = Request::Name { attached: Arc::clone(attached), key };
                if !self.discovery.ask(request) {
                    return;
                }
                self.asked.insert(key);
            }
        }
    }
}

impl Seat {
    /// Takes it for the thread that calls this.
    pub(crate) fn take(&self) {
        self.thread.store(thread::id(), Ordering::Relaxed);
    }

    /// The memory of a process is read from now on.
    pub(crate) fn begin(&self, process: u32, time: u64) {
        self.process.store(process, Ordering::Relaxed);
        self.since.store(time, Ordering::Release);
    }

    /// That has ended.
    pub(crate) fn end(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// Its thread is not wanted any more.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether that is so.
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// The process that has kept the reader for longer than this.
    pub(crate) fn stuck(&self, longest: u64) -> Option<u32> {
        let since = self.since.load(Ordering::Acquire);
        let is_long = since != 0 && now().saturating_sub(since) > longest;
        // On a crowded CPU it may have had no turn: that is not the doing of the process.
        let is_stuck = is_long && thread::is_waiting(self.thread.load(Ordering::Relaxed));
        is_stuck.then(|| self.process.load(Ordering::Relaxed))
    }
}
