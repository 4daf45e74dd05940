//! What a program says in its ring, checked.
//!
//! Nothing of it is believed: lengths are held against what there is, times against the clock, sizes and
//! gaps against what can be.

use profpipe_heap::layout::{ALLOCATED, FREED, KEPT, MAX_STACK, REGISTERS};

use crate::perf::linux::records::arch::{PROGRAM_COUNTER, STACK_POINTER};
use crate::perf::linux::unwind::registers::RegisterSet;

/// The largest block that a program can have.
const MAX_SIZE: u64 = 1 << 47;
/// The largest mean gap.
pub(super) const MAX_INTERVAL: u64 = 1 << 40;

/// What happened to a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HeapRecord {
    /// It was allocated.
    Allocated(Allocation),
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
            let head = 8 * (7 + REGISTERS);
            let stack = body.get(head..head.checked_add(stack)?)?;
            let is_sane = (1..=MAX_SIZE).contains(&size) && (1..=MAX_INTERVAL).contains(&interval);
            if !is_sane || stack.len() > MAX_STACK {
                return None;
            }
            Some(HeapRecord::Allocated(Allocation {
                time,
                address,
                tid: u32::try_from(tid).ok()?,
                is_followed: followed != 0,
                size,
                interval,
                registers,
                stack: stack.into(),
            }))
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
