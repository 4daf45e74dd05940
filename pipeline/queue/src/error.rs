//! Why a queue cannot be opened, looked at or changed. None of these loses a record: what the
//! directory holds stays as it is.

use std::io;
use std::path::PathBuf;

use super::AppendError;

/// Why a queue cannot be opened, looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Another thread or process holds the directory's lock: one writes at a time.
    #[error("{} is in use by another process: stop it first", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be made, opened, locked or listed: it has to be mended first.
    #[error("cannot use the queue in {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory, or a file in it, cannot be read.
    #[error("cannot read {}", directory.display())]
    Read {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The id of a destination is empty or longer than 1,024 bytes.
    #[error("the id of a destination has 1 to 1024 bytes, not {bytes}")]
    DestinationId {
        /// The length of the one that was given.
        bytes: usize,
    },
    /// The queue holds nothing for this destination.
    #[error(
        "{} holds nothing for `{destination}`; `profpipe queue inspect` lists who there is",
        directory.display()
    )]
    UnknownDestination {
        /// The directory.
        directory: PathBuf,
        /// Its id.
        destination: String,
    },
    /// The queue took some of the dead letters back and then no more; the others stay where they are.
    #[error("after {replayed} letters")]
    Replay {
        /// How many wait in the queue again.
        replayed: u64,
        /// Why no more.
        source: AppendError,
    },
}

impl QueueError {
    /// What opening failed with, for the log in this directory.
    pub(super) fn of_opening(directory: impl Into<PathBuf>, source: io::Error) -> Self {
        let directory = directory.into();
        match source.kind() {
            io::ErrorKind::WouldBlock => Self::InUse { directory },
            _ => Self::Directory { directory, source },
        }
    }
}
