//! The stacks that were seen, each once, whoever had it: a number for each.
//!
//! New programs bring new stacks without end, so the table has two generations: a stack that is
//! seen moves to the young one, and when that has had its windows, or half of the frames, what is
//! still in the old one is forgotten. The aggregation thread knows the same stacks by number. It is
//! told what is forgotten here, and takes it out only when its window has ended: until then samples
//! that it has may refer to it. A number is never used again.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::perf::linux::handoff::Frame;

/// The most frames of all stacks, 16 bytes each.
pub(crate) const MAX_FRAMES: usize = 1 << 19;
/// The most stacks: short ones take more than their frames.
pub(crate) const MAX_STACKS: usize = 1 << 17;
/// The windows after which a generation is old. One that is forgotten too early is sent again, which
/// takes microseconds.
pub(crate) const GENERATION: u64 = 6;

/// The number of a stack.
pub(crate) type StackNumber = u32;

/// Every known stack.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    young: Generation,
    old: Generation,
    last: StackNumber,
    /// The windows that the young generation has had.
    windows: u64,
    /// Those that the other thread is to forget.
    forgotten: Vec<StackNumber>,
}

#[derive(Debug, Default)]
struct Generation {
    numbers: HashMap<Arc<[Frame]>, StackNumber, foldhash::fast::RandomState>,
    /// The frames in them.
    frames: usize,
}

impl Stacks {
    /// The number of a stack, and its frames if the other thread does not know them.
    pub(crate) fn intern(&mut self, frames: &[Frame]) -> (StackNumber, Option<Arc<[Frame]>>) {
        if let Some(number) = self.young.numbers.get(frames) {
            return (*number, None);
        }
        let full = self.young.frames + frames.len() > MAX_FRAMES / 2
            || self.young.numbers.len() >= MAX_STACKS / 2;
        // What is to move is taken out first: it is not forgotten.
        let known = self.old.numbers.remove_entry(frames);
        if known.is_some() {
            self.old.frames -= frames.len();
        }
        if full {
            self.turn();
        }
        let (frames, number, new) = match known {
            Some((frames, number)) => (frames, number, None),
            None => {
                self.last = self.last.wrapping_add(1);
                let frames: Arc<[Frame]> = frames.into();
                (Arc::clone(&frames), self.last, Some(frames))
            }
        };
        self.young.frames += frames.len();
        self.young.numbers.insert(frames, number);
        (number, new)
    }

    /// A window has ended.
    pub(crate) fn end_window(&mut self) {
        self.windows += 1;
        if self.windows >= GENERATION {
            self.turn();
        }
    }

    /// Forgets the old generation; the young one is old from now on.
    fn turn(&mut self) {
        self.windows = 0;
        let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        self.forgotten.extend(old.numbers.into_values());
    }

    /// The stacks forgotten since this was asked.
    pub(crate) fn take_forgotten(&mut self) -> Vec<StackNumber> {
        std::mem::take(&mut self.forgotten)
    }

    /// The message could not be sent: these are taken again the next time.
    pub(crate) fn put_back(&mut self, forgotten: Vec<StackNumber>) {
        self.forgotten.extend(forgotten);
    }

    /// The number of stacks.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.numbers.len() + self.old.numbers.len()
    }
}
