//! What differs between processors: which registers a sample holds, their order and their numbers in
//! call frame information.
//!
//! The kernel writes the registers of the mask in the order of their bits.

use framehop::UnwindRegsNative;

use crate::perf::linux::unwind::registers::RegisterSet;

/// The values of the registers in [`REGISTER_MASK`].
pub(crate) type Registers = [u64; REGISTERS];

/// The registers of a sample, by their numbers in call frame information.
pub(crate) fn register_set(registers: &Registers) -> RegisterSet {
    let mut set = RegisterSet::default();
    for (number, value) in NUMBERS.iter().zip(registers) {
        set.set(*number, *value);
    }
    set
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use super::{RegisterSet, UnwindRegsNative};

    /// The number of registers in a sample.
    pub(crate) const REGISTERS: usize = 17;
    /// Their bits: all general registers, the stack pointer and the instruction pointer.
    pub(crate) const REGISTER_MASK: u64 = 0x1ff | 0xff << 16;
    /// Their numbers in call frame information, in the order of the bits: rax, rbx, rcx, rdx, rsi,
    /// rdi, rbp, rsp, rip, r8 to r15.
    pub(super) const NUMBERS: [u16; REGISTERS] =
        [0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15];
    /// How many numbers there are.
    pub(crate) const NUMBERED: usize = 17;
    pub(crate) const FRAME_POINTER: u16 = 6;
    pub(crate) const STACK_POINTER: u16 = 7;
    /// What stands for the return address in rules.
    pub(crate) const RETURN_ADDRESS: u16 = 16;
    /// Where the instruction pointer is kept.
    pub(crate) const PROGRAM_COUNTER: u16 = 16;
    /// From the stack pointer at the end of a signal handler to the saved registers, and their
    /// order there: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
    pub(crate) const SIGNAL_REGISTERS: (u64, [u16; 17]) =
        (40, [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16]);
    /// Go's stacks are walked by its table of depths.
    pub(crate) const GO_BY_DEPTH: bool = true;

    /// The return address of a function that has no frame, if it is not on the stack.
    pub(crate) fn link_register(_: &RegisterSet) -> Option<u64> {
        None
    }

    /// What `framehop` starts with; none if a register is not known.
    pub(crate) fn to_framehop(set: &RegisterSet) -> Option<UnwindRegsNative> {
        let (ip, sp) = (set.get(PROGRAM_COUNTER)?, set.get(STACK_POINTER)?);
        Some(UnwindRegsNative::new(ip, sp, set.get(FRAME_POINTER).unwrap_or(0)))
    }

    /// What `framehop` came to.
    pub(crate) fn of_framehop(state: &UnwindRegsNative, next: u64) -> RegisterSet {
        let mut set = RegisterSet::default();
        set.set(PROGRAM_COUNTER, next);
        set.set(STACK_POINTER, state.sp());
        set.set(FRAME_POINTER, state.bp());
        set
    }

    /// A return address as it stands on the stack, without what the processor added to it.
    pub(crate) fn strip(address: u64) -> u64 {
        address
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use framehop::aarch64::PtrAuthMask;

    use super::{RegisterSet, UnwindRegsNative};

    /// The number of registers in a sample: x0 to x29 (frame pointer), x30 (link register), sp, pc.
    pub(crate) const REGISTERS: usize = 33;
    /// Their bits.
    pub(crate) const REGISTER_MASK: u64 = (1 << 33) - 1;
    /// Their numbers in call frame information; the program counter has none, and is kept last.
    pub(super) const NUMBERS: [u16; REGISTERS] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30, 31, 32,
    ];
    /// How many numbers there are.
    pub(crate) const NUMBERED: usize = 33;
    pub(crate) const FRAME_POINTER: u16 = 29;
    pub(crate) const STACK_POINTER: u16 = 31;
    /// What stands for the return address in rules.
    pub(crate) const RETURN_ADDRESS: u16 = 30;
    /// Where the instruction pointer is kept.
    pub(crate) const PROGRAM_COUNTER: u16 = 32;
    /// From the stack pointer at the end of a signal handler to the saved registers, and their
    /// order there: behind 128 bytes of `siginfo` and the head of `ucontext`.
    pub(crate) const SIGNAL_REGISTERS: (u64, [u16; 33]) = (128 + 176 + 8, NUMBERS);
    /// Go's stacks are walked along its frame pointers.
    pub(crate) const GO_BY_DEPTH: bool = false;
    /// The bits of a user address; the rest holds the signature of pointer authentication. Linux
    /// gives programs 48-bit addresses unless they ask for more.
    const ADDRESS: u64 = (1 << 48) - 1;

    /// The return address of a function that has no frame, if it is not on the stack.
    pub(crate) fn link_register(set: &RegisterSet) -> Option<u64> {
        set.get(RETURN_ADDRESS)
    }

    /// What `framehop` starts with; none if a register is not known.
    pub(crate) fn to_framehop(set: &RegisterSet) -> Option<UnwindRegsNative> {
        let (lr, sp) = (set.get(RETURN_ADDRESS).unwrap_or(0), set.get(STACK_POINTER)?);
        let fp = set.get(FRAME_POINTER).unwrap_or(0);
        Some(UnwindRegsNative::new_with_ptr_auth_mask(PtrAuthMask(ADDRESS), lr, sp, fp))
    }

    /// What `framehop` came to.
    pub(crate) fn of_framehop(state: &UnwindRegsNative, next: u64) -> RegisterSet {
        let mut set = RegisterSet::default();
        set.set(PROGRAM_COUNTER, next);
        set.set(RETURN_ADDRESS, state.lr());
        set.set(STACK_POINTER, state.sp());
        set.set(FRAME_POINTER, state.fp());
        set
    }

    /// A return address as it stands on the stack, without what the processor added to it.
    pub(crate) fn strip(address: u64) -> u64 {
        address & ADDRESS
    }
}

pub(crate) use processor::*;
