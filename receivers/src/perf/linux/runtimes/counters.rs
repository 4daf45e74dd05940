//! What counts about managed programs.

use profpipe_engine::telemetry::{Counter, Metrics};

use super::Refusal;

/// Stacks that were read, by outcome: `accepted`, `truncated`, `none` (the thread ran nothing of the
/// runtime), or why they were dropped.
const READS: &str = "profpipe_perf_runtime_reads_total";
/// Samples of managed programs that no reader answered for.
const UNREAD: &str = "profpipe_perf_runtime_reads_missing_total";
/// Stacks whose native and managed frames do not fit together.
const MISMATCHED: &str = "profpipe_perf_runtime_mismatched_total";
/// Threads that were left behind in the memory of a process.
const BLOCKED: &str = "profpipe_perf_runtime_blocked_threads_total";
/// Frames without a name at the end of their window.
const UNNAMED: &str = "profpipe_perf_runtime_frames_unnamed_total";
/// Processes whose runtime is understood.
const PROCESSES: &str = "profpipe_perf_runtime_processes";
/// CPU time of the readers in nanoseconds.
const READER_CPU: &str = "profpipe_perf_reader_cpu_nanoseconds";
/// CPU time of the thread that finds runtimes and names, in nanoseconds.
const DISCOVERY_CPU: &str = "profpipe_perf_runtime_cpu_nanoseconds";

/// The counters of a receiver.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) truncated: Counter,
    pub(crate) none: Counter,
    refused: [Counter; Refusal::ALL.len()],
    pub(crate) unread: Counter,
    pub(crate) mismatched: Counter,
    pub(crate) blocked: Counter,
    pub(crate) unnamed: Counter,
    pub(crate) processes: Counter,
    pub(crate) reader_cpu: Counter,
    pub(crate) discovery_cpu: Counter,
}

impl Counters {
    /// The counters of a receiver.
    pub(crate) fn new(metrics: &Metrics, id: &str) -> Self {
        let read = |outcome: &str| metrics.labelled(READS, id, &[("outcome", outcome)]);
        Self {
            accepted: read("accepted"),
            truncated: read("truncated"),
            none: read("none"),
            refused: Refusal::ALL.map(|refusal| read(refusal.label())),
            unread: metrics.counter(UNREAD, id),
            mismatched: metrics.counter(MISMATCHED, id),
            blocked: metrics.counter(BLOCKED, id),
            unnamed: metrics.counter(UNNAMED, id),
            processes: metrics.counter(PROCESSES, id),
            reader_cpu: metrics.counter(READER_CPU, id),
            discovery_cpu: metrics.counter(DISCOVERY_CPU, id),
        }
    }

    /// How many stacks were not shown for a reason.
    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).map_or(0, Counter::get)
    }

    /// Counts a stack that is not shown.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.add(1);
        }
    }
}
