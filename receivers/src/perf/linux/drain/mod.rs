//! The drain thread: empties the rings before they overflow.
//!
//! It keeps the table of processes, unwinds and interns stacks and hands numbers on. It never
//! symbolizes and never waits for anybody: when the aggregation thread falls behind, samples are
//! counted as lost. What looks at waiting threads have found comes in between in the order of time
//! ([`looked`]), and so do samples of heaps ([`heaped`], [`go_heaps`]); what has to wait for unwinding tables is kept ([`deferred`]); what is done at the end of a
//! window is in [`window`], how long requests for blocks take in [`blocks`], where there is a budget in [`governing`]; what is counted in [`counters`].

mod blocks;
mod counters;
mod deferred;
mod go_heaps;
mod governing;
mod heaped;
mod looked;
mod taken;
mod window;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use profpipe_engine::overhead::Overhead;
use ringbuf::HeapProd;
use ringbuf::traits::{Observer, Producer};

use self::deferred::Deferred;
use self::taken::{Taken, facts};
pub(super) use counters::Counters;

use super::aggregate::stacks::Stacks;
use super::events::attr::Clock;
use super::events::every::EveryMeter;
use super::events::session::Session;
use super::events::tasks;
use super::governed::ages::Ages;
use super::governed::govern::{Discovery, Governed};
use super::handoff::{Counted, EventIx, Label, Message, RowIx, Unwound};
use super::heap::Heap;
use super::images::loader::Loader;
use super::looks::{self, Looks};
use super::processes::host::ThisHost;
use super::processes::process::Processes;
use super::processes::selection::Selection;
use super::records::merge::Merge;
use super::records::record::{self, Layouts, Record, Sample};
use super::runtimes::join::Managed;
use super::thread::{self, now};
use super::unwind::Unwinding;

/// How long samples that were put off are left alone after they were tried, in nanoseconds.
const RETRY_PAUSE_NANOS: u64 = 90_000_000;
/// How much younger than the last look at the rings a record may be; see [`Merge`].
const HORIZON_NANOS: u64 = 5_000_000;
/// How often the rings are looked at, at least.
const ROUND_TIMEOUT: Duration = Duration::from_millis(100);
/// Records between two releases of ring space.
const RECORDS_PER_RELEASE: usize = 16;
/// How often files that are not mapped any more are looked for, in nanoseconds, at least.
const SWEEP_INTERVAL_NANOS: u64 = 20_000_000_000;
/// How often is looked whether any of the processes that are wanted is left, in nanoseconds.
const SELECTION_INTERVAL_NANOS: u64 = 500_000_000;
/// How often processes that are gone unseen are looked for, in such sweeps: each takes a look at
/// `/proc`.
const SWEEPS_PER_SEARCH: u64 = 9;

/// What the thread is started with.
pub(super) struct Setup {
    pub(super) session: Session,
    pub(super) overhead: Arc<Overhead>,
    pub(super) receiver: Arc<str>,
    pub(super) loader: Loader,
    pub(super) interval: Duration,
    pub(super) use_rules: bool,
    pub(super) counters: Counters,
    pub(super) messages: HeapProd<Message>,
    /// Woken when there are messages.
    pub(super) consumer: Thread,
    pub(super) stop: Arc<AtomicBool>,
    /// Readable when it is set.
    pub(super) waker: Option<Arc<OwnedFd>>,
    /// What keeps the budget, if there is one.
    pub(super) governed: Option<Governed>,
    /// What looks at threads that wait, if that is wanted.
    pub(super) looks: Option<looks::Setup>,
    /// The heaps of programs, if they are wanted.
    pub(super) heap: Option<Heap>,
    /// What shows managed programs by their own functions, if that is wanted.
    pub(super) managed: Option<Managed>,
}

/// Runs until it is stopped, or until every process of the session has ended.
pub(super) fn run(setup: Setup) {
    let priority = thread::raise_priority();
    tracing::debug!(priority, "draining perf rings");
    let Setup {
        mut session,
        overhead,
        receiver,
        loader,
        interval,
        use_rules,
        counters,
        messages,
        consumer,
        stop,
        waker,
        governed,
        looks,
        heap,
        managed,
    } = setup;
    let looks = looks.and_then(|setup| match Looks::start(setup) {
        Ok(looks) => Some(looks),
        Err(error) => {
            tracing::warn!("perf: no thread to look at waiting threads ({error}): no `off_cpu`");
            None
        }
    });
    let choices = session.choices;
    let interval = interval.as_nanos() as u64;
    let mut drain = Drain {
        layouts: Layouts::new(
            session.chosen.numbered().map(|(_, kind)| kind.layout(&choices)).collect(),
        ),
        meters: window::meters(&session),
        names: session.chosen.names(),
        counted: Vec::new(),
        fixed_weight: (choices.clock == Clock::Cycles)
            .then(|| 1_000_000_000 / u64::from(choices.frequency)),
        processes: Processes::default(),
        host: ThisHost::new(loader),
        unwinding: Unwinding::new(use_rules),
        stacks: Stacks::default(),
        forgotten_rows: Vec::new(),
        out: messages,
        deferred: Vec::new(),
        clock: session.chosen.has_cpu().then_some(EventIx::FIRST),
        looked: looked::Looked::new(&session, looks),
        heaped: heaped::Heaped::new(&session, heap),
        blocks: blocks::BlockTimes::new(&session.chosen),
        stepped: session.chosen.stepped().collect(),
        loader_responses: 0,
        retried: 0,
        began: Vec::new(),
        ended: Vec::new(),
        dropped: 0,
        lost_records: 0,
        window: now(),
        interval,
        lost_reported: 0,
        windows: 0,
        swept: now(),
        sweeps: 0,
        counters,
        lost_exactly: 0,
        governed,
        managed,
        length: interval,
        ages: Ages::new(overhead, receiver),
        // Those that began until now are listed, the others will be in records.
        selection: session.only.map(|pid| Selection::new(tasks::tree_of(pid))),
        callers: session.callers(),
        is_over: false,
        searched: now(),
        is_ending: false,
    };
    if let Some(governed) = &mut drain.governed {
        governed.start(&mut session, &mut drain.unwinding);
    }
    let mut merge = Merge::default();
    loop {
        let timeout = drain.governed.as_ref().map_or(ROUND_TIMEOUT, Governed::time_left);
        let timeout = drain.heaped.round(timeout);
        let timeout = drain.managed.as_ref().map_or(timeout, |managed| managed.round(timeout));
        session.wait(timeout, waker.as_ref());
        let last = stop.load(Ordering::Acquire) || session.is_over() || drain.is_over;
        let late = drain.managed.as_ref().map_or(0, |managed| managed.horizon(&session));
        let horizon = now().saturating_sub(HORIZON_NANOS + late);
        let horizon = if last { u64::MAX } else { horizon };
        // Asking interrupts the CPU that an event is bound to: not more often than it is reported.
        if last || horizon >= drain.window + drain.length - drain.early() {
            drain.lost_exactly = session.lost_samples().unwrap_or(drain.lost_exactly);
            drain.counted = drain.meters.iter().map(|meter| session.count(meter.event)).collect();
        }
        session.tell_layouts(&mut drain.layouts);
        session.refresh();
        // After that: whose end is known has said all that it will say.
        drain.heaped.poll();
        drain.tell_places();
        merge.restart(session.rings.len());
        if last {
            drain.looked.stop();
        }
        let mut since_release = 0;
        loop {
            // Looks and heaps are in the order of time, too.
            let look = drain.looked.next_time().filter(|time| *time <= horizon);
            let block = drain.heaped.next_time().filter(|time| *time <= horizon);
            let until = look.into_iter().chain(block).min().unwrap_or(horizon);
            while merge.step(&mut session.rings, until, |_, record| drain.take_measured(record)) {
                since_release += 1;
                if since_release >= RECORDS_PER_RELEASE {
                    since_release = 0;
                    session.release();
                }
                if drain.is_storm() {
                    break;
                }
            }
            match (look, block) {
                (None, None) => break,
                (Some(look), Some(block)) if look <= block => drain.take_look(),
                (Some(_), None) => drain.take_look(),
                (_, Some(_)) => drain.take_block(),
            }
        }
        session.release();
        let has_sent = drain.govern(&mut session, last);
        drain.end_round(if last { u64::MAX } else { horizon });
        drain.adapt(&mut session);
        session.inherited(&drain.began, &drain.ended);
        drain.began.clear();
        drain.ended.clear();
        session.follow_new_threads();
        if let Some(managed) = &mut drain.managed {
            managed.end_round(&mut session, &drain.layouts, &drain.processes);
        }
        if has_sent {
            consumer.unpark();
        }
        if last {
            break;
        }
    }
    // The other thread ends when nothing can be sent any more.
    drop(drain);
    consumer.unpark();
}

struct Drain {
    layouts: Layouts,
    /// The events that are counted.
    meters: Vec<EveryMeter>,
    /// The names of all events.
    names: Vec<String>,
    /// What they were counted to lately.
    counted: Vec<u64>,
    /// The weight of a sample, where the period is not in nanoseconds.
    fixed_weight: Option<u64>,
    processes: Processes,
    host: ThisHost,
    unwinding: Unwinding,
    stacks: Stacks,
    /// Rows that the aggregation thread is to forget.
    forgotten_rows: Vec<RowIx>,
    out: HeapProd<Message>,
    /// Samples put off until the rules that they need are read.
    deferred: Vec<Deferred>,
    /// The clock among the events.
    clock: Option<EventIx>,
    /// What looks at threads that wait.
    looked: looked::Looked,
    /// The heaps of programs.
    heaped: heaped::Heaped,
    /// Requests for blocks that are under way.
    blocks: blocks::BlockTimes,
    /// The events that count calls at instructions which the kernel steps over.
    stepped: Vec<EventIx>,
    /// The responses of the loader that there were when they were last tried.
    loader_responses: u64,
    /// When that was.
    retried: u64,
    /// Threads that began and ended in this round.
    began: Vec<u32>,
    ended: Vec<u32>,
    /// Samples that the aggregation thread had no room for.
    dropped: u64,
    /// Records that the kernel had no room for, as the rings say.
    lost_records: u64,
    /// Samples that the kernel had no room for, as the events say; 0 if they do not say.
    lost_exactly: u64,
    lost_reported: u64,
    window: u64,
    interval: u64,
    windows: u64,
    /// When files that are not mapped were last looked for, and how often that was done.
    swept: u64,
    sweeps: u64,
    counters: Counters,
    governed: Option<Governed>,
    managed: Option<Managed>,
    /// How long the next window is: a multiple of `interval`.
    length: u64,
    /// How old the windows are that have not left.
    ages: Ages,
    /// The processes that are wanted, where others are sampled too.
    selection: Option<Selection>,
    /// The processes whose calls are wanted, where those of others are counted too.
    callers: Option<Selection>,
    /// None of them is left, and when that was looked at.
    is_over: bool,
    searched: u64,
    /// No window comes after this one.
    is_ending: bool,
}

impl Drain {
    fn take(&mut self, bytes: &[u8]) {
        let Ok(record) = record::parse(bytes, &self.layouts) else {
            self.lost_records += 1;
            return;
        };
        if let Record::Sample(sample) = &record
            && self.is_of_blocks_done(sample.event)
        {
            return self.end_blocks(sample);
        }
        if self.selection.as_mut().is_some_and(|selection| !selection.takes(&record)) {
            return;
        }
        let is_stranger = self.callers.as_mut().is_some_and(|callers| !callers.takes(&record));
        match record {
            Record::Sample(sample) if is_stranger => {
                if let Some(meter) = self.meters.iter_mut().find(|it| it.event == sample.event) {
                    meter.skip(sample.time);
                }
            }
            Record::Sample(sample) => {
                let (weight, events) = self.weigh(&sample);
                let reading = self.managed.as_mut().and_then(|managed| managed.reading(&sample));
                let again = || Deferred::Record {
                    bytes: bytes.into(),
                    weight,
                    events,
                    reading: reading.clone(),
                };
                let reading = reading.as_ref();
                let taken = Taken { weight, events, reading, ..Taken::default() };
                self.sample(&sample, taken, Some(&again));
            }
            Record::Map(map) => self.processes.map(&map, &mut self.host),
            Record::Name { pid, tid, exec, name } => {
                if exec {
                    // The samples of the old program need its mappings.
                    self.retry(|sample| sample.pid != pid);
                    self.end_heap(pid, record::time(bytes));
                    self.unwinding.stepped.forget(pid);
                }
                self.processes.name(pid, tid, exec, name);
            }
            Record::Fork { pid, tid, parent, parent_tid } => {
                self.processes.fork(pid, tid, parent, parent_tid);
                self.began.push(tid);
            }
            Record::Exit { pid, tid } => {
                self.exit(pid, tid);
                self.ended.push(tid);
            }
            Record::Lost { records } => {
                self.lost_records += records;
                self.processes.lost(&mut self.host);
            }
            Record::Other => {}
        }
    }

    /// What a sample stands for, as far as that is known before its window ends.
    fn weigh(&mut self, sample: &Sample<'_>) -> (u64, u64) {
        if let Some(meter) = self.meters.iter_mut().find(|meter| meter.event == sample.event) {
            if let Some(governed) = &mut self.governed {
                governed.count_other();
            }
            return meter.weigh(sample.time, sample.value);
        }
        match &mut self.governed {
            Some(governed) => (governed.weigh(sample), 1),
            None => (self.fixed_weight.unwrap_or(sample.period), 1),
        }
    }

    /// Counts a sample. `deferrable` makes what is kept, if it may be put off until the rules that it
    /// needs are read.
    fn sample(
        &mut self,
        sample: &Sample<'_>,
        taken: Taken<'_>,
        deferrable: Option<&dyn Fn() -> Deferred>,
    ) {
        // The idle task, which some clocks count although they are set not to.
        if sample.pid == 0 {
            return;
        }
        // With a budget windows end with its windows.
        while self.governed.is_none() && sample.time >= self.window + self.interval {
            self.end_window(self.window + self.interval);
        }
        // Everything that may have to be sent for this sample, so that nothing is sent by half.
        let names = taken.look.map_or(0, |look| look.blocked.kernel.len());
        if self.out.vacant_len() < 16 + names + self.host.rows_waiting() {
            self.counters.samples.add(1);
            self.dropped += 1;
            return;
        }
        let discovery = Discovery::of(self.governed.as_ref(), &self.processes, sample.pid);
        let known = match discovery {
            Discovery::Refused => self.processes.unread(sample.pid),
            _ => self.processes.sampled(sample.pid, sample.tid, &mut self.host),
        };
        if let (Discovery::Began(at), Some(governed)) = (&discovery, &mut self.governed) {
            governed.discovered(*at);
        }
        let Some(process) = known else {
            self.counters.samples.add(1);
            self.dropped += 1;
            return;
        };
        if process.announced.jit.is_none() {
            process.announced.jit = Some(self.host.jit_row(process.id, process.pid));
        }
        let cheap = matches!(discovery, Discovery::Refused)
            || self.governed.as_ref().is_some_and(Governed::is_spent);
        let before = cheap.then(|| self.unwinding.only_leaf(true));
        let native = self.managed.as_mut().and_then(|managed| managed.native(process));
        let managed = self.managed.as_ref();
        let native_stack = managed.zip(native.as_deref()).and_then(|(it, of)| it.native_stack(of));
        let stack = self.managed.as_mut().and_then(|managed| {
            managed.sampled(process, &self.host);
            managed.stack(taken.reading?, process.id, &mut self.host)
        });
        if self.stepped.contains(&sample.event) {
            self.unwinding.stepped.learn(sample.pid, sample.instruction);
        }
        let images = &mut self.host.images;
        let unwound =
            self.unwinding.unwind(sample, process, images, stack.as_ref(), native_stack.as_ref());
        if let (Some(managed), Some(native)) = (&mut self.managed, &native) {
            managed.walked(native, &self.unwinding);
        }
        if let Some(before) = before {
            self.unwinding.only_leaf(before);
        }
        let is_doubtful = unwound == Some(Unwound::Broken) && self.looked.doubts(&taken);
        if is_doubtful {
            process.doubt();
        }
        if let Some(again) = deferrable
            && (self.unwinding.waiting || is_doubtful)
            && self.deferred.len() < taken.most_deferred(self.governed.is_some())
        {
            self.deferred.push(again());
            return;
        }
        if let (Some(managed), Some(native)) = (&mut self.managed, &native) {
            managed.place(native, &mut self.unwinding, &mut self.host);
        }
        if let Some(managed) = &self.managed {
            managed.count(sample.pid, taken.reading.is_some(), self.unwinding.mismatched);
        }
        let unwound = match taken.look {
            Some(look) => {
                let is_managed = taken.reading.is_some() || !self.unwinding.sites.is_empty();
                self.looked.finish(look, is_managed, &mut self.unwinding.frames, unwound)
            }
            None => unwound,
        };
        self.looked.add_point(sample.event, &mut self.unwinding.frames);
        self.counters.samples.add(1);
        match unwound {
            Some(Unwound::Complete) => self.counters.complete.add(1),
            Some(Unwound::Guessed) => self.counters.guessed.add(1),
            Some(Unwound::Truncated) => self.counters.truncated.add(1),
            Some(Unwound::Switched) => self.counters.switched.add(1),
            Some(Unwound::Broken) => self.counters.broken.add(1),
            None => {}
        }
        process.announced.sampled_in(self.windows);
        let out = &mut self.out;
        let mut send = |message| {
            // There is room: see above.
            let _ = out.try_push(message);
        };
        for (row, facts) in self.host.take_rows() {
            send(Message::Row(row, facts));
        }
        if !std::mem::replace(&mut process.announced.process, true) {
            send(Message::Process(Box::new(facts(process))));
        }
        let id = process.id;
        if process.announced.sampled_thread_in(sample.tid, self.windows) {
            let name = process.thread_name(sample.tid, &mut self.host);
            let (tid, since) = (sample.tid, sample.time);
            send(Message::Thread { process: id, tid, name, since });
        }
        for (number, name) in self.looked.take_names() {
            send(Message::Name(number, name));
        }
        let frames = self.unwinding.frames.as_slice();
        let (stack, new) = self.stacks.intern(frames);
        if let Some(frames) = new {
            send(Message::Stack(stack, frames));
        }
        let unwound = unwound.unwrap_or(Unwound::Complete);
        let (tid, time) = (sample.tid, sample.time);
        let Taken { weight, events, look, .. } = taken;
        let event = sample.event;
        let blocks = self.blocks.requested(sample);
        let label = match (look, blocks) {
            (Some(look), _) => Some(Label::Wait(look.blocked.wait)),
            (None, Some(blocks)) => Some(Label::Blocks(blocks.operation)),
            (None, None) => None,
        };
        let process = id;
        let counted = Counted { event, label, process, tid, stack, unwound, weight, events, time };
        if let Some(blocks) = blocks
            && let Some(took) = self.blocks.begin(blocks, counted, frames)
        {
            send(Message::Sample(took));
        }
        match &mut self.governed {
            // Its weight is certain when the window has ended.
            Some(governed) if self.clock == Some(event) => governed.keep(sample.cpu, counted),
            _ => send(Message::Sample(counted)),
        }
        if let Some(found) = taken.heap {
            let blocks = self.heaped.count(found, counted, &self.unwinding.frames);
            let _ = self.out.try_push(Message::Sample(blocks));
        }
    }

    /// Ends the windows that `horizon` has passed.
    fn end_round(&mut self, horizon: u64) {
        // Only if there may be more to go by than the last time, and not for every answer alone.
        let loader_responses = self.responses();
        let now = now();
        if loader_responses != self.loader_responses && now >= self.retried + RETRY_PAUSE_NANOS {
            (self.loader_responses, self.retried) = (loader_responses, now);
            self.retry(|_| true);
        }
        self.counters.processes.set(self.processes.len() as u64);
        self.report_hidden();
        self.counters.drain_cpu.set(thread::thread_cpu_time());
        self.ages.look(&self.counters.ages);
        if now >= self.searched + SELECTION_INTERVAL_NANOS
            && let Some(selection) = &mut self.selection
        {
            self.searched = now;
            self.is_over = selection.is_over();
        }
        if horizon == u64::MAX {
            if self.looked.is_alone() {
                // Nobody has reported who has ended.
                self.processes.sweep(&mut self.host);
                self.counters.processes.set(self.processes.len() as u64);
            }
            // There is no window after this one in which they could be sent.
            self.retry_until_read();
            self.is_ending = true;
            self.retry(|_| false);
            self.flush_pending_samples();
            self.heaped.finish();
            self.end_window(thread::now());
            return;
        }
        while self.governed.is_none() && horizon >= self.window + self.interval {
            self.end_window(self.window + self.interval);
        }
    }
}
