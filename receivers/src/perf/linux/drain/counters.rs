//! What the drain thread counts: samples, how far their stacks were unwound, and its own time.

use profpipe_engine::telemetry::Counter;

use crate::perf::linux::governed::ages::Meters;

/// The counters that the thread keeps.
#[derive(Debug, Clone)]
pub(in crate::perf::linux) struct Counters {
    pub(in crate::perf::linux) samples: Counter,
    pub(in crate::perf::linux) lost: Counter,
    pub(in crate::perf::linux) complete: Counter,
    pub(in crate::perf::linux) guessed: Counter,
    pub(in crate::perf::linux) truncated: Counter,
    pub(in crate::perf::linux) switched: Counter,
    pub(in crate::perf::linux) broken: Counter,
    pub(in crate::perf::linux) processes: Counter,
    pub(in crate::perf::linux) hidden: Counter,
    /// How often calls were counted no longer, because there were too many.
    pub(in crate::perf::linux) detached: Counter,
    pub(in crate::perf::linux) drain_cpu: Counter,
    pub(in crate::perf::linux) ages: Meters,
}
