//! Registers and the stack of who allocates, as they are when the call returns.
#![allow(unsafe_code, reason = "reads registers that others have saved")]

use super::next::weak;
use super::sys::{self, Piece};
use super::thread;
use crate::layout::{MAX_STACK, REGISTERS};

/// The pages that a copy may touch.
const PAGES: usize = MAX_STACK / PAGE + 1;
const PAGE: usize = 4096;

/// The registers that functions keep, as the functions at the door have put them on the stack.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
pub(super) struct Saved {
    rbx: u64,
    rbp: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    /// Where the call returns to.
    instruction: u64,
}

/// The registers that functions keep, as the functions at the door have put them on the stack.
#[cfg(target_arch = "aarch64")]
#[repr(C)]
pub(super) struct Saved {
    /// x19 to x28, the frame pointer and where the call returns to.
    kept: [u64; 12],
}

impl Saved {
    /// The registers in the order of a record. The instruction is that of the call, which is what calls are
    /// shown by.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn registers(&self) -> [u64; REGISTERS] {
        let Self { rbx, rbp, r12, r13, r14, r15, instruction } = *self;
        // Behind the return address.
        let stack_pointer = (&raw const *self).addr() + size_of::<Self>();
        [instruction.wrapping_sub(1), stack_pointer as u64, rbx, rbp, r12, r13, r14, r15]
    }

    /// The registers in the order of a record. The instruction is that of the call, which is what calls are
    /// shown by.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn registers(&self) -> [u64; REGISTERS] {
        let stack_pointer = (&raw const *self).addr() + size_of::<Self>();
        let mut registers = [0; REGISTERS];
        registers[0] = self.kept[11].wrapping_sub(4);
        registers[1] = stack_pointer as u64;
        registers[2..].copy_from_slice(&self.kept);
        registers
    }
}

/// How far behind the end of a stack that libc knows something of the first function may be.
const BEHIND_END: usize = 64;
/// The largest stack.
const MAX_SPAN: usize = 1 << 30;

/// How much of the stack there is from an address up, at most what a record holds. What a libc keeps behind
/// the stack of a thread does not belong to it, nor do the arguments and the environment of the program.
pub(super) fn length(bottom: u64) -> usize {
    let bottom = bottom as usize;
    let end = weak!("__libc_stack_end").cast::<usize>();
    // SAFETY: the variable of libc, or none.
    let end = if end.is_null() { 0 } else { unsafe { *end }.saturating_add(BEHIND_END) };
    let ends = [end, thread::pointer()].map(|end| end.wrapping_sub(bottom));
    let most = ends.into_iter().filter(|left| *left < MAX_SPAN).min().unwrap_or(MAX_STACK);
    there(bottom).min(most)
}

/// How much memory there is from an address up, at most what a record holds.
fn there(bottom: usize) -> usize {
    let first = PAGE - bottom % PAGE;
    let mut pieces = [Piece { start: bottom, length: 1 }; PAGES];
    for (at, piece) in pieces.iter_mut().enumerate().skip(1) {
        piece.start = (bottom + first).wrapping_add((at - 1) * PAGE);
    }
    let mut bytes = [0_u8; PAGES];
    let into = Piece { start: (&raw mut bytes).addr(), length: PAGES };
    // A byte of each page: those that are there until the first that is not.
    match sys::read(&pieces, &[into]) {
        0 => 0,
        pages => (first + (pages - 1) * PAGE).min(MAX_STACK),
    }
}

/// Copies the stack to where there is room for it; returns how many bytes that were.
pub(super) fn copy(bottom: u64, length: usize, into: *mut u8) -> usize {
    let from = [Piece { start: bottom as usize, length }];
    sys::read(&from, &[Piece { start: into.addr(), length }])
}
