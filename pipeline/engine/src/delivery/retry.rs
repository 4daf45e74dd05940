//! `retry_on_failure`: when an attempt that failed is repeated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Problems;
use crate::delivery::RetryPolicy;
use crate::settings::Duration;

/// When an attempt that failed is repeated. A destination that asks for a longer wait gets it, up
/// to ten minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryOnFailure {
    /// Whether it is repeated at all.
    enabled: bool,
    /// The wait after the first failure.
    initial_interval: Duration,
    /// How much a wait varies, as a part of it: 0.5 makes ten seconds five to fifteen, 1 makes them
    /// anything up to twenty, so that many senders do not come back at once.
    randomization_factor: f64,
    /// What the wait is multiplied by after each failure.
    multiplier: f64,
    /// The longest wait, before it is varied.
    max_interval: Duration,
    /// When a batch is given up, counted from its first attempt; `0` means never. The default is
    /// 5 minutes, and with `sending_queue::storage` it is `0`.
    max_elapsed_time: Option<Duration>,
}

impl Default for RetryOnFailure {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        Self {
            enabled: true,
            initial_interval: Duration(policy.initial_interval),
            randomization_factor: policy.randomization_factor,
            multiplier: policy.multiplier,
            max_interval: Duration(policy.max_interval),
            max_elapsed_time: None,
        }
    }
}

impl RetryOnFailure {
    /// The defaults, with what they are where nothing else is written.
    pub(super) fn printed() -> Self {
        let limit = RetryPolicy::default().max_elapsed_time;
        Self { max_elapsed_time: Some(Duration(limit)), ..Self::default() }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let mut wrong = |field: &str, message: String| {
            problems.push(&format!("retry_on_failure::{field}"), message);
        };
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            wrong("randomization_factor", "must be from 0 to 1".to_owned());
        }
        if !(self.multiplier >= 0.0 && self.multiplier.is_finite()) {
            wrong("multiplier", "must not be negative; 1 keeps the wait as it is".to_owned());
        }
        let Some(limit) = self.max_elapsed_time.filter(|limit| !limit.0.is_zero()) else { return };
        for (field, wait) in
            [("initial_interval", self.initial_interval), ("max_interval", self.max_interval)]
        {
            if limit < wait {
                let message = format!("must not be less than {field} ({wait}); 0 means never");
                wrong("max_elapsed_time", message);
                return;
            }
        }
    }

    pub(super) fn resolve(&self, durable: bool) -> Option<RetryPolicy> {
        let usual = if durable {
            std::time::Duration::ZERO
        } else {
            RetryPolicy::default().max_elapsed_time
        };
        let policy = RetryPolicy {
            initial_interval: self.initial_interval.0,
            max_interval: self.max_interval.0,
            max_elapsed_time: self.max_elapsed_time.map_or(usual, |limit| limit.0),
            multiplier: self.multiplier,
            randomization_factor: self.randomization_factor,
        };
        self.enabled.then_some(policy)
    }
}
