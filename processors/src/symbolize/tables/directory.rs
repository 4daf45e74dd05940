//! The directory in which tables are kept, shared by all processes of one user.
//!
//! It holds a file `KEY.names` for each binary and `tmp.…` for one that is begun. A file appears by
//! being renamed and only ever grows, by whole blocks, by one process at a time (a lock on the file).
//! Its time of change is when it was last used; the files unused for longest make room.
//!
//! Nothing in it is trusted: the directory and each file must be ours and closed to everyone else,
//! links are not followed, and [`super::format`] reads the content as hostile.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use profpipe_host::own_directory;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};

/// The ending of a table's name.
const ENDING: &str = ".names";
/// The beginning of the name of what is being written.
const TEMPORARY: &str = "tmp.";
/// What is being written for this long never will be.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often the time of a file is moved on while it is used.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);
/// How often a table is tried that another process writes to, which takes a fraction of a millisecond.
const LOCK_TRIES: u32 = 5;
/// The time between.
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// The most files: each takes a block of the disk, however short it is.
pub(super) const MAX_FILES: usize = 16_384;
/// The longest key.
const MAX_KEY: usize = 192;

/// The directory.
#[derive(Debug)]
pub(super) struct Directory {
    directory: OwnedFd,
    max_bytes: u64,
    /// The bytes of all tables, as far as this process knows.
    bytes: u64,
    /// The number of tables, as far as this process knows.
    files: usize,
}

impl Directory {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be used, or anybody else could read or write in it.
    pub(super) fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let (directory, rights_of_others) = own_directory::open(path)?;
        if rights_of_others != 0 {
            return Err(io::Error::other("other users may enter it; make it private (0700)"));
        }
        let mut directory = Self { directory, max_bytes, bytes: 0, files: 0 };
        directory.sweep(SystemTime::now())?;
        Ok(directory)
    }

    /// The bytes of all tables.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens a table; what is there under its name and is none of ours is deleted.
    pub(super) fn find(&self, key: &str) -> Option<File> {
        let name = name_of(key)?;
        // Not blocking: it may be a pipe that somebody put there.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, &name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return None,
            Err(_) => {
                self.delete(&name);
                return None;
            }
        };
        let facts = rustix::fs::fstat(&file).ok()?;
        if !is_ours(&facts) {
            self.delete(&name);
            return None;
        }
        let now = timespec(SystemTime::now());
        if now.tv_sec.saturating_sub(facts.st_mtime) >= TOUCH_INTERVAL.as_secs() as i64 {
            // Without it the table only seems to be unused.
            let times = Timestamps { last_access: now, last_modification: now };
            let _ = rustix::fs::futimens(&file, &times);
        }
        Some(file.into())
    }

    /// Begins a table with these bytes; if so, in place of one that there is.
    ///
    /// # Errors
    /// If the disk does not want it, the key is not one, or there is one and it is not to be replaced:
    /// another process was faster.
    pub(super) fn create(&mut self, key: &str, header: &[u8], replaces: bool) -> io::Result<File> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = name_of(key).ok_or(io::ErrorKind::InvalidInput)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, file) = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = format!("{TEMPORARY}{}.{number}", std::process::id());
            match rustix::fs::openat(&self.directory, &temporary, flags, Mode::from(0o600)) {
                Ok(file) => break (temporary, File::from(file)),
                // Of an earlier process with this number.
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let written = file.write_all_at(header, 0);
        let renamed = written.and_then(|()| self.rename(&temporary, &name, replaces));
        if let Err(error) = renamed {
            self.delete(&temporary);
            return Err(error);
        }
        self.files += 1;
        self.bytes += header.len() as u64;
        if self.files > MAX_FILES {
            self.sweep(SystemTime::now())?;
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str, replaces: bool) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if !replaces {
            use rustix::fs::{RenameFlags, renameat_with};
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&self.directory, from, &self.directory, to, flags) {
                // File systems that do not know it.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = replaces;
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    /// Adds bytes to a table, at the end of what `end` finds good in it.
    ///
    /// # Errors
    /// If the disk does not want it; then the table is as before. So it is if another process writes to it
    /// for long: it may have been stopped.
    pub(super) fn append(
        &mut self,
        file: &File,
        bytes: &[u8],
        end: impl FnOnce() -> u64,
    ) -> io::Result<()> {
        let mut tries = LOCK_TRIES;
        while let Err(error) = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            tries -= 1;
            if error != rustix::io::Errno::WOULDBLOCK || tries == 0 {
                return Err(error.into());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let end = end();
        // What was not written to its end goes.
        let written = file.set_len(end).and_then(|()| file.write_all_at(bytes, end));
        if written.is_err() {
            // What remains is not good to those who read it.
            let _ = file.set_len(end);
        }
        let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        written?;
        self.bytes += bytes.len() as u64;
        if self.bytes > self.max_bytes {
            self.sweep(SystemTime::now())?;
        }
        Ok(())
    }

    /// Deletes what was abandoned, and the tables unused for longest until the rest fits.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn sweep(&mut self, now: SystemTime) -> io::Result<()> {
        let mut tables = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let facts = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(facts) = facts else { continue };
            if name.starts_with(TEMPORARY) {
                let age = timespec(now).tv_sec.saturating_sub(facts.st_mtime);
                if age >= ABANDONED_TIMEOUT.as_secs() as i64 {
                    self.delete(name);
                }
            } else if name.ends_with(ENDING) {
                let size = u64::try_from(facts.st_size).unwrap_or_default();
                tables.push((facts.st_mtime, facts.st_mtime_nsec, name.to_owned(), size));
            }
        }
        tables.sort_unstable();
        self.bytes = tables.iter().map(|(_, _, _, size)| size).sum();
        self.files = tables.len();
        if self.bytes > self.max_bytes || self.files > MAX_FILES {
            // A tenth more, so that the next block does not have the directory read again.
            let (room, places) = (self.max_bytes - self.max_bytes / 10, MAX_FILES - MAX_FILES / 10);
            for (_, _, name, size) in &tables {
                if self.bytes <= room && self.files <= places {
                    break;
                }
                self.delete(name);
                self.bytes -= size;
                self.files -= 1;
            }
        }
        Ok(())
    }

    /// Deletes a table.
    pub(super) fn remove(&self, key: &str) {
        if let Some(name) = name_of(key) {
            self.delete(&name);
        }
    }

    fn delete(&self, name: &str) {
        // What is not there is deleted.
        let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
    }
}

/// The name of a table's file; none if the key is not one that we make.
fn name_of(key: &str) -> Option<String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let good = !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(is_good);
    good.then(|| format!("{key}{ENDING}"))
}

/// A plain file that nobody else can read or write.
fn is_ours(facts: &Stat) -> bool {
    FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
        && facts.st_uid == rustix::process::geteuid().as_raw()
        && facts.st_mode & 0o077 == 0
}

fn timespec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 }
}
