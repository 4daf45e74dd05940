//! The heaps of Go programs, which sample themselves: their tables, read from outside.
//!
//! A Go program that could be asked for its heap profile keeps a list of buckets (`runtime.mbuckets`): a stack,
//! a size, and how many blocks were sampled and freed there, in three cycles of the collector and before. It is
//! read by a thread of its own, twice a second, without anything that the program notices. Nothing says that
//! the layout is the one that is expected but the numbers: every count of bytes has to be the count of blocks
//! times the size; where that is not so, nothing is shown.

use std::fs::File;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::perf::linux::processes::process_context::Memory;
use crate::perf::linux::runtimes::memory::{ProcessMemory, read_word, word};
use crate::perf::linux::runtimes::symbols::Symbols;

/// How often programs are read.
const INTERVAL: Duration = Duration::from_millis(500);
/// The most programs.
const MAX_PROGRAMS: usize = 256;
/// The most buckets of a program, and the most frames of one.
const MAX_BUCKETS: usize = 1 << 16;
/// See there.
const MAX_FRAMES: u64 = 256;
/// The words before a bucket's stack: next, next of all, type, hash, size, number of frames.
const HEAD: usize = 48;
/// The type of buckets of memory.
const MEMORY: u64 = 1;
/// Four times blocks and bytes, allocated and freed: what is complete, and three cycles.
const COUNTS: usize = 4 * 32;
/// With more buckets that make no sense than one in so many, none is believed. Some are being written.
const MOST_WRONG: usize = 20;

/// A program that is to be read.
#[derive(Debug)]
pub(crate) struct GoProgram {
    pub(crate) pid: u32,
    /// Our number of the process.
    pub(crate) process: u32,
    pub(crate) file: Arc<File>,
    pub(crate) bias: u64,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) address: u64,
    /// Where calls return to, leaf first.
    pub(crate) stack: Vec<u64>,
    pub(crate) size: u64,
    /// Blocks that were sampled, and those of them that are in use since the last collection.
    pub(crate) allocated: u64,
    pub(crate) in_use: u64,
}

/// What a program has, as it was last read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// The bytes between samples, in the mean.
    pub(crate) rate: u64,
    pub(crate) buckets: Vec<Bucket>,
}

/// The readings, by our numbers of processes.
type Readings = Arc<Mutex<HashMap<u32, Reading>>>;

/// The thread, and what it has read.
#[derive(Debug)]
pub(crate) struct GoHeaps {
    programs: SyncSender<GoProgram>,
    readings: Readings,
}

impl GoHeaps {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (programs, asked) = sync_channel(MAX_PROGRAMS);
        let readings = Readings::default();
        let shared = Arc::clone(&readings);
        std::thread::Builder::new()
            .name("perf-go-heap".into())
            .spawn(move || run(&asked, &shared))?;
        Ok(Self { programs, readings })
    }

    /// Has a program read from now on; false if there are too many.
    pub(crate) fn add(&self, program: GoProgram) -> bool {
        self.programs.try_send(program).is_ok()
    }

    /// What was read last of a process.
    pub(crate) fn reading(&self, process: u32) -> Option<Reading> {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.get(&process).cloned()
    }

    /// A process is no more.
    pub(crate) fn forget(&self, process: u32) {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).remove(&process);
    }
}

/// A program whose list was found.
struct Known {
    pid: u32,
    process: u32,
    list: u64,
    rate: u64,
}

fn run(asked: &Receiver<GoProgram>, readings: &Readings) {
    let mut known: Vec<Known> = Vec::new();
    loop {
        match asked.recv_timeout(if known.is_empty() { Duration::from_secs(60) } else { INTERVAL })
        {
            Ok(program) if known.len() < MAX_PROGRAMS => known.extend(find(&program)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        known.retain(|program| {
            let mut memory = ProcessMemory::of(program.pid);
            // One that has ended has what it had when it was read last.
            let Some(rate) = read_word(&mut memory, program.rate) else { return false };
            if rate == 0 {
                tracing::warn!(
                    "perf: heap: the Go program of process {} keeps no heap profile: nothing in it asks for \
                     one (runtime.MemProfile), or it has set runtime.MemProfileRate to 0",
                    program.pid
                );
                return false;
            }
            match read(&mut memory, program.list) {
                Some(buckets) => {
                    let reading = Reading { rate, buckets };
                    let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
                    readings.insert(program.process, reading);
                    true
                }
                None => {
                    tracing::warn!(
                        "perf: heap: the tables of the Go program of process {} are not those that are known",
                        program.pid
                    );
                    false
                }
            }
        });
    }
}

/// Finds the list of a program by its symbols.
fn find(program: &GoProgram) -> Option<Known> {
    let mut symbols = Symbols::default();
    symbols.add_local(&*program.file);
    let place = |name: &[u8]| {
        let found = symbols.iter().find(|(known, _)| *known == name);
        found.map(|(_, symbol)| symbol.address.wrapping_add(program.bias))
    };
    let (list, rate) = (place(b"runtime.mbuckets"), place(b"runtime.MemProfileRate"));
    let (Some(list), Some(rate)) = (list, rate) else {
        tracing::warn!(
            "perf: heap: the Go program of process {} has no symbols that tell where its heap profile is; its \
             pprof endpoint is the way",
            program.pid
        );
        return None;
    };
    Some(Known { pid: program.pid, process: program.process, list, rate })
}

/// Reads all buckets; none if they are not what is known.
pub(super) fn read(memory: &mut dyn Memory, list: u64) -> Option<Vec<Bucket>> {
    let mut at = read_word(memory, list)?;
    let mut buckets = Vec::new();
    let mut wrong = 0;
    for _ in 0..MAX_BUCKETS {
        if at == 0 {
            break;
        }
        let mut head = [0; HEAD];
        if !memory.read(at, &mut head) {
            return None;
        }
        let (next, kind, size, frames) =
            (word(&head, 8), word(&head, 16), word(&head, 32), word(&head, 40));
        if kind != MEMORY || frames > MAX_FRAMES || size > 1 << 47 {
            return None;
        }
        let stack_length = 8 * frames as usize;
        let mut rest = vec![0; stack_length + COUNTS];
        if !memory.read(at.wrapping_add(HEAD as u64), &mut rest) {
            return None;
        }
        let (stack, counts) = rest.split_at_checked(stack_length)?;
        match sums(counts, size) {
            Some((allocated, in_use)) => buckets.push(Bucket {
                address: at,
                stack: stack.as_chunks().0.iter().map(|it| u64::from_ne_bytes(*it)).collect(),
                size,
                allocated,
                in_use,
            }),
            None => wrong += 1,
        }
        at = next;
    }
    (wrong <= 2 + buckets.len() / MOST_WRONG).then_some(buckets)
}

/// The blocks that were allocated, and those that are in use since the last collection.
fn sums(counts: &[u8], size: u64) -> Option<(u64, u64)> {
    let mut allocated = 0_u64;
    let mut in_use = 0;
    for (cycle, words) in counts.as_chunks::<32>().0.iter().enumerate() {
        let [blocks, freed, bytes, freed_bytes] = [0, 8, 16, 24].map(|at| word(words, at));
        let is_right =
            blocks.checked_mul(size) == Some(bytes) && freed.checked_mul(size) == Some(freed_bytes);
        if !is_right {
            return None;
        }
        allocated = allocated.checked_add(blocks)?;
        if cycle == 0 {
            in_use = blocks.saturating_sub(freed);
        }
    }
    Some((allocated, in_use))
}
