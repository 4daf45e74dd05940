//! Builds the answer to one request, each function once.

use std::collections::HashMap;
use std::ops::Range;

use super::super::protocol::{MAX_FRAMES, Names, WireAnswer, WireFrame, WireFunction};

/// An answer with this many bytes is sent, and the processor asks for the rest.
const ENOUGH: usize = 4 << 20;

/// Where a function's name and file are in memory: start and length of each.
type Place = (usize, usize, usize, usize);

/// Builds [`Names`].
#[derive(Debug, Default)]
pub(super) struct NamesWriter {
    names: Names,
    functions: HashMap<WireFunction, u32>,
    /// The functions by where their names are in the binary: names are not demangled twice.
    places: HashMap<Place, u32>,
    bytes: usize,
    /// Frames of the address that is being written.
    open: u32,
}

impl NamesWriter {
    /// Adds a frame to the address being written; callers after callees.
    pub(super) fn frame(&mut self, function: WireFunction, line: u32, column: u32) {
        let function = self.intern(function);
        self.push(function, line, column);
    }

    /// Adds a frame by the bytes of its names in the binary, which stay where they are until the
    /// answer is finished; `make` is called for the first of each.
    pub(super) fn frame_at(
        &mut self,
        (name, file): (&[u8], &[u8]),
        (line, column): (u32, u32),
        make: impl FnOnce() -> WireFunction,
    ) {
        let place = (name.as_ptr() as usize, name.len(), file.as_ptr() as usize, file.len());
        let function = match self.places.get(&place) {
            Some(function) => *function,
            None => {
                let function = self.intern(make());
                self.places.insert(place, function);
                function
            }
        };
        self.push(function, line, column);
    }

    fn intern(&mut self, function: WireFunction) -> u32 {
        let next = self.names.functions.len() as u32;
        *self.functions.entry(function).or_insert_with_key(|function| {
            self.bytes += function.name.len() + function.system_name.len() + function.file.len();
            self.names.functions.push(function.clone());
            next
        })
    }

    fn push(&mut self, function: u32, line: u32, column: u32) {
        if self.open as usize >= MAX_FRAMES {
            return;
        }
        self.names.frames.push(WireFrame { function, line, column });
        self.bytes += size_of::<WireFrame>();
        self.open += 1;
    }

    /// Ends an address, for whose whole range the answer is the same; false if the answer is
    /// large enough.
    pub(super) fn finish_address(&mut self, address: u64, same: &Range<u64>) -> bool {
        let same = if same.contains(&address) { same } else { &one(address) };
        let (before, after) = (address - same.start, same.end - address);
        self.names.answers.push(WireAnswer { frames: self.open, before, after });
        self.open = 0;
        self.bytes < ENOUGH
    }

    /// The answer.
    pub(super) fn finish(self) -> Names {
        self.names
    }
}

/// The range of an address alone.
pub(super) fn one(address: u64) -> Range<u64> {
    address..address.saturating_add(1)
}
