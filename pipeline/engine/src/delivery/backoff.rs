//! When to try again: exponential backoff with jitter, as the Collector's `retry_on_failure`.
//!
//! A state machine: the time and the randomness are arguments.

use std::time::{Duration, Instant};

/// Longer than anybody waits, and short enough to be added to an instant.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How patient retrying is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The wait after the first failure.
    pub initial_interval: Duration,
    /// The longest wait.
    pub max_interval: Duration,
    /// When to give a batch up, counted from the first attempt; zero means never.
    pub max_elapsed_time: Duration,
    /// What the wait is multiplied by after each failure.
    pub multiplier: f64,
    /// How much a wait varies, as a part of it: a wait is from `1 - factor` to `1 + factor` of the
    /// interval, all equally likely. With 1 that is full jitter: anything from nothing to twice.
    pub randomization_factor: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
            multiplier: 1.5,
            randomization_factor: 0.5,
        }
    }
}

/// The retrying of one batch.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    started: Instant,
    interval: Duration,
}

impl Backoff {
    /// Starts with the first attempt.
    pub fn new(policy: RetryPolicy, now: Instant) -> Self {
        Self { policy, started: now, interval: policy.initial_interval }
    }

    /// How long to wait after an attempt that failed at `now`; `None` means to give up. `asked` is
    /// what the destination wants us to wait, `random` is from 0 to 1.
    pub fn after_failure(
        &mut self,
        now: Instant,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let spread = self.policy.randomization_factor * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        let jittered = self.interval.as_secs_f64() * (1.0 + spread).max(0.0);
        let jittered =
            Duration::try_from_secs_f64(jittered).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER);
        let wait = asked.map_or(jittered, |asked| asked.max(jittered));
        let grown = self.interval.as_secs_f64() * self.policy.multiplier.max(1.0);
        let limit = self.policy.max_interval.as_secs_f64();
        self.interval = Duration::try_from_secs_f64(grown.min(limit)).unwrap_or(self.interval);
        let limit = self.policy.max_elapsed_time;
        let elapsed = now.saturating_duration_since(self.started);
        (limit.is_zero() || elapsed.saturating_add(wait) <= limit).then_some(wait)
    }
}
