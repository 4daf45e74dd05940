//! The probes of the OpenTelemetry contract for memory profilers: `otel_memory:alloc(ptr, size, weight)` and
//! `otel_memory:free(ptr)`, passed for sampled blocks. A profiler that attaches to them counts the semaphores
//! up; without one they are not passed.
#![allow(unsafe_code, reason = "tells profilers three registers")]

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .probes,\"aw\",@progbits",
    ".balign 2",
    ".globl profpipe_heap_alloc_semaphore",
    ".hidden profpipe_heap_alloc_semaphore",
    "profpipe_heap_alloc_semaphore: .short 0",
    ".globl profpipe_heap_free_semaphore",
    ".hidden profpipe_heap_free_semaphore",
    "profpipe_heap_free_semaphore: .short 0",
    ".popsection",
    // What the addresses in the notes are relative to.
    ".pushsection .stapsdt.base,\"aG\",@progbits,.stapsdt.base,comdat",
    ".weak _.stapsdt.base",
    ".hidden _.stapsdt.base",
    "_.stapsdt.base: .space 1",
    ".size _.stapsdt.base, 1",
    ".popsection",
);

unsafe extern "C" {
    static profpipe_heap_alloc_semaphore: u16;
    static profpipe_heap_free_semaphore: u16;
}

/// Whether somebody has attached to the probes.
pub(super) fn are_watched() -> bool {
    // SAFETY: both are there; the kernel writes them, one word at a time.
    unsafe {
        (&raw const profpipe_heap_alloc_semaphore).read_volatile() != 0
            || (&raw const profpipe_heap_free_semaphore).read_volatile() != 0
    }
}

macro_rules! note {
    ($name:literal, $semaphore:literal, $arguments:literal) => {
        concat!(
            "990: nop\n",
            ".pushsection .note.stapsdt,\"\",@note\n",
            ".balign 4\n",
            ".4byte 992f-991f, 994f-993f, 3\n",
            "991: .asciz \"stapsdt\"\n",
            "992: .balign 4\n",
            "993: .8byte 990b\n",
            ".8byte _.stapsdt.base\n",
            ".8byte ",
            $semaphore,
            "\n.asciz \"otel_memory\"\n",
            ".asciz \"",
            $name,
            "\"\n.asciz \"",
            $arguments,
            "\"\n994: .balign 4\n",
            ".popsection",
        )
    };
}

/// A block was allocated and stands for so many bytes.
#[inline(never)]
pub(super) fn allocated(address: usize, size: usize, weight: u64) {
    // SAFETY: does nothing, with three registers that tell a profiler what it is about.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            note!("alloc", "profpipe_heap_alloc_semaphore", "8@%rdi 8@%rsi 8@%rdx"),
            in("rdi") address, in("rsi") size, in("rdx") weight, options(nostack, preserves_flags),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            note!("alloc", "profpipe_heap_alloc_semaphore", "8@x0 8@x1 8@x2"),
            in("x0") address, in("x1") size, in("x2") weight, options(nostack, preserves_flags),
        );
    }
}

/// A sampled block is being freed.
#[inline(never)]
pub(super) fn freed(address: usize) {
    // SAFETY: as above.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            note!("free", "profpipe_heap_free_semaphore", "8@%rdi"),
            in("rdi") address, options(nostack, preserves_flags),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            note!("free", "profpipe_heap_free_semaphore", "8@x0"),
            in("x0") address, options(nostack, preserves_flags),
        );
    }
}
