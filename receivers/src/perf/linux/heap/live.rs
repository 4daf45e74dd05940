//! The sampled blocks of a program that are not freed, by the stacks that allocated them.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::perf::linux::handoff::{Frame, Unwound};

/// The most blocks of a program; the library follows fewer.
const MAX_BLOCKS: usize = 1 << 18;

/// What blocks stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

/// Where blocks were allocated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Our number of the process.
    pub(crate) process: u32,
    pub(crate) frames: Arc<[Frame]>,
    pub(crate) unwound: Unwound,
}

/// A block that is not freed.
#[derive(Debug)]
struct Block {
    /// Tells it from an earlier one at its address.
    serial: u64,
    stands: Stands,
    /// The number of its origin; none until its stack is unwound.
    origin: Option<usize>,
}

/// The blocks of a program.
#[derive(Debug, Default)]
pub(crate) struct Live {
    blocks: HashMap<u64, Block>,
    origins: Vec<(Origin, Stands)>,
    numbers: HashMap<Origin, usize>,
}

impl Live {
    /// A block was allocated; an earlier one at its address is gone. False if there are too many.
    pub(crate) fn allocated(&mut self, address: u64, serial: u64, stands: Stands) -> bool {
        self.freed(address);
        if self.blocks.len() >= MAX_BLOCKS {
            return false;
        }
        self.blocks.insert(address, Block { serial, stands, origin: None });
        true
    }

    /// A block is freed.
    pub(crate) fn freed(&mut self, address: u64) {
        let Some(block) = self.blocks.remove(&address) else { return };
        if let Some((_, sum)) = block.origin.and_then(|origin| self.origins.get_mut(origin)) {
            sum.bytes = sum.bytes.saturating_sub(block.stands.bytes);
            sum.blocks = sum.blocks.saturating_sub(block.stands.blocks);
        }
    }

    /// Where a block was allocated is known now, if it is still there.
    pub(crate) fn unwound(&mut self, address: u64, serial: u64, origin: Origin) {
        let Some(block) = self.blocks.get_mut(&address) else { return };
        if block.serial != serial || block.origin.is_some() {
            return;
        }
        let origins = &mut self.origins;
        let number = *self.numbers.entry(origin).or_insert_with_key(|origin| {
            origins.push((origin.clone(), Stands::default()));
            origins.len() - 1
        });
        block.origin = Some(number);
        if let Some((_, sum)) = origins.get_mut(number) {
            sum.bytes = sum.bytes.saturating_add(block.stands.bytes);
            sum.blocks = sum.blocks.saturating_add(block.stands.blocks);
        }
    }

    /// What is there, by origin.
    pub(crate) fn sums(&self) -> impl Iterator<Item = &(Origin, Stands)> {
        self.origins.iter().filter(|(_, sum)| sum.blocks > 0)
    }

    /// Forgets where nothing is left.
    pub(crate) fn shrink(&mut self) {
        let is_left = self.sums().count();
        if self.origins.len() < 1024 || is_left * 2 > self.origins.len() {
            return;
        }
        let mut new = vec![usize::MAX; self.origins.len()];
        let old = std::mem::take(&mut self.origins);
        self.numbers.clear();
        for (at, (origin, sum)) in old.into_iter().enumerate() {
            if sum.blocks > 0 {
                if let Some(new) = new.get_mut(at) {
                    *new = self.origins.len();
                }
                self.numbers.insert(origin.clone(), self.origins.len());
                self.origins.push((origin, sum));
            }
        }
        for block in self.blocks.values_mut() {
            block.origin = block.origin.and_then(|origin| new.get(origin).copied());
        }
    }
}
