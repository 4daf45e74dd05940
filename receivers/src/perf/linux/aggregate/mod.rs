//! The aggregation thread: from samples to profiles.
//!
//! It adds up weights by process, thread and stack, and at the end of a window writes them as
//! tables. It also does what may take time: it describes processes, opens the symbol files of
//! just-in-time compilers and publishes modules. [`types`] says what profiles there are, [`totals`] makes
//! them as large as what was counted, [`writer`] writes the tables; [`stacks`] numbers stacks on the other side of the handoff, so that a sample is one small message. Whose
//! sample it is and how it unwinds is left to the drain thread.

pub(super) mod stacks;
mod threads;
mod totals;
pub(super) mod types;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use profpipe_engine::modules::{Content, KERNEL, Module, ModuleId, ModuleStore, VDSO};
use profpipe_engine::overhead::{Overhead, Stage, WaitingWindow, Work, checkpoint};
use profpipe_engine::telemetry::Counter;
use profpipe_profile::{Profiles, Resource};
use ringbuf::HeapCons;
use ringbuf::traits::Consumer;
use tokio::sync::mpsc;

use self::threads::ThreadNames;
use self::totals::Totals;
use self::types::SampleTypes;
use self::writer::Writer;
use crate::perf::linux::handoff::{
    Counted, EventIx, Frame, KERNEL_ROW, Label, Message, ProcessFacts, REMEMBERED, RowFacts, RowIx,
    Source, Total, Unwound, shrink,
};
use crate::perf::linux::processes::contexts::Contexts;
use crate::perf::linux::processes::perf_map::PerfMapPlace;
use crate::perf::linux::processes::resource;
use crate::perf::linux::runtimes::counters::Counters as RuntimeCounters;
use crate::perf::linux::runtimes::function::Functions;
use crate::perf::linux::thread;

/// How long the thread sleeps unless it is woken.
const WAKE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the end of a window waits for what processes say of themselves.
const CONTEXTS_TIMEOUT: Duration = Duration::from_millis(50);
/// How long it waits for the names of managed functions, and how often it looks.
const NAMES_TIMEOUT: Duration = Duration::from_millis(50);
/// See there.
const NAMES_PAUSE: Duration = Duration::from_millis(2);
/// The same under a budget.
const GOVERNED_WAKE_INTERVAL: Duration = Duration::from_secs(30);

/// The profiles of a window, and what notes that they have not left.
pub(crate) type Finished = (Profiles, Option<WaitingWindow>);

/// What the thread is started with.
pub(crate) struct Setup {
    pub(crate) messages: HeapCons<Message>,
    pub(crate) out: mpsc::Sender<Finished>,
    pub(crate) modules: Arc<ModuleStore>,
    pub(crate) types: SampleTypes,
    /// The events that the host does not allow, with commas between them.
    pub(crate) missing: String,
    /// The time of every sample is kept.
    pub(crate) timestamps: bool,
    pub(crate) service: Option<String>,
    /// Reads what SDKs publish about their process, if wanted.
    pub(crate) contexts: Option<Contexts>,
    /// The names of managed functions, and what counts of them.
    pub(crate) functions: Option<(Arc<Functions>, RuntimeCounters)>,
    pub(crate) cpu: Counter,
    pub(crate) overhead: Arc<Overhead>,
}

/// Runs until the drain thread is gone and everything it sent is passed on.
pub(crate) fn run(setup: Setup) {
    let Setup {
        mut messages,
        out,
        modules,
        types,
        missing,
        timestamps,
        service,
        contexts,
        functions,
        cpu,
        overhead,
    } = setup;
    let mut aggregation = Aggregation::new(modules, types, service, contexts);
    (aggregation.timestamps, aggregation.missing) = (timestamps, missing);
    aggregation.functions = functions;
    if overhead.limits().is_some() {
        aggregation.warm_up();
    }
    loop {
        use ringbuf::traits::Observer;
        // Asked before popping: what was sent before the end is popped below.
        let last = !messages.write_is_held();
        let work = Work::now(&overhead, Stage::Aggregate);
        let is_wanted = work.run(|| {
            while let Some(message) = messages.try_pop() {
                // What takes longer than adding up, one by one as there is budget for it.
                if !matches!(message, Message::Sample(_)) {
                    checkpoint();
                }
                if let Some(finished) = aggregation.take(message)
                    && out.blocking_send(finished).is_err()
                {
                    return false;
                }
            }
            true
        });
        if !is_wanted {
            return;
        }
        cpu.set(thread::thread_cpu_time());
        if last {
            return;
        }
        // Without a budget the other thread wakes this one ten times a second.
        std::thread::park_timeout(if overhead.is_governed() {
            GOVERNED_WAKE_INTERVAL
        } else {
            WAKE_INTERVAL
        });
    }
}

pub(crate) struct Aggregation {
    modules: Arc<ModuleStore>,
    types: SampleTypes,
    totals: Totals,
    missing: String,
    /// The events that were not counted for all of the window.
    partial: Option<Arc<str>>,
    timestamps: bool,
    service: Option<String>,
    contexts: Option<Contexts>,
    functions: Option<(Arc<Functions>, RuntimeCounters)>,
    host: String,
    rows: HashMap<RowIx, Row>,
    stacks: HashMap<u32, Arc<[Frame]>>,
    /// Stacks, rows and processes that nothing refers to once the window has ended.
    forgotten: Vec<u32>,
    forgotten_rows: Vec<RowIx>,
    forgotten_processes: Vec<u32>,
    processes: HashMap<u32, Process>,
    /// Names that stand for functions; the other thread bounds them.
    names: HashMap<u32, Arc<str>>,
    sums: HashMap<Key, Sum, foldhash::fast::RandomState>,
    windows: u64,
}

struct Row {
    facts: RowFacts,
    /// Where the symbol file of a just-in-time compiler will be, until it is found.
    place: Option<PerfMapPlace>,
    /// The symbol file, once it is found.
    found: Option<Arc<Module>>,
    /// The window in which it was last looked for.
    looked: Option<u64>,
}

struct Process {
    /// What the kernel says.
    base: Resource,
    /// The same with what the process says of itself.
    resource: Resource,
    /// The names of threads.
    threads: HashMap<u32, ThreadNames>,
    used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    process: u32,
    event: EventIx,
    label: Option<Label>,
    tid: u32,
    /// The number of the name that the thread had then.
    name: u32,
    stack: u32,
    unwound: Unwound,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    samples: i64,
    weight: u64,
    /// How many events it stands for.
    events: u64,
    /// When each sample was taken, by the monotonic clock, and its weight; empty if that is not kept.
    times: Vec<(u64, u64)>,
}

impl Aggregation {
    /// With nothing known.
    pub(crate) fn new(
        modules: Arc<ModuleStore>,
        types: SampleTypes,
        service: Option<String>,
        contexts: Option<Contexts>,
    ) -> Self {
        Self {
            modules,
            types,
            totals: Totals::default(),
            missing: String::new(),
            partial: None,
            timestamps: false,
            service,
            contexts,
            functions: None,
            host: resource::host_name(),
            rows: HashMap::new(),
            stacks: HashMap::new(),
            forgotten: Vec::new(),
            forgotten_rows: Vec::new(),
            forgotten_processes: Vec::new(),
            processes: HashMap::new(),
            names: HashMap::new(),
            sums: HashMap::default(),
            windows: 0,
        }
    }

    /// Goes through a window of a made-up sample, apart from all that is real: code and memory are
    /// then there when the first window has to fit a budget, of which they would take all.
    fn warm_up(&self) {
        let (pid, tid, stack) = (std::process::id(), 0, 0);
        let executable = std::env::current_exe().ok();
        let mut apart = Self::new(Arc::default(), self.types.clone(), self.service.clone(), None);
        let facts = RowFacts {
            source: Source::Kernel,
            memory_start: 0,
            memory_limit: u64::MAX,
            file_offset: 0,
        };
        let process = ProcessFacts {
            id: pid,
            pid,
            parent: pid,
            start_time: 0,
            name: "profpipe".into(),
            executable: executable.and_then(|path| Some(path.to_str()?.into())),
            kernel: false,
        };
        let frames = [Frame { row: KERNEL_ROW, address: 1 }];
        for message in [
            Message::Row(KERNEL_ROW, Box::new(facts)),
            Message::Process(Box::new(process)),
            Message::Stack(stack, frames.into()),
            Message::Sample(Counted {
                event: EventIx::FIRST,
                label: None,
                process: pid,
                tid,
                stack,
                unwound: Unwound::Complete,
                weight: 1,
                events: 1,
                time: 0,
            }),
            Message::Window {
                start: 0,
                end: 1,
                lost: 0,
                totals: Vec::new(),
                partial: None,
                waiting: None,
            },
        ] {
            apart.take(message);
        }
    }

    pub(crate) fn take(&mut self, message: Message) -> Option<Finished> {
        match message {
            Message::Sample(counted) => {
                let Counted { event, label, process, tid, stack, unwound, weight, events, time } =
                    counted;
                let threads = self.processes.get(&process).map(|process| &process.threads);
                let names = threads.and_then(|threads| threads.get(&tid));
                let name = names.map_or(0, |names| names.at(time));
                let key = Key { process, event, label, tid, name, stack, unwound };
                let sum = self.sums.entry(key).or_default();
                sum.samples += 1;
                sum.weight = sum.weight.saturating_add(weight);
                sum.events = sum.events.saturating_add(events);
                if self.timestamps {
                    sum.times.push((time, weight));
                }
            }
            Message::Stack(number, frames) => {
                self.find_perf_maps(&frames);
                self.stacks.insert(number, frames);
            }
            Message::Thread { process, tid, name, since } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    let new = || ThreadNames::new(Arc::clone(&name), self.windows);
                    let names = process.threads.entry(tid).or_insert_with(new);
                    names.used = self.windows;
                    names.rename(name, since);
                }
            }
            Message::Name(number, name) => {
                self.names.insert(number, name);
            }
            Message::Process(facts) => self.add_process(&facts),
            Message::Row(row, facts) => {
                self.rows
                    .insert(row, Row { facts: *facts, place: None, found: None, looked: None });
            }
            // The window's samples may refer to them.
            Message::ForgetStacks(stacks) => self.forgotten.extend(stacks),
            Message::ForgetRows(rows) => self.forgotten_rows.extend(rows),
            Message::ForgetProcesses(processes) => self.forgotten_processes.extend(processes),
            Message::Window { start, end, lost, totals, partial, waiting } => {
                self.partial = partial;
                return Some((self.end_window(start, end, lost, &totals)?, waiting));
            }
        }
        None
    }

    /// Looks for the symbol files of just-in-time compilers as soon as their code is seen: the
    /// process may end before the window does.
    fn find_perf_maps(&mut self, frames: &[Frame]) {
        let mut last = None;
        for frame in frames {
            if last.replace(frame.row) != Some(frame.row)
                && let Some(row) = self.rows.get(&frame.row)
                && matches!(row.facts.source, Source::Jit { .. })
                && row.looked != Some(self.windows)
            {
                self.publish(frame.row);
            }
        }
    }

    fn add_process(&mut self, facts: &ProcessFacts) {
        let base = resource::describe(facts, self.service.as_deref(), &self.host);
        let mut resource = base.clone();
        if let Some(contexts) = &mut self.contexts {
            contexts.begin(facts, self.windows);
            contexts.describe(facts.id, &mut resource);
        }
        let process = Process { base, resource, threads: HashMap::new(), used: self.windows };
        self.processes.insert(facts.id, process);
    }

    fn end_window(
        &mut self,
        start: u64,
        end: u64,
        lost: u64,
        totals: &[Total],
    ) -> Option<Profiles> {
        self.windows += 1;
        let sums = std::mem::take(&mut self.sums);
        let mut sums: Vec<_> = sums.into_iter().collect();
        for (_, sum) in &mut sums {
            // What was put off comes later than it was taken.
            sum.times.sort_unstable();
        }
        sums.sort_unstable_by_key(|(key, _)| *key);
        self.totals.apply(totals, &mut sums);
        let nothing = sums.is_empty() && lost == 0;
        let profiles = (!nothing).then(|| self.write(&sums, start, end, lost));
        self.forget(&sums);
        profiles
    }

    /// Writes a window as tables.
    fn write(&mut self, sums: &[(Key, Sum)], start: u64, end: u64, lost: u64) -> Profiles {
        self.read_contexts(sums);
        self.wait_for_names();
        let mut writer = Writer::new(self, start, end, lost);
        for of_process in sums.chunk_by(|(a, _), (b, _)| a.process == b.process) {
            writer.process(of_process);
        }
        let (profiles, used) = writer.finish();
        for row in used {
            self.publish(row);
        }
        profiles
    }

    /// Forgets what the drain thread has forgotten, and what had no samples for long; these are the
    /// sums of the window that has ended.
    fn forget(&mut self, sums: &[(Key, Sum)]) {
        for stack in self.forgotten.drain(..) {
            self.stacks.remove(&stack);
        }
        for row in self.forgotten_rows.drain(..) {
            self.rows.remove(&row);
        }
        for process in self.forgotten_processes.drain(..) {
            self.processes.remove(&process);
        }
        let windows = self.windows;
        for (key, _) in sums {
            if let Some(process) = self.processes.get_mut(&key.process) {
                process.used = windows;
                if let Some(names) = process.threads.get_mut(&key.tid) {
                    names.used = windows;
                }
            }
        }
        self.processes.retain(|_, process| process.used + REMEMBERED >= windows);
        for process in self.processes.values_mut() {
            process.threads.retain(|_, names| {
                names.end_window();
                names.used + REMEMBERED >= windows
            });
            shrink(&mut process.threads);
        }
        if let Some(contexts) = &mut self.contexts {
            contexts.forget(|process| self.processes.contains_key(&process));
        }
        shrink(&mut self.stacks);
        shrink(&mut self.rows);
        shrink(&mut self.processes);
        self.modules.forget_unused(Instant::now());
    }

    /// Lets the names that were asked for be read, asleep.
    fn wait_for_names(&self) {
        let Some((functions, _)) = &self.functions else { return };
        let deadline = Instant::now() + NAMES_TIMEOUT;
        while !functions.is_settled() && Instant::now() < deadline {
            std::thread::sleep(NAMES_PAUSE);
        }
    }

    /// Hears what the processes of a window say of themselves.
    fn read_contexts(&mut self, sums: &[(Key, Sum)]) {
        let Some(contexts) = &mut self.contexts else { return };
        for of_process in sums.chunk_by(|(a, _), (b, _)| a.process == b.process) {
            if let Some((key, _)) = of_process.first() {
                contexts.sampled(key.process, self.windows);
            }
        }
        for new in contexts.settle(Instant::now() + CONTEXTS_TIMEOUT) {
            if let Some(process) = self.processes.get_mut(&new) {
                process.resource = process.base.clone();
                contexts.describe(new, &mut process.resource);
            }
        }
    }

    /// Publishes what a row stands for, unless that was done already.
    fn publish(&mut self, row: RowIx) {
        let Some(row) = self.rows.get_mut(&row) else { return };
        let publish = |id: ModuleId, module: &dyn Fn() -> Module| {
            if self.modules.find(&id).is_none() {
                self.modules.publish(id, Arc::new(module()));
            }
        };
        match &row.facts.source {
            Source::Kernel => publish(ModuleId::Kernel, &|| Module {
                path: KERNEL.into(),
                pid: 0,
                content: Content::Kernel,
            }),
            Source::Vdso(Some(image)) => publish(ModuleId::Vdso, &|| Module {
                path: VDSO.into(),
                pid: 0,
                content: Content::Image(Arc::clone(image)),
            }),
            Source::Vdso(None) | Source::Managed { .. } => {}
            Source::Jit { pid } => {
                row.looked = Some(self.windows);
                let id = ModuleId::Jit(*pid);
                if let Some(module) = &row.found {
                    // The store forgets those of a process that rests, which may end any time.
                    if self.modules.find(&id).is_none() {
                        self.modules.publish(id, Arc::clone(module));
                    }
                    return;
                }
                // The process may have ended since, and written it just before.
                row.place = row.place.take().or_else(|| PerfMapPlace::of(*pid));
                let Some(place) = &row.place else { return };
                if let Some(file) = place.open() {
                    let content = Content::PerfMap(Arc::new(file));
                    let module = Arc::new(Module { path: place.path(), pid: *pid, content });
                    row.found = Some(Arc::clone(&module));
                    row.place = None;
                    self.modules.publish(id, module);
                }
            }
            Source::File(facts) => {
                let Some(file) = &facts.file else { return };
                let module = || Module {
                    path: facts.path.to_string(),
                    pid: facts.pid,
                    content: Content::Elf(Arc::clone(file)),
                };
                let htl = facts.htlhash.clone().map(ModuleId::Htl);
                let gnu = facts.build_id.clone().map(ModuleId::Gnu);
                for id in htl.into_iter().chain(gnu) {
                    publish(id, &module);
                }
            }
        }
    }
}

#[cfg(test)]
impl Aggregation {
    /// How many stacks, rows, processes and threads are known.
    pub(crate) fn sizes(&self) -> (usize, usize, usize, usize) {
        let threads = self.processes.values().map(|process| process.threads.len()).sum();
        (self.stacks.len(), self.rows.len(), self.processes.len(), threads)
    }

    pub(crate) fn modules(&self) -> &ModuleStore {
        &self.modules
    }

    /// As if the symbol file of a row had been found.
    pub(crate) fn set_found(&mut self, row: RowIx, module: Arc<Module>) {
        if let Some(row) = self.rows.get_mut(&row) {
            row.found = Some(module);
        }
    }
}
