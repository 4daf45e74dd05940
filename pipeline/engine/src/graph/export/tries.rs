//! What the attempts with one batch were so far.

use std::time::{Duration, Instant};

use super::destination_gate::random;
use crate::delivery::{Backoff, RetryPolicy};

/// After so many failures a batch makes way for others.
const PARK_AFTER_FAILURES: u32 = 3;
/// How often a panic may repeat before a durable item is put aside.
const PARK_AFTER_PANICS: u32 = 3;

/// What the attempts with one batch were so far.
#[derive(Debug)]
pub(super) struct Tries {
    started: Instant,
    attempts: u64,
    failures: u32,
    panics: u32,
    backoff: Backoff,
    /// How often the destination had answered about any batch when this one failed last.
    answers: Option<u64>,
    /// When it may be tried again, once it has failed.
    pub(super) earliest: Option<Instant>,
}

impl Tries {
    /// Before the first attempt.
    pub(super) fn new(policy: Option<RetryPolicy>, now: Instant) -> Self {
        Self {
            started: now,
            attempts: 0,
            failures: 0,
            panics: 0,
            backoff: Backoff::new(
                RetryPolicy { max_elapsed_time: Duration::ZERO, ..policy.unwrap_or_default() },
                now,
            ),
            answers: None,
            earliest: None,
        }
    }

    /// When to give it up.
    pub(super) fn deadline(&self, policy: Option<RetryPolicy>) -> Option<Instant> {
        let limit = policy.map(|policy| policy.max_elapsed_time).filter(|limit| !limit.is_zero());
        self.started.checked_add(limit?)
    }

    /// Notes an attempt; true if it is not the first.
    pub(super) fn again(&mut self) -> bool {
        self.attempts += 1;
        self.attempts > 1
    }

    /// Notes a panic; true if it is one too many.
    pub(super) fn panicked(&mut self, durable: bool) -> bool {
        self.panics += 1;
        self.panics >= if durable { PARK_AFTER_PANICS } else { 1 }
    }

    /// Notes a failure. A batch that fails again while others get through is not a sign that the
    /// destination is down: then it returns how long this batch waits, alone.
    pub(super) fn failed(&mut self, now: Instant, answers: u64) -> Option<Duration> {
        self.failures += 1;
        let before = self.answers.replace(answers);
        let own = self.backoff.after_failure(now, None, random()).unwrap_or_default();
        before.is_some_and(|before| answers > before).then_some(own)
    }

    /// True if others should have a turn before it.
    pub(super) fn is_stubborn(&self) -> bool {
        self.failures >= PARK_AFTER_FAILURES
    }
}
