//! The way into the durable queues of one storage: a batch is written once for all exporters of a
//! pipeline that keep their queues there, and its sender has its answer when the disk has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::counters::Counters;
use super::now;
use crate::batch::{Batch, Outcome};
use crate::delivery::{Queueing, Sizer};
use crate::graph::log_rate_limit::LogRateLimit;
use crate::storage::OpenQueue;
use profpipe_queue::{Destination, Log, Record};

/// How much waits for one destination, and what that means for what comes.
#[derive(Debug)]
pub(super) struct Depth {
    pub(super) id: Arc<str>,
    pub(super) destination: Destination,
    queue: Arc<OpenQueue>,
    pub(super) counters: Arc<Counters>,
    sizer: Sizer,
    /// What the size is shown in: as the limit is, if that is the storage's.
    shown: Sizer,
    capacity: Option<u64>,
    block: bool,
    /// Told when something is delivered.
    freed: Notify,
    quiet: Mutex<LogRateLimit>,
}

impl Depth {
    pub(super) fn new(
        id: Arc<str>,
        (queue, destination): (Arc<OpenQueue>, Destination),
        counters: Arc<Counters>,
        settings: &Queueing,
    ) -> Self {
        let depth = Self {
            id,
            destination,
            queue,
            counters,
            sizer: settings.sizer,
            shown: settings.capacity.map_or(Sizer::Bytes, |_| settings.sizer),
            capacity: settings.capacity,
            block: settings.block_on_overflow,
            freed: Notify::new(),
            quiet: Mutex::new(LogRateLimit::every(Duration::from_secs(60))),
        };
        depth.update();
        depth
    }

    /// Looks at the queue anew: after something was written, delivered or put aside.
    pub(super) fn update(&self) {
        let (pending, losses) = self.destination.pending_and_losses();
        let losses = self.queue.uncounted(&self.id, losses);
        self.counters.expired.add(losses.expired);
        self.counters.evicted.add(losses.evicted);
        self.counters.damaged.add(losses.damaged);
        self.counters.pending.set(pending.samples);
        self.counters.queue_size.set(match self.shown {
            Sizer::Requests => pending.records,
            Sizer::Items => pending.samples,
            Sizer::Bytes => pending.bytes,
        });
        self.freed.notify_waiters();
    }

    /// Looks at the queue for the last time: until the dead letters are written, for a moment.
    pub(super) async fn settle(&self) {
        self.update();
        for _ in 0..25 {
            if self.counters.dead.get() == 0 || self.counters.balance() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.update();
        }
    }

    /// True if there is room; what is larger than the whole queue gets in alone.
    fn fits(&self, batch: &Batch) -> bool {
        let Some(capacity) = self.capacity else { return true };
        let pending = self.destination.pending();
        let (size, more) = match self.sizer {
            Sizer::Requests => (pending.records, 1),
            Sizer::Items => (pending.samples, batch.samples() as u64),
            Sizer::Bytes => (pending.bytes, batch.bytes() as u64),
        };
        pending.records == 0 || size.saturating_add(more) <= capacity
    }

    /// Notes that a batch was not taken.
    fn missed(&self, batch: &Batch, why: &str) {
        self.counters.enqueue_failed.add(batch.samples() as u64);
        let more = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).pass(now());
        if let Some(more) = more {
            tracing::warn!("exporters::{}: senders are told to try later: {why}{more}", self.id);
        }
    }

    /// Waits for room.
    async fn room(&self, batch: &Batch) {
        loop {
            let freed = self.freed.notified();
            if self.fits(batch) {
                return;
            }
            freed.await;
        }
    }
}

/// What writes into one storage for one pipeline.
pub(in crate::graph) struct Appender {
    pub(super) log: Arc<Log>,
    pub(super) depths: Arc<[Arc<Depth>]>,
    pub(super) batches: mpsc::UnboundedReceiver<Batch>,
    pub(super) stop: watch::Receiver<Option<Instant>>,
    pub(super) finish: watch::Receiver<bool>,
}

impl Appender {
    /// Runs until every way in is gone and everything is written, or until the engine's last
    /// instant.
    pub(in crate::graph) async fn run(mut self) {
        // Written side by side, so that the disk is asked once for many.
        let mut writes = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = writes.join_next() => {}
                batch = self.batches.recv() => match batch {
                    Some(batch) => {
                        let (log, depths) = (Arc::clone(&self.log), Arc::clone(&self.depths));
                        let finish = self.finish.clone();
                        writes.spawn(write(log, depths, Unsettled(Some(batch)), finish));
                    }
                    None => break,
                },
                () = told(&mut self.finish), if !self.batches.is_closed() => {
                    self.batches.close();
                }
            }
        }
        let last = *self.stop.borrow();
        let rest = async { while writes.join_next().await.is_some() {} };
        match last {
            // What is late is dropped with the set, and was not written.
            Some(last) => drop(tokio::time::timeout_at(last.into(), rest).await),
            None => rest.await,
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.batches.close();
        while let Ok(batch) = self.batches.try_recv() {
            batch.receipt.settle(Outcome::Retry(super::item::STOPPED.into()));
        }
    }
}

/// Waits until nothing more will come, or until the engine is gone.
async fn told(finish: &mut watch::Receiver<bool>) {
    // An engine that was dropped is one that has finished.
    let _ = finish.wait_for(|finish| *finish).await.map(drop);
}

/// Writes one batch for everybody who has room for it. The others get it when they have, if their
/// configuration says so, or the sender is told.
async fn write(
    log: Arc<Log>,
    depths: Arc<[Arc<Depth>]>,
    batch: Unsettled,
    mut finish: watch::Receiver<bool>,
) {
    let Some(inner) = batch.0.as_ref() else { return };
    let payload = if inner.wire().is_some() {
        inner.to_otlp()
    } else {
        let copy = inner.clone();
        match tokio::task::spawn_blocking(move || copy.to_otlp()).await {
            Ok(payload) => payload,
            Err(_) => return batch.settle(Outcome::Rejected("it cannot be encoded".into())),
        }
    };
    let (ready, full): (Vec<_>, Vec<_>) = depths.iter().partition(|depth| depth.fits(inner));
    let mut worst = append(&log, inner, &payload, &ready).await;
    for depth in full {
        let outcome = if depth.block {
            tokio::select! {
                () = depth.room(inner) => append(&log, inner, &payload, &[depth]).await,
                () = told(&mut finish) => {
                    depth.missed(inner, "the engine stopped while the queue was full");
                    Outcome::Retry("the engine stopped".into())
                }
            }
        } else {
            depth.missed(inner, "the queue is full");
            Outcome::Retry(format!("the queue of {} is full", depth.id))
        };
        worst = worst.max(outcome);
    }
    batch.settle(worst);
}

async fn append(log: &Log, batch: &Batch, payload: &Bytes, depths: &[&Arc<Depth>]) -> Outcome {
    if depths.is_empty() {
        return Outcome::Durable;
    }
    let record = Record {
        payload: payload.clone(),
        samples: batch.samples() as u64,
        tenant: batch.context.tenant.clone(),
        receiver: Arc::clone(&batch.context.receiver),
    };
    let to: Vec<_> = depths.iter().map(|depth| depth.destination.id()).collect();
    let samples = record.samples;
    match log.append(record, &to).await {
        Ok(()) => {
            for depth in depths {
                depth.counters.enqueued.add(samples);
                depth.update();
            }
            Outcome::Durable
        }
        Err(error) => {
            let why = error.to_string();
            for depth in depths {
                depth.missed(batch, &why);
            }
            if error.is_retryable() { Outcome::Retry(why) } else { Outcome::Rejected(why) }
        }
    }
}

/// A batch that is being written; one that is dropped was not.
struct Unsettled(Option<Batch>);

impl Unsettled {
    fn settle(mut self, outcome: Outcome) {
        if let Some(batch) = self.0.take() {
            batch.receipt.settle(outcome);
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(batch) = self.0.take() {
            batch.receipt.settle(Outcome::Retry(super::item::STOPPED.into()));
        }
    }
}
