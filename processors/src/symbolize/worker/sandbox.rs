//! Takes everything from this process that reading names does not need.

#![allow(unsafe_code, reason = "takes over standard input as a descriptor")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::super::protocol::Limits;

/// The socket that is standard input.
///
/// # Errors
/// If standard input is something else.
pub(super) fn standard_input() -> io::Result<OwnedFd> {
    // SAFETY: the worker's program calls this once, and reads standard input by no other way.
    let socket = unsafe { OwnedFd::from_raw_fd(0) };
    rustix::net::sockopt::socket_type(&socket)?;
    Ok(socket)
}

/// What holds for the whole process and the threads it starts later; returns what this host does
/// not allow.
pub(super) fn enter_process(_limits: Limits) -> Vec<String> {
    Vec::new()
}

/// What holds for all threads, from the thread that reads binaries.
pub(super) fn enter_thread() -> Vec<String> {
    Vec::new()
}

/// Allows so many seconds of CPU time from now on; then the kernel ends this process.
pub(super) fn renew_cpu_time(_seconds: u64) {}
