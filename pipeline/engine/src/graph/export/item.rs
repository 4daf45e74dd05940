//! One thing that waits for a destination: a batch, and who is told what became of it.

use std::sync::Arc;

use super::append::Depth;
use super::counters::Counters;
use super::tries::Tries;
use crate::batch::{Batch, Outcome, Receipt};
use crate::budget::Budget;
use profpipe_formats::otlp::Payload;
use profpipe_queue::Lease;

/// What is said of a batch that nobody had time for.
pub(super) const STOPPED: &str = "the engine stopped before it was sent";

/// A batch on its way to one destination. Every item ends in exactly one way; one that is dropped
/// was not delivered: whoever waits for it is told so, or it stays in the durable queue.
#[derive(Debug)]
pub(super) struct Item {
    batch: Batch,
    samples: u64,
    counters: Arc<Counters>,
    /// The record that it is, and the queue of that.
    lease: Option<(Lease, Arc<Depth>)>,
    /// The attempts so far, once it was set aside.
    pub(super) tries: Option<Tries>,
    ended: bool,
}

impl Item {
    /// A batch that is kept in memory.
    pub(super) fn new(batch: Batch, counters: Arc<Counters>) -> Self {
        let samples = batch.samples() as u64;
        counters.enqueued.add(samples);
        counters.pending.add(samples);
        Self { batch, samples, counters, lease: None, tries: None, ended: false }
    }

    /// A record of a durable queue.
    pub(super) fn leased(lease: Lease, depth: Arc<Depth>, budget: &Arc<Budget>) -> Self {
        let record = &lease.record;
        let payload = Payload::from_wire(record.payload.clone()).counted(record.samples);
        let mut batch = Batch::from(payload);
        batch.context.receiver = Arc::clone(&record.receiver);
        batch.context.tenant.clone_from(&record.tenant);
        batch.charge = Some(Arc::new(budget.charge(record.payload.len())));
        let (samples, counters) = (record.samples, Arc::clone(&depth.counters));
        Self { batch, samples, counters, lease: Some((lease, depth)), tries: None, ended: false }
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Nobody waits for it any more: its sender has the answer that it is delivered.
    pub(super) fn answer_early(&mut self) {
        self.batch.receipt = Receipt::none();
    }

    /// True if it survives the end of this process.
    pub(super) fn is_durable(&self) -> bool {
        self.lease.is_some()
    }

    /// The destination has it.
    pub(super) fn delivered(mut self) {
        self.counters.edge.gave(&self.batch);
        self.counters.sent.add(self.samples);
        match self.end() {
            Some((lease, depth)) => {
                lease.done();
                depth.update();
            }
            None => self.counters.pending.sub(self.samples),
        }
    }

    /// Neither the destination nor the exporter will ever take it, but for so many samples that
    /// are there already.
    pub(super) fn refused(mut self, reason: &str, sent: u64) {
        if let Some(lost) = self.fail(reason, sent) {
            self.counters.refused.add(lost);
            self.batch.receipt.settle(Outcome::Rejected(reason.to_owned()));
        }
    }

    /// It was tried for as long as the configuration allows; so many samples are there.
    pub(super) fn given_up(mut self, reason: &str, sent: u64) {
        if let Some(lost) = self.fail(reason, sent) {
            self.counters.given_up.add(lost);
            self.batch.receipt.settle(Outcome::Retry(reason.to_owned()));
        }
    }

    /// The engine stops.
    pub(super) fn returned(mut self, reason: &str) {
        self.stop(reason);
    }

    fn stop(&mut self, reason: &str) {
        // A lease that is dropped gives its record back.
        if self.lease.is_some() {
            self.end();
            return;
        }
        if let Some(lost) = self.fail(reason, 0) {
            self.counters.stopped.add(lost);
            self.batch.receipt.settle(Outcome::Retry(reason.to_owned()));
        }
    }

    /// Ends an item of which so many samples are there. How many are lost, unless they are among
    /// the dead letters now.
    fn fail(&mut self, reason: &str, sent: u64) -> Option<u64> {
        let sent = sent.min(self.samples);
        let lost = self.samples - sent;
        self.counters.edge.failed(1);
        self.counters.sent.add(sent);
        self.counters.send_failed.add(lost);
        match self.end() {
            Some((lease, depth)) => {
                // One that was dropped from the queue meanwhile is counted there.
                if lease.dead(reason) {
                    self.counters.dead.add(lost);
                }
                depth.update();
                None
            }
            None => {
                self.counters.pending.sub(self.samples);
                Some(lost)
            }
        }
    }

    fn end(&mut self) -> Option<(Lease, Arc<Depth>)> {
        self.ended = true;
        self.lease.take()
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.ended {
            self.stop(STOPPED);
        }
    }
}
