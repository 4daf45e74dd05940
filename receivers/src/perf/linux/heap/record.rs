//! What a program says in its ring, checked.
//!
//! Nothing of it is believed: lengths are held against what there is, times against the clock, sizes and
//! gaps against what can be.

use profpipe_heap::layout::{ALLOCATED, Allocated, FREED, KEPT, MAX_PYTHON, MAX_STACK};

use crate::perf::linux::processes::process_context::Memory;
use crate::perf::linux::records::arch::{PROGRAM_COUNTER, STACK_POINTER};
use crate::perf::linux::unwind::registers::RegisterSet;

/// The largest block that a program can have.
const MAX_SIZE: u64 = 1 << 47;
/// The largest mean gap.
pub(super) const MAX_INTERVAL: u64 = 1 << 40;

/// The most pieces of memory in a record: a code object for each frame, and some for the frames.
const MAX_PIECES: usize = 400;

/// What happened to a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HeapRecord {
    /// It was allocated.
    Allocated(Box<Allocation>),
    /// It is freed.
    Freed {
        /// In nanoseconds of the monotonic clock.
        time: u64,
        address: u64,
    },
}

/// A block that was allocated, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Allocation {
    /// In nanoseconds of the monotonic clock.
    pub(crate) time: u64,
    pub(crate) address: u64,
    pub(crate) tid: u32,
    /// Whether its free will be told.
    pub(crate) is_followed: bool,
    pub(crate) size: u64,
    /// The mean gap between samples in bytes.
    pub(crate) interval: u64,
    pub(crate) registers: RegisterSet,
    /// The stack from its pointer up.
    pub(crate) stack: Box<[u8]>,
    /// What CPython runs there, if it does.
    pub(crate) python: Option<Snapshot>,
}

/// Memory of CPython at the time of a sample: where it describes the thread, and pieces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) state: u64,
    pieces: Box<[u8]>,
}

impl Snapshot {
    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The pieces with their addresses, as far as they make sense.
    fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &*self.pieces;
        std::iter::from_fn(move || {
            let (head, after) = rest.split_first_chunk::<16>()?;
            let (address, length) = head.split_first_chunk::<8>()?;
            let length = u64::from_ne_bytes(*length.first_chunk()?);
            let length = usize::try_from(length).ok()?;
            let bytes = after.get(..length)?;
            rest = after.get(length.checked_next_multiple_of(8)?..)?;
            Some((u64::from_ne_bytes(*address), bytes))
        })
    }
}

/// What was copied is there; between the pieces are zeros.
impl Memory for Snapshot {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        into.fill(0);
        let mut is_there = false;
        let Some(end) = address.checked_add(into.len() as u64) else { return false };
        for (start, bytes) in self.pieces().take(MAX_PIECES) {
            let Some(limit) = start.checked_add(bytes.len() as u64) else { continue };
            let (from, until) = (address.max(start), end.min(limit));
            if from >= until {
                continue;
            }
            let piece = bytes.get((from - start) as usize..(until - start) as usize);
            let place = into.get_mut((from - address) as usize..(until - address) as usize);
            if let (Some(piece), Some(place)) = (piece, place) {
                place.copy_from_slice(piece);
                is_there = true;
            }
        }
        is_there
    }
}

impl Allocation {
    /// How many blocks like it there were, in the mean: one of `size` is sampled with the probability
    /// 1 − e^(−size/interval).
    pub(crate) fn blocks(&self) -> f64 {
        let chance = -(-(self.size as f64) / self.interval as f64).exp_m1();
        1.0 / chance
    }
}

/// Reads the body of a record of a kind; none if it is not one. What is later than `now` is now.
pub(crate) fn parse(kind: u64, body: &[u8], now: u64) -> Option<HeapRecord> {
    let mut words = body.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    let mut next = || words.next();
    let (time, address) = (next()?.min(now), next()?);
    match kind {
        FREED => Some(HeapRecord::Freed { time, address }),
        ALLOCATED => {
            let (size, interval, tid, followed) = (next()?, next()?, next()?, next()?);
            let (instruction, stack_pointer) = (next()?, next()?);
            let mut registers = RegisterSet::default();
            for number in KEPT {
                registers.set(number, next()?);
            }
            registers.set(PROGRAM_COUNTER, instruction);
            registers.set(STACK_POINTER, stack_pointer);
            let stack = usize::try_from(next()?).ok()?;
            let (state, pieces) = (next()?, usize::try_from(next()?).ok()?);
            let rest = body.get(size_of::<Allocated>()..)?;
            let (stack, after) = rest.split_at_checked(stack)?;
            let padding = stack.len().next_multiple_of(8) - stack.len();
            let pieces = after.get(padding..padding.checked_add(pieces)?)?;
            let is_sane = (1..=MAX_SIZE).contains(&size) && (1..=MAX_INTERVAL).contains(&interval);
            if !is_sane || stack.len() > MAX_STACK || pieces.len() > MAX_PYTHON {
                return None;
            }
            Some(HeapRecord::Allocated(Box::new(Allocation {
                time,
                address,
                tid: u32::try_from(tid).ok()?,
                is_followed: followed != 0,
                size,
                interval,
                registers,
                stack: stack.into(),
                python: (state != 0).then(|| Snapshot { state, pieces: pieces.into() }),
            })))
        }
        _ => None,
    }
}

impl HeapRecord {
    /// When it happened.
    pub(crate) fn time(&self) -> u64 {
        match self {
            Self::Allocated(allocation) => allocation.time,
            Self::Freed { time, .. } => *time,
        }
    }
}
