//! The directory of files that were uploaded.
//!
//! ```text
//! files/TENANT/ID.executable, files/TENANT/ID.debuginfo      what is kept; `~` for no tenant
//! pending/HASH.lease                                         who sends a file, see `lease`
//! pending/tmp.PROCESS.NUMBER                                 a file on its way
//! ```
//! A file appears by being renamed, when it is whole, looked at and on the disk. Its time of change is when
//! it was last used. Several processes may share the directory. It is used only if it is ours and closed to
//! everyone else; links in it are not followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use profpipe_engine::component::{
    Identity, SymbolFile, SymbolOffer, SymbolStorage, SymbolStorageError, SymbolUpload,
};
use profpipe_engine::telemetry::Metrics;
use profpipe_host::elf::{inspect, is_build_id};
use profpipe_host::{hex, own_directory};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use sha2::{Digest as _, Sha256};

use super::config::Config;
use super::lease::{Lease, Taken};
use super::upload::Upload;
use super::{BYTES, UPLOADS};

/// The directory of those who are no tenant; no tenant can have this name.
const NO_TENANT: &str = "~";
/// What is still being written, or never will be: after so long without a change it is deleted.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often the time of a file is moved on while it is used.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);
/// How often the directory is looked through even if there is room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Files that senders have been told to send at most.
const MAX_LEASES: usize = 4096;
/// When somebody asks again who heard that another sends the file now.
const SENDING_PAUSE: Duration = Duration::from_secs(30);

/// The directory.
#[derive(Debug)]
pub(super) struct Store {
    /// Itself, for uploads.
    this: Weak<Self>,
    config: Config,
    files: OwnedFd,
    pending: OwnedFd,
    state: Mutex<State>,
    /// Files on their way now.
    sending: AtomicU32,
    metrics: Arc<Metrics>,
    id: String,
}

#[derive(Debug)]
struct State {
    /// The bytes of files, as far as this process knows.
    bytes: u64,
    /// The leases, as far as this process knows.
    leases: usize,
    swept_at: SystemTime,
}

impl Store {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be used, or others can enter it.
    pub(super) fn open(config: Config, metrics: &Arc<Metrics>, id: &str) -> io::Result<Arc<Self>> {
        let private = |path: &std::path::Path| {
            let (directory, rights_of_others) = own_directory::open(path)?;
            if rights_of_others != 0 {
                return Err(io::Error::other("other users may enter it; make it private (0700)"));
            }
            Ok(directory)
        };
        private(&config.directory)?;
        let files = private(&config.directory.join("files"))?;
        let pending = private(&config.directory.join("pending"))?;
        let now = SystemTime::now();
        let store = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            config,
            files,
            pending,
            state: Mutex::new(State { bytes: 0, leases: 0, swept_at: now }),
            sending: AtomicU32::new(0),
            metrics: Arc::clone(metrics),
            id: id.to_owned(),
        });
        store.sweep(now)?;
        Ok(store)
    }

    pub(super) fn limit(&self) -> u64 {
        self.config.max_file_size.0
    }

    pub(super) fn pending(&self) -> &OwnedFd {
        &self.pending
    }

    /// Counts a file that came.
    pub(super) fn count(&self, result: &str) {
        self.metrics.labelled(UPLOADS, &self.id, &[("result", result)]).add(1);
    }

    /// Deletes what was not kept.
    pub(super) fn forget(&self, temporary: &str) {
        // What is not there is deleted.
        let _ = rustix::fs::unlinkat(&self.pending, temporary, AtFlags::empty());
    }

    /// A file is not on its way any more.
    pub(super) fn release(&self) {
        self.sending.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.state();
        state.leases = state.leases.saturating_sub(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a file its name.
    pub(super) fn keep(
        &self,
        temporary: &str,
        (tenant, id, kind): (&str, &str, SymbolFile),
        size: u64,
    ) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.files, tenant, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = self.of_tenant(tenant)?;
        let name = name_of(id, kind);
        rustix::fs::renameat(&self.pending, temporary, &directory, &name)?;
        let now = SystemTime::now();
        let is_due = {
            let mut state = self.state();
            state.bytes += size;
            let since = now.duration_since(state.swept_at).unwrap_or(SWEEP_INTERVAL);
            state.bytes > self.config.max_bytes.0 || since >= SWEEP_INTERVAL
        };
        if is_due {
            self.sweep(now)?;
        }
        self.tell_bytes();
        Ok(())
    }

    fn tell_bytes(&self) {
        self.metrics.counter(BYTES, &self.id).set(self.state().bytes);
    }

    /// The directory of a tenant.
    fn of_tenant(&self, tenant: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.files, tenant, flags, Mode::empty())?;
        let facts = rustix::fs::fstat(&directory)?;
        if !is_ours(&facts) {
            return Err(io::Error::other("a directory that is not ours alone"));
        }
        Ok(directory)
    }

    fn open_file(&self, tenant: &str, id: &str, kind: SymbolFile) -> Option<File> {
        let directory = self.of_tenant(tenant).ok()?;
        // Not blocking: it may be a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name_of(id, kind), flags, Mode::empty()).ok()?;
        let facts = rustix::fs::fstat(&file).ok()?;
        if !is_ours(&facts) || FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return None;
        }
        let now = timespec(SystemTime::now());
        if now.tv_sec.saturating_sub(facts.st_mtime) >= TOUCH_INTERVAL.as_secs() as i64 {
            // Without it the file only seems to be unused.
            let times = Timestamps { last_access: now, last_modification: now };
            let _ = rustix::fs::futimens(&file, &times);
        }
        Some(file.into())
    }

    /// Deletes what is too old, and files until the rest fits.
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let leases = self.sweep_pending(now)?;
        let mut tenants = BTreeMap::new();
        for tenant in names(&self.files)? {
            let Ok(directory) = self.of_tenant(&tenant) else { continue };
            let files = self.sweep_tenant(&directory, now)?;
            if files.is_empty() {
                // Not if one came just now.
                let _ = rustix::fs::unlinkat(&self.files, &tenant, AtFlags::REMOVEDIR);
                continue;
            }
            tenants.insert(tenant, (directory, files));
        }
        let mut bytes: u64 = tenants.values().map(|(_, files)| sum(files)).sum();
        if bytes > self.config.max_bytes.0 {
            // A tenth more, so that the next file does not have the directory read again.
            let room = self.config.max_bytes.0 - self.config.max_bytes.0 / 10;
            while bytes > room {
                let most = tenants.values_mut().max_by_key(|(_, files)| sum(files));
                let Some((directory, files)) = most else { break };
                let Some((_, name, size)) = files.pop() else { break };
                let _ = rustix::fs::unlinkat(&*directory, &name, AtFlags::empty());
                bytes = bytes.saturating_sub(size);
            }
        }
        *self.state() = State { bytes, leases, swept_at: now };
        self.tell_bytes();
        Ok(())
    }

    /// The files of a tenant that stay, the one used last first.
    fn sweep_tenant(
        &self,
        directory: &OwnedFd,
        now: SystemTime,
    ) -> io::Result<Vec<(i64, String, u64)>> {
        let oldest = timespec(now).tv_sec.saturating_sub_unsigned(self.config.max_age.0.as_secs());
        let mut files = Vec::new();
        for name in names(directory)? {
            let facts = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(facts) = facts else { continue };
            if facts.st_mtime < oldest {
                let _ = rustix::fs::unlinkat(directory, &name, AtFlags::empty());
                continue;
            }
            files.push((facts.st_mtime, name, u64::try_from(facts.st_size).unwrap_or_default()));
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        Ok(files)
    }

    /// Deletes what was given up; the number of leases that stay.
    fn sweep_pending(&self, now: SystemTime) -> io::Result<usize> {
        let mut leases = 0;
        for name in names(&self.pending)? {
            let facts = rustix::fs::statat(&self.pending, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(facts) = facts else { continue };
            let age = timespec(now).tv_sec.saturating_sub(facts.st_mtime);
            let is_lease = name.ends_with(".lease");
            let longest = match is_lease {
                true => self.config.offer_timeout.0.max(Duration::from_secs(60)) * 2,
                false => ABANDONED_TIMEOUT,
            };
            if age >= i64::try_from(longest.as_secs()).unwrap_or(i64::MAX) {
                self.forget(&name);
            } else {
                leases += usize::from(is_lease);
            }
        }
        Ok(leases)
    }

    /// A new file beside the others.
    fn temporary(&self) -> io::Result<(String, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let process = std::process::id();
        loop {
            // Another host that shares the directory may have a process of this number.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tmp.{process}.{number}");
            match rustix::fs::openat(&self.pending, &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => return Ok((name, file.into())),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl SymbolStorage for Store {
    fn max_file_size(&self) -> u64 {
        self.limit()
    }

    fn offer(
        &self,
        tenant: Option<&str>,
        build_id: &str,
        file: SymbolFile,
    ) -> Result<SymbolOffer, SymbolStorageError> {
        let (tenant, id) = place(tenant, build_id)?;
        if self.is_there(&tenant, &id, file) {
            return Ok(SymbolOffer::Present);
        }
        if self.state().leases >= MAX_LEASES {
            let leases = self.sweep_pending(SystemTime::now())?;
            self.state().leases = leases;
            if leases >= MAX_LEASES {
                return Ok(SymbolOffer::Pending(self.config.offer_timeout.0));
            }
        }
        let name = lease_name(&tenant, &id);
        match Lease::take(&self.pending, &name, self.config.offer_timeout.0)? {
            Taken::Sending => Ok(SymbolOffer::Pending(SENDING_PAUSE)),
            Taken::Given(pause) => Ok(SymbolOffer::Pending(pause)),
            // It came between the two looks.
            Taken::Held(lease, _) if self.is_there(&tenant, &id, file) => {
                lease.end(&self.pending);
                Ok(SymbolOffer::Present)
            }
            Taken::Held(_, is_new) => {
                self.state().leases += usize::from(is_new);
                Ok(SymbolOffer::Wanted)
            }
        }
    }

    fn begin(
        &self,
        tenant: Option<&str>,
        build_id: &str,
    ) -> Result<Box<dyn SymbolUpload>, SymbolStorageError> {
        let place = place(tenant, build_id)?;
        let Some(store) = self.this.upgrade() else { return Err(SymbolStorageError::Busy) };
        let lease = match Lease::take_up(&self.pending, &lease_name(&place.0, &place.1)) {
            Ok(lease) => lease.ok_or(SymbolStorageError::NotOffered)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SymbolStorageError::Busy);
            }
            Err(error) => return Err(error.into()),
        };
        if self.sending.fetch_add(1, Ordering::Relaxed) >= self.config.max_concurrent {
            self.sending.fetch_sub(1, Ordering::Relaxed);
            return Err(SymbolStorageError::Busy);
        }
        let (temporary, file) = self.temporary().inspect_err(|_| {
            self.sending.fetch_sub(1, Ordering::Relaxed);
        })?;
        let (bytes, renew_at, is_kept) = (0, 0, false);
        Ok(Box::new(Upload { store, lease, place, temporary, file, bytes, renew_at, is_kept }))
    }

    fn has(&self, tenant: Option<&str>, build_id: &str) -> bool {
        place(tenant, build_id).is_ok_and(|(tenant, id)| {
            SymbolFile::ALL.iter().any(|file| self.open_file(&tenant, &id, *file).is_some())
        })
    }

    fn find(&self, tenant: Option<&str>, build_id: &str, file: SymbolFile) -> Option<File> {
        let (tenant, id) = place(tenant, build_id).ok()?;
        self.open_file(&tenant, &id, file)
    }

    fn changed_at(&self, tenant: Option<&str>) -> Option<SystemTime> {
        let tenant = tenant_directory(tenant)?;
        let facts = rustix::fs::statat(&self.files, tenant, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let seconds = u64::try_from(facts.st_mtime).ok()?;
        let nanoseconds = u32::try_from(facts.st_mtime_nsec).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
    }
}

impl Store {
    /// Whether a file is there, or one that says as much.
    fn is_there(&self, tenant: &str, id: &str, file: SymbolFile) -> bool {
        if self.open_file(tenant, id, file).is_some() {
            return true;
        }
        let has_debug_info = |executable: &File| {
            inspect(executable).ok().flatten().is_some_and(|found| found.has_debug_info)
        };
        file == SymbolFile::Debuginfo
            && self
                .open_file(tenant, id, SymbolFile::Executable)
                .is_some_and(|executable| has_debug_info(&executable))
    }
}

/// The directory of a tenant, and a build id as it stands in names of files.
fn place(tenant: Option<&str>, build_id: &str) -> Result<(String, String), SymbolStorageError> {
    let invalid = |what: &str| SymbolStorageError::Invalid(what.to_owned());
    if !is_build_id(build_id) {
        return Err(invalid("the GNU build id is not 4 to 64 bytes in hex"));
    }
    let tenant = tenant_directory(tenant).ok_or_else(|| invalid("not the name of a tenant"))?;
    Ok((tenant.to_owned(), build_id.to_ascii_lowercase()))
}

fn tenant_directory(tenant: Option<&str>) -> Option<&str> {
    match tenant {
        None => Some(NO_TENANT),
        Some(name) => Identity::is_tenant(name).then_some(name),
    }
}

fn name_of(id: &str, kind: SymbolFile) -> String {
    format!("{id}.{}", kind.name())
}

/// Of a fixed length: both names together may be longer than a file system allows.
fn lease_name(tenant: &str, id: &str) -> String {
    let hash = Sha256::new().chain_update(tenant).chain_update([0]).chain_update(id).finalize();
    format!("{}.lease", hex(&hash))
}

fn names(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn sum(files: &[(i64, String, u64)]) -> u64 {
    files.iter().map(|(_, _, size)| size).sum()
}

/// Ours, and nobody else can read or write it.
fn is_ours(facts: &Stat) -> bool {
    facts.st_uid == rustix::process::geteuid().as_raw() && facts.st_mode & 0o077 == 0
}

pub(super) fn timespec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since.subsec_nanos().into(),
    }
}
