//! Runtimes that keep their frames on the native stack: a sample has them all, at whatever time it is
//! looked at. What code an address is, is read from the process later, by the thread that may wait.
//!
//! The walk of a stack asks [`NativeRuntime::advance`] for one frame further, which knows nothing but what
//! was read before: what it lacks it notes in [`Wants`], and the sample is put off until that was read. Code
//! comes and goes. What was read of it is believed of a sample only if it was still the same when it was read
//! again after the sample; the drain thread leaves samples in their rings for so long.

use std::sync::atomic::{AtomicU64, Ordering};

use super::function::Function;
use super::memory::Memory;
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::unwind::registers::RegisterSet;
use crate::perf::linux::unwind::stack::Stack;

/// The most addresses that are asked for at a time.
pub(crate) const MAX_WANTS: usize = 512;
/// How long a request may be under way before it is made again, in nanoseconds.
const LONGEST_REQUEST: u64 = 3_000_000_000;
/// The most managed frames of a stack.
pub(crate) const MAX_SITES: usize = 1024;

/// A place in a managed function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Site {
    /// The object that describes the function in the process, and what tells it from another.
    pub(crate) code: u64,
    pub(crate) cookie: u64,
    /// Where in the function, in the runtime's own units.
    pub(crate) position: u32,
}

/// What is to be read of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Addresses of code.
    pub(crate) code: Vec<u64>,
    /// Objects that may describe a function.
    pub(crate) functions: Vec<u64>,
}

impl Wants {
    /// Asks for the code at an address.
    pub(crate) fn code(&mut self, address: u64) {
        if self.code.len() < MAX_WANTS && !self.code.contains(&address) {
            self.code.push(address);
        }
    }

    /// Asks for a function.
    pub(crate) fn function(&mut self, address: u64) {
        if self.functions.len() < MAX_WANTS && !self.functions.contains(&address) {
            self.functions.push(address);
        }
    }

    /// Asks for what another asks for.
    pub(crate) fn add(&mut self, other: &Self) {
        other.code.iter().for_each(|address| self.code(*address));
        other.functions.iter().for_each(|address| self.function(*address));
    }

    /// Nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.code.is_empty() && self.functions.is_empty()
    }
}

/// A frame of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    /// Its instruction, which is where a call returns to if it is not exact.
    pub(crate) address: u64,
    pub(crate) exact: bool,
    /// What it has called is managed code, too.
    pub(crate) is_of_managed: bool,
    pub(crate) registers: &'a RegisterSet,
    /// What was copied of the stack.
    pub(crate) stack: &'a Stack<'a>,
    /// When the sample was taken.
    pub(crate) time: u64,
}

/// The frame after one of managed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advance {
    /// It is not code of the runtime.
    Foreign,
    /// What has to be known of it was asked for.
    Waiting,
    /// Its caller.
    Caller {
        registers: RegisterSet,
        /// There may be callers in between.
        is_guess: bool,
    },
    /// The caller is where the stack was not copied, at this address.
    Unreadable(u64),
    /// The callers are on another stack.
    Switched,
    /// Nobody knows.
    Unknown,
}

/// A runtime whose frames are on the native stack, in a process. Nothing here believes the process.
pub(crate) trait NativeRuntime: std::fmt::Debug + Send + Sync {
    /// The type of its frames, as in OpenTelemetry's conventions.
    fn frame_type(&self) -> &'static str;

    /// One frame further, with the places in managed functions that the frame is of, innermost first. Reads
    /// nothing of the process and waits for nobody.
    fn advance(&self, here: &Here<'_>, sites: &mut Vec<Site>, wants: &mut Wants) -> Advance;

    /// Reads what was asked for, and again what was used since this was done last; at this time.
    fn read(&self, wants: &Wants, time: u64, memory: &mut dyn Memory);

    /// Since when everything that is used is known to be the same, by the monotonic clock.
    fn verified(&self) -> u64;

    /// Reads what a function is, if it still has the cookie.
    fn describe(&self, code: u64, cookie: u64, memory: &mut dyn Memory) -> Option<Function>;
}

/// What the walk of a stack has to know of a managed program that has its frames there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NativeStack<'a> {
    pub(crate) runtime: &'a dyn NativeRuntime,
    /// The file that the runtime is in.
    pub(crate) image: ImageIx,
    /// The runtime's own frames are shown.
    pub(crate) internals: bool,
}

/// A native runtime, and what goes between the thread that walks and the one that reads.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) runtime: Box<dyn NativeRuntime>,
    /// When the request was made that is under way; 0 if none is.
    asked: AtomicU64,
}

impl Native {
    /// Nothing is asked of it yet.
    pub(crate) fn new(runtime: Box<dyn NativeRuntime>) -> Self {
        Self { runtime, asked: 0.into() }
    }

    /// Begins a request at this time; false if one is under way. The thread that was to serve it may have been
    /// left behind with it.
    pub(crate) fn begin(&self, time: u64) -> bool {
        let asked = self.asked.load(Ordering::Acquire);
        let is_free = asked == 0 || time > asked.saturating_add(LONGEST_REQUEST);
        if is_free {
            self.asked.store(time, Ordering::Release);
        }
        is_free
    }

    /// The request has ended, or could not be made.
    pub(crate) fn end(&self) {
        self.asked.store(0, Ordering::Release);
    }
}
