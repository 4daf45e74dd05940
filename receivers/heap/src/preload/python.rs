//! The frames of CPython, copied by the thread that runs them.
//!
//! Where they are the recorder has found out and says in the ring. A thread's own frames stand still while it
//! allocates, but one may be half made: everything is read as if it might not be there. What is copied are
//! pieces of memory with their addresses, which the recorder reads as it reads the program's memory.
#![allow(unsafe_code, reason = "copies memory that may not be there")]

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::next::weak;
use super::sys::{self, Piece};
use super::thread;
use crate::layout::{MAX_PYTHON, Python, place};

/// The most frames.
const MAX_FRAMES: usize = 256;
/// The most interpreters, and the most threads of each, that are looked through.
const MAX_INTERPRETERS: usize = 64;
/// See there.
const MAX_THREADS: usize = 512;
/// The most bytes of a state, a frame or a code object.
const MAX_LENGTH: usize = 256;
/// How much is read for a frame: mostly it holds callers, too, which are below.
const BLOCK: usize = 2048;
/// What is never split between memory that is there and memory that is not.
const PAGE: usize = 4096;
/// The code objects that are read in one call.
const BATCH: usize = 64;
/// The words before the bytes of a piece.
const HEAD: usize = 16;
/// How often is looked whether another thread is done.
const MAX_PAUSES: usize = 50;

#[repr(align(8))]
struct Room([AtomicU8; MAX_PYTHON]);
static ROOM: Room = Room([const { AtomicU8::new(0) }; MAX_PYTHON]);
/// The thread that uses the room, by its number; 0: none.
static USER: AtomicU32 = AtomicU32::new(0);

/// What was copied; the room is this thread's as long as it is there.
pub(super) struct Captured {
    state: u64,
    length: usize,
}

impl Captured {
    /// Where the thread's state is.
    pub(super) fn state(&self) -> u64 {
        self.state
    }

    /// The pieces.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: nobody else uses the room, and the length is within it.
        unsafe { core::slice::from_raw_parts(start().cast_const(), self.length) }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        USER.store(0, Ordering::Release);
    }
}

fn start() -> *mut u8 {
    ROOM.0.as_ptr().cast_mut().cast()
}

/// Copies what the calling thread runs; none if that is not known, or it runs nothing.
pub(super) fn capture(python: &Python) -> Option<Captured> {
    if python.is_known.load(Ordering::Acquire) == 0 {
        return None;
    }
    let mut places = [0; place::COUNT];
    for (number, known) in places.iter_mut().zip(&python.places) {
        *number = known.load(Ordering::Relaxed) as usize;
    }
    let lengths = [place::STATE_LENGTH, place::FRAME_LENGTH, place::CODE_LENGTH];
    if lengths.iter().any(|at| !(8..=MAX_LENGTH).contains(&places[*at])) {
        return None;
    }
    take_room()?;
    let mut copy = Copy { places, captured: Captured { state: 0, length: 0 } };
    copy.all()?;
    Some(copy.captured)
}

/// Waits a moment for the room.
fn take_room() -> Option<()> {
    let own = sys::thread();
    for _ in 0..MAX_PAUSES {
        if USER.compare_exchange(0, own, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Some(());
        }
        sys::let_others_run();
    }
    None
}

/// A copy under way.
struct Copy {
    places: [usize; place::COUNT],
    captured: Captured,
}

impl Copy {
    fn all(&mut self) -> Option<()> {
        let state = self.state()?;
        self.captured.state = state as u64;
        let at = self.put(state, self.places[place::STATE_LENGTH])?;
        if self.places[place::OWNER_IS_POINTER] != 0 {
            let owner = self.word(at, self.places[place::THREAD_OWNER])?;
            self.put(owner.wrapping_add(self.places[place::POINTER_NUMBER]), 8)?;
        }
        let top = self.word(at, self.places[place::TOP])?;
        let inner = self.places[place::INNER];
        let frame = match inner as u64 {
            u64::MAX => top,
            _ if top == 0 => 0,
            _ => {
                let at = self.put(top.wrapping_add(inner), 8)?;
                self.word(at, 0)?
            }
        };
        if frame != 0 {
            self.frames(frame);
        }
        Some(())
    }

    /// The state of the calling thread.
    fn state(&self) -> Option<usize> {
        let places = &self.places;
        let own = match places[place::OWNER_IS_POINTER] {
            0 => sys::thread() as usize,
            _ => own_pointer()?,
        };
        let is_own =
            |state: usize| read_word(state.wrapping_add(places[place::THREAD_OWNER])) == Some(own);
        let thread = thread::this();
        // SAFETY: the calling thread's own.
        let known = unsafe { (*thread).python_state } as usize;
        if known != 0 && is_own(known) {
            return Some(known);
        }
        let mut interpreter = read_word(places[place::HEAD])?;
        for _ in 0..MAX_INTERPRETERS {
            if interpreter == 0 {
                break;
            }
            let first = interpreter.wrapping_add(places[place::INTERPRETER_THREADS]);
            let mut state = read_word(first)?;
            for _ in 0..MAX_THREADS {
                if state == 0 {
                    break;
                }
                if is_own(state) {
                    // SAFETY: as above.
                    unsafe { (*thread).python_state = state as u64 };
                    return Some(state);
                }
                state = read_word(state.wrapping_add(places[place::THREAD_NEXT]))?;
            }
            let next = interpreter.wrapping_add(places[place::INTERPRETER_NEXT]);
            interpreter = read_word(next)?;
        }
        None
    }

    /// Copies frames from this one on, and what they run, as far as there is room.
    fn frames(&mut self, top: usize) {
        let length = self.places[place::FRAME_LENGTH];
        let (mut frame, mut held) = (top, (0, 0, 0));
        let (mut codes, mut count) = ([0; BATCH], 0);
        for _ in 0..MAX_FRAMES {
            let end = frame.wrapping_add(length);
            let (start, limit, _) = held;
            if frame < start || end > limit || end < frame {
                let start = (frame & !(PAGE - 1)).max(end.saturating_sub(BLOCK)).min(frame);
                match self.put(start, end.wrapping_sub(start).min(BLOCK)) {
                    Some(at) => held = (start, end, at),
                    None => break,
                }
            }
            let (start, _, at) = held;
            let at = at + (frame - start);
            let code = self.word(at, self.places[place::FRAME_CODE]);
            let back = self.word(at, self.places[place::FRAME_BACK]);
            let (Some(code), Some(back)) = (code, back) else { break };
            if let Some(place) = codes.get_mut(count) {
                *place = code & !self.places[place::CODE_TAG];
                count += 1;
            }
            if count == BATCH {
                self.put_all(&codes);
                count = 0;
            }
            if back == 0 || back == frame {
                break;
            }
            frame = back;
        }
        self.put_all(codes.get(..count).unwrap_or_default());
    }

    /// Copies code objects in one call.
    fn put_all(&mut self, codes: &[usize]) {
        let length = self.places[place::CODE_LENGTH];
        let step = HEAD + length.next_multiple_of(8);
        let mut from = [Piece { start: 0, length: 0 }; BATCH];
        let mut into = from;
        let mut count = 0;
        for code in codes.iter().filter(|code| **code != 0) {
            let at = self.captured.length + count * step;
            let (Some(from), Some(into)) = (from.get_mut(count), into.get_mut(count)) else {
                break;
            };
            if at + step > MAX_PYTHON {
                break;
            }
            *from = Piece { start: *code, length };
            *into = Piece { start: start().addr() + at + HEAD, length };
            count += 1;
        }
        let wanted = (from.get(..count).unwrap_or_default(), into.get(..count).unwrap_or_default());
        let read = sys::read(wanted.0, wanted.1) / length;
        for piece in from.iter().take(read) {
            self.finish(piece.start, length);
        }
    }

    /// Copies memory; where it is in the room.
    fn put(&mut self, address: usize, length: usize) -> Option<usize> {
        let at = self.captured.length + HEAD;
        if at + length.next_multiple_of(8) > MAX_PYTHON {
            return None;
        }
        let into = [Piece { start: start().addr() + at, length }];
        if sys::read(&[Piece { start: address, length }], &into) < length {
            return None;
        }
        self.finish(address, length);
        Some(at)
    }

    /// What was copied behind the head of a piece is one.
    fn finish(&mut self, address: usize, length: usize) {
        let head = [address as u64, length as u64];
        // SAFETY: the room is this thread's, and there is room for the head: see who calls.
        unsafe {
            start().add(self.captured.length).cast::<[u64; 2]>().write(head);
        }
        self.captured.length += HEAD + length.next_multiple_of(8);
    }

    /// A word of what was copied.
    fn word(&self, at: usize, offset: usize) -> Option<usize> {
        let at = at.checked_add(offset)?;
        let bytes = self.captured.bytes().get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(*bytes.first_chunk()?) as usize)
    }
}

/// What identifies the calling thread to its C library.
fn own_pointer() -> Option<usize> {
    let address = weak!("pthread_self");
    if address.is_null() {
        return None;
    }
    // SAFETY: that is what a function of this name takes, everywhere.
    unsafe {
        let itself = core::mem::transmute::<*mut core::ffi::c_void, unsafe extern "C" fn() -> usize>(
            address,
        );
        Some(itself())
    }
}

/// The word at an address, if there is one.
fn read_word(address: usize) -> Option<usize> {
    let mut word = 0_usize;
    let into = [Piece { start: (&raw mut word).addr(), length: 8 }];
    (sys::read(&[Piece { start: address, length: 8 }], &into) == 8).then_some(word)
}
