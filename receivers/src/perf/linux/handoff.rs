//! What the drain thread sends to the aggregation thread: numbers, and what they stand for.
//!
//! Everything is sent before it is referred to. A sample is small; stacks, mappings, processes and
//! thread names are sent once.

use std::fs::File;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::HashMap;
use profpipe_engine::overhead::WaitingWindow;

use super::looks::wait::Wait;
use super::records::block::Operation;
use super::runtimes::function::FunctionKey;

/// The row of kernel code.
pub(super) const KERNEL_ROW: RowIx = 0;
/// No mapping: nothing known is at the address.
pub(super) const NO_ROW: RowIx = RowIx::MAX;

/// Not a mapping: the address is the number of a name, and nothing else is known of the function.
pub(super) const NAMED_ROW: RowIx = RowIx::MAX - 1;
/// The name that stands for what the kernel runs in place of an instruction that is probed.
pub(super) const PROBE_NAME: u32 = 0;
/// Not a mapping: the address is the number of a place in a managed function, until that has a row.
pub(super) const SITE_ROW: RowIx = RowIx::MAX - 2;
/// No thread: what is told of a process as a whole.
pub(super) const NO_THREAD: u32 = 0;

/// Windows without samples after which the aggregation thread forgets a process.
pub(super) const REMEMBERED: u64 = 30;

/// Lets go of the room of a table that was much larger once.
pub(super) fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > 4 * table.len().max(256) {
        table.shrink_to(2 * table.len());
    }
}

/// The number of a mapping row: what a frame's address is relative to.
pub(super) type RowIx = u32;

/// A frame: an address relative to what a mapping row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    pub(super) row: RowIx,
    pub(super) address: u64,
}

/// How far a user stack was unwound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unwound {
    /// To its root.
    Complete,
    /// To its root, in part along frame pointers through code that has no rules: callers may be
    /// missing.
    Guessed,
    /// To the end of what was copied, or of the frames that are kept.
    Truncated,
    /// To where the program goes on to another stack.
    Switched,
    /// Until no rule could continue.
    Broken,
}

impl Unwound {
    /// What a stack says of itself; a complete one says nothing.
    pub(super) fn state(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::Guessed => Some("guessed"),
            Self::Truncated => Some("truncated"),
            Self::Switched => Some("switched"),
            Self::Broken => Some("broken"),
        }
    }
}

/// The number of an event of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EventIx(pub(super) u8);

impl EventIx {
    /// The first of them.
    pub(super) const FIRST: Self = Self(0);

    /// Where it is in a list of all.
    pub(super) fn at(self) -> usize {
        usize::from(self.0)
    }
}

/// What kind of its event a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Label {
    /// What the thread waited for.
    Wait(Wait),
    /// What is done with blocks.
    Blocks(Operation),
}

/// A sample that was unwound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) event: EventIx,
    /// What kind it is.
    pub(super) label: Option<Label>,
    pub(super) process: u32,
    pub(super) tid: u32,
    pub(super) stack: u32,
    pub(super) unwound: Unwound,
    /// What it stands for, in the unit of its event.
    pub(super) weight: u64,
    /// How many events that is; 1 of a clock and of a look.
    pub(super) events: u64,
    /// In nanoseconds of the monotonic clock.
    pub(super) time: u64,
}

/// A message to the aggregation thread.
#[derive(Debug)]
pub(super) enum Message {
    /// A sample.
    Sample(Counted),
    /// The frames of a stack, leaf first.
    Stack(u32, Arc<[Frame]>),
    /// The name of a thread, which it has had since a time of the monotonic clock.
    Thread { process: u32, tid: u32, name: Arc<str>, since: u64 },
    /// A name that stands for a function.
    Name(u32, Arc<str>),
    /// A process.
    Process(Box<ProcessFacts>),
    /// A mapping row.
    Row(RowIx, Box<RowFacts>),
    /// No sample after this refers to these stacks.
    ForgetStacks(Vec<u32>),
    /// No sample after this refers to these rows.
    ForgetRows(Vec<RowIx>),
    /// No sample after this is of these processes.
    ForgetProcesses(Vec<u32>),
    /// A window ends; times are in nanoseconds of the monotonic clock.
    Window {
        start: u64,
        end: u64,
        lost: u64,
        /// What was counted exactly of events of which only some were sampled.
        totals: Vec<Total>,
        /// The events that were not counted for all of it, with commas between them.
        partial: Option<Arc<str>>,
        waiting: Option<WaitingWindow>,
    },
}

/// What was counted exactly in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) event: EventIx,
    /// The process that it is of; none: of all together.
    pub(super) process: Option<u32>,
    /// In the unit of the event.
    pub(super) value: u64,
}

/// What the drain thread knows of a process.
#[derive(Debug, Clone)]
pub(super) struct ProcessFacts {
    pub(super) id: u32,
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// The start time in the kernel's ticks; 0 if unknown.
    pub(super) start_time: u64,
    pub(super) name: Arc<str>,
    pub(super) executable: Option<Arc<str>>,
    /// It has no user half.
    pub(super) kernel: bool,
}

/// What a mapping row stands for.
#[derive(Debug, Clone)]
pub(super) struct RowFacts {
    pub(super) source: Source,
    pub(super) memory_start: u64,
    pub(super) memory_limit: u64,
    pub(super) file_offset: u64,
}

/// Where the code of a row comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Kernel,
    Vdso(Option<Arc<[u8]>>),
    /// Code that this process wrote itself.
    Jit {
        pid: u32,
    },
    File(FileFacts),
    /// A function of a managed program; addresses are positions in it.
    Managed {
        key: FunctionKey,
        /// The type of its frames.
        kind: &'static str,
    },
}

/// A mapped file.
#[derive(Debug, Clone)]
pub(super) struct FileFacts {
    pub(super) path: Arc<str>,
    pub(super) pid: u32,
    pub(super) file: Option<Arc<File>>,
    pub(super) build_id: Option<String>,
    pub(super) go_build_id: Option<String>,
    pub(super) htlhash: Option<String>,
}
