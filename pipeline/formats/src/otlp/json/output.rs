//! Protobuf that grows front to back, in memory that is asked for before it is taken.

use serde::de::Error;

use crate::otlp::budget::Room;
use crate::otlp::error::DecodeError;
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
    /// Why reading was given up, where that is more than the JSON being wrong.
    refused: Option<DecodeError>,
    /// Samples seen so far.
    samples: usize,
    /// The first key of a list that is not known where one was expected that leads to samples: its
    /// message, and the key.
    unknown: Option<(&'static str, String)>,
}

impl<'r> Output<'r> {
    pub(super) fn new(room: Option<Room<'r>>) -> Self {
        Self { bytes: Vec::new(), room, refused: None, samples: 0, unknown: None }
    }

    /// Gives up reading for this reason.
    pub(super) fn refuse<E: Error>(&mut self, error: DecodeError) -> E {
        let text = error.to_string();
        self.refused.get_or_insert(error);
        E::custom(text)
    }

    /// Why reading was given up, if it was.
    pub(super) fn refusal(&mut self) -> Option<DecodeError> {
        self.refused.take()
    }

    /// Counts samples.
    pub(super) fn count_samples(&mut self, more: usize) {
        self.samples += more;
    }

    /// Notes a list under a key that is not known, in a message whose samples are not found.
    pub(super) fn note_unknown(&mut self, message: &'static str, key: String) {
        self.unknown.get_or_insert((message, key));
    }

    /// The bytes.
    ///
    /// # Errors
    /// If there are no samples and what may have held them was not understood.
    pub(super) fn finish(self) -> Result<Vec<u8>, DecodeError> {
        match self.unknown {
            Some((message, key)) if self.samples == 0 => Err(DecodeError::Json(format!(
                "there are no samples in it, and `{key}` is not a key of {message}"
            ))),
            _ => Ok(self.bytes),
        }
    }

    /// Asks for memory that is taken elsewhere.
    pub(super) fn ask<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        if bytes > 0 && self.room.as_mut().is_some_and(|room| !room(bytes)) {
            return Err(self.refuse(DecodeError::NoRoom));
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
