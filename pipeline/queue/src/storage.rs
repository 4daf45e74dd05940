//! What the log asks of a file system: few operations, each of which may fail.
//!
//! The log is written against this trait so that a simulated file system can lose power between
//! any two operations (`tests/simulated.rs`). [`super::disk`] is the real one. Names are relative
//! to the log's directory, with at most one folder. Everything blocks.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A directory.
pub(crate) trait Storage: Debug + Send + Sync {
    /// The names in a folder; the log's directory itself is `""`.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// A new file, for reading and writing. It is lost with the power until the folder is synced.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;

    /// An existing regular file. Never follows links.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>>;

    /// Removes a file. It may come back with the power until the folder is synced.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes a folder; one that exists is fine.
    fn make_folder(&self, name: &str) -> io::Result<()>;

    /// Makes what was created and removed in a folder survive a loss of power.
    fn sync_folder(&self, name: &str) -> io::Result<()>;

    /// How much room there is.
    fn room(&self) -> io::Result<Room>;

    /// Fails if the directory is not where it was opened any more: what is written to it then would not
    /// be found again.
    fn is_in_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// Takes the directory for this process alone.
    fn lock(&self) -> io::Result<()>;

    /// Gives it back.
    fn unlock(&self);

    /// A number that nobody can guess.
    fn salt(&self) -> u64;
}

/// A file of the log.
pub(crate) trait StoredFile: Debug + Send + Sync {
    /// Fails if the file was removed: what is written to it is lost when it is closed.
    fn is_there(&self) -> io::Result<()> {
        Ok(())
    }

    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills the buffer from this offset; fewer bytes only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes the parts one after the other. After an error any of the bytes may be there.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// Cuts the file off.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Takes room for this length without changing the length; where that is not to be had,
    /// does nothing.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes what was written survive a loss of power. After an error nobody knows what does.
    fn sync(&self) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only for reading.
    Read,
    /// For reading and writing.
    Write,
}

/// How much room a disk has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Free for this process.
    pub(crate) free: u64,
    /// Altogether.
    pub(crate) total: u64,
}

/// Reads a whole file of at most this length.
pub(crate) fn read_all(file: &dyn StoredFile, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.length()?.min(limit);
    read_range(file, 0, length)
}

/// Reads a range; fewer bytes if the file ends within it.
pub(crate) fn read_range(file: &dyn StoredFile, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
