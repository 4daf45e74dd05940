//! The functions at the door, by the names that programs call.
//!
//! On the way that nearly all calls take they count down and jump to the next function of their name: no
//! frame, no register that the caller needs is changed. The other way begins where registers are still those
//! of the caller: they are put on the stack, for the sample.
#![allow(unsafe_code, reason = "is called as the functions of libc are")]

use core::arch::naked_asm;

use super::next::{self, Block};
use super::sampler;
use super::stack::Saved;

/// A function of one of these types.
macro_rules! next {
    ($place:ident ( $($argument:expr),* ) -> $result:ty) => {{
        let address = next::$place.load(core::sync::atomic::Ordering::Relaxed);
        // SAFETY: it is of the name that was called, with the same arguments.
        unsafe {
            let next: unsafe extern "C" fn($(every!($argument)),*) -> $result =
                core::mem::transmute(address);
            next($($argument),*)
        }
    }};
}
macro_rules! every {
    ($argument:expr) => {
        usize
    };
}

/// The way to a sample: registers on the stack, the arguments as they are, a fourth one that points there.
#[cfg(target_arch = "x86_64")]
macro_rules! slowly {
    ($function:literal) => {
        concat!(
            "push r15\n.cfi_adjust_cfa_offset 8\n",
            "push r14\n.cfi_adjust_cfa_offset 8\n",
            "push r13\n.cfi_adjust_cfa_offset 8\n",
            "push r12\n.cfi_adjust_cfa_offset 8\n",
            "push rbp\n.cfi_adjust_cfa_offset 8\n",
            "push rbx\n.cfi_adjust_cfa_offset 8\n",
            "mov rcx, rsp\n",
            "sub rsp, 8\n.cfi_adjust_cfa_offset 8\n",
            "call {slow}\n",
            "add rsp, 56\n.cfi_adjust_cfa_offset -56\n",
            "ret\n",
            ".cfi_endproc",
        )
    };
}

/// Counts a register down and goes on, or takes the other way.
#[cfg(target_arch = "x86_64")]
macro_rules! counting {
    ($(#[$attribute:meta])* $name:ident, $size:literal, $place:ident, $slow:ident) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
        pub(super) unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                "mov rax, qword ptr [rip + profpipe_heap_thread@GOTTPOFF]",
                concat!("sub qword ptr fs:[rax], ", $size),
                "js 2f",
                "jmp qword ptr [rip + {next}]",
                "2:",
                slowly!(""),
                next = sym next::$place,
                slow = sym $slow,
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod doors {
    use super::*;
    use crate::preload::live;

    counting!(/// `malloc(size)`
        malloc, "rdi", MALLOC, slow_malloc);
    counting!(/// `memalign(alignment, size)`
        memalign, "rsi", MEMALIGN, slow_memalign);
    counting!(/// `aligned_alloc(alignment, size)`
        aligned_alloc, "rsi", ALIGNED_ALLOC, slow_aligned_alloc);
    counting!(/// `posix_memalign(into, alignment, size)`
        posix_memalign, "rdx", POSIX_MEMALIGN, slow_posix_memalign);
    counting!(/// `valloc(size)`
        valloc, "rdi", VALLOC, slow_valloc);
    counting!(/// `pvalloc(size)`
        pvalloc, "rdi", PVALLOC, slow_pvalloc);

    /// `calloc(count, size)`
    #[unsafe(naked)]
    #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
    pub(in crate::preload) unsafe extern "C" fn calloc() {
        naked_asm!(
            ".cfi_startproc",
            "mov rax, rdi",
            "mul rsi",
            "jo 3f",
            "mov rcx, qword ptr [rip + profpipe_heap_thread@GOTTPOFF]",
            "sub qword ptr fs:[rcx], rax",
            "js 2f",
            "3:",
            "jmp qword ptr [rip + {next}]",
            "2:",
            slowly!(""),
            next = sym next::CALLOC,
            slow = sym slow_calloc,
        )
    }

    /// `realloc(block, size)`
    #[unsafe(naked)]
    #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
    pub(in crate::preload) unsafe extern "C" fn realloc() {
        naked_asm!(
            ".cfi_startproc",
            "mov rax, qword ptr [rip + profpipe_heap_thread@GOTTPOFF]",
            "sub qword ptr fs:[rax], rsi",
            "js 2f",
            "mov rax, rdi",
            "mov rcx, rdi",
            "shr rax, {shift}",
            "shr rcx, {far}",
            "xor eax, ecx",
            "and eax, {mask}",
            "lea rcx, [rip + {counts}]",
            "cmp byte ptr [rcx + rax], 0",
            "jne 2f",
            "jmp qword ptr [rip + {next}]",
            "2:",
            slowly!(""),
            next = sym next::REALLOC,
            slow = sym slow_realloc,
            counts = sym live::COUNTS,
            shift = const live::SHIFT,
            far = const live::FAR_SHIFT,
            mask = const live::PLACES - 1,
        )
    }

    /// `reallocarray(block, count, size)`
    #[unsafe(naked)]
    #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
    pub(in crate::preload) unsafe extern "C" fn reallocarray() {
        // Nothing calls it often.
        naked_asm!(".cfi_startproc", slowly!(""), slow = sym slow_reallocarray)
    }

    /// `free(block)`
    #[unsafe(naked)]
    #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
    pub(in crate::preload) unsafe extern "C" fn free() {
        naked_asm!(
            "mov rax, rdi",
            "mov rcx, rdi",
            "shr rax, {shift}",
            "shr rcx, {far}",
            "xor eax, ecx",
            "and eax, {mask}",
            "lea rcx, [rip + {counts}]",
            "cmp byte ptr [rcx + rax], 0",
            "jne {slow}",
            "jmp qword ptr [rip + {next}]",
            next = sym next::FREE,
            slow = sym slow_free,
            counts = sym live::COUNTS,
            shift = const live::SHIFT,
            far = const live::FAR_SHIFT,
            mask = const live::PLACES - 1,
        )
    }
}

/// The same for other processors: the way is chosen behind the registers.
#[cfg(target_arch = "aarch64")]
mod doors {
    use super::*;
    use crate::preload::{live, thread};

    macro_rules! through {
        ($name:ident, $quick:ident) => {
            /// Puts the registers on the stack, and their address behind the arguments.
            #[unsafe(naked)]
            #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
            pub(in crate::preload) unsafe extern "C" fn $name() {
                naked_asm!(
                    ".cfi_startproc",
                    "stp x19, x20, [sp, #-96]!",
                    ".cfi_adjust_cfa_offset 96",
                    ".cfi_offset x29, -16",
                    ".cfi_offset x30, -8",
                    "stp x21, x22, [sp, #16]",
                    "stp x23, x24, [sp, #32]",
                    "stp x25, x26, [sp, #48]",
                    "stp x27, x28, [sp, #64]",
                    "stp x29, x30, [sp, #80]",
                    "mov x3, sp",
                    "bl {quick}",
                    "ldp x29, x30, [sp, #80]",
                    "add sp, sp, #96",
                    ".cfi_adjust_cfa_offset -96",
                    "ret",
                    ".cfi_endproc",
                    quick = sym $quick,
                )
            }
        };
    }

    fn count(size: usize) {
        // SAFETY: the calling thread's own.
        unsafe {
            let thread = thread::this();
            (*thread).left = (*thread).left.wrapping_sub(size as i64);
        }
    }

    macro_rules! quick {
        ($name:ident, $quick:ident, $slow:ident, |$a:ident, $b:ident, $c:ident| $size:expr, $result:ty) => {
            unsafe extern "C" fn $quick(
                $a: usize,
                $b: usize,
                $c: usize,
                saved: *const Saved,
            ) -> $result {
                count($size);
                // SAFETY: with the registers that were put on the stack.
                unsafe { $slow($a, $b, $c, saved) }
            }
            through!($name, $quick);
        };
    }
    quick!(malloc, quick_malloc, slow_malloc, |a, b, c| a, Block);
    quick!(calloc, quick_calloc, slow_calloc, |a, b, c| a.checked_mul(b).unwrap_or(0), Block);
    quick!(realloc, quick_realloc, slow_realloc, |a, b, c| b, Block);
    quick!(memalign, quick_memalign, slow_memalign, |a, b, c| b, Block);
    quick!(aligned_alloc, quick_aligned_alloc, slow_aligned_alloc, |a, b, c| b, Block);
    quick!(posix_memalign, quick_posix_memalign, slow_posix_memalign, |a, b, c| c, i32);
    quick!(valloc, quick_valloc, slow_valloc, |a, b, c| a, Block);
    quick!(pvalloc, quick_pvalloc, slow_pvalloc, |a, b, c| a, Block);
    quick!(reallocarray, quick_reallocarray, slow_reallocarray, |a, b, c| 0, Block);

    /// `free(block)`
    #[cfg_attr(profpipe_preload, unsafe(no_mangle))]
    pub(in crate::preload) unsafe extern "C" fn free(block: usize) -> Block {
        let place = (block >> live::SHIFT ^ block >> live::FAR_SHIFT) & (live::PLACES - 1);
        let count =
            live::COUNTS.get(place).map(|count| count.load(core::sync::atomic::Ordering::Relaxed));
        match count {
            Some(0) => next!(FREE(block) -> Block),
            // SAFETY: as the caller says.
            _ => unsafe { slow_free(block) },
        }
    }
}

unsafe extern "C" fn slow_malloc(size: usize, _: usize, _: usize, saved: *const Saved) -> Block {
    let block = next!(MALLOC(size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, size, saved) };
    block
}

unsafe extern "C" fn slow_calloc(
    count: usize,
    size: usize,
    _: usize,
    saved: *const Saved,
) -> Block {
    let block = next!(CALLOC(count, size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, count.wrapping_mul(size), saved) };
    block
}

unsafe extern "C" fn slow_memalign(
    alignment: usize,
    size: usize,
    _: usize,
    saved: *const Saved,
) -> Block {
    let block = next!(MEMALIGN(alignment, size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, size, saved) };
    block
}

unsafe extern "C" fn slow_aligned_alloc(
    alignment: usize,
    size: usize,
    _: usize,
    saved: *const Saved,
) -> Block {
    let block = next!(ALIGNED_ALLOC(alignment, size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, size, saved) };
    block
}

unsafe extern "C" fn slow_posix_memalign(
    into: usize,
    alignment: usize,
    size: usize,
    saved: *const Saved,
) -> i32 {
    let result = next!(POSIX_MEMALIGN(into, alignment, size) -> i32);
    // SAFETY: where the call succeeded it has written the block there.
    unsafe {
        let block = match result {
            0 => *core::ptr::with_exposed_provenance::<Block>(into),
            _ => core::ptr::null_mut(),
        };
        sampler::counted(block, size, saved);
    }
    result
}

unsafe extern "C" fn slow_valloc(size: usize, _: usize, _: usize, saved: *const Saved) -> Block {
    let block = next!(VALLOC(size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, size, saved) };
    block
}

unsafe extern "C" fn slow_pvalloc(size: usize, _: usize, _: usize, saved: *const Saved) -> Block {
    let block = next!(PVALLOC(size) -> Block);
    // SAFETY: as it came.
    unsafe { sampler::counted(block, size, saved) };
    block
}

/// The old block is gone before the new one is there: another thread may get its place in between. Where
/// there is no memory for the new one, the old one is followed no more.
unsafe extern "C" fn slow_realloc(
    block: usize,
    size: usize,
    _: usize,
    saved: *const Saved,
) -> Block {
    let new = if next::is_in_room(block) {
        // SAFETY: the block is in the room, and as long as what is left of it at most.
        unsafe { leave_room(block, size) }
    } else {
        sampler::freed(block);
        next!(REALLOC(block, size) -> Block)
    };
    // SAFETY: as it came.
    unsafe { sampler::counted(new, size, saved) };
    new
}

/// A block of the room becomes one of the allocator.
///
/// # Safety
/// The block is in the room.
unsafe fn leave_room(block: usize, size: usize) -> Block {
    let new = next!(MALLOC(size) -> Block);
    if !new.is_null() {
        let length = size.min(next::room_from(block));
        // SAFETY: the new block has so many bytes, and the room has, too.
        unsafe {
            let old = core::ptr::with_exposed_provenance::<u8>(block);
            core::ptr::copy_nonoverlapping(old, new.cast(), length);
        }
    }
    new
}

unsafe extern "C" fn slow_reallocarray(
    block: usize,
    count: usize,
    size: usize,
    saved: *const Saved,
) -> Block {
    let Some(bytes) = count.checked_mul(size) else {
        // It knows what to say of that.
        return next!(REALLOCARRAY(block, count, size) -> Block);
    };
    let thread = super::thread::this();
    // SAFETY: the calling thread's own.
    unsafe { (*thread).left = (*thread).left.wrapping_sub(bytes as i64) };
    // SAFETY: as it came.
    unsafe { slow_realloc(block, bytes, 0, saved) }
}

unsafe extern "C" fn slow_free(block: usize) -> Block {
    if next::is_in_room(block) {
        return core::ptr::null_mut();
    }
    sampler::freed(block);
    next!(FREE(block) -> Block)
}
