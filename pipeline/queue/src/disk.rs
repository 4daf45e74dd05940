//! The real file system behind [`Storage`].
//!
//! Every name is opened relative to the directory's own descriptor and without following links,
//! so nobody can lead the log elsewhere by a link. Directories are 0700, files 0600. Nothing is
//! mapped into memory: a bad disk answers with an error and not with a signal.

use std::fs::{DirBuilder, File};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::storage::{Access, Room, Storage, StoredFile};

const LOCK: &str = "LOCK";
/// How many parts one system call takes; Linux allows 1024.
const PARTS: usize = 1024;

/// A directory on disk.
#[derive(Debug)]
pub(super) struct Disk {
    directory: OwnedFd,
    /// Where it was opened.
    path: PathBuf,
    lock: Mutex<Option<OwnedFd>>,
}

impl Disk {
    /// Opens a directory, making it if it is missing.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Self::open(path)
    }

    /// Opens a directory that exists.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let path = std::path::absolute(path)?;
        Ok(Self { directory, path, lock: Mutex::default() })
    }

    /// Whether some process has the lock. Changes nothing.
    pub(super) fn in_use(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.directory, LOCK, flags, Mode::empty()) else {
            return false;
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    fn folder(&self, name: &str) -> io::Result<OwnedFd> {
        let name = if name.is_empty() { "." } else { name };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.directory, name, flags, Mode::empty())?)
    }

    /// Calls with the folder that holds a name, and the rest of the name. Each folder on the way
    /// is opened by itself, because a link in the middle of a path is followed.
    fn within<T>(
        &self,
        name: &str,
        call: impl FnOnce(&OwnedFd, &str) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let mut parts = name.split('/').peekable();
        let mut folder: Option<OwnedFd> = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let part = parts.next().unwrap_or_default();
            let at = folder.as_ref().unwrap_or(&self.directory);
            if parts.peek().is_none() {
                return Ok(call(at, part)?);
            }
            folder = Some(rustix::fs::openat(at, part, flags, Mode::empty())?);
        }
    }
}

impl Storage for Disk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.nested(folder)?)? {
            // What is not text is not ours.
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self.within(name, |folder, name| {
            rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, mode)
        })?;
        Ok(Arc::new(DiskFile(file.into())))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        // Opening a pipe must not wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = self
            .within(name, |folder, name| rustix::fs::openat(folder, name, flags, Mode::empty()))?
            .into();
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(DiskFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.within(name, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::empty()))
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        self.within(name, |folder, name| match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        })
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.nested(name)?)?)
    }

    fn room(&self) -> io::Result<Room> {
        let room = rustix::fs::fstatvfs(&self.directory)?;
        let unit = room.f_frsize;
        Ok(Room {
            free: room.f_bavail.saturating_mul(unit),
            total: room.f_blocks.saturating_mul(unit),
        })
    }

    fn is_in_place(&self) -> io::Result<()> {
        let ours = rustix::fs::fstat(&self.directory)?;
        let there = rustix::fs::stat(&self.path);
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)) {
            return Ok(());
        }
        let path = self.path.display();
        Err(io::Error::other(format!(
            "{path} was moved or removed, or something else is there; put it back, or restart"
        )))
    }

    fn lock(&self) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        // On a disk that is full or read-only the directory itself does for a lock.
        let file = match rustix::fs::openat(&self.directory, LOCK, flags, mode) {
            Err(Errno::NOSPC | Errno::ROFS | Errno::DQUOT) => self.folder("")?,
            file => file?,
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    fn unlock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn salt(&self) -> u64 {
        use std::hash::{BuildHasher as _, RandomState};
        RandomState::new().hash_one(std::time::SystemTime::now())
    }
}

impl Disk {
    fn nested(&self, folder: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if folder.is_empty() {
            return self.folder("");
        }
        self.within(folder, |at, name| rustix::fs::openat(at, name, flags, Mode::empty()))
    }
}

/// A file on disk.
#[derive(Debug)]
struct DiskFile(File);

impl StoredFile for DiskFile {
    fn is_there(&self) -> io::Result<()> {
        if rustix::fs::fstat(&self.0)?.st_nlink > 0 {
            return Ok(());
        }
        Err(io::Error::other("a file of the queue was removed"))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = rest.get(..PARTS).unwrap_or(rest);
            match rustix::io::pwritev(&self.0, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
