//! What the engine counts about the deliveries of one exporter.
//!
//! At any quiet time `enqueued = sent + dead-lettered + dropped + pending`, in samples, where what
//! was dropped is `refused + given up + stopped`, and from a durable queue `expired + evicted + damaged`.

use crate::edge::Edge;
use crate::telemetry::{
    ATTEMPT, ATTEMPT_BYTES, ATTEMPT_SAMPLES, Counter, Histogram, Metrics, names,
};

/// The numbers of one exporter.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    pub(super) edge: Edge,
    /// Bytes waiting in memory.
    pub(super) queued_bytes: Counter,
    /// Samples taken into the queue.
    pub(super) enqueued: Counter,
    /// Samples that the queue had no room for.
    pub(super) enqueue_failed: Counter,
    /// Samples that the destination has.
    pub(super) sent: Counter,
    /// Samples that were tried and will not get there.
    pub(super) send_failed: Counter,
    /// Samples dropped: the destination refused them.
    pub(super) refused: Counter,
    /// Samples dropped: they were tried for too long.
    pub(super) given_up: Counter,
    /// Samples dropped: the engine stopped.
    pub(super) stopped: Counter,
    /// Samples among the dead letters.
    pub(super) dead: Counter,
    /// Samples dropped from the durable queue: they were too old.
    pub(super) expired: Counter,
    /// Samples dropped from the durable queue: others needed the room.
    pub(super) evicted: Counter,
    /// Samples damaged in the durable queue.
    pub(super) damaged: Counter,
    /// Samples in the queue or being sent.
    pub(super) pending: Counter,
    pub(super) queue_size: Counter,
    pub(super) in_flight: Counter,
    pub(super) retries: Counter,
    pub(super) held: Counter,
    pub(super) attempt: Histogram,
    pub(super) attempt_samples: Histogram,
    pub(super) attempt_bytes: Histogram,
}

impl Counters {
    /// True if everything that was taken is somewhere.
    pub(super) fn balance(&self) -> bool {
        let ends = [
            &self.sent,
            &self.refused,
            &self.given_up,
            &self.stopped,
            &self.dead,
            &self.expired,
            &self.evicted,
            &self.damaged,
            &self.pending,
        ];
        self.enqueued.get() == ends.into_iter().map(Counter::get).sum::<u64>()
    }

    pub(super) fn new(metrics: &Metrics, label: &str, capacity: Option<u64>) -> Self {
        metrics.counter(names::EXPORTER_QUEUE_CAPACITY, label).set(capacity.unwrap_or(0));
        let id = label.strip_prefix("exporters::").unwrap_or(label);
        let counter = |name| metrics.counter(name, label);
        Self {
            edge: Edge::new(metrics, label),
            queued_bytes: counter(names::QUEUED_BYTES),
            enqueued: counter(names::EXPORTER_ENQUEUED_SAMPLES),
            enqueue_failed: counter(names::EXPORTER_ENQUEUE_FAILED_SAMPLES),
            sent: counter(names::EXPORTER_SENT_SAMPLES),
            send_failed: counter(names::EXPORTER_SEND_FAILED_SAMPLES),
            refused: counter(names::EXPORTER_REFUSED_SAMPLES),
            given_up: counter(names::EXPORTER_GIVEN_UP_SAMPLES),
            stopped: counter(names::EXPORTER_STOPPED_SAMPLES),
            dead: counter(names::EXPORTER_DEAD_SAMPLES),
            expired: counter(names::EXPORTER_EXPIRED_SAMPLES),
            evicted: counter(names::EXPORTER_EVICTED_SAMPLES),
            damaged: counter(names::EXPORTER_DAMAGED_SAMPLES),
            pending: counter(names::EXPORTER_PENDING_SAMPLES),
            queue_size: counter(names::EXPORTER_QUEUE_SIZE),
            in_flight: counter(names::EXPORTER_IN_FLIGHT),
            retries: counter(names::EXPORTER_RETRIES),
            held: counter(names::EXPORTER_HELD),
            attempt: metrics.histogram(&ATTEMPT, id),
            attempt_samples: metrics.histogram(&ATTEMPT_SAMPLES, id),
            attempt_bytes: metrics.histogram(&ATTEMPT_BYTES, id),
        }
    }
}
