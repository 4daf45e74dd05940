//! Where HotSpot's code is, and the block of it at an address.

use std::ops::Range;

use super::layout::{Layout, MAX_STRUCTURE};
use crate::perf::linux::runtimes::memory::{Memory, read_word};

/// The most parts of the heap; there are one or three.
const MAX_HEAPS: u64 = 16;
/// The largest part.
const MAX_HEAP: u64 = 1 << 40;
/// The most steps from an address to the start of its block.
const MAX_STEPS: usize = 4096;
/// The steps that are read at once.
const BATCH: u64 = 256;
/// The mark of a segment without a block.
const FREE: u8 = 0xff;

/// A part of the heap that code is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodeHeap {
    /// All that it may ever use.
    pub(crate) code: Range<u64>,
    /// A byte for each segment: how many segments back its block begins, at least.
    segments: u64,
    log2_segment: u32,
    header: u64,
}

impl CodeHeap {
    /// All parts; none if there are none yet, or they are not what they should be.
    pub(crate) fn all(layout: &Layout, memory: &mut dyn Memory) -> Option<Vec<Self>> {
        let heap = &layout.heap;
        let list = read_word(memory, heap.heaps).filter(|it| *it != 0)?;
        let mut bytes = [0; 64];
        if !memory.read(list, &mut bytes) {
            return None;
        }
        let count = heap.list_length.get(&bytes);
        let data = heap.list_data.get(&bytes);
        if count == 0 || count > MAX_HEAPS {
            return None;
        }
        (0..count).map(|at| Self::read(layout, data.wrapping_add(8 * at), memory)).collect()
    }

    fn read(layout: &Layout, at: u64, memory: &mut dyn Memory) -> Option<Self> {
        let heap = &layout.heap;
        let address = read_word(memory, at)?;
        let members = [heap.low, heap.high_boundary, heap.segments, heap.log2_segment];
        let length = members.iter().map(|member| member.at as usize + 8).max()?;
        let mut bytes = [0; MAX_STRUCTURE as usize + 8];
        let bytes = bytes.get_mut(..length)?;
        if !memory.read(address, bytes) {
            return None;
        }
        let [low, high, segments, log2] = members.map(|member| member.get(bytes));
        let is_sane = low != 0 && low < high && high - low <= MAX_HEAP && (3..=20).contains(&log2);
        is_sane.then_some(Self {
            code: low..high,
            segments,
            log2_segment: log2 as u32,
            header: heap.header,
        })
    }

    /// The block at an address of the part; none if there is none.
    pub(crate) fn block(&self, address: u64, memory: &mut dyn Memory) -> Option<u64> {
        let mut segment = address.checked_sub(self.code.start)? >> self.log2_segment;
        let mut tags = [0; BATCH as usize];
        let mut first = 0;
        let mut length = 0;
        for _ in 0..MAX_STEPS {
            if length == 0 || segment < first {
                // Most are short steps back from here.
                first = (segment + 1).saturating_sub(BATCH);
                length = segment + 1 - first;
                let tags = tags.get_mut(..length as usize)?;
                if !memory.read(self.segments.checked_add(first)?, tags) {
                    return None;
                }
            }
            let tag = *tags.get(usize::try_from(segment - first).ok()?)?;
            match tag {
                0 => {
                    let start = self.code.start + (segment << self.log2_segment);
                    return start.checked_add(self.header);
                }
                FREE => return None,
                _ => segment = segment.checked_sub(tag.into())?,
            }
        }
        None
    }
}
