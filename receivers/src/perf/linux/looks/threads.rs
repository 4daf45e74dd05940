//! The threads that there are to look at, and what the scheduler has counted of them.
//!
//! They are listed again and again. Between two listings the time of each is told apart exactly: it has
//! run, was ready to run, or was blocked. Looks only tell where; their sums are corrected to these.

use std::fs;

use hashbrown::{HashMap, HashSet};
use profpipe_host::proc::Stat;

use super::look::Schedule;
use crate::perf::Parked;
use crate::perf::linux::events::target::Target;
use crate::perf::linux::events::tasks::{threads_of, tree_of};
use crate::perf::linux::thread::now;

/// A thread that has not run for so long is parked, in nanoseconds.
const PARKED_AFTER: u64 = 10_000_000_000;
/// The most threads that are looked at.
const MAX_THREADS: usize = 1 << 16;

/// How a process has spent its time, in nanoseconds of all its threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessTime {
    /// Blocked, without threads that are parked.
    pub(crate) blocked: u64,
    /// Ready to run, without a CPU.
    pub(crate) ready: u64,
    /// Blocked for so long that nobody asks where.
    pub(crate) parked: u64,
    /// Looks that found it blocked.
    pub(crate) looks: u64,
}

/// A thread, by its process and its own number.
pub(super) type ThreadId = (u32, u32);

/// What is known of a thread.
#[derive(Debug, Clone, Copy)]
struct Thread {
    schedule: Schedule,
    /// When that was read.
    read: u64,
    /// When it was last seen to have run.
    ran: u64,
    /// What looks since then stand for.
    estimated: u64,
    /// The listing that it was last in.
    listing: u64,
}

impl Thread {
    fn is_parked(&self) -> bool {
        self.read.saturating_sub(self.ran) >= PARKED_AFTER
    }
}

/// The threads of a scope.
pub(super) struct Threads {
    target: Target,
    parked: Parked,
    /// Processes of a tree that were seen; their children belong to it when they have ended.
    members: HashSet<u32>,
    /// Processes of the kernel, whose threads wait for work.
    kernel: HashSet<u32>,
    threads: HashMap<ThreadId, Thread>,
    listing: u64,
    /// Those that are looked at: who runs now and then, and who has not for long.
    pub(super) active: Vec<ThreadId>,
    pub(super) resting: Vec<ThreadId>,
    /// How processes have spent their time since it was asked for.
    pub(super) times: HashMap<u32, ProcessTime>,
}

impl Threads {
    pub(super) fn new(target: Target, parked: Parked) -> Self {
        let members = match target {
            Target::Tree(pid) => HashSet::from([pid]),
            _ => HashSet::new(),
        };
        Self {
            target,
            parked,
            members,
            kernel: HashSet::new(),
            threads: HashMap::new(),
            listing: 0,
            active: Vec::new(),
            resting: Vec::new(),
            times: HashMap::new(),
        }
    }

    /// Lists them again, and adds the time since the last listing.
    pub(super) fn list(&mut self) {
        self.listing += 1;
        self.active.clear();
        self.resting.clear();
        for pid in self.processes() {
            for tid in threads_of(pid) {
                self.visit((pid, tid));
            }
        }
        let listing = self.listing;
        for ((pid, _), thread) in self.threads.extract_if(|_, thread| thread.listing != listing) {
            // It has ended: what is known of its last time are the looks.
            self.times.entry(pid).or_default().blocked += thread.estimated;
        }
    }

    /// Knows of no thread: nothing is looked at for a while, and what passes meanwhile is not told.
    pub(super) fn forget(&mut self) {
        self.threads.clear();
        self.active.clear();
        self.resting.clear();
    }

    fn visit(&mut self, id: ThreadId) {
        let (pid, tid) = id;
        let Some(schedule) = Schedule::read(pid, tid) else { return };
        let read = now();
        let times = self.times.entry(pid).or_default();
        let new = Thread { schedule, read, ran: read, estimated: 0, listing: self.listing };
        let is_full = self.threads.len() >= MAX_THREADS;
        let thread = match self.threads.get_mut(&id) {
            Some(before) => {
                let was_parked = before.is_parked();
                let has_run = before.schedule.slices != schedule.slices
                    || before.schedule.run != schedule.run;
                let elapsed = read.saturating_sub(before.read);
                let run = schedule.run.saturating_sub(before.schedule.run);
                let ready = schedule.ready.saturating_sub(before.schedule.ready);
                let blocked = elapsed.saturating_sub(run).saturating_sub(ready);
                times.ready += ready;
                match self.parked {
                    Parked::Sum if was_parked && !has_run => times.parked += blocked,
                    Parked::Drop if was_parked && !has_run => {}
                    _ => times.blocked += blocked,
                }
                let ran = if has_run { read } else { before.ran };
                *before = Thread { ran, ..new };
                *before
            }
            None if !is_full => {
                self.threads.insert(id, new);
                new
            }
            None => return,
        };
        match (thread.is_parked(), self.parked) {
            (false, _) => self.active.push(id),
            (true, Parked::Keep) => self.resting.push(id),
            (true, Parked::Sum | Parked::Drop) => {}
        }
    }

    /// A look has found a thread blocked, which stands for so much.
    pub(super) fn found(&mut self, id: ThreadId, weight: u64) {
        let times = self.times.entry(id.0).or_default();
        times.looks += 1;
        if let Some(thread) = self.threads.get_mut(&id) {
            thread.estimated += weight;
        }
    }

    fn processes(&mut self) -> Vec<u32> {
        let own = std::process::id();
        if let Target::Tree(_) = self.target {
            return self.tree();
        }
        let mut all = self.target.processes();
        all.retain(|pid| *pid != own);
        if let Target::Host = self.target {
            let known: HashSet<u32> = self.threads.keys().map(|(pid, _)| *pid).collect();
            let there: HashSet<u32> = all.iter().copied().collect();
            self.kernel.retain(|pid| there.contains(pid));
            let is_kernel = |pid: &u32| Stat::read(*pid).is_some_and(|stat| stat.kernel);
            for pid in &all {
                if !known.contains(pid) && !self.kernel.contains(pid) && is_kernel(pid) {
                    self.kernel.insert(*pid);
                }
            }
            all.retain(|pid| !self.kernel.contains(pid));
        }
        all
    }

    /// The processes of a tree that are there, with the children of those that were.
    fn tree(&mut self) -> Vec<u32> {
        let mut new: Vec<u32> = self.members.iter().copied().collect();
        while let Some(pid) = new.pop() {
            for child in children_of(pid) {
                if self.members.insert(child) {
                    new.push(child);
                }
            }
        }
        self.members.retain(|pid| fs::exists(format!("/proc/{pid}/task")).unwrap_or(false));
        self.members.iter().copied().collect()
    }
}

/// The children of a process, as the kernel lists them, or by who names it as parent.
fn children_of(pid: u32) -> Vec<u32> {
    let lists: Option<Vec<String>> = threads_of(pid)
        .into_iter()
        .map(|tid| fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).ok())
        .collect();
    match lists {
        Some(lists) => {
            let numbers = lists.iter().flat_map(|list| list.split_ascii_whitespace());
            numbers.filter_map(|number| number.parse().ok()).collect()
        }
        // Kernels can be built without that list; a thread may have ended meanwhile, too.
        None if fs::exists(format!("/proc/{pid}")).unwrap_or(false) => {
            tree_of(pid).into_iter().filter(|other| *other != pid).collect()
        }
        None => Vec::new(),
    }
}
