//! Protobuf that grows front to back, in memory that is asked for before it is taken.

use serde::de::Error;

use crate::otlp::budget::Room;
use crate::otlp::sink::{Sink, set_length};

/// What is asked for at least.
const STEP: usize = 1 << 10;
/// What a key takes at most, and what a length does.
const KEY: usize = 5;
const LENGTH: usize = 5;

/// The bytes written so far.
pub(super) struct Output<'r> {
    bytes: Vec<u8>,
    /// Who is to be asked; nobody where memory is one's own.
    room: Option<Room<'r>>,
    refused: bool,
}

impl<'r> Output<'r> {
    pub(super) fn new(room: Option<Room<'r>>) -> Self {
        Self { bytes: Vec::new(), room, refused: false }
    }

    /// Whether there was no room when it was asked for.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Asks for memory that is taken elsewhere.
    pub(super) fn ask<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        if bytes > 0 && self.room.as_mut().is_some_and(|room| !room(bytes)) {
            self.refused = true;
            return Err(E::custom("there is no room for it"));
        }
        Ok(())
    }

    /// The bytes, which can take so many more without another word.
    #[inline]
    pub(super) fn spare<E: Error>(&mut self, more: usize) -> Result<&mut Vec<u8>, E> {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.grow(more)?;
        }
        Ok(&mut self.bytes)
    }

    #[cold]
    fn grow<E: Error>(&mut self, more: usize) -> Result<(), E> {
        // By a part of what is there, or moving it would take time.
        let usual = more.max(STEP).max(self.bytes.capacity() / 4);
        // What is spare already was asked for.
        let missing = self.bytes.len() + usual - self.bytes.capacity();
        self.ask(missing)?;
        self.bytes.reserve_exact(usual);
        Ok(())
    }

    /// A text or other bytes, even if they are empty.
    pub(super) fn bytes<E: Error>(&mut self, field: u32, bytes: &[u8]) -> Result<(), E> {
        self.spare(KEY + LENGTH + bytes.len())?.always_bytes(field, bytes);
        Ok(())
    }

    /// Begins a message or a packed list. Where it starts, for its end.
    pub(super) fn begin<E: Error>(&mut self, field: u32) -> Result<Start, E> {
        let out = self.spare(KEY + 1)?;
        let before = out.len();
        out.varint(u64::from(field << 3 | 2));
        out.push(0);
        Ok(Start { before, content: out.len() })
    }

    /// Ends what began at `start`.
    pub(super) fn end<E: Error>(&mut self, start: Start) -> Result<(), E> {
        let out = self.spare(LENGTH)?;
        let length = out.len() - start.content;
        set_length(out, start.content - 1, 1, length);
        Ok(())
    }

    /// As [`Self::end`]; what is empty is left out.
    pub(super) fn end_unless_empty<E: Error>(&mut self, start: Start) -> Result<(), E> {
        if self.bytes.len() == start.content {
            self.bytes.truncate(start.before);
            return Ok(());
        }
        self.end(start)
    }
}

/// Where something begins: its key, and what follows its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    before: usize,
    content: usize,
}
