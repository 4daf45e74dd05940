//! The thread that finds runtimes in processes and reads the names of functions.
//!
//! It opens nothing: the files are those that the unwinder has open. Reading the memory of a process
//! may take for ever, if the process means it to; whoever asks never waits, and who watches this thread
//! replaces it ([`Work::stuck`]).

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use hashbrown::{HashMap, HashSet};
use profpipe_engine::overhead::{Overhead, Stage, Work as Measured};
use profpipe_host::proc::Stat;

use super::Runtime as _;
use super::attached::{Attached, AttachedTable, Kind, Versioned};
use super::counters::Counters;
use super::cpython::detect::{CPythonFile, Unsupported};
use super::function::{FunctionKey, Functions};
use super::hotspot::detect::{self as hotspot, HotSpotFile};
use super::memory::ProcessMemory;
use super::native::{Native, Wants};
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::thread::{self, is_waiting, now, thread_cpu_time};

/// The requests that wait for the thread.
const MAX_REQUESTS: usize = 4096;
/// The files whose runtime is remembered; beyond, all are looked at again.
const MAX_FILES: usize = 8192;

/// A file that a process maps, and how far it is from the file's own addresses.
#[derive(Debug, Clone)]
pub(crate) struct MappedFile {
    pub(crate) image: ImageIx,
    pub(crate) file: Arc<File>,
    pub(crate) bias: u64,
}

/// What the thread is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Look for a runtime in a process.
    Find { process: u32, pid: u32, start_time: u64, files: Vec<MappedFile> },
    /// Read the name of a function.
    Name { attached: Arc<Attached>, key: FunctionKey },
    /// Read what code is, and whether what was read of it before is still the same.
    Code { attached: Arc<Attached>, wants: Wants },
}

impl Request {
    fn process(&self) -> u32 {
        match self {
            Self::Find { process, .. } => *process,
            Self::Name { key, .. } => key.process,
            Self::Code { attached, .. } => attached.process,
        }
    }
}

/// A file that a runtime is in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RuntimeFile {
    CPython(CPythonFile),
    HotSpot(HotSpotFile),
}

impl RuntimeFile {
    fn read(file: &File) -> Option<Self> {
        let python = || CPythonFile::read(file).map(Self::CPython);
        python().or_else(|| HotSpotFile::read(file).map(Self::HotSpot))
    }

    /// The addresses of its native loop.
    fn loops(&self, bias: u64) -> Vec<Range<u64>> {
        match self {
            Self::CPython(file) => file.loops(bias),
            Self::HotSpot(_) => Vec::new(),
        }
    }
}

/// The thread as others see it.
#[derive(Debug, Clone)]
pub(crate) struct Discovery {
    requests: SyncSender<Request>,
    work: Arc<Work>,
    functions: Arc<Functions>,
}

/// What the thread is at.
#[derive(Debug, Default)]
struct Work {
    /// The process, and since when by the monotonic clock; 0 if it waits for work.
    process: AtomicU32,
    since: AtomicU64,
    /// The number of the thread.
    thread: AtomicU32,
}

/// What the thread shares with others.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) table: Arc<AttachedTable>,
    pub(crate) functions: Arc<Functions>,
    /// Files that no runtime is in.
    pub(crate) native: Arc<Versioned<HashSet<ImageIx>>>,
    /// How often code was read.
    pub(crate) code_reads: Arc<AtomicU64>,
    pub(crate) counters: Counters,
    pub(crate) overhead: Arc<Overhead>,
}

impl Discovery {
    /// Starts the thread.
    pub(crate) fn start(shared: &Shared) -> std::io::Result<Self> {
        let (requests, inbox) = sync_channel(MAX_REQUESTS);
        let work = Arc::<Work>::default();
        let (of_thread, shared_there) = (Arc::clone(&work), shared.clone());
        let run = move || Finder::new(shared_there).run(&inbox, &of_thread);
        std::thread::Builder::new().name("perf-runtimes".into()).spawn(run)?;
        Ok(Self { requests, work, functions: Arc::clone(&shared.functions) })
    }

    /// Asks for something; false if that is to be tried later. Never waits.
    pub(crate) fn ask(&self, request: Request) -> bool {
        let is_name = matches!(request, Request::Name { .. });
        match self.requests.try_send(request) {
            Ok(()) => {
                if is_name {
                    self.functions.ask();
                }
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// The process that has held the thread for so long.
    pub(crate) fn stuck(&self, longest: u64) -> Option<u32> {
        let since = self.work.since.load(Ordering::Acquire);
        let is_long = since != 0 && now().saturating_sub(since) > longest;
        let is_stuck = is_long && is_waiting(self.work.thread.load(Ordering::Relaxed));
        is_stuck.then(|| self.work.process.load(Ordering::Relaxed))
    }
}

struct Finder {
    shared: Shared,
    files: HashMap<ImageIx, Option<RuntimeFile>>,
    /// What the user was told of.
    reported: HashSet<String>,
}

impl Finder {
    fn new(shared: Shared) -> Self {
        Self { shared, files: HashMap::new(), reported: HashSet::new() }
    }

    fn run(&mut self, requests: &Receiver<Request>, work: &Work) {
        work.thread.store(thread::id(), Ordering::Relaxed);
        while let Ok(request) = requests.recv() {
            let process = request.process();
            let overhead = Arc::clone(&self.shared.overhead);
            match request {
                Request::Find { process, pid, start_time, files } => {
                    let _counted = Measured::in_turn(&overhead, Stage::Discover);
                    self.note_native(&files);
                    for file in &files {
                        // Files are ours to wait for, memory is not.
                        let Some(found) = self.look(file) else { continue };
                        work.process.store(process, Ordering::Relaxed);
                        work.since.store(now(), Ordering::Release);
                        self.attach(&found, file, (process, pid, start_time));
                        work.since.store(0, Ordering::Release);
                    }
                }
                Request::Name { attached, key } => {
                    let before = thread_cpu_time();
                    work.process.store(process, Ordering::Relaxed);
                    work.since.store(now(), Ordering::Release);
                    self.name(&attached, key);
                    work.since.store(0, Ordering::Release);
                    self.shared.functions.serve();
                    overhead.spend(Stage::Discover, thread_cpu_time().saturating_sub(before));
                }
                Request::Code { attached, wants } => {
                    let before = thread_cpu_time();
                    work.process.store(process, Ordering::Relaxed);
                    work.since.store(now(), Ordering::Release);
                    self.code(&attached, &wants);
                    work.since.store(0, Ordering::Release);
                    self.shared.code_reads.fetch_add(1, Ordering::Release);
                    overhead.spend(Stage::Discover, thread_cpu_time().saturating_sub(before));
                }
            }
            self.shared.counters.discovery_cpu.set(thread_cpu_time());
        }
    }

    fn look(&mut self, file: &MappedFile) -> Option<RuntimeFile> {
        if self.files.len() >= MAX_FILES {
            self.files.clear();
        }
        let found = self.files.entry(file.image).or_insert_with(|| RuntimeFile::read(&file.file));
        found.clone()
    }

    /// Notes which of these files have no runtime in them: processes that map no others are left alone.
    fn note_native(&mut self, files: &[MappedFile]) {
        let known = self.shared.native.current();
        let new: Vec<_> = files
            .iter()
            .filter(|file| !known.contains(&file.image) && self.look(file).is_none())
            .map(|file| file.image)
            .collect();
        if !new.is_empty() {
            self.shared.native.change(|known| {
                let known = if known.len() < MAX_FILES { known.clone() } else { HashSet::new() };
                known.into_iter().chain(new).collect()
            });
        }
    }

    fn attach(&mut self, found: &RuntimeFile, file: &MappedFile, of: (u32, u32, u64)) {
        let (process, pid, start_time) = of;
        if self.shared.table.current().get(&pid).is_some_and(|it| it.process == process) {
            return;
        }
        let mut memory = ProcessMemory::of(pid);
        let runtime = match found {
            RuntimeFile::CPython(python) => match python.in_process(file.bias, &mut memory) {
                Some(Ok(runtime)) if runtime.is_ready(&mut memory) => Kind::Heap(Box::new(runtime)),
                Some(Err(Unsupported((major, minor)))) => {
                    return self.report(pid, &format!("CPython {major}.{minor}"));
                }
                _ => return,
            },
            RuntimeFile::HotSpot(java) => match java.in_process(file.bias, &mut memory) {
                Some(Ok(runtime)) => Kind::Native(Native::new(Box::new(runtime))),
                Some(Err(hotspot::Unsupported::Version(version))) => {
                    return self.report(pid, &format!("HotSpot {version}"));
                }
                Some(Err(hotspot::Unsupported::Structure(missing))) => {
                    return self
                        .report(pid, &format!("a HotSpot that does not describe `{missing}`"));
                }
                None => return,
            },
        };
        let is_same =
            Stat::read(pid).is_some_and(|stat| start_time == 0 || stat.start_time == start_time);
        if !is_same {
            return;
        }
        tracing::debug!(pid, process, "a managed program");
        self.shared.table.add(Attached {
            process,
            pid,
            image: file.image,
            loops: found.loops(file.bias),
            is_alone: is_alone(&file.file),
            is_nested: is_nested(pid),
            runtime,
            barred: false.into(),
        });
    }

    /// Says once that a runtime is not understood.
    fn report(&mut self, pid: u32, runtime: &str) {
        if self.reported.insert(runtime.to_owned()) {
            tracing::warn!(
                "perf: process {pid} runs {runtime}, whose stacks were not tried with this version of \
                 profpipe: its functions are shown as native code"
            );
        }
    }

    /// Reads code of a process, and that which was used again.
    fn code(&self, attached: &Attached, wants: &Wants) {
        let Some(native) = attached.runtime.native() else { return };
        if !attached.barred.load(Ordering::Relaxed) {
            let mut memory = ProcessMemory::of(attached.pid);
            native.runtime.read(wants, now(), &mut memory);
        }
        native.end();
    }

    fn name(&self, attached: &Attached, key: FunctionKey) {
        let functions = &self.shared.functions;
        if functions.get(&key).is_some() || attached.barred.load(Ordering::Relaxed) {
            return;
        }
        let mut memory = ProcessMemory::of(attached.pid);
        if let Some(function) = attached.runtime.describe(key.code, key.cookie, &mut memory) {
            functions.put(key, function);
        }
    }
}

/// Whether a file is CPython and nothing else, as far as its name says: that decides what is left out,
/// not what is believed.
fn is_alone(file: &File) -> bool {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let name = path.ok().and_then(|path| path.file_name()?.to_str().map(str::to_owned));
    name.is_some_and(|name| name.starts_with("python") || name.starts_with("libpython"))
}

/// Whether a process has another number for itself than we have.
fn is_nested(pid: u32) -> bool {
    inner_id(&format!("/proc/{pid}/status")).is_some_and(|inner| inner != pid)
}

/// The id that a thread has for itself, from its status file.
pub(crate) fn inner_id(path: &str) -> Option<u32> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}
