//! The hash of a file's content, which a binary without a build id is known by.
//!
//! To read all of it takes long for a large one, so the hash is kept under what the kernel says of the file:
//! where it is, its length, and when it was written to and changed. Nobody can set the time of a change; a
//! file that was changed a moment ago may be changed again without that showing, and is read again.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// A larger file has no table.
const MAX_BYTES: u64 = 1 << 30;
/// How much is read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// A file is as it was if it has not been changed for this long when it was read, in seconds: clocks of file
/// systems are coarse.
const SETTLED_SECONDS: i64 = 3;

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileState {
    place: (u64, u64),
    owner: u32,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// That of a file now.
    pub(super) fn of(file: &File) -> Option<Self> {
        let facts = file.metadata().ok()?;
        Some(Self {
            place: (facts.dev(), facts.ino()),
            owner: facts.uid(),
            length: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }

    /// The key under which the hash is kept.
    pub(super) fn key(&self) -> String {
        format!("stat-{}", hex(Sha256::new().chain_update(format!("{self:?}")).finalize().as_ref()))
    }

    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(self.changed.0) > SETTLED_SECONDS
    }
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Hashing {
    file: File,
    /// What it was when it was begun.
    pub(super) state: FileState,
    is_settled: bool,
    hasher: Sha256,
    at: u64,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum HashStep {
    /// There is more to read.
    More,
    /// The hash, and whether it can be kept for the file's state.
    Done(Arc<str>, bool),
    /// It cannot be read, or somebody writes to it.
    Failed,
}

impl Hashing {
    /// Begins to read a file; none if it is too large.
    pub(super) fn begin(file: &File, state: FileState) -> Option<Self> {
        if state.length > MAX_BYTES {
            return None;
        }
        let is_settled = state.is_settled(SystemTime::now());
        let file = file.try_clone().ok()?;
        Some(Self { file, state, is_settled, hasher: Sha256::new(), at: 0 })
    }

    /// Reads a little.
    pub(super) fn step(&mut self) -> HashStep {
        let mut chunk = vec![0; CHUNK_BYTES];
        match self.file.read_at(&mut chunk, self.at) {
            Ok(0) => {
                if FileState::of(&self.file) != Some(self.state) {
                    return HashStep::Failed;
                }
                let hash = std::mem::take(&mut self.hasher).finalize();
                HashStep::Done(hex(hash.as_ref()).into(), self.is_settled)
            }
            Ok(length) => {
                self.hasher.update(chunk.get(..length).unwrap_or_default());
                self.at += length as u64;
                if self.at > MAX_BYTES { HashStep::Failed } else { HashStep::More }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => HashStep::More,
            Err(_) => HashStep::Failed,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
