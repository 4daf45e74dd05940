//! What goes into and comes out of one component, counted.

use crate::batch::Batch;
use crate::telemetry::{Counter, Metrics, names};

/// The counters of what goes into and comes out of one component.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    batches_in: Counter,
    batches_out: Counter,
    failed: Counter,
    samples_in: Counter,
    samples_out: Counter,
}

impl Edge {
    pub(crate) fn new(metrics: &Metrics, label: &str) -> Self {
        Self {
            batches_in: metrics.counter(names::BATCHES_IN, label),
            batches_out: metrics.counter(names::BATCHES_OUT, label),
            failed: metrics.counter(names::BATCHES_FAILED, label),
            samples_in: metrics.counter(names::SAMPLES_IN, label),
            samples_out: metrics.counter(names::SAMPLES_OUT, label),
        }
    }

    pub(crate) fn took(&self, batch: &Batch) {
        self.batches_in.add(1);
        self.samples_in.add(batch.samples() as u64);
    }

    pub(crate) fn gave(&self, batch: &Batch) {
        self.batches_out.add(1);
        self.samples_out.add(batch.samples() as u64);
    }

    pub(crate) fn failed(&self, batches: u64) {
        self.failed.add(batches);
    }
}
