//! Whether those who wait for better results should stop waiting.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set when what is there is wanted now, complete or not: somebody who ends a recording does not want
/// to wait for names. Who waits in [`finish`](crate::component::Processor::finish) looks at it ten
/// times a second.
#[derive(Debug, Default)]
pub struct Haste(AtomicBool);

impl Haste {
    /// From now on nobody is to wait.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once nobody is to wait.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
