//! A stand-in with the log's interface: records are written to a file and held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::{AppendError, DestinationId, LogSettings, Pending, Record};
use crate::component::{Error, StoragePlace};

/// A durable queue in one directory, shared by all durable exporters.
#[derive(Debug)]
pub struct Log {
    file: Mutex<File>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    closed: bool,
    destinations: BTreeMap<DestinationId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<u64, (Record, SystemTime)>,
    leased: BTreeMap<u64, (Record, SystemTime)>,
    notify: Arc<Notify>,
}

/// What a log knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// What the segments take, in bytes.
    pub bytes: u64,
}

impl Log {
    /// Opens the log of a directory, or makes one.
    ///
    /// # Errors
    /// If the directory cannot be used, or is used by another process.
    pub fn open(place: &StoragePlace, _settings: LogSettings) -> Result<Arc<Self>, Error> {
        let fail =
            |error| Error::with_source(format!("cannot use {}", place.directory.display()), error);
        std::fs::create_dir_all(&place.directory).map_err(fail)?;
        let file = File::create(place.directory.join("thin")).map_err(fail)?;
        Ok(Arc::new(Self { file: Mutex::new(file), state: Mutex::default() }))
    }

    /// The reading end of this id; a new one starts with what comes next.
    ///
    /// # Errors
    /// If the id cannot be used.
    pub fn destination(self: &Arc<Self>, id: &str) -> Result<Destination, Error> {
        let id = DestinationId(id.into());
        let notify = Arc::clone(&self.lock().destinations.entry(id.clone()).or_default().notify);
        Ok(Destination { log: Arc::clone(self), id, notify, turn: Arc::default() })
    }

    /// Keeps a record for these destinations; returns when it is kept as safely as was asked for.
    ///
    /// # Errors
    /// If it is not kept: the sender still has it.
    pub async fn append(&self, record: Record, to: &[DestinationId]) -> Result<(), AppendError> {
        if self.lock().closed {
            return Err(AppendError::Closed);
        }
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&record.payload)
                .and_then(|()| file.sync_data())
                .map_err(|error| AppendError::Disk(error.to_string()))?;
        }
        let mut state = self.lock();
        state.next += 1;
        let seq = state.next;
        for id in to {
            if let Some(queue) = state.destinations.get_mut(id) {
                queue.waiting.insert(seq, (record.clone(), SystemTime::now()));
                queue.notify.notify_one();
            }
        }
        Ok(())
    }

    /// What the log knows about itself.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Ends all reading and writing; what is kept stays kept.
    pub async fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for queue in state.destinations.values() {
            queue.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end of one destination; clones are consumers of the same records.
#[derive(Debug, Clone)]
pub struct Destination {
    log: Arc<Log>,
    id: DestinationId,
    notify: Arc<Notify>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Destination {
    /// What to name it in [`Log::append`].
    pub fn id(&self) -> DestinationId {
        self.id.clone()
    }

    /// The oldest record that nobody has; waits for one. `None` when the log is closed.
    pub async fn next(&self) -> Option<Lease> {
        let _turn = self.turn.lock().await;
        loop {
            {
                let mut state = self.log.lock();
                if state.closed {
                    return None;
                }
                let queue = state.destinations.get_mut(&self.id)?;
                if let Some((seq, (record, enqueued))) = queue.waiting.pop_first() {
                    queue.leased.insert(seq, (record.clone(), enqueued));
                    let destination = self.clone();
                    return Some(Lease { record, enqueued, destination, seq, finished: false });
                }
            }
            self.notify.notified().await;
        }
    }

    /// How much is not acknowledged yet, leased or not.
    pub fn pending(&self) -> Pending {
        let state = self.log.lock();
        let Some(queue) = state.destinations.get(&self.id) else { return Pending::default() };
        let mut pending = Pending::default();
        for (record, _) in queue.waiting.values().chain(queue.leased.values()) {
            pending.records += 1;
            pending.bytes += record.payload.len() as u64;
            pending.samples += record.samples;
        }
        pending
    }
}

/// A record at hand. Dropped, it goes back to be read again.
#[derive(Debug)]
pub struct Lease {
    /// The record.
    pub record: Record,
    /// When it was kept.
    pub enqueued: SystemTime,
    destination: Destination,
    seq: u64,
    finished: bool,
}

impl Lease {
    /// The destination has it.
    pub fn done(mut self) {
        self.finish();
    }

    /// The destination never takes it: it goes to the dead letters.
    pub fn dead(mut self, reason: &str) {
        tracing::warn!("{}: a dead letter: {reason}", self.destination.id);
        self.finish();
    }

    fn finish(&mut self) {
        self.finished = true;
        let mut state = self.destination.log.lock();
        if let Some(queue) = state.destinations.get_mut(&self.destination.id) {
            queue.leased.remove(&self.seq);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut state = self.destination.log.lock();
        if let Some(queue) = state.destinations.get_mut(&self.destination.id) {
            if let Some(back) = queue.leased.remove(&self.seq) {
                queue.waiting.insert(self.seq, back);
            }
            queue.notify.notify_one();
        }
    }
}
