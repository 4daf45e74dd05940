//! The pipeline's counters about itself: what went in and out on every edge, what was lost, what
//! it cost.
//!
//! A counter is an atomic that its owner keeps; the registry knows them all by name and labels, so
//! that the status line, `/metrics` and tests read the same numbers.

mod collector;
mod exposition;
mod histogram;

#[cfg(test)]
mod tests;

pub use collector::{Family, MetricKind, Point, ProcessCost, families};
pub use exposition::{CONTENT_TYPE, Style, render};
pub use histogram::Buckets;
pub(crate) use histogram::{ATTEMPT, ATTEMPT_BYTES, ATTEMPT_SAMPLES, Histogram, HistogramSpec};

use std::borrow::Cow;
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
    /// User stacks that reached their root through code without unwinding rules, along frame pointers:
    /// callers may be missing (receiver).
    pub const STACKS_GUESSED: &str = "profpipe_receiver_stacks_guessed_total";
    /// User stacks that ended above their root, because the dump was too small or the most frames
    /// were reached (receiver).
    pub const STACKS_TRUNCATED: &str = "profpipe_receiver_stacks_truncated_total";
    /// User stacks that ended where the program goes on to another stack (receiver).
    pub const STACKS_SWITCHED: &str = "profpipe_receiver_stacks_switched_total";
    /// User stacks that no unwinding rule could continue (receiver).
    pub const STACKS_BROKEN: &str = "profpipe_receiver_stacks_broken_total";
    /// Processes under observation (receiver, a gauge).
    pub const PROCESSES: &str = "profpipe_receiver_processes";
    /// Samples that were passed on and acknowledged (receiver).
    pub const RECEIVER_ACCEPTED_SAMPLES: &str = "otelcol_receiver_accepted_profile_samples";
    /// Samples that the pipelines did not take (receiver).
    pub const RECEIVER_REFUSED_SAMPLES: &str = "otelcol_receiver_refused_profile_samples";
    /// Samples that were refused because of what they are (receiver).
    pub const RECEIVER_FAILED_SAMPLES: &str = "otelcol_receiver_failed_profile_samples";
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
    /// Samples taken into an exporter's queue (edge).
    pub const EXPORTER_ENQUEUED_SAMPLES: &str = "profpipe_exporter_enqueued_samples_total";
    /// Samples that an exporter's queue had no room for (edge).
    pub const EXPORTER_ENQUEUE_FAILED_SAMPLES: &str =
        "profpipe_exporter_enqueue_failed_samples_total";
    /// Samples that a destination has (edge).
    pub const EXPORTER_SENT_SAMPLES: &str = "profpipe_exporter_sent_samples_total";
    /// Samples that were queued and will not get to the destination: those refused, given up, cut
    /// off by a stop, and dead letters (edge).
    pub const EXPORTER_SEND_FAILED_SAMPLES: &str = "profpipe_exporter_send_failed_samples_total";
    /// Samples dropped because the destination refused them (edge).
    pub const EXPORTER_REFUSED_SAMPLES: &str = "profpipe_exporter_refused_samples_total";
    /// Samples dropped because they were tried for too long (edge).
    pub const EXPORTER_GIVEN_UP_SAMPLES: &str = "profpipe_exporter_given_up_samples_total";
    /// Samples dropped because the engine stopped (edge).
    pub const EXPORTER_STOPPED_SAMPLES: &str = "profpipe_exporter_stopped_samples_total";
    /// Samples put among the dead letters (edge).
    pub const EXPORTER_DEAD_SAMPLES: &str = "profpipe_exporter_dead_letter_samples_total";
    /// Samples dropped from a durable queue because they were too old (edge).
    pub const EXPORTER_EXPIRED_SAMPLES: &str = "profpipe_exporter_expired_samples_total";
    /// Samples dropped from a durable queue because others needed the room (edge).
    pub const EXPORTER_EVICTED_SAMPLES: &str = "profpipe_exporter_evicted_samples_total";
    /// Samples that were damaged in a durable queue (edge).
    pub const EXPORTER_DAMAGED_SAMPLES: &str = "profpipe_exporter_damaged_samples_total";
    /// Samples in a queue or being sent (edge, a gauge).
    pub const EXPORTER_PENDING_SAMPLES: &str = "profpipe_exporter_pending_samples";
    /// How full an exporter's queue is, in what its sizer counts (edge, a gauge).
    pub const EXPORTER_QUEUE_SIZE: &str = "profpipe_exporter_queue_size";
    /// How much fits into an exporter's queue, 0 without a limit of its own (edge, a gauge).
    pub const EXPORTER_QUEUE_CAPACITY: &str = "profpipe_exporter_queue_capacity";
    /// Attempts under way (edge, a gauge).
    pub const EXPORTER_IN_FLIGHT: &str = "profpipe_exporter_in_flight_requests";
    /// Attempts beyond the first of a batch (edge).
    pub const EXPORTER_RETRIES: &str = "profpipe_exporter_retries_total";
    /// 1 while a destination refuses us (edge, a gauge).
    pub const EXPORTER_HELD: &str = "profpipe_exporter_held";
    /// Batches that wait for an exporter that the configuration does not have (edge, a gauge).
    pub const EXPORTER_LEFT_BEHIND_BATCHES: &str = "profpipe_exporter_left_behind_batches";
    /// Samples that wait for an exporter that the configuration does not have (edge, a gauge).
    pub const EXPORTER_LEFT_BEHIND_SAMPLES: &str = "profpipe_exporter_left_behind_samples";
    /// Frames that got a name (processor).
    pub const FRAMES_NAMED: &str = "profpipe_symbolize_frames_named_total";
    /// Frames that got none, by reason (processor).
    pub const FRAMES_UNNAMED: &str = "profpipe_symbolize_frames_unnamed_total";
    /// Of the named frames, those with the name of a symbol table because debug information was not
    /// read in time (processor).
    pub const FRAMES_PROVISIONAL: &str = "profpipe_symbolize_frames_provisional_total";
    /// Bytes of batches that wait for names (processor, a gauge).
    pub const SYMBOLIZE_PARKED_BYTES: &str = "profpipe_symbolize_parked_bytes";
    /// Files asked of debuginfod servers, by result (processor).
    pub const DEBUGINFOD_FILES: &str = "profpipe_symbolize_debuginfod_files_total";
    /// Bytes that came from debuginfod servers (processor).
    pub const DEBUGINFOD_BYTES: &str = "profpipe_symbolize_debuginfod_bytes_total";
    /// Files looked for in the cache on disk, by result (processor).
    pub const SYMBOL_CACHE_LOOKUPS: &str = "profpipe_symbolize_cache_lookups_total";
    /// Bytes of the files in the cache on disk (processor, a gauge).
    pub const SYMBOL_CACHE_BYTES: &str = "profpipe_symbolize_cache_bytes";
    /// Addresses looked up in tables of binaries on disk, by result (processor).
    pub const SYMBOL_TABLE_LOOKUPS: &str = "profpipe_symbolize_table_lookups_total";
    /// Bytes of the tables of binaries on disk (processor, a gauge).
    pub const SYMBOL_TABLE_BYTES: &str = "profpipe_symbolize_table_bytes";
    /// Times the symbolizer's worker process ended unexpectedly (processor).
    pub const WORKER_RESTARTS: &str = "profpipe_symbolize_worker_restarts_total";
    /// Windows whose profiles have not left yet, by what they wait for (receiver, a gauge).
    pub const WINDOWS_WAITING: &str = "profpipe_windows_waiting";
    /// How long ago the oldest of them ended (receiver, a gauge).
    pub const OLDEST_WINDOW: &str = "profpipe_oldest_window_age_milliseconds";
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

/// Labels beside the component: name and value, in the order of their names.
pub type Labels = Vec<(&'static str, String)>;

/// A counter as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub name: &'static str,
    /// The component it is of.
    pub component: String,
    /// What else tells it apart.
    pub labels: Labels,
    /// The number.
    pub value: u64,
}

/// The component that a counter is of, as its edges are labelled: an id alone may be that of a receiver and
/// of an exporter, and the name tells of which it is.
fn placed<'a>(name: &str, component: &'a str) -> Cow<'a, str> {
    if component.contains("::") {
        return component.into();
    }
    let of = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if of(["profpipe_exporter_", "otelcol_exporter_"]) {
        format!("exporters::{component}").into()
    } else if of(["profpipe_receiver_", "otelcol_receiver_"]) {
        format!("receivers::{component}").into()
    } else {
        component.into()
    }
}

/// Every counter of one engine.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<BTreeMap<(&'static str, String, Labels), Counter>>,
    histograms: histogram::Histograms,
}

impl Metrics {
    /// The distribution of this for this component id.
    pub(crate) fn histogram(&self, spec: &HistogramSpec, id: &str) -> Histogram {
        self.histograms.of(spec, id)
    }

    /// The counter of this name for this component id, created at zero.
    pub fn counter(&self, name: &'static str, component: &str) -> Counter {
        self.labelled(name, component, &[])
    }

    /// The counter of this name for this component id and these labels, created at zero. The values
    /// of a label must be few: never what a sender may choose.
    pub fn labelled(
        &self,
        name: &'static str,
        component: &str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        let mut labels: Labels =
            labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        labels.sort_unstable();
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry((name, component.to_owned(), labels)).or_default().clone()
    }

    /// Forgets a counter that nobody holds any more: what it described is over.
    pub fn forget(&self, name: &'static str, component: &str, labels: &[(&'static str, &str)]) {
        let mut labels: Labels =
            labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        labels.sort_unstable();
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name, component.to_owned(), labels);
        if counters.get(&key).is_some_and(|counter| Arc::strong_count(&counter.0) == 1) {
            counters.remove(&key);
        }
    }

    /// True if there is a counter of this name for this component.
    pub(crate) fn knows(&self, name: &'static str, component: &str) -> bool {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.contains_key(&(name, component.to_owned(), Labels::new()))
    }

    /// Forgets all counters of these names.
    pub(crate) fn forget_named(&self, names: &[&str]) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.retain(|(name, _, _), _| !names.contains(name));
    }

    /// Forgets the counters that nobody holds any more, of components for which `is_gone` is true;
    /// but not what says that something waits for them.
    pub fn forget_components(&self, is_gone: impl Fn(&str) -> bool) {
        let left = [names::EXPORTER_LEFT_BEHIND_BATCHES, names::EXPORTER_LEFT_BEHIND_SAMPLES];
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.retain(|(name, component, _), counter| {
            Arc::strong_count(&counter.0) > 1
                || left.contains(name)
                || !is_gone(&placed(name, component))
        });
        drop(counters);
        self.histograms.hide(is_gone);
    }

    /// The sum over all components of the counters of this name.
    pub fn total(&self, name: &str) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = counters.iter().filter(|((key, _, _), _)| *key == name);
        of_name.map(|(_, counter)| counter.get()).sum()
    }

    /// Every counter: name, component id, number; those that differ in labels only in one.
    pub fn snapshot(&self) -> Vec<(&'static str, String, u64)> {
        let mut rows: Vec<(&'static str, String, u64)> = Vec::new();
        for Reading { name, component, value, .. } in self.readings() {
            match rows.last_mut() {
                Some(last) if last.0 == name && last.1 == component => last.2 += value,
                _ => rows.push((name, component, value)),
            }
        }
        rows
    }

    /// Every counter with its labels, in the order of names, components and labels.
    pub fn readings(&self) -> Vec<Reading> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = |(name, component, labels): &(&'static str, String, Labels), value| Reading {
            name,
            component: component.clone(),
            labels: labels.clone(),
            value,
        };
        counters.iter().map(|(key, counter)| reading(key, counter.get())).collect()
    }
}
