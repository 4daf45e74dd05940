//! The CPU time of another process of ours: the symbolizer's worker.

use std::fs::File;

/// What the workers took, those included that have ended.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// What `/proc/PID/schedstat` says of the one that runs.
    running: Option<File>,
    /// Nanoseconds of it when last read.
    seen: u64,
    /// Those that have ended.
    past: u64,
}

impl Worker {
    pub(super) fn began(&mut self, pid: u32) {
        self.ends();
        self.running = File::open(format!("/proc/{pid}/schedstat")).ok();
    }

    pub(super) fn ends(&mut self) {
        self.past = self.cpu();
        self.seen = 0;
        self.running = None;
    }

    /// Nanoseconds so far.
    pub(super) fn cpu(&mut self) -> u64 {
        if let Some(now) = self.running.as_ref().and_then(read) {
            self.seen = self.seen.max(now);
        }
        self.past + self.seen
    }
}

#[cfg(unix)]
fn read(file: &File) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(not(unix))]
fn read(_: &File) -> Option<u64> {
    None
}
