//! What the consumer of samples was sent of a process, and may have forgotten since.

use hashbrown::HashMap;

use super::process::MAX_THREADS;
use crate::perf::linux::handoff::{REMEMBERED, RowIx, shrink};

/// What the consumer of samples was sent of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced {
    pub(crate) process: bool,
    /// Threads whose name was sent, with the window of the last sample.
    threads: HashMap<u32, u64>,
    /// The row of the process's own code.
    pub(crate) jit: Option<RowIx>,
    /// The window of the last sample.
    window: u64,
}

impl Announced {
    /// Notes a sample in a window. After a long pause the consumer may have forgotten the process
    /// and its threads, so they are sent again.
    pub(crate) fn sampled_in(&mut self, window: u64) {
        if window > self.window + REMEMBERED / 2 {
            self.forget();
        }
        self.window = window;
    }

    /// Notes a sample of a thread in a window; true if the name of the thread is to be sent: for
    /// the first time, or because the consumer may have forgotten it.
    pub(crate) fn sampled_thread_in(&mut self, tid: u32, window: u64) -> bool {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            // All are sent again, which is a message each.
            self.threads.clear();
        }
        self.threads.insert(tid, window).is_none_or(|last| window > last + REMEMBERED / 2)
    }

    /// All of it is to be sent again: it was less than is known now, or was forgotten.
    pub(super) fn forget(&mut self) {
        self.process = false;
        self.threads.clear();
    }

    /// A thread has ended, or is another now.
    pub(super) fn forget_thread(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }

    /// Forgets the threads without a sample for so long that the consumer has forgotten them, too.
    pub(super) fn forget_threads(&mut self, window: u64) {
        self.threads.retain(|_, last| *last + REMEMBERED >= window);
        shrink(&mut self.threads);
    }

    /// How many threads are noted.
    #[cfg(test)]
    pub(crate) fn threads_sent(&self) -> usize {
        self.threads.len()
    }
}
