//! Files that may be replaced while the program runs: certificates, keys, credentials.
//!
//! They are looked at by what the file system says of them, not by their content, and never more often
//! than an interval; `0` means that they are read only once. Polling also works on network file systems
//! and for the links that Kubernetes turns around. A change is reported once: a file that is broken or
//! half written is read again when it changes again, and until then the caller keeps what it has.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What identifies a version of a file: its number, its length and when it was changed last.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// Some files, and what they looked like.
#[derive(Debug)]
pub struct WatchedFiles {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    looked: Instant,
}

impl WatchedFiles {
    /// These files as they are now. To be called before they are read: what changes meanwhile has
    /// another stamp afterwards.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let seen = stamps(&files);
        Self { files, seen, looked: Instant::now() }
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a file has changed since the last call that said so, looked at if `interval` has passed
    /// since the last look; never where it is zero.
    pub fn have_changed(&mut self, interval: Duration) -> bool {
        if interval.is_zero() || self.looked.elapsed() < interval {
            return false;
        }
        self.looked = Instant::now();
        let now = stamps(&self.files);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        let (modified, changed) = (data.mtime(), data.ctime());
        Some((data.ino(), data.len(), modified, data.mtime_nsec(), changed, data.ctime_nsec()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Scenario: a file is replaced, removed and made again, and nothing happens in between; one that
    /// is to be read only once is replaced.
    /// Guarantees: each change is reported once, none for the other.
    #[test]
    fn a_change_is_reported_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        std::fs::write(&file, "one").unwrap();
        let (mut files, mut once) =
            (WatchedFiles::new(vec![file.clone()]), WatchedFiles::new(vec![file.clone()]));
        let soon = Duration::from_nanos(1);
        assert!(!files.have_changed(soon));
        let steps: [&dyn Fn(); 3] = [
            &|| std::fs::write(&file, "other").unwrap(),
            &|| std::fs::remove_file(&file).unwrap(),
            &|| std::fs::write(&file, "other").unwrap(),
        ];
        for step in steps {
            step();
            assert!(files.have_changed(soon));
            assert!(!files.have_changed(soon));
        }
        assert!(!once.have_changed(Duration::ZERO));
        assert!(!once.have_changed(Duration::from_secs(3600)));
    }
}
