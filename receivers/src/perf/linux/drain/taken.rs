//! How a sample came to the drain thread, and what it tells of processes.

use std::sync::Arc;

use super::heaped::HeapSample;
use crate::perf::linux::handoff::ProcessFacts;
use crate::perf::linux::looks::Look;
use crate::perf::linux::processes::process::Process;
use crate::perf::linux::runtimes::reader::Reading;

/// The most samples put off; each holds a stack dump.
const MAX_DEFERRED: usize = 256;
/// The same where there is a budget: all are tried again at once.
const MAX_DEFERRED_GOVERNED: usize = 64;
/// The same of blocks of heaps, which come at once when a program begins, and have little of their stack.
const MAX_DEFERRED_BLOCKS: usize = 2048;

/// What is told of a process.
pub(super) fn facts(process: &Process) -> ProcessFacts {
    ProcessFacts {
        id: process.id,
        pid: process.pid,
        parent: process.parent,
        start_time: process.start_time,
        name: Arc::clone(&process.name),
        executable: process.executable.clone(),
        kernel: process.kernel,
    }
}

/// How a sample came here.
#[derive(Clone, Copy, Default)]
pub(super) struct Taken<'a> {
    pub(super) weight: u64,
    /// How many events that is.
    pub(super) events: u64,
    /// The look that found it.
    pub(super) look: Option<&'a Look>,
    /// What its process maps has been read again since.
    pub(super) is_renewed: bool,
    /// What a reader has seen of it.
    pub(super) reading: Option<&'a Reading>,
    /// The block that it is about.
    pub(super) heap: Option<&'a HeapSample>,
}

impl Taken<'_> {
    /// How many samples may have been put off for this to be put off, too.
    pub(super) fn most_deferred(&self, is_governed: bool) -> usize {
        match (is_governed, self.heap) {
            (true, _) => MAX_DEFERRED_GOVERNED,
            (false, Some(_)) => MAX_DEFERRED_BLOCKS,
            (false, None) => MAX_DEFERRED,
        }
    }
}
