//! The writing end of the ring.
#![allow(unsafe_code, reason = "writes memory that is shared with the recorder")]

use core::sync::atomic::{AtomicU64, Ordering};

use super::python::{self, Captured};
use super::{stack, sys};
use crate::layout::{
    ALLOCATED, Allocated, DATA_SIZE, DONE, FREED, Freed, HEADER_SIZE, Header, KEPT_FOR_FREES, PAD,
    word,
};

/// A ring that is mapped for as long as the process lives.
#[derive(Clone, Copy)]
pub(super) struct Ring(&'static Header);

/// Room in the ring that nobody else writes to.
struct Room {
    word: &'static AtomicU64,
    body: *mut u8,
    kind: u64,
    length: usize,
}

impl Ring {
    /// The ring at an address.
    pub(super) fn of(header: *mut Header) -> Option<Self> {
        // SAFETY: it is null or that of a mapping which is never taken away.
        unsafe { header.as_ref() }.map(Self)
    }

    /// Tells of an allocation with the stack of its caller. False if there was no room.
    pub(super) fn allocated(self, mut record: Allocated, stack_pointer: u64) -> bool {
        let stack = stack::length(stack_pointer);
        let python = python::capture(&self.0.python);
        let pieces = python.as_ref().map_or(&[][..], Captured::bytes);
        let padded = stack.next_multiple_of(8);
        let length = 8 + size_of::<Allocated>() + padded + pieces.len();
        let Some(room) = self.reserve(ALLOCATED, length, KEPT_FOR_FREES) else {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        // SAFETY: the room is as long as both.
        unsafe {
            let copy = room.body.add(size_of::<Allocated>());
            record.stack = stack as u64;
            stack::copy(stack_pointer, stack, copy);
            record.python_state = python.as_ref().map_or(0, Captured::state);
            record.python = pieces.len() as u64;
            copy.add(padded).copy_from_nonoverlapping(pieces.as_ptr(), pieces.len());
            room.body.cast::<Allocated>().write(record);
        }
        room.finish();
        true
    }

    /// Tells that a sampled block is being freed.
    pub(super) fn freed(self, address: usize) {
        let length = 8 + size_of::<Freed>();
        let Some(room) = self.reserve(FREED, length, 0) else {
            self.0.lost_frees.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let record = Freed { time: sys::now(), address: address as u64 };
        // SAFETY: the room is as long as that.
        unsafe { room.body.cast::<Freed>().write(record) };
        room.finish();
    }

    /// A block will not be followed.
    pub(super) fn is_unfollowed(self) {
        self.0.unfollowed.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes room for a record, with its word, of a multiple of 8 bytes; so much is left free.
    fn reserve(self, kind: u64, length: usize, left: usize) -> Option<Room> {
        let size = DATA_SIZE as u64;
        let mut head = self.0.head.load(Ordering::Relaxed);
        loop {
            let tail = self.0.tail.load(Ordering::Acquire);
            let at = (head & (size - 1)) as usize;
            let padding = if at + length > DATA_SIZE { DATA_SIZE - at } else { 0 };
            let needed = (padding + length) as u64;
            let used = head.wrapping_sub(tail);
            if used.checked_add(needed + left as u64).is_none_or(|used| used > size) {
                return None;
            }
            let next = head.wrapping_add(needed);
            let moved =
                self.0.head.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Relaxed);
            if let Err(other) = moved {
                head = other;
                continue;
            }
            if padding > 0 {
                self.at(at).0.store(word(PAD, padding) | DONE, Ordering::Release);
            }
            let (word_of, body) = self.at((at + padding) & (DATA_SIZE - 1));
            word_of.store(word(kind, length), Ordering::Release);
            return Some(Room { word: word_of, body, kind, length });
        }
    }

    /// The word at a place in the data, and what follows.
    fn at(self, at: usize) -> (&'static AtomicU64, *mut u8) {
        let header = core::ptr::from_ref(self.0).cast_mut().cast::<u8>();
        // SAFETY: the place is in the data and a multiple of 8, as all lengths are; the mapping covers the
        // header's page and all of the data.
        unsafe {
            let word = header.add(HEADER_SIZE + at);
            (AtomicU64::from_ptr(word.cast()), word.add(8))
        }
    }
}

impl Room {
    fn finish(self) {
        self.word.store(word(self.kind, self.length) | DONE, Ordering::Release);
    }
}
