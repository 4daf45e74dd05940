//! What each thread knows: how many bytes are left until it takes a sample.
//!
//! It is thread-local memory that is there as soon as the thread is, at a fixed distance from its pointer:
//! reading it calls nothing and allocates nothing. All zero is a thread that has not begun.
#![allow(unsafe_code, reason = "reads memory of the thread")]

use core::arch::{asm, global_asm};

/// What a thread knows.
#[repr(C)]
pub(super) struct Thread {
    /// The bytes until the next sample; the functions at the door count it down.
    pub(super) left: i64,
    /// The state of its random numbers; 0 until it has begun.
    pub(super) random: u64,
    /// The mean of the gap that it counts down.
    pub(super) interval: u64,
    /// It is taking a sample: who allocates now is a signal handler.
    pub(super) is_busy: bool,
    /// It is looking for the next functions.
    pub(super) is_resolving: bool,
    /// Where CPython describes it, when that was last known.
    pub(super) python_state: u64,
}

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 8",
    ".globl profpipe_heap_thread",
    ".hidden profpipe_heap_thread",
    ".type profpipe_heap_thread, @object",
    ".size profpipe_heap_thread, 64",
    "profpipe_heap_thread:",
    ".zero 64",
    ".popsection",
);
const _: () = assert!(size_of::<Thread>() <= 64);

/// What the calling thread knows. Only the thread itself, and signal handlers on it, have it: use it as if
/// they might change it between any two accesses.
#[cfg(target_arch = "x86_64")]
pub(super) fn this() -> *mut Thread {
    let at: *mut Thread;
    // SAFETY: reads the thread pointer and a constant of the linker's.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:0",
            "add {0}, qword ptr [rip + profpipe_heap_thread@GOTTPOFF]",
            out(reg) at, options(nostack, readonly),
        );
    }
    at
}

/// What the calling thread knows. Only the thread itself, and signal handlers on it, have it: use it as if
/// they might change it between any two accesses.
#[cfg(target_arch = "aarch64")]
pub(super) fn this() -> *mut Thread {
    let at: *mut Thread;
    // SAFETY: reads the thread pointer and a constant of the linker's.
    unsafe {
        asm!(
            "mrs {0}, tpidr_el0",
            "adrp {1}, :gottprel:profpipe_heap_thread",
            "ldr {1}, [{1}, :gottprel_lo12:profpipe_heap_thread]",
            "add {0}, {0}, {1}",
            out(reg) at, out(reg) _, options(nostack, readonly),
        );
    }
    at
}

/// The pointer of the calling thread to what libc knows of it, which is behind its stack.
#[cfg(target_arch = "x86_64")]
pub(super) fn pointer() -> usize {
    let at: usize;
    // SAFETY: reads the thread pointer.
    unsafe { asm!("mov {0}, qword ptr fs:0", out(reg) at, options(nostack, readonly)) };
    at
}

/// The pointer of the calling thread to what libc knows of it, which is behind its stack.
#[cfg(target_arch = "aarch64")]
pub(super) fn pointer() -> usize {
    let at: usize;
    // SAFETY: reads the thread pointer.
    unsafe { asm!("mrs {0}, tpidr_el0", out(reg) at, options(nostack, readonly)) };
    at
}
