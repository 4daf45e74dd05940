//! The ring that the library writes and the recorder reads, and the names that both know.
//!
//! The ring is a sealed memory file: a page with [`Header`], then [`DATA_SIZE`] bytes of records. A record
//! begins with a word of its own ([`word`]): how long it is, of what kind, and whether it is whole. Writers
//! reserve room by moving [`Header::head`] and write the word once without and, when all is written, with
//! [`DONE`]. The reader zeroes what it has read and then moves [`Header::tail`]. A record never wraps around
//! the end: what is left there is a record of the kind [`PAD`].
//!
//! The program may write anything there: the reader believes nothing that it has not checked.

use core::sync::atomic::AtomicU64;

/// Whose memory it is.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ppheap\0\x01");
/// The bytes before the records.
pub const HEADER_SIZE: usize = 4096;
/// The bytes of records; a power of two.
pub const DATA_SIZE: usize = 4 << 20;
/// What the last part of the ring is kept for: that blocks were freed.
pub const KEPT_FOR_FREES: usize = 128 << 10;
/// The most bytes of a stack in a record.
pub const MAX_STACK: usize = 32 << 10;
/// The mean gap between samples, in bytes, where nothing is said.
pub const DEFAULT_INTERVAL: u64 = 512 << 10;
/// The environment variable with the path of the recorder's socket.
pub const SOCKET_VARIABLE: &str = "PROFPIPE_HEAP";
/// The one with the mean gap in bytes.
pub const INTERVAL_VARIABLE: &str = "PROFPIPE_HEAP_INTERVAL";
/// The one with a number that makes the gaps repeatable.
pub const SEED_VARIABLE: &str = "PROFPIPE_HEAP_SEED";

/// The first page.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// The process, by its own number.
    pub pid: AtomicU64,
    /// The mean gap between samples in bytes; the recorder may change it.
    pub interval: AtomicU64,
    /// Samples that there was no room for.
    pub lost: AtomicU64,
    /// Frees of sampled blocks that there was no room to tell.
    pub lost_frees: AtomicU64,
    /// Samples whose blocks are not followed, because too many are.
    pub unfollowed: AtomicU64,
    /// When it was made, in nanoseconds of the monotonic clock.
    pub created: AtomicU64,
    room: [u64; 9],
    /// How far writers have reserved.
    pub head: AtomicU64,
    room_of_head: [u64; 15],
    /// How far the reader has read.
    pub tail: AtomicU64,
    room_of_tail: [u64; 15],
    /// Where the program's CPython has the frames of a thread; the recorder tells it when it has found out.
    pub python: Python,
}

/// Where things are in a CPython: numbers by [`place`], and whether they are there.
#[repr(C)]
#[derive(Debug)]
pub struct Python {
    /// 0 until all numbers are written.
    pub is_known: AtomicU64,
    /// See [`place`].
    pub places: [AtomicU64; place::COUNT],
}

/// What the numbers of [`Python`] are. Offsets are in bytes.
pub mod place {
    /// The address of the pointer to the first interpreter.
    pub const HEAD: usize = 0;
    /// From an interpreter to the next one, and to its first thread.
    pub const INTERPRETER_NEXT: usize = 1;
    /// See there.
    pub const INTERPRETER_THREADS: usize = 2;
    /// From the state of a thread to the next one, and to whose it is.
    pub const THREAD_NEXT: usize = 3;
    /// See there.
    pub const THREAD_OWNER: usize = 4;
    /// Not 0: that is the pointer of the C library, which has the kernel's number so far behind it.
    pub const OWNER_IS_POINTER: usize = 5;
    /// See there.
    pub const POINTER_NUMBER: usize = 6;
    /// The bytes of a thread's state, of a frame, and of a code object.
    pub const STATE_LENGTH: usize = 7;
    /// See there.
    pub const FRAME_LENGTH: usize = 8;
    /// See there.
    pub const CODE_LENGTH: usize = 9;
    /// From a thread's state to its frame, or to what points there.
    pub const TOP: usize = 10;
    /// From there to the pointer to the frame; [`u64::MAX`] if the state itself has it.
    pub const INNER: usize = 11;
    /// From a frame to its code, to its caller, and the bits of the first that are no address.
    pub const FRAME_CODE: usize = 12;
    /// See there.
    pub const FRAME_BACK: usize = 13;
    /// See there.
    pub const CODE_TAG: usize = 14;
    /// How many numbers there are.
    pub const COUNT: usize = 15;
}

/// The record is whole.
pub const DONE: u64 = 1 << 63;
/// A record of nothing.
pub const PAD: u64 = 1;
/// A block was allocated: [`Allocated`], then the stack.
pub const ALLOCATED: u64 = 2;
/// A sampled block is freed: [`Freed`].
pub const FREED: u64 = 3;

/// The first word of a record that is not [`DONE`].
pub const fn word(kind: u64, length: usize) -> u64 {
    kind << 32 | length as u64
}

/// The kind and the length in bytes that a word states.
pub const fn of_word(word: u64) -> (u64, usize) {
    ((word & !DONE) >> 32, (word & 0xffff_ffff) as usize)
}

/// The registers that are needed to unwind, as they are where the allocation was called: the instruction,
/// the stack pointer, and those that functions keep, in the order of [`KEPT`].
pub const REGISTERS: usize = 2 + KEPT.len();
/// The numbers in call frame information of the registers that functions keep.
#[cfg(target_arch = "x86_64")]
pub const KEPT: [u16; 6] = [3, 6, 12, 13, 14, 15];
/// The numbers in call frame information of the registers that functions keep.
#[cfg(not(target_arch = "x86_64"))]
pub const KEPT: [u16; 12] = [19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];

/// What a record of an allocation says after its word.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// In nanoseconds of the monotonic clock.
    pub time: u64,
    /// The block.
    pub address: u64,
    /// Its bytes, as they were asked for.
    pub size: u64,
    /// The mean gap when it was sampled.
    pub interval: u64,
    /// The thread, by the program's own number.
    pub thread: u64,
    /// Whether its free will be told.
    pub followed: u64,
    /// See [`REGISTERS`].
    pub registers: [u64; REGISTERS],
    /// The bytes of the stack that follow; then what is missing to a multiple of 8.
    pub stack: u64,
    /// The state of the thread in CPython, or 0.
    pub python_state: u64,
    /// The bytes of memory of CPython that follow then: pieces, each an address, a length, and so many bytes
    /// and what is missing to a multiple of 8.
    pub python: u64,
}

/// The most bytes of memory of CPython in a record.
pub const MAX_PYTHON: usize = 96 << 10;

/// What a record of a free says after its word.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// In nanoseconds of the monotonic clock.
    pub time: u64,
    /// The block.
    pub address: u64,
}
