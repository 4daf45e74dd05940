//! Builds the answer to one request, each function once.

use std::collections::HashMap;

use super::super::protocol::{MAX_FRAMES, Names, WireFrame, WireFunction};

/// An answer with this many bytes is sent, and the processor asks for the rest.
const ENOUGH: usize = 4 << 20;

/// Builds [`Names`].
#[derive(Debug, Default)]
pub(super) struct NamesWriter {
    names: Names,
    functions: HashMap<WireFunction, u32>,
    bytes: usize,
    /// Frames of the address that is being written.
    open: u32,
}

impl NamesWriter {
    /// Adds a frame to the address being written; callers after callees.
    pub(super) fn frame(&mut self, function: WireFunction, line: u32, column: u32) {
        if self.open as usize >= MAX_FRAMES {
            return;
        }
        let next = self.names.functions.len() as u32;
        let function = *self.functions.entry(function).or_insert_with_key(|function| {
            self.bytes += function.name.len() + function.system_name.len() + function.file.len();
            self.names.functions.push(function.clone());
            next
        });
        self.names.frames.push(WireFrame { function, line, column });
        self.bytes += size_of::<WireFrame>();
        self.open += 1;
    }

    /// Ends an address; false if the answer is large enough.
    pub(super) fn finish_address(&mut self) -> bool {
        self.names.answers.push(self.open);
        self.open = 0;
        self.bytes < ENOUGH
    }

    /// The answer.
    pub(super) fn finish(self) -> Names {
        self.names
    }
}
