//! One thing that waits for a destination: a batch, and who is told what became of it.

use std::sync::Arc;

use super::counters::Counters;
use crate::batch::{Batch, Outcome, Receipt};

/// What is said of a batch that nobody had time for.
pub(super) const STOPPED: &str = "the engine stopped before it was sent";

/// A batch on its way to one destination. Every item ends in exactly one way; one that is dropped
/// was not delivered, and whoever waits for it is told so.
#[derive(Debug)]
pub(super) struct Item {
    batch: Batch,
    samples: u64,
    counters: Arc<Counters>,
    ended: bool,
}

impl Item {
    /// A batch that is kept in memory.
    pub(super) fn new(batch: Batch, counters: Arc<Counters>) -> Self {
        let samples = batch.samples() as u64;
        counters.enqueued.add(samples);
        counters.pending.add(samples);
        Self { batch, samples, counters, ended: false }
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
        false
    }

    /// The destination has it.
    pub(super) fn delivered(mut self) {
        self.end();
        self.counters.edge.gave(&self.batch);
        self.counters.sent.add(self.samples);
    }

    /// Neither the destination nor the exporter will ever take it, but for so many samples that
    /// are there already.
    pub(super) fn refused(mut self, reason: &str, sent: u64) {
        let lost = self.fail(sent);
        self.counters.refused.add(lost);
        self.batch.receipt.settle(Outcome::Rejected(reason.to_owned()));
    }

    /// It was tried for as long as the configuration allows; so many samples are there.
    pub(super) fn given_up(mut self, reason: &str, sent: u64) {
        let lost = self.fail(sent);
        self.counters.given_up.add(lost);
        self.batch.receipt.settle(Outcome::Retry(reason.to_owned()));
    }

    /// The engine stops.
    pub(super) fn returned(mut self, reason: &str) {
        self.stop(reason);
    }

    fn stop(&mut self, reason: &str) {
        let lost = self.fail(0);
        self.counters.stopped.add(lost);
        self.batch.receipt.settle(Outcome::Retry(reason.to_owned()));
    }

    /// Counts the end of an item of which so many samples are there; how many are not.
    fn fail(&mut self, sent: u64) -> u64 {
        self.end();
        let sent = sent.min(self.samples);
        let lost = self.samples - sent;
        self.counters.edge.failed(1);
        self.counters.sent.add(sent);
        self.counters.send_failed.add(lost);
        lost
    }

    fn end(&mut self) {
        self.ended = true;
        self.counters.pending.sub(self.samples);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.ended {
            self.stop(STOPPED);
        }
    }
}
