//! The directory of the `file` exporter: whole files appear in it, old ones leave it.
//!
//! A file is written under a temporary name, made permanent, then given its own name, which never
//! replaces another file; then the directory is made permanent. A crash leaves at most a temporary
//! file, which the next start removes. A temporary file is locked by its writer, so that starting
//! does not remove what another process is writing.
//!
//! Retention keeps two numbers, not a list of files: when they say that something is due, the
//! directory is read twice, once to find how old is too old and once to delete. It deletes a little
//! more than it must, so that this is rare.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use profpipe_engine::component::Error;
use profpipe_engine::overhead::checkpoint;
use profpipe_engine::settings::ByteSize;
use tempfile::NamedTempFile;

use super::config::{Format, Retention};
use super::name::{self, Stem};

/// What temporary names start and end with.
const TEMPORARY: (&str, &str) = (".profpipe-", ".tmp");
/// Files written together. Each needs a descriptor until all are complete.
const GROUP: usize = 64;
/// Numbers tried for a name that is taken, before one that nobody can have taken.
const NUMBERS: u64 = 32;

/// The directory, and what is known of the files in it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    retention: Retention,
    /// Bytes in files of ours.
    bytes: u64,
    /// When to look again for files that are too old.
    next_look: SystemTime,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Directory {
    /// Creates the directory if need be, proves that files can be created in it, removes what a
    /// crash left and what is too old.
    pub(super) fn open(path: &Path, retention: Retention, now: SystemTime) -> Result<Self, Error> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut directory = Self { path, retention, bytes: 0, next_look: now };
        let prepare = |directory: &mut Self| {
            fs::create_dir_all(&directory.path)?;
            directory.temporary()?.close()?;
            directory.remove_leftovers()?;
            directory.retain(now, &[])
        };
        match prepare(&mut directory) {
            Ok(()) => Ok(directory),
            Err(cause) => Err(directory.explain(cause)),
        }
    }

    /// Writes files; either all of a group appear or, if writing fails, none.
    pub(super) fn write(
        &mut self,
        files: &[(Stem, Vec<u8>)],
        format: Format,
        now: SystemTime,
    ) -> Result<Written, Error> {
        let mut names = Vec::new();
        let mut written = Written::default();
        for group in files.chunks(GROUP) {
            names
                .extend(self.write_group(group, format, now).map_err(|cause| self.explain(cause))?);
            let bytes: u64 = group.iter().map(|(_, content)| content.len() as u64).sum();
            self.bytes = self.bytes.saturating_add(bytes);
            written.files += group.len() as u64;
            written.bytes += bytes;
        }
        let limit = self.retention.max_bytes.0;
        if (limit > 0 && self.bytes > limit) || now >= self.next_look {
            // What was written is there: failing to delete is no reason to write it again.
            if let Err(error) = self.retain(now, &names) {
                tracing::warn!(directory = %self.path.display(), %error, "cannot delete old profiles");
            }
        }
        Ok(written)
    }

    fn write_group(
        &self,
        group: &[(Stem, Vec<u8>)],
        format: Format,
        now: SystemTime,
    ) -> io::Result<Vec<String>> {
        let mut complete = Vec::with_capacity(group.len());
        for (stem, content) in group {
            checkpoint();
            let mut file = match self.temporary() {
                // Somebody removed the directory while we run.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(&self.path)?;
                    self.temporary()?
                }
                result => result?,
            };
            file.write_all(content)?;
            file.as_file().sync_all()?;
            complete.push((stem, file));
        }
        let mut names = Vec::with_capacity(group.len());
        for (stem, file) in complete {
            checkpoint();
            names.push(self.name(stem, file, format, now)?);
        }
        self.sync()?;
        Ok(names)
    }

    /// A temporary file, locked while it is open.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any program's files: the user's umask decides who may read them.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(&self.path)?;
        // Where a file system has no locks, a start beside us may remove the file: we would then
        // fail to name it and write it again.
        let _ = file.as_file().try_lock();
        Ok(file)
    }

    /// Gives a complete file the first free name of its stem.
    fn name(
        &self,
        stem: &Stem,
        mut file: NamedTempFile,
        format: Format,
        now: SystemTime,
    ) -> io::Result<String> {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut number = 1;
        loop {
            let name = stem.file_name(number, format);
            match file.persist_noclobber(self.path.join(&name)) {
                Ok(_) => return Ok(name),
                Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => {
                    file = failed.file;
                    number = match number {
                        NUMBERS => since_epoch.as_nanos() as u64,
                        number => number.saturating_add(1),
                    };
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Makes the names in the directory permanent.
    fn sync(&self) -> io::Result<()> {
        match File::open(&self.path)?.sync_all() {
            // Some network file systems cannot do this for a directory.
            Err(error)
                if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        self.visit(|name, path, _| {
            let temporary = name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
            if temporary && File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(path);
            }
        })
    }

    /// Deletes what the retention says is due, except the files in `keep`.
    fn retain(&mut self, now: SystemTime, keep: &[String]) -> io::Result<()> {
        let max_age = self.retention.max_age.0;
        let patience = (max_age / 50).max(Duration::from_secs(1));
        self.next_look = now.checked_add(patience).unwrap_or(now);

        let mut ages = Vec::new();
        self.visit(|name, _, metadata| {
            if name::is_ours(name) {
                ages.push((modified(metadata), metadata.len()));
            }
        })?;
        ages.sort_unstable();
        let too_old = now.checked_sub(max_age).filter(|_| !max_age.is_zero());
        let limit = self.retention.max_bytes.0;
        let mut bytes: u64 = ages.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size));
        let goal = if limit > 0 && bytes > limit { limit - limit / 20 } else { u64::MAX };
        let mut last_to_go = None;
        for (written, size) in ages {
            if bytes <= goal && too_old.is_none_or(|too_old| written >= too_old) {
                break;
            }
            bytes = bytes.saturating_sub(size);
            last_to_go = Some(written);
        }

        let mut left = 0_u64;
        self.visit(|name, path, metadata| {
            if !name::is_ours(name) {
                return;
            }
            let due = last_to_go.is_some_and(|last| modified(metadata) <= last);
            if due && !keep.iter().any(|kept| kept == name) && fs::remove_file(path).is_ok() {
                return;
            }
            left = left.saturating_add(metadata.len());
        })?;
        self.bytes = left;
        Ok(())
    }

    /// Calls `look` with every regular file whose name is text.
    fn visit(&self, mut look: impl FnMut(&str, &Path, &Metadata)) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // A file may go away while we read the directory.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                look(name, &entry.path(), &metadata);
            }
        }
        Ok(())
    }

    /// What happened, where, and what to do about it.
    fn explain(&self, cause: io::Error) -> Error {
        let path = self.path.display();
        let message = match cause.kind() {
            ErrorKind::StorageFull => format!(
                "cannot write profiles to {path}: the disk is full{}; free some space or lower \
                 retention::max_bytes",
                self.free_space()
            ),
            ErrorKind::QuotaExceeded => format!(
                "cannot write profiles to {path}: the quota is used up; free some space or lower \
                 retention::max_bytes"
            ),
            ErrorKind::ReadOnlyFilesystem => format!(
                "cannot write profiles to {path}: the file system is read-only; remount it or \
                 choose another `path`"
            ),
            ErrorKind::PermissionDenied => format!(
                "cannot write profiles to {path}: permission denied; grant this user write access \
                 or choose another `path`"
            ),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => format!(
                "cannot write profiles to {path}: it is, or is below, a file; choose a directory \
                 as `path`"
            ),
            _ => format!("cannot write profiles to {path}; choose another `path` if this stays so"),
        };
        Error::with_source(message, cause)
    }

    #[cfg(unix)]
    fn free_space(&self) -> String {
        match rustix::fs::statvfs(&self.path) {
            Ok(stat) => {
                let kib = stat.f_bavail.saturating_mul(stat.f_frsize) / 1024;
                format!(" ({} free)", ByteSize(kib * 1024))
            }
            Err(_) => String::new(),
        }
    }

    #[cfg(not(unix))]
    fn free_space(&self) -> String {
        String::new()
    }
}

/// When a file was written; the epoch where the file system does not say.
fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}
