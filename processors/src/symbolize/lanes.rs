//! Two lanes to the names: what takes long does not hold up the rest.
//!
//! Where there is a budget, to read the debug information of one large binary may take minutes. Then
//! there are two clients, each with a worker of its own. The *first lane* takes every job and answers
//! at once: of binaries with little debug information all that they say, of large ones what their
//! symbol tables say. The large ones it also hands to the *second lane*, which reads their debug
//! information whenever the first has nothing to do; what it finds out is for later batches, and for
//! those that still wait.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::cache::ModuleNumber;
use super::client::{Job, MAX_NOTES, Message};

/// Debug information of more bytes than this is for the second lane. A megabyte takes some
/// milliseconds to inflate and index.
const LARGE_BYTES: u64 = 2 << 20;
/// How often the second lane looks whether the first has finished.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// After so long it does a piece of work all the same.
const MAX_YIELD: Duration = Duration::from_secs(2);

/// Which lane a client is.
#[derive(Debug)]
pub(super) enum Lane {
    /// There is only one.
    Only,
    /// The first.
    First {
        /// The way to the second.
        second: Sender<Message>,
        /// The jobs that the first has.
        jobs: Arc<AtomicUsize>,
        /// The modules whose debug information is for the second.
        large: HashSet<ModuleNumber>,
    },
    /// The second.
    Second(Yield),
}

/// What lets the first lane go first.
#[derive(Debug, Clone)]
pub(super) struct Yield(pub(super) Arc<AtomicUsize>);

impl Yield {
    /// Waits until the first lane has no jobs, but not for ever.
    pub(super) fn wait(&self) {
        let began = Instant::now();
        while self.0.load(Ordering::Relaxed) > 0 && began.elapsed() < MAX_YIELD {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Lane {
    /// Notes how much debug information a module has.
    pub(super) fn note(&mut self, module: ModuleNumber, debug_info_bytes: u64) {
        let Self::First { large, .. } = self else { return };
        if debug_info_bytes > LARGE_BYTES {
            if large.len() >= MAX_NOTES {
                large.clear();
            }
            large.insert(module);
        }
    }

    /// Whether a module's debug information is for the second lane.
    pub(super) fn is_large(&self, module: ModuleNumber) -> bool {
        matches!(self, Self::First { large, .. } if large.contains(&module))
    }

    /// Hands a job to the second lane; false if there is none.
    pub(super) fn hand_over(&self, job: Job) -> bool {
        matches!(self, Self::First { second, .. } if second.send(Message::Job(job)).is_ok())
    }

    /// Hands on what was fetched for a job of the second lane.
    pub(super) fn pass_on(&self, message: Message) {
        if let Self::First { second, .. } = self {
            // It has ended: its answer is not wanted any more.
            let _ = second.send(message);
        }
    }

    /// The first lane has so many jobs.
    pub(super) fn has_jobs(&self, count: usize) {
        if let Self::First { jobs, .. } = self {
            jobs.store(count, Ordering::Relaxed);
        }
    }

    /// What the worker of this lane waits for between two pieces of work.
    pub(super) fn yields(&self) -> Option<Yield> {
        match self {
            Self::Second(first) => Some(first.clone()),
            _ => None,
        }
    }

    /// The first number of a wish, so that it is known whose it is; the next are two more each.
    pub(super) fn first_wish(&self) -> u64 {
        if matches!(self, Self::Second(_)) { 2 } else { 1 }
    }
}

/// Whether a wish is one of the second lane.
pub(super) fn is_of_second_lane(wish: u64) -> bool {
    wish.is_multiple_of(2)
}

/// Takes the next job of a queue, with all that others of the queue want to know of the same module:
/// it is opened and searched once for all of them.
pub(super) fn next_job(queue: &mut VecDeque<Job>) -> Option<Job> {
    let mut job = queue.pop_front()?;
    if !std::mem::take(&mut job.is_fresh) {
        return Some(job);
    }
    let same = |other: &Job| {
        other.is_fresh
            && (other.module, other.tenant.1) == (job.module, job.tenant.1)
            && other.source.is_some() == job.source.is_some()
            && other.provisions.is_empty()
            && job.provisions.is_empty()
    };
    if !queue.iter().any(same) {
        return Some(job);
    }
    let mut rest = VecDeque::with_capacity(queue.len());
    let mut found = Vec::new();
    for other in queue.drain(..) {
        if same(&other) { found.push(other) } else { rest.push_back(other) }
    }
    *queue = rest;
    for other in found {
        job.numbers.extend(other.numbers);
        job.addresses.extend(other.addresses);
        // The file that was seen last is there most likely.
        job.source = other.source;
    }
    job.addresses.sort_unstable();
    job.addresses.dedup();
    Some(job)
}
