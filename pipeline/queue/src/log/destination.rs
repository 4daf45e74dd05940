//! The reading end as the engine has it: waiting for records, and leases.
//!
//! Consumers of one destination take turns at waiting, so a wake-up that comes while nobody waits is
//! kept for the next one by `Notify`, and none is lost.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::Log;
use crate::journal::reader::{LeaseOutcome, Leased};
use crate::state::Reader;
use crate::{DestinationId, Losses, Pending, Record};

/// How long a disk that cannot be read is left in peace.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The reading end of one destination; clones are consumers of the same records.
#[derive(Debug, Clone)]
pub struct Destination {
    log: Arc<Log>,
    reader: usize,
    id: DestinationId,
    notify: Arc<Notify>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Destination {
    pub(crate) fn new(log: Arc<Log>, reader: usize, known: &Reader) -> Self {
        Self {
            log,
            reader,
            id: DestinationId(Arc::clone(&known.id)),
            notify: Arc::clone(&known.notify),
            turn: Arc::clone(&known.turn),
        }
    }

    /// What to name it in [`Log::append`].
    pub fn id(&self) -> DestinationId {
        self.id.clone()
    }

    /// The oldest record that nobody has; waits for one. `None` when the log is closed. Dropping
    /// the future loses nothing.
    pub async fn next(&self) -> Option<Lease> {
        let _turn = self.turn.lock().await;
        loop {
            let found = match self.log.journal().lease(self.reader, false) {
                LeaseOutcome::OnDisk => self.read_disk().await,
                LeaseOutcome::Leased(leased) => Ok(Lease::new(self, leased)),
                other => Err(other),
            };
            match found {
                Ok(lease) => return Some(lease),
                Err(LeaseOutcome::Closed) => {
                    // The next in turn is to know too.
                    self.notify.notify_one();
                    return None;
                }
                Err(LeaseOutcome::Trouble) => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(_) => self.notify.notified().await,
            }
        }
    }

    async fn read_disk(&self) -> Result<Lease, LeaseOutcome> {
        let this = self.clone();
        // The lease is made where it is read: if nobody takes it, it goes back.
        let read = tokio::task::spawn_blocking(move || {
            match this.log.journal().lease(this.reader, true) {
                LeaseOutcome::Leased(leased) => Ok(Lease::new(&this, leased)),
                other => Err(other),
            }
        });
        read.await.unwrap_or(Err(LeaseOutcome::Trouble))
    }

    /// How much is not acknowledged yet, leased or not.
    pub fn pending(&self) -> Pending {
        self.log.journal().pending(self.reader)
    }

    /// How much is not acknowledged yet, and what left undelivered since the log was opened, as of one
    /// moment.
    pub fn pending_and_losses(&self) -> (Pending, Losses) {
        let state = self.log.journal().state();
        let losses = state.readers.get(self.reader).map(|reader| reader.losses);
        (state.pending(self.reader), losses.unwrap_or_default())
    }
}

/// A record at hand. Dropped, it goes back to be read again.
#[derive(Debug)]
pub struct Lease {
    /// The record.
    pub record: Record,
    /// When it was kept.
    pub enqueued: SystemTime,
    log: Arc<Log>,
    reader: usize,
    seq: u64,
    finished: bool,
}

impl Lease {
    fn new(destination: &Destination, leased: Leased) -> Self {
        Self {
            record: leased.record,
            enqueued: leased.enqueued,
            log: Arc::clone(&destination.log),
            reader: destination.reader,
            seq: leased.seq,
            finished: false,
        }
    }

    /// The record's number: unique in its log, and higher than those of older records.
    pub fn number(&self) -> u64 {
        self.seq
    }

    /// The destination has it.
    pub fn done(mut self) {
        self.finished = true;
        if self.log.journal().done(self.reader, self.seq) {
            self.log.nudge();
        }
    }

    /// The destination never takes it: it goes to the dead letters, and stays in the log until it
    /// is there.
    /// False if it was dropped from the log meanwhile, which has counted it.
    pub fn dead(mut self, reason: &str) -> bool {
        self.finished = true;
        let dies = self.log.journal().give_up(self.reader, self.seq, reason);
        self.log.nudge();
        dies
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.finished {
            self.log.journal().give_back(self.reader, self.seq);
        }
    }
}
