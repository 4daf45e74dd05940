//! How much memory this process uses beside mapped files.

#![allow(unsafe_code, reason = "talks to the allocator")]

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Asks the kernel; opened before the sandbox closes, where it can be.
#[derive(Debug)]
pub(super) struct Memory {
    statm: Option<File>,
    page: u64,
}

impl Memory {
    /// Ready to be asked.
    pub(super) fn new() -> Self {
        let page = rustix::param::page_size() as u64;
        Self { statm: File::open("/proc/self/statm").ok(), page }
    }

    /// Bytes resident, and those of them that belong to no file; none where the kernel does not
    /// say.
    pub(super) fn resident(&self) -> Option<(u64, u64)> {
        let mut text = [0_u8; 128];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let mut fields = text.split(' ').skip(1).map(str::parse::<u64>);
        let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
        let private = resident.saturating_sub(shared).checked_mul(self.page)?;
        Some((resident.checked_mul(self.page)?, private))
    }
}

/// Gives back what was freed.
pub(super) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the allocator take memory in large pieces from one heap: that of a second thread grows by
/// pages, with a system call each, and debug information is a million small allocations. Call it
/// before there is a second thread.
pub(super) fn tune() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets numbers, and there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TOP_PAD, 1 << 20);
    }
}
