//! Keeps a log readable while the same thing goes wrong again and again.

use std::time::{Duration, Instant};

/// How often the same complaint is logged.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one complaint through now and then, and counts the others.
#[derive(Debug)]
pub(super) struct LogRateLimit {
    every: Duration,
    last: Option<Instant>,
    kept: u64,
}

impl Default for LogRateLimit {
    fn default() -> Self {
        Self::every(EVERY)
    }
}

impl LogRateLimit {
    pub(super) fn every(every: Duration) -> Self {
        Self { every, last: None, kept: 0 }
    }

    /// What to add to the complaint at `now`, or `None` to keep it.
    pub(super) fn pass(&mut self, now: Instant) -> Option<String> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.kept += 1;
            return None;
        }
        self.last = Some(now);
        match std::mem::take(&mut self.kept) {
            0 => Some(String::new()),
            kept => Some(format!(" (and {kept} times before)")),
        }
    }
}
