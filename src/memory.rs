//! How the C library keeps memory that is not used.
//!
//! Requests come as buffers of megabytes that live for moments, on whichever thread. By default the
//! C library soon takes such buffers from the heap of the thread and keeps up to 64 MiB of each heap
//! when they are freed: under 200 connections that unfolded compressed bodies, a program with a
//! budget of 64 MiB peaked at 201 MiB. With buffers from 256 KiB on given back at once it was 99.

#![allow(unsafe_code, reason = "mallopt is a call into the C library")]

/// Gives large buffers back to the system as soon as they are free.
pub(crate) fn give_back_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator, and may be called at any time.
    unsafe {
        // Set once, these no longer grow with what is freed.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}
