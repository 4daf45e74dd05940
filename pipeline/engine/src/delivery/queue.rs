//! `sending_queue`: what waits to be sent.

use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeliveryDefaults;
use crate::batch::Batch;
use crate::config::Problems;
use crate::settings::Duration;

/// How much may wait, if nothing else is written.
const QUEUE_SIZE: u64 = 1000;

/// What a queue or a batch is measured in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sizer {
    /// In batches, as they come.
    #[default]
    Requests,
    /// In samples.
    Items,
    /// In bytes.
    Bytes,
}

impl Sizer {
    /// What a batch counts.
    pub(crate) fn weigh(self, batch: &Batch) -> u64 {
        match self {
            Self::Requests => 1,
            Self::Items => batch.samples() as u64,
            Self::Bytes => batch.bytes() as u64,
        }
    }
}

/// What waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SendingQueue {
    /// Whether what waits has a limit of its own. Without, only the memory budget limits it. The
    /// default is `true`, and `false` for destinations on this host.
    enabled: Option<bool>,
    /// How many batches are sent side by side, where the exporter can do that.
    num_consumers: usize,
    /// Whether a sender gets its answer only when the destination has the data. If `false`, they
    /// are lost with this process, although their sender believes them safe. Not with `storage`:
    /// there the answer comes when the disk has them.
    wait_for_result: Option<bool>,
    /// What happens to a batch when the queue is full: if `false`, its sender is told to try
    /// later; if `true`, it waits.
    block_on_overflow: bool,
    /// What `queue_size` counts.
    sizer: Sizer,
    /// How much may wait. The default is 1000; with `storage` there is none beside the limits of
    /// the storage.
    queue_size: Option<u64>,
    /// The extension that keeps the queue on disk, such as `file_storage`; without one it is kept
    /// in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<String>,
    /// Puts small batches together and cuts large ones before they are sent; `{}` turns it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<QueueBatch>,
}

/// How batches are put together and cut before they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct QueueBatch {
    /// Whether that is done.
    enabled: bool,
    /// The longest that a batch waits for others.
    flush_timeout: Duration,
    /// A batch of this size is sent at once.
    min_size: u64,
    /// A batch larger than this is cut; `0` means that none is. What cannot be cut is sent as it
    /// is.
    max_size: u64,
    /// What the sizes count: `items` or `bytes`. The default is that of the queue if that is one
    /// of these, else `items`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sizer: Option<Sizer>,
    /// What is never put together.
    partition: Partition,
}

/// What is never put together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Partition {
    /// Accepted for the Collector's sake: batches of different tenants are kept apart anyway.
    metadata_keys: Vec<String>,
}

impl Default for SendingQueue {
    fn default() -> Self {
        Self {
            enabled: None,
            num_consumers: 10,
            wait_for_result: None,
            block_on_overflow: false,
            sizer: Sizer::Requests,
            queue_size: None,
            storage: None,
            batch: None,
        }
    }
}

impl Default for QueueBatch {
    fn default() -> Self {
        Self {
            enabled: true,
            flush_timeout: Duration::from_millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: None,
            partition: Partition::default(),
        }
    }
}

/// How batches wait, with every default in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queueing {
    /// At least one.
    pub(crate) consumers: usize,
    /// Whether the receipt waits for the destination.
    pub(crate) wait_for_result: bool,
    pub(crate) block_on_overflow: bool,
    pub(crate) sizer: Sizer,
    /// How much may wait, if there is a limit beside the budget's and the storage's.
    pub(crate) capacity: Option<u64>,
    /// The extension that keeps the queue.
    pub(crate) storage: Option<String>,
    pub(crate) batch: Option<Batching>,
}

/// How batches are put together and cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) flush_timeout: StdDuration,
    pub(crate) min_size: u64,
    pub(crate) max_size: Option<u64>,
    /// Never requests.
    pub(crate) sizer: Sizer,
}

impl SendingQueue {
    /// The defaults, with what they are where nothing else is written.
    pub(super) fn printed(defaults: DeliveryDefaults) -> Self {
        Self {
            enabled: Some(defaults.queue),
            wait_for_result: Some(true),
            queue_size: Some(QUEUE_SIZE),
            ..Self::default()
        }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let mut wrong = |field: &str, message: &str| {
            problems.push(&format!("sending_queue::{field}"), message);
        };
        if self.enabled == Some(false) {
            if self.storage.is_some() {
                wrong(
                    "storage",
                    "has no effect while the queue is not enabled; remove one of the two",
                );
            }
            return;
        }
        if self.num_consumers == 0 {
            wrong("num_consumers", "must be at least 1");
        }
        if self.queue_size == Some(0) {
            wrong("queue_size", "must be at least 1");
        }
        if self.storage.is_some() && self.wait_for_result == Some(true) {
            wrong(
                "wait_for_result",
                "cannot be with `storage`: the answer comes when the disk has the data",
            );
        }
        let Some(batch) = self.batch.as_ref().filter(|batch| batch.enabled) else { return };
        if batch.sizer == Some(Sizer::Requests) {
            wrong("batch::sizer", "use `items` or `bytes`");
        }
        if batch.flush_timeout.0.is_zero() {
            wrong("batch::flush_timeout", "must be more than 0");
        }
        if batch.max_size > 0 && batch.max_size < batch.min_size {
            wrong("batch::max_size", "must not be less than `min_size`, or 0 for no limit");
        }
        let same = self.sizer == self.batch_sizer(batch);
        if same && self.queue_size.is_some_and(|size| size < batch.min_size) {
            wrong("batch::min_size", "must not be more than `queue_size`");
        }
    }

    fn batch_sizer(&self, batch: &QueueBatch) -> Sizer {
        batch.sizer.unwrap_or(match self.sizer {
            Sizer::Requests => Sizer::Items,
            other => other,
        })
    }

    pub(super) fn resolve(
        self,
        defaults: DeliveryDefaults,
        warnings: &mut Vec<(&'static str, String)>,
    ) -> Queueing {
        let enabled = self.enabled.unwrap_or(defaults.queue);
        let batch = self.batch.as_ref().filter(|batch| batch.enabled && enabled);
        if batch.is_some_and(|batch| !batch.partition.metadata_keys.is_empty()) {
            let message = "has no effect: batches of different tenants are kept apart anyway";
            warnings.push(("sending_queue::batch::partition::metadata_keys", message.to_owned()));
        }
        if self.wait_for_result == Some(false) && self.storage.is_none() && enabled {
            let message = "senders are answered before the destination has the data, so what they \
                           believe safe is lost with this process; leave it out, or use `storage`";
            warnings.push(("sending_queue::wait_for_result", message.to_owned()));
        }
        let usual = if self.storage.is_some() { None } else { Some(QUEUE_SIZE) };
        Queueing {
            consumers: self.num_consumers.max(1),
            wait_for_result: !enabled || self.wait_for_result.unwrap_or(true),
            block_on_overflow: self.block_on_overflow,
            sizer: self.sizer,
            capacity: self.queue_size.or(usual).filter(|_| enabled),
            batch: batch.map(|batch| Batching {
                flush_timeout: batch.flush_timeout.0,
                min_size: batch.min_size,
                max_size: Some(batch.max_size).filter(|size| *size > 0),
                sizer: self.batch_sizer(batch),
            }),
            storage: self.storage.filter(|_| enabled),
        }
    }
}
