//! The durable queues that are open, by directory, so that a new configuration goes on with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoragePlace;
use profpipe_queue::{Destination, Log, LogSettings, Pending, QueueError};

/// The durable queues of a program.
///
/// A directory is opened once and stays open until [`OpenQueues::close`]: an engine that replaces another
/// finds it as it is. What is consumed for a destination is consumed by one engine at a time.
#[derive(Debug, Default)]
pub struct OpenQueues(Mutex<BTreeMap<PathBuf, Arc<OpenQueue>>>);

/// A durable queue that is open.
#[derive(Debug)]
pub(crate) struct OpenQueue {
    pub(crate) log: Arc<Log>,
    pub(crate) place: StoragePlace,
    destinations: Mutex<Destinations>,
}

#[derive(Debug, Default)]
struct Destinations {
    /// Held by whoever consumes.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Those whose records from before this process are counted.
    counted: BTreeSet<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenQueues {
    /// The queue of a place, opened if it is not.
    pub(crate) fn open(&self, place: &StoragePlace) -> Result<Arc<OpenQueue>, QueueError> {
        let mut open = lock(&self.0);
        if let Some(known) = open.get(&place.directory) {
            if known.place != *place {
                tracing::warn!(
                    "{}: the queue is open; its changed settings take effect at the next start",
                    place.directory.display()
                );
            }
            return Ok(Arc::clone(known));
        }
        let log = Log::open(&place.directory, settings(place))?;
        let entry = OpenQueue { log, place: place.clone(), destinations: Mutex::default() };
        let entry = Arc::new(entry);
        open.insert(place.directory.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// The directories that are open, and everybody that something waits for there.
    pub fn destinations(&self) -> Vec<(PathBuf, Vec<(String, Pending)>)> {
        let open = lock(&self.0);
        open.iter().map(|(place, entry)| (place.clone(), entry.log.destinations())).collect()
    }

    /// Closes every queue: what was delivered is noted, what waits stays. To be called once no
    /// engine runs any more; queues that are dropped without it deliver again what was delivered
    /// last.
    pub async fn close(&self) {
        let open = std::mem::take(&mut *lock(&self.0));
        for entry in open.into_values() {
            entry.log.close().await;
        }
    }
}

impl OpenQueue {
    /// The reading end of a destination, and the number of samples that wait for it since before
    /// this process: told only once.
    pub(crate) fn destination(&self, id: &str) -> Result<(Destination, u64), QueueError> {
        let destination = self.log.destination(id)?;
        let first = lock(&self.destinations).counted.insert(id.to_owned());
        let waiting = if first { destination.pending().samples } else { 0 };
        Ok((destination, waiting))
    }

    /// How much it may hold, in bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        settings(&self.place).max_bytes
    }

    /// To be held while consuming.
    pub(crate) fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.destinations).turns.entry(id.to_owned()).or_default())
    }
}

/// What a log is told, from what the extension knows.
fn settings(place: &StoragePlace) -> LogSettings {
    let usual = LogSettings::default();
    LogSettings {
        max_bytes: place.max_bytes.unwrap_or(usual.max_bytes),
        max_age: place.max_age.or(usual.max_age),
        segment_bytes: place.segment_bytes.unwrap_or(usual.segment_bytes),
        min_free: place.min_free_bytes.or(usual.min_free),
        durability: place.durability.into(),
        ..usual
    }
}
