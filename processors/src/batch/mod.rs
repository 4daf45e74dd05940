//! The `batch` processor: makes few large batches of many small ones.
//!
//! Unlike the Collector's it is no place where profiles are lost: a batch is acknowledged when what
//! became of it is, so a sender waits for as long as its batch is held. Batches are merged into one
//! with one dictionary, each resource and scope once; those of different tenants never. A batch that
//! is large enough by itself goes through as it is, without being decoded.

mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::batch::{Batch, Origin, Outcome, Receipt};
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Stability};
use profpipe_formats::otlp;
use profpipe_profile as profile;

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "batch",
    Stability::Beta,
    "makes few large batches of many small ones",
);

/// A group that takes this much memory goes out even if it has few samples.
const HELD: usize = 8 << 20;

struct Batching {
    config: Config,
    groups: HashMap<Key, Group>,
    now: fn() -> Instant,
}

/// Whose batches a group has, and where they were taken.
type Key = (Option<Arc<str>>, Origin);

/// Batches that wait for more.
struct Group {
    batches: Vec<Batch>,
    samples: usize,
    bytes: usize,
    since: Instant,
}

impl Batching {
    fn new(config: Config, now: fn() -> Instant) -> Self {
        Self { config, groups: HashMap::new(), now }
    }

    /// Whether nothing is held.
    fn at_once(&self) -> bool {
        self.config.timeout.0.is_zero() || self.config.send_batch_size == 0
    }

    fn is_full(&self, group: &Group) -> bool {
        self.at_once() || group.samples >= self.config.send_batch_size || group.bytes >= HELD
    }

    fn emit(&self, group: Group, out: &mut Outbox) {
        let max = self.config.send_batch_max_size;
        let Some(batch) = merged(group.batches) else { return };
        if max == 0 || batch.samples() <= max {
            out.push(batch);
            return;
        }
        for part in parts(batch, max) {
            out.push(part);
        }
    }

    /// Emits the group that waits longest.
    fn emit_oldest(&mut self, out: &mut Outbox) {
        let oldest = self.groups.iter().min_by_key(|(_, group)| group.since);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
        if let Some(group) = self.groups.remove(&key) {
            self.emit(group, out);
        }
    }
}

impl Processor for Batching {
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        // What is no OTLP request would spoil the others it is merged with.
        batch.summary().map_err(|cause| Error::with_source("cannot read the batch", cause))?;
        let key = (batch.context.tenant.clone(), batch.context.origin);
        let (samples, bytes) = (batch.samples(), batch.bytes());
        let limit = self.config.metadata_cardinality_limit;
        if limit > 0 && self.groups.len() >= limit && !self.groups.contains_key(&key) {
            self.emit_oldest(out);
        }
        let now = self.now;
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
            batches: Vec::new(),
            samples: 0,
            bytes: 0,
            since: now(),
        });
        group.batches.push(batch);
        group.samples += samples;
        group.bytes += bytes;
        if self.groups.get(&key).is_some_and(|group| self.is_full(group))
            && let Some(group) = self.groups.remove(&key)
        {
            self.emit(group, out);
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        let timeout = self.config.timeout.0;
        let waited = |group: &Group| now.saturating_duration_since(group.since);
        let due: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| waited(group) >= timeout)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some(group) = self.groups.remove(&key) {
                self.emit(group, out);
            }
        }
    }

    fn finish(&mut self, _deadline: Instant, out: &mut Outbox) {
        // Older than any timeout.
        for (_, group) in std::mem::take(&mut self.groups) {
            self.emit(group, out);
        }
    }

    fn wants(&self) -> Access {
        Access::Samples
    }
}

/// The batches in one, which is acknowledged for all of them. One alone stays as it is.
fn merged(mut batches: Vec<Batch>) -> Option<Batch> {
    if batches.len() < 2 {
        return batches.pop();
    }
    let first = batches.first()?.context.clone();
    let same_receiver = batches.iter().all(|batch| batch.context.receiver == first.receiver);
    let mut receipts = Vec::with_capacity(batches.len());
    let mut tables = Vec::with_capacity(batches.len());
    for mut batch in batches {
        match batch.profiles_mut().map(std::mem::take) {
            Ok(profiles) => {
                tables.push(profiles);
                receipts.push(batch.receipt);
            }
            Err(error) => refuse(&batch.receipt, &error),
        }
    }
    if tables.is_empty() {
        return None;
    }
    let mut batch = Batch::new(profile::merge(tables));
    batch.context = first;
    if !same_receiver {
        batch.context.receiver = Arc::from("");
    }
    batch.receipt = Receipt::merge(receipts);
    Some(batch)
}

/// A batch in parts of at most so many samples, each with its share of the receipt.
fn parts(mut batch: Batch, max: usize) -> Vec<Batch> {
    let profiles = match batch.profiles_mut().map(std::mem::take) {
        Ok(profiles) => profiles,
        Err(error) => {
            refuse(&batch.receipt, &error);
            return Vec::new();
        }
    };
    let mut waiting = vec![profiles];
    let mut done = Vec::new();
    while let Some(profiles) = waiting.pop() {
        let samples = profiles.sample_count();
        if samples <= max {
            done.push(profiles);
            continue;
        }
        // Parts are cut by bytes: about as many as it takes, and those that are still too large
        // again. A single sample is never cut.
        let bytes = otlp::encoded_len(&profiles);
        let pieces = otlp::split(profiles, (bytes / samples.div_ceil(max)).max(1));
        if pieces.len() < 2 {
            done.extend(pieces);
            continue;
        }
        waiting.extend(pieces.into_iter().rev());
    }
    let part = |profiles| {
        let mut part = Batch::new(profiles);
        part.context = batch.context.clone();
        part.receipt = batch.receipt.clone();
        part
    };
    done.into_iter().map(part).collect()
}

fn refuse(receipt: &Receipt, error: &otlp::DecodeError) {
    tracing::warn!("processors::batch: a batch was rejected: {error}");
    receipt.settle(Outcome::Rejected(error.to_string()));
}

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_millis(200);
