//! The walk over the frames of a thread.
//!
//! From 3.11 on the frames of a thread lie one after the other in large pieces of memory, callers
//! below: what is read for one frame mostly holds its callers too.

use super::layout::{CODE, Entry, Owner, Position, STATE, Top};
use super::{CPython, MAX_CODE_UNITS};
use crate::perf::linux::runtimes::memory::{MAX_PIECES, Memory, half, read_word, word};
use crate::perf::linux::runtimes::{MAX_FRAMES, ManagedFrame, ManagedThread, Refusal, Walk};
use crate::perf::linux::thread::now;

/// The most interpreters of a process, and the most threads of all of them, that are looked through.
const MAX_INTERPRETERS: usize = 64;
/// See there.
const MAX_THREADS: usize = 512;
/// The most that is read for one frame.
const BLOCK: u64 = 2048;
/// What is never split between memory that is there and memory that is not.
const PAGE: u64 = 4096;
/// Where the C library of GNU on this processor has the kernel's id of a thread, from the pointer
/// that identifies it.
#[cfg(target_arch = "x86_64")]
pub(super) const LIBRARY_TID: u64 = 0x2d0;
/// There the pointer is to the end of the record.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LIBRARY_TID: u64 = 0xd0_u64.wrapping_neg().wrapping_sub(0x500);

impl CPython {
    /// The state of a thread, with the bytes that it has now; none if the runtime has none for it.
    fn thread_state(
        &self,
        thread: &mut ManagedThread,
        memory: &mut dyn Memory,
    ) -> Result<Option<[u8; STATE]>, Refusal> {
        let mut bytes = [0; STATE];
        if let Some(known) = thread.state
            && memory.read(known, &mut bytes)
            && self.is_of(&bytes, thread.tid, memory)
        {
            return Ok(Some(bytes));
        }
        thread.state = None;
        let layout = &self.layout;
        let head = self.runtime.wrapping_add(layout.interpreters.into());
        let mut interpreter = read_word(memory, head).ok_or(Refusal::Unreadable)?;
        let mut threads = 0;
        for _ in 0..MAX_INTERPRETERS {
            if interpreter == 0 {
                return Ok(None);
            }
            let first = interpreter.wrapping_add(layout.interpreter_threads.into());
            let mut at = read_word(memory, first).ok_or(Refusal::Unreadable)?;
            while at != 0 {
                threads += 1;
                if threads > MAX_THREADS {
                    return Ok(None);
                }
                if !memory.read(at, &mut bytes) {
                    return Err(Refusal::Unreadable);
                }
                if self.is_of(&bytes, thread.tid, memory) {
                    thread.state = Some(at);
                    return Ok(Some(bytes));
                }
                at = word(&bytes, layout.thread_next);
            }
            let next = interpreter.wrapping_add(layout.interpreter_next.into());
            interpreter = read_word(memory, next).ok_or(Refusal::Unreadable)?;
        }
        Ok(None)
    }

    fn is_of(&self, state: &[u8], tid: u32, memory: &mut dyn Memory) -> bool {
        match self.layout.thread_owner {
            Owner::Kernel(at) => word(state, at) == u64::from(tid),
            Owner::Library(at) => {
                let record = word(state, at);
                let mut bytes = [0; 4];
                record != 0
                    && memory.read(record.wrapping_add(LIBRARY_TID), &mut bytes)
                    && u32::from_ne_bytes(bytes) == tid
            }
        }
    }

    /// Walks a thread; see [`super::super::Runtime::walk`].
    pub(super) fn walk_thread(
        &self,
        thread: &mut ManagedThread,
        memory: &mut dyn Memory,
        walk: &mut Walk,
    ) -> Result<bool, Refusal> {
        let Some(state) = self.thread_state(thread, memory)? else { return Ok(false) };
        let mut frame = match self.layout.thread_top {
            Top::Frame(at) => word(&state, at),
            Top::Loop(at, inner) => {
                let native_loop = word(&state, at);
                if native_loop == 0 {
                    return Ok(false);
                }
                let place = native_loop.wrapping_add(inner.into());
                read_word(memory, place).ok_or(Refusal::Unreadable)?
            }
        };
        if frame == 0 {
            return Ok(false);
        }
        let mut block = Block::new(self.layout.frame_length());
        while frame != 0 {
            let is_over =
                walk.deadline != 0 && walk.frames.len() % 16 == 15 && now() > walk.deadline;
            if walk.frames.len() >= MAX_FRAMES || is_over {
                walk.truncated = true;
                break;
            }
            let bytes = block.frame(frame, memory).ok_or(Refusal::Unreadable)?;
            let back = word(bytes, self.layout.frame_back);
            walk.frames.push(self.frame(bytes));
            if back == frame {
                return Err(Refusal::Inconsistent);
            }
            frame = back;
        }
        self.check(memory, walk)?;
        Ok(true)
    }

    /// A frame as it stands in memory. Its position is what the frame says of it until the code is
    /// known.
    fn frame(&self, bytes: &[u8]) -> ManagedFrame {
        let layout = &self.layout;
        let mark = |at: u32| bytes.get(at as usize).copied().unwrap_or(0);
        let code = word(bytes, layout.frame_code) & !layout.code_tag;
        let (code, ends_loop) = match layout.frame_entry {
            Entry::Every => (code, true),
            Entry::Marked(at) => (code, mark(at) == 1),
            Entry::Before(at) if mark(at) == 3 => (0, true),
            Entry::Before(_) => (code, false),
        };
        // Until it is checked the cookie is where the frame says that it is.
        let cookie = match layout.frame_position {
            Position::Bytes(at) => {
                u64::from(half(bytes, at).cast_signed().max(0).cast_unsigned()) / 2
            }
            Position::Units(at) => u64::from(half(bytes, at).cast_signed().max(0).cast_unsigned()),
            Position::Address(at) => word(bytes, at),
        };
        ManagedFrame { code, cookie, position: 0, ends_loop }
    }

    /// Reads what the frames run: all must be code, and every position must lie in it.
    fn check(&self, memory: &mut dyn Memory, walk: &mut Walk) -> Result<(), Refusal> {
        let mut addresses = [0; MAX_PIECES];
        let mut codes = [0; MAX_PIECES * CODE];
        let mut at = 0;
        while at < walk.frames.len() {
            let mut count = 0;
            let mut end = at;
            for frame in walk.frames.get(at..).unwrap_or_default() {
                if frame.code != 0 {
                    let Some(place) = addresses.get_mut(count) else { break };
                    *place = frame.code;
                    count += 1;
                }
                end += 1;
            }
            let wanted = addresses.get(..count).unwrap_or_default();
            if memory.read_pieces(wanted, CODE, &mut codes) < count {
                return Err(Refusal::Inconsistent);
            }
            let mut codes = codes.chunks_exact(CODE);
            for frame in walk.frames.get_mut(at..end).unwrap_or_default() {
                if frame.code == 0 {
                    continue;
                }
                let bytes = codes.next().ok_or(Refusal::Inconsistent)?;
                frame.position = self.position(frame, bytes).ok_or(Refusal::Inconsistent)?;
                frame.cookie = self.cookie(bytes).ok_or(Refusal::Inconsistent)?;
            }
            at = end;
        }
        Ok(())
    }

    fn position(&self, frame: &ManagedFrame, code: &[u8]) -> Option<u32> {
        let units = match self.layout.code_units {
            None => frame.cookie,
            Some(at) => {
                let start = frame.code.wrapping_add(at.into());
                let bytes = frame.cookie.wrapping_sub(start).cast_signed();
                // A frame that has not begun is one unit before its start.
                let position = u64::try_from((bytes / 2).max(0)).ok()?;
                let length = word(code, super::VARIABLE_SIZE);
                if bytes < -2 || position > length {
                    return None;
                }
                position
            }
        };
        u32::try_from(units).ok().filter(|units| *units <= MAX_CODE_UNITS)
    }
}

/// Memory that was read for a frame, and mostly holds the next.
struct Block {
    start: u64,
    length: usize,
    /// The bytes of a frame that are wanted.
    frame: usize,
    bytes: [u8; BLOCK as usize],
}

impl Block {
    /// Holds nothing yet; frames are read so far.
    fn new(frame: usize) -> Self {
        Self { start: 0, length: 0, frame, bytes: [0; BLOCK as usize] }
    }

    /// The bytes of a frame.
    fn frame(&mut self, address: u64, memory: &mut dyn Memory) -> Option<&[u8]> {
        let length = self.frame;
        let held = |block: &Self| {
            let at = usize::try_from(address.checked_sub(block.start)?).ok()?;
            (at.checked_add(length)? <= block.length).then_some(at)
        };
        if let Some(at) = held(self) {
            return self.bytes.get(at..at + length);
        }
        let end = address.checked_add(length as u64)?;
        // Callers are below. The page is there if the frame is.
        let start = (address & !(PAGE - 1)).max(end.saturating_sub(BLOCK)).min(address);
        let size = usize::try_from(end - start).ok()?.min(self.bytes.len());
        self.length = 0;
        if !memory.read(start, self.bytes.get_mut(..size)?) {
            return None;
        }
        (self.start, self.length) = (start, size);
        let at = held(self)?;
        self.bytes.get(at..at + length)
    }
}
