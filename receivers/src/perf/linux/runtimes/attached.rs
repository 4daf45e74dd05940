//! The processes whose runtime is understood, as all threads of the sampler see them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::Runtime;
use super::function::Function;
use super::memory::Memory;
use super::native::Native;
use crate::perf::linux::images::image::ImageIx;

/// A process whose runtime is understood.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Our number for the process, and the kernel's.
    pub(crate) process: u32,
    pub(crate) pid: u32,
    pub(crate) runtime: Kind,
    /// The file that the runtime is in.
    pub(crate) image: ImageIx,
    /// Where its native loop is in the process.
    pub(crate) loops: Vec<Range<u64>>,
    /// All of the file is the runtime: its frames are of no interest of their own.
    pub(crate) is_alone: bool,
    /// The threads of the process have other ids inside it.
    pub(crate) is_nested: bool,
    /// Reading it has kept a thread: it is not read again.
    pub(crate) barred: AtomicBool,
}

/// A runtime, by where it keeps its frames.
#[derive(Debug)]
pub(crate) enum Kind {
    /// In memory that changes as it runs: read at the instant of a sample.
    Heap(Box<dyn Runtime>),
    /// On the native stack, which is copied with a sample.
    Native(Native),
}

impl Kind {
    /// The type of its frames, as in OpenTelemetry's conventions.
    pub(crate) fn frame_type(&self) -> &'static str {
        match self {
            Self::Heap(runtime) => runtime.frame_type(),
            Self::Native(native) => native.runtime.frame_type(),
        }
    }

    /// Reads what a function is, if it still has the cookie.
    pub(crate) fn describe(
        &self,
        code: u64,
        cookie: u64,
        memory: &mut dyn Memory,
    ) -> Option<Function> {
        match self {
            Self::Heap(runtime) => runtime.describe(code, cookie, memory),
            Self::Native(native) => native.runtime.describe(code, cookie, memory),
        }
    }

    /// The runtime that readers are for.
    pub(crate) fn heap(&self) -> Option<&dyn Runtime> {
        match self {
            Self::Heap(runtime) => Some(&**runtime),
            Self::Native(_) => None,
        }
    }

    /// The runtime that needs none.
    pub(crate) fn native(&self) -> Option<&Native> {
        match self {
            Self::Heap(_) => None,
            Self::Native(native) => Some(native),
        }
    }
}

/// Those processes, by the kernel's number.
pub(crate) type Processes = HashMap<u32, Arc<Attached>>;

/// Something that one thread changes and readers look at. They look at a copy, which they renew when
/// there is a new one: they never wait for another thread.
#[derive(Debug, Default)]
pub(crate) struct Versioned<T> {
    current: Mutex<Arc<T>>,
    version: AtomicU64,
}

impl<T> Versioned<T> {
    /// The newest version.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new version of the newest.
    pub(crate) fn change(&self, make: impl FnOnce(&T) -> T) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(make(&current));
        drop(current);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Renews a copy if there is a newer one to be had without waiting.
    pub(crate) fn renew(&self, copy: &mut Arc<T>, version: &mut u64) {
        let newest = self.version.load(Ordering::Acquire);
        if newest != *version
            && let Ok(current) = self.current.try_lock()
        {
            *copy = Arc::clone(&current);
            *version = newest;
        }
    }
}

/// The processes that are attached to.
pub(crate) type AttachedTable = Versioned<Processes>;

impl AttachedTable {
    /// Adds a process.
    pub(crate) fn add(&self, attached: Attached) {
        self.change(|processes| {
            let mut processes = processes.clone();
            processes.insert(attached.pid, Arc::new(attached));
            processes
        });
    }

    /// Keeps those that are wanted.
    pub(crate) fn retain(&self, keep: impl Fn(&Attached) -> bool) {
        if self.current().values().all(|attached| keep(attached)) {
            return;
        }
        self.change(|processes| {
            let kept = processes.iter().filter(|(_, attached)| keep(attached));
            kept.map(|(pid, attached)| (*pid, Arc::clone(attached))).collect()
        });
    }
}
