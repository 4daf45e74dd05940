//! How much memory this process uses beside mapped files.

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

    /// Bytes resident that belong to no file; none where the kernel does not say.
    pub(super) fn private(&self) -> Option<u64> {
        let mut text = [0_u8; 128];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let mut fields = text.split(' ').skip(1).map(str::parse::<u64>);
        let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
        resident.saturating_sub(shared).checked_mul(self.page)
    }
}
