//! Whether the pipelines run, for those who ask from outside.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the pipelines run. It stays as it is while one configuration takes over from another.
#[derive(Debug, Default)]
pub struct Health {
    running: AtomicBool,
}

impl Health {
    /// True from the start of the engine until it begins to stop.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }
}
