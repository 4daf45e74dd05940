//! The library that is preloaded: the functions that allocate memory, in front of the program's own.
//!
//! [`entry`] are those functions: a countdown or a look at a table, then a jump to the [`next`] one of that
//! name. Once in half a million bytes the countdown ends and a [`sampler`] takes over. It
//! remembers the block ([`live`]), copies registers, the stack ([`stack`]) and what
//! [`python`] runs into the [`ring`], which is made
//! at the first sample and handed to the recorder ([`connection`]), and passes the [`probes`]. What each
//! thread knows is in [`thread`]; [`mod@sys`] are system calls, made without changing `errno`.
//!
//! Nothing here allocates, takes a lock that others may hold, or waits for the recorder. A signal handler
//! that interrupts it and allocates is served, and not sampled.
#![allow(unsafe_code, reason = "stands between a program and its allocator")]
#![allow(dead_code, reason = "what is exported to programs is called by nobody here")]

mod connection;
mod entry;
mod live;
mod next;
mod numbers;
mod probes;
mod python;
mod ring;
mod sampler;
mod stack;
mod sys;
mod thread;

/// What has gone wrong here must not go on in the program.
#[cfg(profpipe_preload)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::abort()
}
