//! The functions behind these: those of the program's own allocator.
//!
//! They are looked for at the first call, which may come before anything else is ready. What looks for them
//! may allocate itself; that comes from a small room here, and is never given back.
#![allow(unsafe_code, reason = "calls functions by their addresses")]

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use super::{live, thread};

/// A block of memory.
pub(super) type Block = *mut c_void;
/// The address of a function.
type Address = AtomicPtr<c_void>;
/// What is told to who looks for symbols: behind this library.
const NEXT: isize = -1;
const ENOMEM: i32 = 12;

/// The address of a symbol of another library; null if there is none.
macro_rules! weak {
    ($name:literal) => {{
        let address: *mut core::ffi::c_void;
        // SAFETY: reads a word that the loader has filled in.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address, options(nostack, readonly, preserves_flags, pure),
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address, options(nostack, readonly, preserves_flags, pure),
            );
        }
        address
    }};
}
pub(super) use weak;

macro_rules! functions {
    ($($place:ident, $name:literal, $other:literal, $first:ident($($argument:ident),*) -> $result:ty;)*) => {
        $(
            #[doc = concat!("The next `", $name, "`.")]
            pub(super) static $place: Address = Address::new($first as *mut c_void);

            #[doc = concat!("What is there until the next `", $name, "` is found.")]
            unsafe extern "C" fn $first($($argument: usize),*) -> $result {
                if !resolve() {
                    return while_resolving::$first($($argument),*);
                }
                // SAFETY: it has that name, and so takes the same arguments.
                unsafe {
                    let next = core::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn($(replace!($argument)),*) -> $result,
                    >($place.load(Ordering::Relaxed));
                    next($($argument),*)
                }
            }
        )*

        /// Looks for all of them; false if that is what is being done.
        fn resolve() -> bool {
            let thread = thread::this();
            // SAFETY: the calling thread's own.
            if unsafe { (&raw mut (*thread).is_resolving).replace(true) } {
                return false;
            }
            $(
                let found = find(
                    // SAFETY: both end with the only zero.
                    unsafe { CStr::from_bytes_with_nul_unchecked(concat!($name, "\0").as_bytes()) },
                    weak!($other),
                );
                let found = if found.is_null() { absent as *mut c_void } else { found };
                $place.store(found, Ordering::Release);
            )*
            // SAFETY: as above.
            unsafe { (*thread).is_resolving = false };
            true
        }
    };
}
macro_rules! replace {
    ($argument:ident) => {
        usize
    };
}

functions! {
    MALLOC, "malloc", "__libc_malloc", first_malloc(size) -> Block;
    CALLOC, "calloc", "__libc_calloc", first_calloc(count, size) -> Block;
    REALLOC, "realloc", "__libc_realloc", first_realloc(block, size) -> Block;
    FREE, "free", "__libc_free", first_free(block) -> Block;
    MEMALIGN, "memalign", "__libc_memalign", first_memalign(alignment, size) -> Block;
    ALIGNED_ALLOC, "aligned_alloc", "__libc_memalign", first_aligned_alloc(alignment, size) -> Block;
    POSIX_MEMALIGN, "posix_memalign", "__posix_memalign", first_posix_memalign(into, alignment, size) -> i32;
    VALLOC, "valloc", "__libc_valloc", first_valloc(size) -> Block;
    PVALLOC, "pvalloc", "__libc_pvalloc", first_pvalloc(size) -> Block;
    REALLOCARRAY, "reallocarray", "__libc_reallocarray", first_reallocarray(block, count, size) -> Block;
}

/// A function that the program's allocator does not have.
unsafe extern "C" fn absent() -> Block {
    core::ptr::null_mut()
}

fn find(name: &CStr, other: *mut c_void) -> *mut c_void {
    let dlsym = weak!("dlsym");
    if dlsym.is_null() {
        // An old libc, and a program without libdl.
        return other;
    }
    // SAFETY: that is what a function of this name takes, everywhere.
    let dlsym = unsafe {
        core::mem::transmute::<*mut c_void, unsafe extern "C" fn(isize, *const i8) -> *mut c_void>(
            dlsym,
        )
    };
    // SAFETY: the name ends with a zero.
    let found = unsafe { dlsym(NEXT, name.as_ptr().cast()) };
    if found.is_null() { other } else { found }
}

/// The bytes of the room.
const ROOM: usize = 64 << 10;

#[repr(align(16))]
struct Room([AtomicU8; ROOM]);
static SPACE: Room = Room([const { AtomicU8::new(0) }; ROOM]);
static USED: AtomicUsize = AtomicUsize::new(0);

/// Whether a block is in that room.
pub(super) fn is_in_room(address: usize) -> bool {
    let start = SPACE.0.as_ptr().addr();
    (start..start + ROOM).contains(&address)
}

/// How many bytes of the room a block may have, at most.
pub(super) fn room_from(address: usize) -> usize {
    (SPACE.0.as_ptr().addr() + ROOM).saturating_sub(address)
}

/// A block of the room.
fn take(size: usize, alignment: usize) -> Block {
    let alignment = alignment.max(16);
    let start = SPACE.0.as_ptr().addr();
    let take = |used: usize| {
        let at = (start + used).checked_next_multiple_of(alignment)?;
        let end = at.checked_add(size.max(1))?.checked_sub(start)?;
        (end <= ROOM).then_some(end)
    };
    let Ok(used) = USED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take) else {
        return core::ptr::null_mut();
    };
    let at = (start + used).next_multiple_of(alignment);
    // A free of it comes where sampled blocks are looked for.
    live::mark(at);
    SPACE.0.as_ptr().cast_mut().cast::<c_void>().with_addr(at)
}

/// What is served while the next functions are looked for.
mod while_resolving {
    use super::{Block, ENOMEM, is_in_room, room_from, take};

    pub(super) fn first_malloc(size: usize) -> Block {
        take(size, 0)
    }

    pub(super) fn first_calloc(count: usize, size: usize) -> Block {
        // Nothing of it was used before.
        count.checked_mul(size).map_or(core::ptr::null_mut(), |size| take(size, 0))
    }

    pub(super) fn first_realloc(block: usize, size: usize) -> Block {
        let new = take(size, 0);
        if !new.is_null() && is_in_room(block) {
            // SAFETY: both are in the room; the old one is not larger than what is left of it behind.
            unsafe {
                let old = new.with_addr(block);
                core::ptr::copy(old.cast::<u8>(), new.cast(), size.min(room_from(block)));
            }
        }
        new
    }

    pub(super) fn first_free(_: usize) -> Block {
        core::ptr::null_mut()
    }

    pub(super) fn first_memalign(alignment: usize, size: usize) -> Block {
        take(size, alignment)
    }

    pub(super) fn first_aligned_alloc(alignment: usize, size: usize) -> Block {
        take(size, alignment)
    }

    pub(super) fn first_posix_memalign(_: usize, _: usize, _: usize) -> i32 {
        ENOMEM
    }

    pub(super) fn first_valloc(size: usize) -> Block {
        take(size, 4096)
    }

    pub(super) fn first_pvalloc(size: usize) -> Block {
        take(size.next_multiple_of(4096), 4096)
    }

    pub(super) fn first_reallocarray(block: usize, count: usize, size: usize) -> Block {
        count.checked_mul(size).map_or(core::ptr::null_mut(), |size| first_realloc(block, size))
    }
}
