//! The heap of a program, sampled from inside it.
//!
//! # Layout
//! - [`layout`]: the memory that the library and the recorder share, and nothing but that.
//! - `preload`: the library. `build.rs` compiles it apart, without the standard library.
//! - `LIBRARY`: the compiled library, as it is written to a file for `LD_PRELOAD`.
//!
//! The library counts the bytes that each thread allocates and takes a sample where a random gap has passed,
//! 512 KiB in the mean: an allocation of n bytes is sampled with the probability 1 − e^(−n/T), T being the
//! mean gap, and stands for the inverse of that many. Blocks that were sampled are remembered until they are
//! freed. A sample is a record in a ring: the time, the block, registers and a copy of the stack, which the
//! recorder unwinds as any other. The ring is made by the program and handed over a socket, so that the
//! program never waits; where it is full, samples are counted as lost.
#![cfg_attr(profpipe_preload, no_std)]

pub mod layout;

#[cfg(any(all(profpipe_preload, target_os = "linux"), all(test, target_os = "linux"), clippy))]
mod preload;

/// The library, as the bytes of a file; empty where there is none for this kind of machine.
#[cfg(not(profpipe_preload))]
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libprofpipe_heap.so"));
