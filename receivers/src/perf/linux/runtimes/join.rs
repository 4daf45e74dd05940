//! What the drain thread does about managed programs: has runtimes looked for, keeps readers going
//! while there is something to read, and joins what they have seen with samples.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use profpipe_engine::overhead::Overhead;
use profpipe_engine::telemetry::Metrics;

use super::Refusal;
use super::attached::{Attached, AttachedTable};
use super::counters::Counters;
use super::discovery::{Discovery, MappedFile, Request, Shared};
use super::function::{FunctionKey, Functions};
use super::native::NativeStack;
use super::reader::Reading;
use super::reader::evidence::MAX_COUNTED_LATENCY;
use super::reader::seats::Seats;
use super::walks::Walks;
use crate::perf::linux::events::session::Session;
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::processes::host::ThisHost;
use crate::perf::linux::processes::process::{Process, Processes};
use crate::perf::linux::records::record::{Layouts, Sample};
use crate::perf::linux::thread::now;
use crate::perf::linux::unwind::Unwinding;
use crate::perf::linux::unwind::splice::{Folded, ManagedStack, SplicedFrame};

/// How long a process is left alone after it was looked at without success, in nanoseconds, at first
/// and at most.
const FIRST_PAUSE: u64 = 8_000_000;
/// See there.
const LONGEST_PAUSE: u64 = 60_000_000_000;
/// A runtime may take a while to begin: so often the pauses are short, at most so long in nanoseconds.
const EARLY_TRIES: u32 = 32;
/// See there.
const EARLY_PAUSE: u64 = 64_000_000;
/// How long rounds are short when a new process was seen, and how short.
const HURRY_NANOS: u64 = 150_000_000;
/// See there.
const SHORT_ROUND: Duration = Duration::from_millis(5);
/// How long readers are kept when there is nothing to read.
const IDLE_NANOS: u64 = 20_000_000_000;
/// How many threads are left behind in the memory of processes before no more are started.
pub(crate) const MAX_LEFT_BEHIND: u32 = 3;
/// How long names and layouts may take to be read, in nanoseconds.
const LONGEST_DISCOVERY: u64 = 2_000_000_000;
/// How long it is remembered that a name was asked for, in nanoseconds.
const ASKED_NANOS: u64 = 10_000_000_000;
/// The most functions of waiting threads that are remembered to have been asked for.
const MAX_ASKED: usize = 8192;
/// The most processes whose looks are remembered.
const MAX_TRIED: usize = 32_768;

/// The managed programs of a session.
pub(crate) struct Managed {
    shared: Shared,
    /// None when too many threads were left behind.
    discovery: Option<Discovery>,
    seats: Seats,
    walks: Walks,
    tried: HashMap<u32, Tried>,
    left_behind: u32,
    /// The runtimes' own frames are shown.
    internals: bool,
    /// Since when there is nothing to read; 0 if there is something.
    idle: u64,
    /// Until when rounds are short, so that little of a new program is missed; not within a budget.
    hurried: u64,
    /// The frames of the reading at hand.
    frames: Vec<SplicedFrame>,
    /// Functions of waiting threads whose names were asked for.
    asked: HashSet<FunctionKey>,
    /// When they were forgotten last.
    forgotten: u64,
}

/// When a process is looked at again.
#[derive(Debug, Clone, Copy)]
struct Tried {
    /// The mappings that it had.
    mappings: usize,
    next: u64,
    pause: u64,
    /// How often it was looked at.
    tries: u32,
}

impl Managed {
    /// Starts looking; none if there is no thread for it.
    pub(crate) fn start(
        metrics: &Metrics,
        id: &str,
        overhead: &Arc<Overhead>,
        internals: bool,
    ) -> Option<Self> {
        let shared = Shared {
            table: Arc::<AttachedTable>::default(),
            functions: Arc::<Functions>::default(),
            native: Arc::default(),
            code_reads: Arc::default(),
            counters: Counters::new(metrics, id),
            overhead: Arc::clone(overhead),
        };
        let discovery = Discovery::start(&shared).ok()?;
        Some(Self {
            shared,
            discovery: Some(discovery),
            seats: Seats::default(),
            walks: Walks::default(),
            tried: HashMap::new(),
            left_behind: 0,
            internals,
            idle: now(),
            hurried: if overhead.is_governed() { 0 } else { now() + HURRY_NANOS },
            frames: Vec::new(),
            asked: HashSet::new(),
            forgotten: now(),
        })
    }

    /// The functions whose names were read, and what counts.
    pub(crate) fn names(&self) -> (Arc<Functions>, Counters) {
        (Arc::clone(&self.shared.functions), self.shared.counters.clone())
    }

    /// The processes whose runtime is understood, as they come and go.
    pub(crate) fn attached(&self) -> Arc<AttachedTable> {
        Arc::clone(&self.shared.table)
    }

    /// Has the names read of functions in what was seen of a thread that waits.
    pub(crate) fn ask_for_names(&mut self, reading: &Reading) {
        let Some(discovery) = &self.discovery else { return };
        if self.asked.len() >= MAX_ASKED {
            self.asked.clear();
        }
        for frame in reading.frames.iter().filter(|frame| frame.code != 0) {
            let process = reading.attached.process;
            let key = FunctionKey { process, code: frame.code, cookie: frame.cookie };
            if !self.asked.contains(&key) {
                let attached = Arc::clone(&reading.attached);
                if discovery.ask(Request::Name { attached, key }) {
                    self.asked.insert(key);
                }
            }
        }
    }

    /// How much younger than now a sample may be whose reading may still come, in nanoseconds, where
    /// the rings have room for so much time.
    pub(crate) fn horizon(&self, session: &Session) -> u64 {
        let room = session.slack().as_nanos() as u64 / 3;
        let counts = self.seats.are_taken() && session.choices.counts_threads();
        let counted = if counts { MAX_COUNTED_LATENCY.min(room) } else { 0 };
        let time = now();
        counted.max(time.saturating_sub(self.walks.verified(time)).min(room))
    }

    /// How often code was read: samples that were put off for it may be tried again.
    pub(crate) fn responses(&self) -> u64 {
        self.shared.code_reads.load(Ordering::Acquire)
    }

    /// The runtime of a process that has its frames on the native stack.
    pub(crate) fn native(&mut self, process: &Process) -> Option<Arc<Attached>> {
        self.walks.attached(&self.shared.table, (process.pid, process.id))
    }

    /// The same as the walk of a stack has to know it.
    pub(crate) fn native_stack<'a>(&self, attached: &'a Attached) -> Option<NativeStack<'a>> {
        let runtime = &*attached.runtime.native()?.runtime;
        Some(NativeStack { runtime, image: attached.image, internals: self.internals })
    }

    /// Notes what the walk of a stack lacks.
    pub(crate) fn walked(&mut self, attached: &Arc<Attached>, unwinding: &Unwinding) {
        self.walks.sampled(attached, &unwinding.wants);
    }

    /// Gives the frames of a stack that was walked their rows.
    pub(crate) fn place(
        &mut self,
        attached: &Arc<Attached>,
        unwinding: &mut Unwinding,
        host: &mut ThisHost,
    ) {
        let frames = (unwinding.frames.as_mut_slice(), unwinding.sites.as_slice());
        self.walks.place(frames, attached, host, self.discovery.as_ref());
    }

    /// Has the code read that was needed.
    pub(crate) fn read_code(&mut self) {
        self.walks.end_round(self.discovery.as_ref());
    }

    /// How long a round may be that may last for `time`.
    pub(crate) fn round(&self, time: Duration) -> Duration {
        if now() < self.hurried { time.min(SHORT_ROUND) } else { time }
    }

    /// What a reader has seen of a sample.
    pub(crate) fn reading(&mut self, sample: &Sample<'_>) -> Option<Reading> {
        self.seats.reading(sample.cpu, sample.tid, sample.time)
    }

    /// Has a process that was sampled looked at, unless that was done lately.
    pub(crate) fn sampled(&mut self, process: &Process, host: &ThisHost) {
        let Some(discovery) = &self.discovery else { return };
        if process.kernel {
            return;
        }
        let mappings = process.mappings_known();
        let time = now();
        if let Some(tried) = self.tried.get(&process.id)
            && (time < tried.next && tried.mappings == mappings)
        {
            return;
        }
        let attached = self.shared.table.current();
        let is_attached = attached.get(&process.pid).is_some_and(|it| it.process == process.id);
        let native = self.shared.native.current();
        let is_native = |image: ImageIx| {
            let has_file = host.images.get(image).is_some_and(|image| image.file.is_some());
            !has_file || native.contains(&image)
        };
        if is_attached || (!process.is_hasty() && process.images().all(is_native)) {
            // Another one would come with new mappings.
            self.tried.insert(
                process.id,
                Tried { mappings, next: u64::MAX, pause: LONGEST_PAUSE, tries: 0 },
            );
            return;
        }
        let mut files: Vec<MappedFile> = Vec::new();
        for (image, bias) in process.image_places() {
            if let Some(known) = host.images.get(image)
                && let Some(file) = &known.file
                && files.iter().all(|file| file.image != image)
            {
                files.push(MappedFile { image, file: Arc::clone(file), bias });
            }
        }
        let (pid, start_time) = (process.pid, process.start_time);
        let request = Request::Find { process: process.id, pid, start_time, files };
        if !discovery.ask(request) {
            return;
        }
        if self.tried.len() >= MAX_TRIED {
            self.tried.clear();
        }
        let tried = self.tried.get(&process.id).copied();
        if tried.is_none() && !self.shared.overhead.is_governed() {
            self.hurried = time + HURRY_NANOS;
        }
        let (pause, tries) = tried.map_or((FIRST_PAUSE, 0), |tried| (tried.pause, tried.tries));
        let next = time.saturating_add(pause);
        let longest = if tries < EARLY_TRIES { EARLY_PAUSE } else { LONGEST_PAUSE };
        let (pause, tries) = ((pause * 2).min(longest), tries.saturating_add(1));
        self.tried.insert(process.id, Tried { mappings, next, pause, tries });
    }

    /// Prepares the frames of a reading; the stack that they are, if it is of this process.
    pub(crate) fn stack<'a>(
        &'a mut self,
        reading: &'a Reading,
        process: u32,
        host: &mut ThisHost,
    ) -> Option<ManagedStack<'a>> {
        let attached = &reading.attached;
        if attached.process != process || reading.frames.is_empty() {
            return None;
        }
        let kind = attached.runtime.frame_type();
        self.frames.clear();
        self.frames.extend(reading.frames.iter().map(|frame| {
            let key = FunctionKey { process, code: frame.code, cookie: frame.cookie };
            SplicedFrame {
                frame: (frame.code != 0).then(|| host.managed_frame(key, kind, frame.position)),
                ends_loop: frame.ends_loop,
            }
        }));
        Some(ManagedStack {
            frames: &self.frames,
            image: attached.image,
            loops: &attached.loops,
            folded: match (self.internals, attached.is_alone) {
                (true, _) => Folded::Nothing,
                (false, true) => Folded::Image,
                (false, false) => Folded::Loops,
            },
            truncated: reading.truncated,
        })
    }

    /// Counts a sample, of a managed program or not: whether it was read, and whether what was read
    /// did not fit.
    pub(crate) fn count(&self, pid: u32, is_read: bool, is_mismatched: bool) {
        self.shared.counters.mismatched.add(u64::from(is_mismatched));
        let is_for_readers = |attached: &Arc<Attached>| attached.runtime.heap().is_some();
        if !is_read
            && self.seats.are_taken()
            && self.shared.table.current().get(&pid).is_some_and(is_for_readers)
        {
            self.shared.counters.unread.add(1);
        }
    }

    /// Ends a round: forgets processes that are gone, starts and ends readers, and replaces what a
    /// process keeps from going on.
    pub(crate) fn end_round(
        &mut self,
        session: &mut Session,
        layouts: &Layouts,
        processes: &Processes,
    ) {
        let table = Arc::clone(&self.shared.table);
        table.retain(|attached| processes.id_of(attached.pid) == Some(attached.process));
        if self.tried.len() > 2 * processes.len() + 64 {
            let known: HashSet<u32> = processes.iter().map(|it| it.id).collect();
            self.tried.retain(|process, _| known.contains(process));
        }
        if time_passed(&mut self.forgotten) {
            // Names that nothing has used for long are forgotten elsewhere.
            self.asked.clear();
            self.walks.ask_again();
        }
        self.read_code();
        self.leave_stuck();
        let attached = table.current();
        let counters = &self.shared.counters;
        counters.processes.set(attached.len() as u64);
        counters.reader_cpu.set(self.seats.cpu_time());
        let is_read =
            |it: &Attached| it.runtime.heap().is_some() && !it.barred.load(Ordering::Relaxed);
        let is_of_use = attached.values().any(|it| is_read(it));
        let time = now();
        match (is_of_use, &self.discovery) {
            (true, Some(discovery)) => {
                self.idle = 0;
                session.set_wakeups(true);
                if session.has_wakeups() {
                    self.seats.fill((session, layouts), &self.shared, discovery);
                }
            }
            _ if self.seats.are_taken() => {
                self.idle = if self.idle == 0 { time } else { self.idle };
                if time > self.idle + IDLE_NANOS || self.discovery.is_none() {
                    self.seats.clear();
                    session.set_wakeups(false);
                }
            }
            _ => {}
        }
    }

    fn leave_stuck(&mut self) {
        let mut stuck = self.seats.leave_stuck();
        if let Some(discovery) = &self.discovery
            && let Some(process) = discovery.stuck(LONGEST_DISCOVERY)
        {
            stuck.push(process);
            self.discovery = None;
        }
        if stuck.is_empty() {
            return;
        }
        for attached in self.shared.table.current().values() {
            if stuck.contains(&attached.process) {
                attached.barred.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "perf: reading the memory of process {} does not end; its stacks are native from \
                     now on",
                    attached.pid
                );
            }
        }
        self.shared.counters.blocked.add(stuck.len() as u64);
        self.left_behind += stuck.len() as u32;
        if self.left_behind >= MAX_LEFT_BEHIND {
            tracing::warn!(
                "perf: processes have kept {} threads that read their memory; managed programs are \
                 shown as native code from now on",
                self.left_behind
            );
            self.discovery = None;
            self.seats.clear();
        } else if self.discovery.is_none() {
            self.discovery = Discovery::start(&self.shared).ok();
        }
    }
}

/// Whether ten seconds have passed, which begin anew then.
fn time_passed(since: &mut u64) -> bool {
    let time = now();
    let is_over = time > *since + ASKED_NANOS;
    if is_over {
        *since = time;
    }
    is_over
}

impl Drop for Managed {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        let read = counters.accepted.get() + counters.none.get();
        let refused = Refusal::ALL.map(|refusal| (refusal.label(), counters.refused(refusal)));
        let (unread, mismatched) = (counters.unread.get(), counters.mismatched.get());
        let cpu_time = Duration::from_nanos(counters.reader_cpu.get());
        let discovery_time = Duration::from_nanos(counters.discovery_cpu.get());
        tracing::debug!(
            read,
            ?refused,
            unread,
            mismatched,
            ?cpu_time,
            ?discovery_time,
            "managed stacks"
        );
    }
}
