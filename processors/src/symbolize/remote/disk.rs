//! Files of debuginfod servers on disk, so that each is fetched once, and what no server has is not
//! asked for again and again.
//!
//! A directory holds `ID.executable` and `ID.debuginfo`, `ID.….absent` for what was looked for in
//! vain, and `tmp.…` for what is still being written. A file appears by being renamed, when it is
//! whole, checked and on the disk. Its time of change is when it was last used, and the files unused
//! for longest make room. Several processes may share the directory: each looks at what is really
//! there before it deletes, and a deleted file lives on for who has it open.
//!
//! Nothing in the directory is trusted: it must be ours alone, symbolic links are not followed, and
//! a file is used only if it has the build id that is its name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use profpipe_host::elf::{Whole, inspect};
use profpipe_host::own_directory;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use super::super::build_id::BuildId;
use super::FileKind;

/// How often the time of a file is moved on while it is used.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);
/// What is still being written, or will never be: after so long without a change it is deleted.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often the directory is looked through even if there is room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Entries for what no server has; beyond, the oldest are deleted.
const MAX_ABSENT: usize = 65_536;

/// How much is kept and for how long.
#[derive(Debug, Clone)]
pub(in super::super) struct DiskSettings {
    /// Where.
    pub(in super::super) directory: PathBuf,
    /// How many bytes of files.
    pub(in super::super) max_bytes: u64,
    /// How long an unused file is kept.
    pub(in super::super) max_age: Duration,
    /// How long what no server had is not asked for.
    pub(in super::super) negative_ttl: Duration,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Disk {
    settings: DiskSettings,
    directory: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The bytes of files, as far as this process knows.
    bytes: u64,
    swept_at: SystemTime,
}

/// What the directory knows about a file.
#[derive(Debug)]
pub(super) enum CacheLookup {
    /// Here it is.
    File(File, Whole),
    /// No server had it, not long ago.
    Absent,
    /// Nothing.
    None,
}

/// A file that is being written; deleted if it is dropped.
#[derive(Debug)]
pub(super) struct Temporary<'d> {
    disk: &'d Disk,
    name: String,
    /// Where to write.
    pub(super) file: File,
    kept: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.disk.delete(&self.name);
        }
    }
}

fn name_of(build_id: &BuildId, kind: FileKind) -> String {
    format!("{build_id}.{}", kind.name())
}

/// What a name in the directory stands for; none if it is not one of ours.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File,
    Absent,
    Temporary,
}

impl Entry {
    fn of(name: &str) -> Option<Self> {
        if name.starts_with("tmp.") {
            return Some(Self::Temporary);
        }
        let (name, entry) = match name.strip_suffix(".absent") {
            Some(name) => (name, Self::Absent),
            None => (name, Self::File),
        };
        let (id, kind) = name.split_once('.')?;
        let known = FileKind::ALL.iter().any(|known| known.name() == kind);
        (known && BuildId::parse(id).is_some()).then_some(entry)
    }
}

impl Disk {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be used, or others could write into it.
    pub(super) fn open(settings: DiskSettings, now: SystemTime) -> io::Result<Self> {
        let (directory, rights_of_others) = own_directory::open(&settings.directory)?;
        if rights_of_others & 0o022 != 0 {
            return Err(io::Error::other("other users may write into it; make it private (0700)"));
        }
        let state = Mutex::new(State { bytes: 0, swept_at: now });
        let disk = Self { settings, directory, state };
        disk.sweep(now)?;
        Ok(disk)
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// What is known about a file.
    pub(super) fn find(&self, build_id: &BuildId, kind: FileKind, now: SystemTime) -> CacheLookup {
        let name = name_of(build_id, kind);
        if let Some((file, found)) = self.open_file(&name, build_id, now) {
            return CacheLookup::File(file, found);
        }
        let absent = format!("{name}.absent");
        let Ok(facts) = rustix::fs::statat(&self.directory, &absent, AtFlags::SYMLINK_NOFOLLOW)
        else {
            return CacheLookup::None;
        };
        if is_ours(&facts) && is_younger(&facts, self.settings.negative_ttl, now) {
            return CacheLookup::Absent;
        }
        self.delete(&absent);
        CacheLookup::None
    }

    fn open_file(&self, name: &str, build_id: &BuildId, now: SystemTime) -> Option<(File, Whole)> {
        // Not blocking: it may be a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, name, flags, Mode::empty());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return None,
            Err(_) => {
                self.delete(name);
                return None;
            }
        };
        let facts = rustix::fs::fstat(&file).ok()?;
        let found = (is_ours(&facts) && is_younger(&facts, self.settings.max_age, now))
            .then(|| inspect(&file).ok().flatten())
            .flatten()
            .filter(|found| found.build_id.as_deref().is_some_and(|id| build_id.is(id)));
        let Some(found) = found else {
            self.delete(name);
            return None;
        };
        if !is_younger(&facts, TOUCH_INTERVAL, now) {
            let now = timespec(now);
            // Without it the file only seems to be unused.
            let _ = rustix::fs::futimens(
                &file,
                &Timestamps { last_access: now, last_modification: now },
            );
        }
        Some((file, found))
    }

    /// Begins a file.
    ///
    /// # Errors
    /// If the disk does not want it.
    pub(super) fn create(&self) -> io::Result<Temporary<'_>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let process = std::process::id();
        loop {
            let name = format!("tmp.{process}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
            match rustix::fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => {
                    return Ok(Temporary { disk: self, name, file: file.into(), kept: false });
                }
                // Of an earlier process with this number.
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Notes that no server has a file.
    pub(super) fn note_absent(&self, build_id: &BuildId, kind: FileKind) {
        let name = format!("{}.absent", name_of(build_id, kind));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.delete(&name);
        // Without it the servers are asked again.
        let _ = rustix::fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600));
    }

    /// Deletes what is too old, and the files unused for longest until the rest fits.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let mut files = Vec::new();
        let mut absent = Vec::new();
        let settings = &self.settings;
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Some(kind) = Entry::of(name) else { continue };
            let facts = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(facts) = facts else { continue };
            let longest = match kind {
                Entry::File => settings.max_age,
                Entry::Absent => settings.negative_ttl,
                Entry::Temporary => ABANDONED_TIMEOUT,
            };
            if !is_younger(&facts, longest, now) {
                self.delete(name);
                continue;
            }
            let row = (facts.st_mtime, name.to_owned(), u64::try_from(facts.st_size).unwrap_or(0));
            match kind {
                Entry::File => files.push(row),
                Entry::Absent => absent.push(row),
                Entry::Temporary => {}
            }
        }
        if let Some(excess) = absent.len().checked_sub(MAX_ABSENT).filter(|excess| *excess > 0) {
            absent.sort_unstable();
            for (_, name, _) in absent.iter().take(excess + MAX_ABSENT / 8) {
                self.delete(name);
            }
        }
        files.sort_unstable();
        let mut bytes: u64 = files.iter().map(|(_, _, size)| size).sum();
        if bytes > settings.max_bytes {
            // A tenth more, so that the next file does not have the directory read again.
            let room = settings.max_bytes - settings.max_bytes / 10;
            for (_, name, size) in &files {
                if bytes <= room {
                    break;
                }
                self.delete(name);
                bytes -= size;
            }
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { bytes, swept_at: now };
        Ok(())
    }

    fn delete(&self, name: &str) {
        // What is not there is deleted.
        let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
    }
}

impl Temporary<'_> {
    /// Gives the file its name, once it is on the disk. It stays open for the caller.
    ///
    /// # Errors
    /// If the disk does not want it.
    pub(super) fn keep(
        mut self,
        build_id: &BuildId,
        kind: FileKind,
        now: SystemTime,
    ) -> io::Result<File> {
        let disk = self.disk;
        let file = self.file.try_clone()?;
        file.sync_data()?;
        let size = file.metadata()?.len();
        let name = name_of(build_id, kind);
        rustix::fs::renameat(&disk.directory, &self.name, &disk.directory, &name)?;
        self.kept = true;
        disk.delete(&format!("{name}.absent"));
        let is_due = {
            let mut state = disk.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.bytes += size;
            let since = now.duration_since(state.swept_at).unwrap_or(SWEEP_INTERVAL);
            state.bytes > disk.settings.max_bytes || since >= SWEEP_INTERVAL
        };
        if is_due {
            disk.sweep(now)?;
        }
        Ok(file)
    }
}

/// A plain file that no other user could write.
fn is_ours(facts: &Stat) -> bool {
    FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
        && facts.st_uid == rustix::process::geteuid().as_raw()
        && facts.st_mode & 0o022 == 0
}

/// True if the last change was not longer ago than this; what changes in the future is not to be
/// believed, but for clocks that differ a little.
fn is_younger(facts: &Stat, than: Duration, now: SystemTime) -> bool {
    let now = timespec(now).tv_sec;
    let than = i64::try_from(than.as_secs()).unwrap_or(i64::MAX);
    let age = now.saturating_sub(facts.st_mtime);
    age >= -300 && age < than.max(1)
}

fn timespec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 }
}
