//! The pipeline's counters about itself: what went in and out on every edge, what was lost, what
//! it cost.
//!
//! A counter is an atomic that its owner keeps; the registry knows them all by name and labels, so
//! that the status line, `/metrics` and tests read the same numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Names that more than one component uses. A counter that ends in `_total` only grows.
///
/// The label of what a component counts itself is its id. What the engine counts on the edges
/// around it is labelled with its place in the configuration, because ids repeat between kinds:
/// `receivers::perf`, `processors::symbolize`, `exporters::file`, `pipelines::profiles`.
pub mod names {
    /// Samples that the kernel took for us (receiver).
    pub const SAMPLES: &str = "profpipe_receiver_samples_total";
    /// Samples that were lost before they reached a batch (receiver).
    pub const SAMPLES_LOST: &str = "profpipe_receiver_samples_lost_total";
    /// User stacks unwound to their root (receiver).
    pub const STACKS_COMPLETE: &str = "profpipe_receiver_stacks_complete_total";
    /// User stacks that ended above their root, because the dump was too small (receiver).
    pub const STACKS_TRUNCATED: &str = "profpipe_receiver_stacks_truncated_total";
    /// User stacks that no unwinding rule could continue (receiver).
    pub const STACKS_BROKEN: &str = "profpipe_receiver_stacks_broken_total";
    /// Processes under observation (receiver, a gauge).
    pub const PROCESSES: &str = "profpipe_receiver_processes";
    /// Batches that went into a component (edge).
    pub const BATCHES_IN: &str = "profpipe_component_batches_in_total";
    /// Batches that came out of a component (edge).
    pub const BATCHES_OUT: &str = "profpipe_component_batches_out_total";
    /// Batches that a component refused or failed on (edge).
    pub const BATCHES_FAILED: &str = "profpipe_component_batches_failed_total";
    /// Samples that went into a component (edge).
    pub const SAMPLES_IN: &str = "profpipe_component_samples_in_total";
    /// Samples that came out of a component (edge).
    pub const SAMPLES_OUT: &str = "profpipe_component_samples_out_total";
    /// Bytes waiting in the channels (edge, a gauge).
    pub const QUEUED_BYTES: &str = "profpipe_component_queued_bytes";
    /// Files written (exporter).
    pub const FILES_WRITTEN: &str = "profpipe_exporter_files_written_total";
    /// Bytes written to files (exporter).
    pub const FILE_BYTES_WRITTEN: &str = "profpipe_exporter_file_bytes_written_total";
    /// Profiles that a destination took a request of and refused for good, by partial success
    /// (exporter).
    pub const EXPORTER_REJECTED: &str = "profpipe_exporter_rejected_profiles_total";
    /// Frames that got a name (processor).
    pub const FRAMES_NAMED: &str = "profpipe_symbolize_frames_named_total";
    /// Frames that got none (processor).
    pub const FRAMES_UNNAMED: &str = "profpipe_symbolize_frames_unnamed_total";
    /// Times the symbolizer's worker process ended unexpectedly (processor).
    pub const WORKER_RESTARTS: &str = "profpipe_symbolize_worker_restarts_total";
}

/// A number that a component keeps up to date.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to the number.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes away from the number, for gauges; never below zero.
    pub fn sub(&self, amount: u64) {
        let less = |value: u64| Some(value.saturating_sub(amount));
        // The closure never declines, so there is nothing to handle.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Sets the number, for gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every counter of one engine.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<BTreeMap<(&'static str, String), Counter>>,
}

impl Metrics {
    /// The counter of this name for this component id, created at zero.
    pub fn counter(&self, name: &'static str, component: &str) -> Counter {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry((name, component.to_owned())).or_default().clone()
    }

    /// The sum over all components of the counters of this name.
    pub fn total(&self, name: &str) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().filter(|((key, _), _)| *key == name).map(|(_, counter)| counter.get()).sum()
    }

    /// Every counter: name, component id, number.
    pub fn snapshot(&self) -> Vec<(&'static str, String, u64)> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|((name, component), counter)| (*name, component.clone(), counter.get()))
            .collect()
    }
}
