//! The reading end of a program's ring: memory that it goes on writing to.
//!
//! What lies there may change at any moment, so it is copied before it is looked at, and every length is
//! held against what was reserved. The memory file is sealed: it cannot become shorter, which would end who
//! reads it.
#![allow(unsafe_code, reason = "shares memory with a program")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use profpipe_heap::layout::{self, DATA_SIZE, DONE, HEADER_SIZE, Header, MAGIC, PAD, place};
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// What the ring is, in bytes.
const SIZE: usize = HEADER_SIZE + DATA_SIZE;
/// The shortest record: a word.
const WORD: usize = 8;
/// How long a record may be unfinished while its program runs, in nanoseconds.
const UNFINISHED_NANOS: u64 = 1_000_000_000;

/// A program's ring.
#[derive(Debug)]
pub(crate) struct ProgramRing {
    memory: NonNull<u8>,
    tail: u64,
    /// The place of a record that was not whole when it was last looked at, and since when.
    unfinished: Option<(u64, u64)>,
    /// What the ring counted when it was last asked.
    seen: Losses,
}

/// What there was no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Samples.
    pub(crate) samples: u64,
    /// Blocks whose free will not be told.
    pub(crate) unfollowed: u64,
}

// SAFETY: the mapping belongs to this value alone; what a program writes meanwhile is read as atomic words,
// or copied and then checked.
unsafe impl Send for ProgramRing {}

impl ProgramRing {
    /// Maps the file that a program has handed over.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
        let seals = rustix::fs::fcntl_get_seals(file.as_fd())?;
        if !seals.contains(SealFlags::SHRINK) || file.metadata()?.len() != SIZE as u64 {
            return Err(wrong("not a sealed memory file of the right size"));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                SIZE,
                protection,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )?
        };
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let ring = Self { memory, tail: 0, unfinished: None, seen: Losses::default() };
        if ring.header().magic.load(Ordering::Acquire) != MAGIC {
            return Err(wrong("not a ring of this version"));
        }
        Ok(ring)
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is larger than a header, page-aligned and lives as long as `self`; the header
        // is atomic words only, apart from room that nobody reads.
        unsafe { self.memory.cast::<Header>().as_ref() }
    }

    /// When it was made, by its program.
    pub(crate) fn created(&self) -> u64 {
        self.header().created.load(Ordering::Relaxed)
    }

    /// Sets the mean gap between samples, in bytes.
    pub(crate) fn set_interval(&self, interval: u64) {
        self.header().interval.store(interval, Ordering::Relaxed);
    }

    /// Says where the program's CPython has what a thread runs.
    pub(crate) fn set_python(&self, places: &[u64; place::COUNT]) {
        let python = &self.header().python;
        for (place, number) in python.places.iter().zip(places) {
            place.store(*number, Ordering::Relaxed);
        }
        python.is_known.store(1, Ordering::Release);
    }

    /// What there was no room for since this was asked.
    pub(crate) fn take_losses(&mut self) -> Losses {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let header = self.header();
        let samples = count(&header.lost);
        let unfollowed = count(&header.lost_frees).wrapping_add(count(&header.unfollowed));
        let new = |now: u64, before: u64| now.saturating_sub(before).min(u32::MAX.into());
        let losses = Losses {
            samples: new(samples, self.seen.samples),
            unfollowed: new(unfollowed, self.seen.unfollowed),
        };
        self.seen = Losses { samples, unfollowed };
        losses
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the place is in the data and a multiple of 8: see `read`.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(HEADER_SIZE + at).cast()) }
    }

    /// Hands every whole record to `take`, its kind and what follows its word, and gives the room back.
    /// `is_over` says that the program runs no more, so that nothing will be finished. Returns how many
    /// bytes made no sense.
    pub(crate) fn read(
        &mut self,
        now: u64,
        is_over: bool,
        scratch: &mut Vec<u8>,
        mut take: impl FnMut(u64, &[u8]),
    ) -> usize {
        let head = self.header().head.load(Ordering::Acquire);
        let written = head.wrapping_sub(self.tail);
        if written > DATA_SIZE as u64 || !written.is_multiple_of(WORD as u64) {
            // Not what a writer would have done: all of it is given up.
            return self.give_up(head, DATA_SIZE);
        }
        let mut left = written as usize;
        while left >= WORD {
            let at = (self.tail & (DATA_SIZE as u64 - 1)) as usize;
            let word = self.word(at).load(Ordering::Acquire);
            let (kind, length) = layout::of_word(word);
            let is_whole = word & DONE != 0;
            if word == 0 || !is_whole {
                let since = match self.unfinished {
                    Some((place, since)) if place == self.tail => since,
                    _ => now,
                };
                self.unfinished = Some((self.tail, since));
                if !is_over && now < since.saturating_add(UNFINISHED_NANOS) {
                    break;
                }
                if word == 0 {
                    // Whoever reserved it is gone, and how long it is was not written.
                    return self.give_up(head, left);
                }
            }
            let fits = length >= WORD
                && length.is_multiple_of(WORD)
                && length <= left
                && at + length <= DATA_SIZE;
            if !fits {
                return self.give_up(head, left);
            }
            if is_whole && kind != PAD {
                self.copy(at + WORD, length - WORD, scratch);
                take(kind, scratch);
            }
            self.release(at, length);
            left -= length;
        }
        0
    }

    /// Copies a part of the data, which the program may be writing over.
    fn copy(&self, at: usize, length: usize, into: &mut Vec<u8>) {
        into.clear();
        // By words that are atomic: what is torn is between words, and everything is checked.
        for word in (at..at + length).step_by(WORD) {
            into.extend_from_slice(&self.word(word).load(Ordering::Relaxed).to_ne_bytes());
        }
    }

    /// Gives a record's room back, zeroed.
    fn release(&mut self, at: usize, length: usize) {
        for word in (at..at + length).step_by(WORD) {
            self.word(word).store(0, Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(length as u64);
        self.header().tail.store(self.tail, Ordering::Release);
    }

    /// Gives up what was written until `head`.
    fn give_up(&mut self, head: u64, bytes: usize) -> usize {
        for word in (0..DATA_SIZE).step_by(WORD) {
            self.word(word).store(0, Ordering::Relaxed);
        }
        // Records begin at multiples of a word, whatever the program says.
        self.tail = head & !(WORD as u64 - 1);
        self.header().head.store(self.tail, Ordering::Release);
        self.header().tail.store(self.tail, Ordering::Release);
        bytes
    }
}

impl Drop for ProgramRing {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and nothing borrowed from it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), SIZE) };
    }
}
