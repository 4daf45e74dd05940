//! The durable queues that are open, by directory, so that a new configuration goes on with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoragePlace;
use crate::telemetry::{Metrics, names};
use profpipe_queue::{Destination, Log, LogSettings, Losses, Pending, QueueError};

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
    /// What was lost of each, as far as it is counted.
    losses: BTreeMap<String, Losses>,
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

    /// Counts what queues have lost since it was last counted, also for those that nobody reads.
    pub fn count_losses(&self, metrics: &Metrics) {
        let open: Vec<_> = lock(&self.0).values().cloned().collect();
        for entry in open {
            for (id, losses) in entry.log.losses() {
                let lost = entry.uncounted(&id, losses);
                let component = format!("exporters::{id}");
                for (name, samples) in [
                    (names::EXPORTER_EXPIRED_SAMPLES, lost.expired),
                    (names::EXPORTER_EVICTED_SAMPLES, lost.evicted),
                    (names::EXPORTER_DAMAGED_SAMPLES, lost.damaged),
                ] {
                    if samples > 0 {
                        metrics.counter(name, &component).add(samples);
                    }
                }
            }
        }
    }

    /// Closes the accounts of exporters that are gone, and whose counters are: one that comes back begins
    /// with what waits for it then. `is_gone` is asked for ids as in metrics.
    pub fn close_accounts(&self, metrics: &Metrics, is_gone: impl Fn(&str) -> bool) {
        for entry in lock(&self.0).values() {
            lock(&entry.destinations).counted.retain(|id| {
                let component = format!("exporters::{id}");
                let is_known = metrics.knows(names::EXPORTER_ENQUEUED_SAMPLES, &component);
                is_known || !is_gone(&component)
            });
        }
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
    /// this process, or since its account was closed: told only once.
    pub(crate) fn destination(&self, id: &str) -> Result<(Destination, u64), QueueError> {
        let destination = self.log.destination(id)?;
        let mut known = lock(&self.destinations);
        let first = known.counted.insert(id.to_owned());
        let (pending, losses) = destination.pending_and_losses();
        let counted = known.losses.get(id).copied().unwrap_or_default();
        let lost = losses.minus(counted).samples();
        let waiting = if first { pending.samples + lost } else { 0 };
        drop(known);
        Ok((destination, waiting))
    }

    /// What a destination has lost beyond what is counted; it counts as counted from now on.
    pub(crate) fn uncounted(&self, id: &str, losses: Losses) -> Losses {
        let mut known = lock(&self.destinations);
        match known.losses.get_mut(id) {
            Some(counted) => {
                let more = losses.minus(*counted);
                *counted = counted.max(losses);
                more
            }
            None => {
                known.losses.insert(id.to_owned(), losses);
                losses
            }
        }
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
