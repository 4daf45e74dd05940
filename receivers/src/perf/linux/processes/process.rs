//! What we know of every process: its mappings, its threads, where it came from.
//!
//! A process is identified by a number of our own: the kernel uses a pid again. The table is kept
//! up to date by records, in the order of time, and completed from `/proc` where records cannot
//! know: processes older than the profiler, and everything after a loss. What a mapping shows is
//! asked of [`Host`], so that the table can be tested without one.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use profpipe_host::proc::{self, Stat};

use super::announced::Announced;
use super::probe_page::ProbePage;
use crate::perf::linux::handoff::{RowIx, shrink};
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::records::record::{FileId, Map};

/// The most processes known at a time.
const MAX_PROCESSES: usize = 32_768;
/// The most executable mappings of one process; Java and games have thousands.
const MAX_MAPPINGS: usize = 16_384;
/// The most threads of one process whose name we keep.
pub(super) const MAX_THREADS: usize = 16_384;

/// The most hidden processes that are noted at a time.
const MAX_HIDDEN: usize = 64;

/// What the table asks of the host it runs on.
pub(crate) trait Host {
    /// The content of `/proc/PID/maps`; none if the process is gone or not ours to look at.
    fn maps(&mut self, pid: u32) -> Option<String>;
    /// What the kernel says of a process that is there.
    fn stat(&mut self, pid: u32) -> Option<Stat>;
    /// The path of a process's executable.
    fn executable(&mut self, pid: u32) -> Option<String>;
    /// The name of a thread.
    fn thread_name(&mut self, pid: u32, tid: u32) -> Option<String>;
    /// What a mapping shows.
    fn code(&mut self, mapping: &NewMapping<'_>) -> Code;
    /// Whether an answer of [`Host::code`] since the last call was given because the right one
    /// takes long.
    fn was_hasty(&mut self) -> bool;
    /// Whether there would be no hasty answers now.
    fn is_settled(&mut self) -> bool;
}

/// An executable mapping that somebody made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewMapping<'a> {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) file: FileId<'a>,
    pub(crate) path: &'a str,
}

/// What is mapped somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// A file: `address - bias` is the address in the file's own address space.
    Image { image: ImageIx, bias: u64, row: RowIx },
    /// A file that could not be opened; addresses are offsets in it.
    File { bias: u64, row: RowIx },
    /// Code that the process wrote itself.
    Jit,
    /// A page of the kernel's that a probe has led to, which starts at this address.
    Probe(ProbePage, u64),
}

/// An executable mapping of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) code: Code,
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Our number for it.
    pub(crate) id: u32,
    pub(crate) pid: u32,
    /// The pid of the process that started it; 0 if unknown.
    pub(crate) parent: u32,
    /// The start time in the kernel's ticks; 0 if unknown.
    pub(crate) start_time: u64,
    /// It is a thread of the kernel.
    pub(crate) kernel: bool,
    /// The path of the executable, as the process sees it.
    pub(crate) executable: Option<Arc<str>>,
    /// The name of the first thread.
    pub(crate) name: Arc<str>,
    /// Whether `mappings` is all there is; otherwise it is read when first needed.
    complete: bool,
    /// Some mapping was answered for in haste: all are read again later.
    hasty: bool,
    /// The next executable mapping is the new program.
    after_exec: bool,
    /// Its last thread has ended; samples of that very end may still come.
    ended: bool,
    /// Shared with the parent until one of them changes.
    mappings: Arc<Vec<Mapping>>,
    threads: HashSet<u32>,
    /// The names of threads, as far as known.
    names: HashMap<u32, Arc<str>>,
    /// What was sent of this process.
    pub(crate) announced: Announced,
}

/// Every process.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    by_pid: HashMap<u32, Process>,
    /// Those that have ended and were not forgotten yet.
    ended: Vec<u32>,
    /// Threads that ended in this window: samples of their very end do not bring them back.
    ended_threads: HashSet<u32>,
    /// The ids of those that were sent and are no longer known.
    forgotten: Vec<u32>,
    /// The pids and programs of those that the kernel does not let us see any more.
    hidden: Vec<(u32, Arc<str>)>,
    last_id: u32,
}

impl Processes {
    /// The number of processes that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.by_pid.len().saturating_sub(self.ended.len())
    }

    /// Our number for a process.
    pub(crate) fn id_of(&self, pid: u32) -> Option<u32> {
        self.by_pid.get(&pid).filter(|process| !process.ended).map(|process| process.id)
    }

    /// Every process.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values()
    }

    /// The process of a sample, with all its mappings.
    pub(crate) fn sampled(
        &mut self,
        pid: u32,
        tid: u32,
        host: &mut impl Host,
    ) -> Option<&mut Process> {
        if !self.by_pid.contains_key(&pid) {
            self.begin(pid, 0);
        }
        self.complete(pid, host);
        let process = self.by_pid.get_mut(&pid)?;
        if process.threads.len() < MAX_THREADS
            && !process.ended
            && !self.ended_threads.contains(&tid)
        {
            process.threads.insert(tid);
        }
        Some(process)
    }

    /// Whether a sample of a process would have its mappings read.
    pub(crate) fn is_unread(&self, pid: u32) -> bool {
        self.by_pid.get(&pid).is_none_or(|process| !process.complete)
    }

    /// A process of which it is known who it is: what it maps is read when it is sampled. None if it is gone.
    pub(crate) fn identified(&mut self, pid: u32, host: &mut impl Host) -> Option<&mut Process> {
        if !self.by_pid.contains_key(&pid) && !self.begin(pid, 0)?.identify(host) {
            self.by_pid.remove(&pid);
        }
        self.by_pid.get_mut(&pid)
    }

    /// A process as far as it is known: nothing is read.
    pub(crate) fn unread(&mut self, pid: u32) -> Option<&mut Process> {
        if !self.by_pid.contains_key(&pid) {
            self.begin(pid, 0);
        }
        self.by_pid.get_mut(&pid)
    }

    /// Records are missing from now on: what is known of processes is read again when needed.
    pub(crate) fn invalidate(&mut self) {
        for process in self.by_pid.values_mut() {
            process.complete = false;
        }
    }

    /// Reads what is not known of a process; if it is gone already, it was most likely what its
    /// parent is.
    fn complete(&mut self, pid: u32, host: &mut impl Host) -> Option<()> {
        let process = self.by_pid.get_mut(&pid)?;
        let again = process.hasty && host.is_settled();
        if again {
            process.scan(host);
            return Some(());
        }
        // What is known of one that is gone is better than what its parent is now.
        if process.complete || process.scan(host) || !process.mappings.is_empty() {
            return Some(());
        }
        let parent = process.parent;
        if parent != 0 && !self.by_pid.contains_key(&parent) {
            self.begin(parent, 0);
        }
        let parent = self.by_pid.get_mut(&parent)?;
        if !parent.complete {
            parent.scan(host);
        }
        let (mappings, executable) = (Arc::clone(&parent.mappings), parent.executable.clone());
        let name = Arc::clone(&parent.name);
        let process = self.by_pid.get_mut(&pid)?;
        process.mappings = mappings;
        process.executable = process.executable.take().or(executable);
        if process.name.is_empty() {
            process.name = name;
        }
        Some(())
    }

    /// A mapping appeared.
    pub(crate) fn map(&mut self, map: &Map<'_>, host: &mut impl Host) {
        if !map.executable {
            return;
        }
        let Some(process) = self.by_pid.get_mut(&map.pid) else {
            // Not sampled yet: all its mappings are read when it is.
            return;
        };
        let path = String::from_utf8_lossy(map.path);
        let Some(end) = map.start.checked_add(map.length) else { return };
        if process.after_exec && path.starts_with('/') && !path.starts_with("//") {
            process.after_exec = false;
            process.executable = Some(path.as_ref().into());
        }
        process.insert(
            &NewMapping {
                pid: map.pid,
                start: map.start,
                end,
                offset: map.offset,
                file: map.file,
                path: &path,
            },
            host,
        );
    }

    /// A thread got a name, perhaps because it executes another program.
    pub(crate) fn name(&mut self, pid: u32, tid: u32, exec: bool, name: &[u8]) {
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        if exec {
            // Everything is replaced: a new program with a single thread, which has the pid.
            let parent = self.by_pid.get(&pid).map_or(0, |process| process.parent);
            let start = self.by_pid.get(&pid).map_or(0, |process| process.start_time);
            if let Some(process) = self.begin(pid, parent) {
                process.complete = true;
                process.after_exec = true;
                process.start_time = start;
                process.name = name;
            }
            return;
        }
        if let Some(process) = self.by_pid.get_mut(&pid) {
            if pid == tid {
                process.name = Arc::clone(&name);
            }
            process.announced.forget_thread(tid);
            if process.names.len() < MAX_THREADS {
                process.names.insert(tid, name);
            }
        }
    }

    /// A thread or a process began.
    pub(crate) fn fork(&mut self, pid: u32, tid: u32, parent: u32, parent_tid: u32) {
        self.ended_threads.remove(&tid);
        if pid == parent {
            if let Some(process) = self.by_pid.get_mut(&pid)
                && process.threads.len() < MAX_THREADS
            {
                process.threads.insert(tid);
                let name = process.names.get(&parent_tid).cloned();
                process.names.extend(name.map(|name| (tid, name)));
            }
            return;
        }
        let inherited = self.by_pid.get(&parent).map(|parent| {
            let name = parent.names.get(&parent_tid).unwrap_or(&parent.name);
            let complete = parent.complete && !parent.hasty;
            (complete, Arc::clone(&parent.mappings), parent.executable.clone(), name.clone())
        });
        if let (Some(child), Some(inherited)) = (self.begin(pid, parent), inherited) {
            (child.complete, child.mappings, child.executable, child.name) = inherited;
        }
    }

    /// A thread ended; with the last one the process has, too.
    pub(crate) fn exit(&mut self, pid: u32, tid: u32) {
        let Some(process) = self.by_pid.get_mut(&pid) else { return };
        // Nobody ends between `exec` and the first mapping: the kernel has taken our events away,
        // because the program has rights that we lack.
        if process.after_exec && !process.ended && self.hidden.len() < MAX_HIDDEN {
            self.hidden.push((pid, Arc::clone(&process.name)));
        }
        process.threads.remove(&tid);
        process.names.remove(&tid);
        process.announced.forget_thread(tid);
        if self.ended_threads.len() < MAX_THREADS {
            self.ended_threads.insert(tid);
        }
        // A process not seen from its beginning may have threads that we never heard of; the
        // first thread stays a zombie until they end.
        if process.threads.is_empty() && !process.ended {
            process.ended = true;
            self.ended.push(pid);
        }
    }

    /// The processes that could not be followed into the program they execute, since the last call.
    pub(crate) fn take_hidden(&mut self) -> Vec<(u32, Arc<str>)> {
        std::mem::take(&mut self.hidden)
    }

    /// Forgets processes that have ended: every sample of their time has come.
    pub(crate) fn forget_ended(&mut self) {
        for pid in self.ended.drain(..) {
            if self.by_pid.get(&pid).is_some_and(|process| process.ended)
                && let Some(process) = self.by_pid.remove(&pid)
            {
                self.forgotten.extend(process.announced_id());
            }
        }
        self.ended_threads.clear();
        shrink(&mut self.by_pid);
    }

    /// Forgets what was sent of threads that have had no samples for so long that their names are
    /// sent again.
    pub(crate) fn forget_threads(&mut self, window: u64) {
        for process in self.by_pid.values_mut() {
            process.announced.forget_threads(window);
        }
    }

    /// Records were lost: nothing is certain any more. Processes that are gone are forgotten, the
    /// others' mappings are read again when needed.
    pub(crate) fn lost(&mut self, host: &mut impl Host) {
        self.retain(|process| {
            let Some(stat) = host.stat(process.pid) else { return false };
            process.complete = false;
            process.is_of(stat)
        });
    }

    /// Forgets processes that are gone although no record said so.
    pub(crate) fn sweep(&mut self, host: &mut impl Host) {
        self.retain(|process| host.stat(process.pid).is_some_and(|stat| process.is_of(stat)));
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Process) -> bool) {
        let forgotten = &mut self.forgotten;
        self.by_pid.retain(|_, process| {
            let is_kept = keep(process);
            if !is_kept {
                forgotten.extend(process.announced_id());
            }
            is_kept
        });
    }

    /// The ids of processes that the consumer of samples can forget, too, since the last call.
    pub(crate) fn take_forgotten(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.forgotten)
    }

    /// It had no room for these: they are taken again the next time.
    pub(crate) fn put_back(&mut self, forgotten: Vec<u32>) {
        self.forgotten.extend(forgotten);
    }

    /// A new process under this pid.
    fn begin(&mut self, pid: u32, parent: u32) -> Option<&mut Process> {
        if self.by_pid.len() >= MAX_PROCESSES && !self.by_pid.contains_key(&pid) {
            return None;
        }
        self.last_id = self.last_id.wrapping_add(1);
        let process = Process {
            id: self.last_id,
            pid,
            parent,
            start_time: 0,
            kernel: false,
            executable: None,
            name: "".into(),
            complete: false,
            hasty: false,
            after_exec: false,
            ended: false,
            mappings: Arc::default(),
            threads: HashSet::from_iter([pid]),
            names: HashMap::new(),
            announced: Announced::default(),
        };
        if let Some(before) = self.by_pid.remove(&pid) {
            self.forgotten.extend(before.announced_id());
        }
        Some(self.by_pid.entry(pid).insert(process).into_mut())
    }
}

impl Process {
    /// Its id, if it was sent to the consumer of samples.
    fn announced_id(&self) -> Option<u32> {
        self.announced.process.then_some(self.id)
    }

    /// Whether this is what `/proc` says of it, as far as is known.
    fn is_of(&self, stat: Stat) -> bool {
        self.start_time == 0 || self.start_time == stat.start_time
    }

    /// Some mapping shows a file that was not opened in time, and may be known better later.
    pub(crate) fn is_hasty(&self) -> bool {
        self.hasty
    }

    /// The mapping that holds an address.
    pub(crate) fn find(&self, address: u64) -> Option<&Mapping> {
        let at = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings.get(at.checked_sub(1)?).filter(|mapping| address < mapping.end)
    }

    /// The rows of the files that it maps.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowIx> {
        self.mappings.iter().filter_map(|mapping| match mapping.code {
            Code::Image { row, .. } | Code::File { row, .. } => Some(row),
            Code::Jit | Code::Probe(..) => None,
        })
    }

    /// The images that it maps.
    pub(crate) fn images(&self) -> impl Iterator<Item = ImageIx> {
        self.mappings.iter().filter_map(|mapping| match mapping.code {
            Code::Image { image, .. } => Some(image),
            _ => None,
        })
    }

    /// How many executable mappings are known.
    pub(crate) fn mappings_known(&self) -> usize {
        self.mappings.len()
    }

    /// The same with how far they are from their files' own addresses.
    pub(crate) fn image_places(&self) -> impl Iterator<Item = (ImageIx, u64)> {
        self.mappings.iter().filter_map(|mapping| match mapping.code {
            Code::Image { image, bias, .. } => Some((image, bias)),
            _ => None,
        })
    }

    /// The name of a thread.
    pub(crate) fn thread_name(&mut self, tid: u32, host: &mut impl Host) -> Arc<str> {
        if let Some(name) = self.names.get(&tid) {
            return Arc::clone(name);
        }
        let name = host.thread_name(self.pid, tid);
        let name: Arc<str> = name.map_or_else(|| Arc::clone(&self.name), Arc::from);
        // That of a thread that has ended would stay.
        if self.names.len() < MAX_THREADS && self.threads.contains(&tid) {
            self.names.insert(tid, Arc::clone(&name));
        }
        name
    }

    /// How many threads it has, and of how many the name is kept.
    #[cfg(test)]
    pub(crate) fn threads_known(&self) -> (usize, usize) {
        (self.threads.len(), self.names.len())
    }

    /// What it maps is read again when it is sampled next.
    pub(crate) fn doubt(&mut self) {
        self.complete = false;
    }

    /// Reads from the host who it is; false if the process is gone.
    fn identify(&mut self, host: &mut impl Host) -> bool {
        let Some(stat) = host.stat(self.pid) else { return false };
        self.start_time = stat.start_time;
        self.kernel = stat.kernel;
        if let Some(executable) = host.executable(self.pid) {
            self.executable = Some(executable.into());
        }
        if let Some(name) = host.thread_name(self.pid, self.pid) {
            self.name = name.into();
        }
        true
    }

    /// Reads all mappings from the host; false if the process is gone.
    fn scan(&mut self, host: &mut impl Host) -> bool {
        // Also if it cannot be read: asking again at every sample would not help.
        self.complete = true;
        // What was sent of it so far may have been less.
        self.announced.forget();
        self.hasty = false;
        if !self.identify(host) {
            return false;
        }
        // A process that may not be looked at is not gone.
        let Some(text) = host.maps(self.pid) else { return true };
        self.mappings = Arc::default();
        for line in proc::executable(&text) {
            let file = FileId::Inode { major: line.major, minor: line.minor, inode: line.inode };
            let mapping = NewMapping {
                pid: self.pid,
                start: line.start,
                end: line.end,
                offset: line.offset,
                file,
                path: line.path,
            };
            self.insert(&mapping, host);
        }
        true
    }

    fn insert(&mut self, new: &NewMapping<'_>, host: &mut impl Host) {
        if new.start >= new.end {
            return;
        }
        let code = host.code(new);
        self.hasty |= host.was_hasty();
        let mappings = Arc::make_mut(&mut self.mappings);
        // What lies under the new mapping is gone; what sticks out at either side stays.
        let first = mappings.partition_point(|old| old.end <= new.start);
        let last = mappings.partition_point(|old| old.start < new.end);
        let mut pieces = Vec::with_capacity(3);
        for old in mappings.get(first..last.max(first)).unwrap_or_default() {
            if old.start < new.start {
                pieces.push(Mapping { end: new.start, ..*old });
            }
        }
        pieces.push(Mapping { start: new.start, end: new.end, code });
        for old in mappings.get(first..last.max(first)).unwrap_or_default() {
            if old.end > new.end {
                pieces.push(Mapping { start: new.end, ..*old });
            }
        }
        if mappings.len() + pieces.len() > MAX_MAPPINGS + (last - first.min(last)) {
            return;
        }
        mappings.splice(first..last.max(first), pieces);
    }
}
