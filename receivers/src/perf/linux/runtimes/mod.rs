//! The functions of managed programs by their own names: interpreters and virtual machines keep
//! what runs in tables of their own, which are read from outside, without a flag, without BPF and
//! without stopping the program.
//!
//! # Layout
//! - [`memory`]: the memory of another process.
//! - [`symbols`]: where a file has its variables and functions.
//! - [`attached`]: the processes whose runtime is understood.
//! - [`discovery`]: the thread that finds runtimes and reads names; it may wait for memory.
//! - [`function`]: the functions that have a name, by process and cookie.
//! - [`native`]: runtimes whose frames are on the native stack, which need no reader.
//! - [`reader`]: the threads that read a stack at the instant of its sample, and the evidence that it
//!   had not changed.
//! - [`rights`]: what a host allows of it.
//! - [`join`]: what the drain thread does with it; [`walks`]: with runtimes that need no reader.
//! - One folder for each runtime, which implements [`Runtime`] or [`native::NativeRuntime`]: [`cpython`],
//!   [`hotspot`].
//!
//! Everything that is read was written by somebody else, and may change while it is read. It is
//! bounded, checked, and without evidence not shown.

pub(crate) mod attached;
pub(crate) mod counters;
pub(crate) mod cpython;
pub(crate) mod discovery;
pub(crate) mod function;
pub(crate) mod hotspot;
pub(crate) mod join;
pub(crate) mod memory;
pub(crate) mod native;
pub(crate) mod reader;
pub(crate) mod rights;
pub(crate) mod symbols;
pub(crate) mod walks;

#[cfg(test)]
mod tests;

use memory::Memory;
use profpipe_heap::layout::place;

use function::Function;

/// The most managed frames of a stack.
pub(crate) const MAX_FRAMES: usize = 256;

/// A frame of a managed stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ManagedFrame {
    /// The object that describes the function in the process; 0 for a frame that stands for no
    /// function and only ends a group.
    pub(crate) code: u64,
    /// What tells this function from another that has the same place later.
    pub(crate) cookie: u64,
    /// Where in the function, in the runtime's own units.
    pub(crate) position: u32,
    /// The native loop that runs this frame was entered here: the callers of this frame are run by
    /// another.
    pub(crate) ends_loop: bool,
}

/// Why a managed stack is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was read too late after the sample to be the sample's.
    Late,
    /// The thread has run on since the sample.
    Moved,
    /// The reader had to wait while it read, so that the thread may have run.
    Waited,
    /// Its memory cannot be read.
    Unreadable,
    /// What was read is not what the runtime would have written.
    Inconsistent,
}

impl Refusal {
    /// Every reason, for counters.
    pub(crate) const ALL: [Self; 5] =
        [Self::Late, Self::Moved, Self::Waited, Self::Unreadable, Self::Inconsistent];

    /// The value of a counter's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Moved => "moved",
            Self::Waited => "waited",
            Self::Unreadable => "unreadable",
            Self::Inconsistent => "inconsistent",
        }
    }
}

/// A walk under way; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The frames, leaf first.
    pub(crate) frames: Vec<ManagedFrame>,
    /// There are more than fit the bounds.
    pub(crate) truncated: bool,
    /// When the walk is to end, by the monotonic clock; 0 for never.
    pub(crate) deadline: u64,
}

impl Walk {
    /// Forgets the last walk.
    pub(crate) fn restart(&mut self, deadline: u64) {
        self.frames.clear();
        self.truncated = false;
        self.deadline = deadline;
    }
}

/// A thread of a process, and where its runtime keeps what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ManagedThread {
    /// Its id as the process sees it.
    pub(crate) tid: u32,
    /// Where the runtime describes it, if that is known from an earlier walk.
    pub(crate) state: Option<u64>,
}

/// A runtime that was found in a process. Nothing here waits for anybody but the memory of the
/// process, and nothing believes it.
pub(crate) trait Runtime: std::fmt::Debug + Send + Sync {
    /// The type of its frames, as in OpenTelemetry's conventions.
    fn frame_type(&self) -> &'static str;

    /// Whether the runtime is as far as that threads can be walked; it may be asked again.
    fn is_ready(&self, memory: &mut dyn Memory) -> bool;

    /// Walks the stack of a thread that does not run meanwhile. False if the thread runs nothing of
    /// the runtime.
    fn walk(
        &self,
        thread: &mut ManagedThread,
        memory: &mut dyn Memory,
        walk: &mut Walk,
    ) -> Result<bool, Refusal>;

    /// Where a program that copies its own frames finds them, as `profpipe-heap` has it.
    fn places(&self) -> Option<[u64; place::COUNT]>;

    /// Reads what a frame's `code` is, if it still has the cookie.
    fn describe(&self, code: u64, cookie: u64, memory: &mut dyn Memory) -> Option<Function>;
}
