//! Memory of a process that is not there.

use std::collections::BTreeMap;

use crate::perf::linux::runtimes::memory::Memory;

/// Words by address; what is not in it cannot be read.
#[derive(Debug, Default)]
pub(super) struct FakeMemory {
    words: BTreeMap<u64, u64>,
    /// How often it was read, in pieces.
    pub(super) reads: usize,
}

impl FakeMemory {
    /// Makes `length` bytes of zeros.
    pub(super) fn map(&mut self, start: u64, length: u64) {
        for at in (start..start + length).step_by(8) {
            self.words.entry(at).or_insert(0);
        }
    }

    /// Writes a word.
    pub(super) fn put(&mut self, address: u64, word: u64) {
        self.words.insert(address, word);
    }

    /// Writes 4 bytes.
    pub(super) fn put_half(&mut self, address: u64, half: u32) {
        let word = self.words.entry(address & !7).or_insert(0);
        let shift = 8 * (address & 7);
        *word = *word & !(0xffff_ffff << shift) | u64::from(half) << shift;
    }

    /// Writes bytes.
    pub(super) fn put_bytes(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let address = address + at as u64;
            let word = self.words.entry(address & !7).or_insert(0);
            let shift = 8 * (address & 7);
            *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
        }
    }
}

impl Memory for FakeMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        self.reads += 1;
        for (at, byte) in into.iter_mut().enumerate() {
            let Some(address) = address.checked_add(at as u64) else { return false };
            let Some(word) = self.words.get(&(address & !7)) else { return false };
            *byte = (word >> (8 * (address & 7))) as u8;
        }
        true
    }
}
