//! What profiling may cost.

use std::time::Duration;

/// What profiling may cost, everything included; the processor `governor` states it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CPU time: 0.01 is one percent of one core.
    pub cpu: f64,
    /// Resident bytes of this process and its worker; none: no limit.
    pub memory: Option<u64>,
    /// Bytes a second that exporters send; none: no limit.
    pub network: Option<u64>,
    /// The length of a control window, at least and at most.
    pub window: (Duration, Duration),
    /// How long one profile may become at most where windows have to be lengthened.
    pub longest_profile: Duration,
    /// How long it stays off where the budget cannot be kept.
    pub retry: Duration,
    /// What the start may take on top.
    pub start: Allowance,
}

/// What the start may take on top of the budget: binaries are read that later work knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// So much of the budget in advance, but never more than [`Allowance::MOST`].
    pub advance: Duration,
    /// How long it may be used.
    pub within: Duration,
    /// How long it takes until it is paid back, by a budget that is smaller until then.
    pub payback: Duration,
}

impl Allowance {
    /// The most CPU time that it can be.
    pub const MOST: Duration = Duration::from_secs(1);

    /// CPU time in nanoseconds, with a budget of `cpu` (0.01 is one percent of one core).
    pub fn nanoseconds(&self, cpu: f64) -> f64 {
        (cpu * self.advance.as_nanos() as f64).min(Self::MOST.as_nanos() as f64)
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            advance: Duration::from_secs(60),
            within: Duration::from_secs(15),
            payback: Duration::from_secs(600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: 0.01,
            memory: None,
            network: None,
            window: (Duration::from_secs(1), Duration::from_secs(30)),
            longest_profile: Duration::from_secs(60),
            retry: Duration::from_secs(600),
            start: Allowance::default(),
        }
    }
}

impl Limits {
    /// The CPU time that a window of this length may cost, in nanoseconds.
    pub fn nanoseconds(&self, length: Duration) -> f64 {
        self.cpu * length.as_nanos() as f64
    }
}
