//! The log as the engine has it: a handle, and a thread that writes.
//!
//! The thread gathers what comes while it writes into the next group; it waits a moment for more
//! only if the last group had several records, so that a single sender is not slowed down. Between
//! groups it keeps house.

mod destination;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use self::destination::{Destination, Lease};
use crate::disk::Disk;
use crate::journal::Journal;
use crate::journal::recover::Mode;
use crate::journal::writer::Prepared;
use crate::storage::Storage;
use crate::{
    AppendError, DestinationId, Durability, LogSettings, Losses, Pending, QueueError, Record, Stats,
};

/// How often cursors are written.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(200);
/// A group is written once it has so many bytes.
const GROUP_BYTES: u64 = 1 << 20;

/// A durable queue in one directory, shared by all durable exporters.
pub struct Log {
    journal: Arc<Journal>,
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is asked for.
enum Job {
    Append(Prepared, oneshot::Sender<Result<(), AppendError>>),
    Tick,
    Close,
}

impl Log {
    /// Opens the log of a directory, or makes one. Blocks: reads every segment's header and
    /// footer, and what a crash left.
    ///
    /// # Errors
    /// If the directory cannot be used, or another process uses it. Never because of what is in
    /// its files.
    pub fn open(directory: &Path, settings: LogSettings) -> Result<Arc<Self>, QueueError> {
        let fail = |error| QueueError::of_opening(directory, error);
        let disk = Disk::make(directory).map_err(fail)?;
        let durable = settings.durability == Durability::Fsync;
        Self::start(Arc::new(disk), settings, durable).map_err(fail)
    }

    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        settings: LogSettings,
        durable: bool,
    ) -> std::io::Result<Arc<Self>> {
        let journal = Arc::new(Journal::open(storage, settings, durable, Mode::Own)?);
        let (jobs, queue) = channel();
        let worker = Arc::clone(&journal);
        let thread =
            std::thread::Builder::new().name("queue".into()).spawn(move || run(&worker, &queue))?;
        Ok(Arc::new(Self { journal, jobs, thread: Mutex::new(Some(thread)) }))
    }

    /// The reading end of this id. One that is new starts with what comes next.
    ///
    /// # Errors
    /// If the id is empty or absurdly long.
    pub fn destination(self: &Arc<Self>, id: &str) -> Result<Destination, QueueError> {
        if id.is_empty() || id.len() > 1024 {
            return Err(QueueError::DestinationId { bytes: id.len() });
        }
        let mut state = self.journal.state();
        let reader = state.reader(id);
        let known = state.readers.get(reader);
        let known = known.ok_or(QueueError::DestinationId { bytes: id.len() })?;
        Ok(Destination::new(Arc::clone(self), reader, known))
    }

    /// Everybody it holds something for, and how much that is.
    pub fn destinations(&self) -> Vec<(String, Pending)> {
        let state = self.journal.state();
        let readers = state.readers.iter().enumerate();
        let all = readers.map(|(index, reader)| (reader.id.to_string(), state.pending(index)));
        all.filter(|(_, pending)| pending.records > 0).collect()
    }

    /// Everybody who has lost something since it was opened, and how much that is.
    pub fn losses(&self) -> Vec<(String, Losses)> {
        let state = self.journal.state();
        let all = state.readers.iter().map(|reader| (reader.id.to_string(), reader.losses));
        all.filter(|(_, losses)| *losses != Losses::default()).collect()
    }

    /// Keeps a record for these destinations; returns when it is kept as safely as was asked for.
    ///
    /// If the future is dropped, the record may be kept or not.
    ///
    /// # Errors
    /// If it is not kept: the sender still has it.
    pub async fn append(&self, record: Record, to: &[DestinationId]) -> Result<(), AppendError> {
        let to: Arc<[usize]> = {
            let mut state = self.journal.state();
            if state.closed {
                return Err(AppendError::Closed);
            }
            let mut to: Vec<usize> = to.iter().map(|id| state.reader(id.as_str())).collect();
            to.sort_unstable();
            to.dedup();
            to.into()
        };
        if to.is_empty() {
            return Ok(());
        }
        let prepared = Prepared::new(&self.journal, record, to);
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Append(prepared, answer)).map_err(|_| AppendError::Closed)?;
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    /// What the log knows about itself.
    pub fn stats(&self) -> Stats {
        self.journal.stats()
    }

    /// Ends reading and writing; what is kept stays kept, and the directory can be opened again.
    pub async fn close(&self) {
        // Somebody else may be closing it: then that one waits.
        let Some(thread) = self.take_thread() else { return };
        let _ = self.jobs.send(Job::Close);
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }

    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Has the thread keep house now.
    pub(crate) fn nudge(&self) {
        // A thread that is gone has nothing left to do.
        let _ = self.jobs.send(Job::Tick);
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(thread) = self.take_thread() {
            let _ = self.jobs.send(Job::Close);
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The thread.
fn run(journal: &Journal, queue: &Receiver<Job>) {
    let mut group: Vec<Prepared> = Vec::new();
    let mut answers: Vec<oneshot::Sender<Result<(), AppendError>>> = Vec::new();
    let mut ticked = Instant::now();
    let mut crowded = false;
    loop {
        let mut tick = false;
        let mut close = false;
        let mut bytes = 0;
        let mut wait = HOUSEKEEPING_INTERVAL.saturating_sub(ticked.elapsed());
        // The first job is waited for as long as it takes; what else there is goes with it.
        loop {
            match queue.recv_timeout(wait) {
                Ok(Job::Append(prepared, answer)) => {
                    bytes += prepared.bytes();
                    group.push(prepared);
                    answers.push(answer);
                }
                Ok(Job::Tick) => tick = true,
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => close = true,
                Err(RecvTimeoutError::Timeout) => break,
            }
            if close || bytes >= GROUP_BYTES {
                break;
            }
            wait = if crowded { journal.settings.gather } else { Duration::ZERO };
            crowded = false;
        }
        crowded = group.len() > 1;
        let outcomes = journal.append(&group);
        group.clear();
        for (answer, outcome) in answers.drain(..).zip(outcomes) {
            // A sender that has gone does not want to know.
            let _ = answer.send(outcome);
        }
        if tick || ticked.elapsed() >= HOUSEKEEPING_INTERVAL {
            journal.tick();
            ticked = Instant::now();
        }
        if close {
            journal.close();
            return;
        }
    }
}
