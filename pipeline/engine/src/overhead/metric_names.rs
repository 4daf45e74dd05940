//! The names of the metrics of what profiling costs.

/// CPU time by stage, in nanoseconds: of this process and its worker, and of the profiled that
/// the kernel interrupts (`stage="kernel"`) (receiver).
pub const CPU: &str = "profpipe_overhead_cpu_nanoseconds_total";

/// What the last ten seconds of profiling cost, in millionths of a core (receiver, a gauge).
pub const SPENT: &str = "profpipe_overhead_spent_ppm";

/// What it may cost, in millionths of a core (receiver, a gauge).
pub const BUDGET: &str = "profpipe_overhead_budget_ppm";

/// The frequency in force, in thousandths of a hertz (receiver, a gauge).
pub const FREQUENCY: &str = "profpipe_overhead_frequency_millihertz";

/// Samples that the kernel may take in a window (receiver, a gauge).
pub const CREDITS: &str = "profpipe_overhead_credits";

/// The rung of quality, 0 is the best (receiver, a gauge).
pub const RUNG: &str = "profpipe_overhead_rung";

/// 0 steady, 1 limited, 2 paying, 3 infeasible, 4 stopped (receiver, a gauge).
pub const STATE: &str = "profpipe_overhead_state";

/// Control windows (receiver).
pub const WINDOWS: &str = "profpipe_overhead_windows_total";

/// Control windows that cost more than the budget (receiver).
pub const WINDOWS_OVER: &str = "profpipe_overhead_windows_over_total";

/// Control windows in which credits were used up (receiver).
pub const CAPPED: &str = "profpipe_overhead_windows_capped_total";

/// 1 while mappings and forks are not reported (receiver, a gauge).
pub const SIDEBAND_OFF: &str = "profpipe_overhead_sideband_off";

/// What a sample costs the kernel at most, in nanoseconds (receiver, a gauge).
pub const KERNEL_SAMPLE: &str = "profpipe_overhead_kernel_sample_nanoseconds";

/// 1 once that was measured on this host, 0 while it is a guess (receiver, a gauge).
pub const MEASURED: &str = "profpipe_overhead_kernel_sample_measured";

/// The CPU time that `/proc` tells by the one that the process clock tells, in millionths
/// (receiver, a gauge).
pub const AGREEMENT: &str = "profpipe_overhead_agreement_ppm";

/// Resident bytes of this process (receiver, a gauge).
pub const RESIDENT: &str = "profpipe_overhead_resident_bytes";

/// Bytes that exporters sent (receiver).
pub const SENT_BYTES: &str = "profpipe_overhead_sent_bytes_total";

/// The share of the budget that is kept for work that can wait, in millionths (receiver, a gauge).
pub const RESERVE: &str = "profpipe_overhead_reserve_ppm";

/// CPU time of the start that is still to be paid back (receiver, a gauge).
pub const OWED: &str = "profpipe_overhead_owed_nanoseconds";
