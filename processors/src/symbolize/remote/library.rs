//! One file of one module: from the cache, else fetched once for all who want it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::super::answer::Reason;
use super::super::build_id::BuildId;
use super::disk::{CacheLookup, Disk};
use super::servers::{Fetched, Servers};
use super::slots::Slots;
use super::tenants::Tenants;
use super::{Counts, FileKind, FileRequest, Provision, Settings};

/// How long a file that is not what was asked for is not fetched again.
const REJECTED_FILE_PAUSE: Duration = Duration::from_secs(600);
/// And one that could not be had, which also spares the tenant's allowance.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(5);
/// Entries for such files before they are cleared.
const MAX_NOTES: usize = 16_384;

type Key = (BuildId, FileKind);

/// A file, and whether it has debug information.
#[derive(Debug, Clone)]
struct CachedFile {
    file: Arc<File>,
    has_debug_info: bool,
}

type Outcome = Result<CachedFile, Reason>;

/// Finds files.
#[derive(Debug)]
pub(super) struct Library {
    disk: Arc<Disk>,
    servers: Servers,
    slots: Slots,
    tenants: Mutex<Tenants>,
    /// What is being fetched.
    flights: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    /// What was fetched in vain, why, and until when that counts.
    failures: Mutex<HashMap<Key, (Reason, Instant)>>,
    counts: Counts,
}

/// What to do about a file that is not in the cache.
enum Turn {
    /// Somebody is at it.
    Wait(watch::Receiver<Option<Outcome>>),
    /// Fetch it, for all.
    Fetch(watch::Sender<Option<Outcome>>),
}

impl Library {
    /// Opens the cache.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn open(settings: Settings, counts: Counts) -> io::Result<Self> {
        let disk = Disk::open(settings.disk, SystemTime::now())?;
        counts.kept(disk.bytes());
        let slots = Slots::new(settings.servers.concurrency);
        Ok(Self {
            disk: Arc::new(disk),
            servers: Servers::new(settings.servers, settings.client, counts.clone()),
            slots,
            tenants: Mutex::new(Tenants::new(settings.allowance)),
            flights: Mutex::default(),
            failures: Mutex::default(),
            counts,
        })
    }

    /// Finds the files of a module.
    pub(super) async fn provide(&self, request: FileRequest) -> Provision {
        let mut provision =
            Provision { executable: Err(Reason::NotFound), debuginfo: Err(Reason::NotFound) };
        let mut is_complete = false;
        if request.executable {
            let found = self.file(&request, FileKind::Executable).await;
            is_complete = found.as_ref().is_ok_and(|found| found.has_debug_info);
            provision.executable = found.map(|found| found.file);
        }
        if request.debuginfo && !is_complete {
            let found = self.file(&request, FileKind::Debuginfo).await;
            provision.debuginfo = found.map(|found| found.file);
        }
        provision
    }

    async fn file(&self, request: &FileRequest, kind: FileKind) -> Outcome {
        let key = (request.build_id.clone(), kind);
        if let Some(known) = self.look_up(&key) {
            return known;
        }
        match self.turn(&key, &request.tenant)? {
            Turn::Wait(mut flight) => {
                let outcome = flight.wait_for(Option::is_some).await;
                // Who fetched it was stopped.
                let outcome = outcome.map_err(|_| Reason::Unavailable)?;
                outcome.clone().unwrap_or(Err(Reason::Unavailable))
            }
            Turn::Fetch(done) => {
                let outcome = self.fetch(&key, &request.tenant).await;
                if let Err(reason) = outcome {
                    self.note_failure(&key, reason);
                }
                lock(&self.flights).remove(&key);
                // Nobody may be waiting.
                let _ = done.send(Some(outcome.clone()));
                outcome
            }
        }
    }

    /// What the cache knows, or has been found out lately.
    fn look_up(&self, key: &Key) -> Option<Outcome> {
        if let Some((reason, until)) = lock(&self.failures).get(key).copied()
            && Instant::now() < until
        {
            return Some(Err(reason));
        }
        let (known, result) = match self.disk.find(&key.0, key.1, SystemTime::now()) {
            CacheLookup::File(file, found) => {
                let file = Arc::new(file);
                (Some(Ok(CachedFile { file, has_debug_info: found.has_debug_info })), "found")
            }
            CacheLookup::Absent => (Some(Err(Reason::NotFound)), "absent"),
            CacheLookup::None => (None, "missing"),
        };
        self.counts.looked_up(result);
        known
    }

    fn turn(&self, key: &Key, tenant: &Arc<str>) -> Result<Turn, Reason> {
        let mut flights = lock(&self.flights);
        // Unless who was at it has come to grief.
        if let Some(flight) = flights.get(key).filter(|flight| flight.has_changed().is_ok()) {
            return Ok(Turn::Wait(flight.clone()));
        }
        if !lock(&self.tenants).admit(tenant, Instant::now()) {
            self.counts.fetched("refused");
            return Err(Reason::Limit);
        }
        let (done, flight) = watch::channel(None);
        flights.insert(key.clone(), flight);
        Ok(Turn::Fetch(done))
    }

    async fn fetch(&self, (build_id, kind): &Key, tenant: &Arc<str>) -> Outcome {
        let Some(_slot) = self.slots.acquire(tenant).await else {
            self.counts.fetched("refused");
            return Err(Reason::Limit);
        };
        let fetched = self.servers.fetch(build_id, *kind, &self.disk).await;
        let (outcome, bytes) = match fetched {
            Ok(Fetched { file, found, bytes }) => {
                let now = SystemTime::now();
                let kept = file.keep(build_id, *kind, now).map_err(|error| {
                    tracing::warn!("symbolize: cannot keep a file in the cache: {error}");
                    Reason::Unavailable
                });
                let has_debug_info = found.has_debug_info;
                (kept.map(|file| CachedFile { file: Arc::new(file), has_debug_info }), bytes)
            }
            Err((reason, bytes)) => (Err(reason), bytes),
        };
        lock(&self.tenants).charge(tenant, bytes, Instant::now());
        if outcome.as_ref().is_err_and(|reason| *reason == Reason::NotFound) {
            self.disk.note_absent(build_id, *kind);
        }
        self.counts.kept(self.disk.bytes());
        self.counts.fetched(match outcome.as_ref().err() {
            None => "found",
            Some(Reason::NotFound) => "not found",
            Some(Reason::Limit) => "too large",
            Some(reason) => reason.text(),
        });
        outcome
    }

    fn note_failure(&self, key: &Key, reason: Reason) {
        let pause = match reason {
            // The disk knows.
            Reason::NotFound => return,
            Reason::Unavailable => UNAVAILABLE_PAUSE,
            _ => REJECTED_FILE_PAUSE,
        };
        let mut failures = lock(&self.failures);
        if failures.len() >= MAX_NOTES {
            failures.clear();
        }
        failures.insert(key.clone(), (reason, Instant::now() + pause));
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
