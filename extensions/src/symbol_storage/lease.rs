//! Who sends a file: one at a time, whichever gateway was asked.
//!
//! A lease is a file in the shared directory. Its time of change is when it was given out or last heard
//! of; a lock on it is held while bytes come, and while the lease changes hands. A sender that is not heard
//! of for the time of an offer loses it to the next that asks.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timestamps};

use super::store::timespec;

/// Times that a lease is taken up that is deleted meanwhile.
const TRIES: u32 = 8;

/// A lease that is held: nobody else can have it, or change it.
#[derive(Debug)]
pub(super) struct Lease {
    file: File,
    name: String,
}

/// Whether a lease was had.
#[derive(Debug)]
pub(super) enum Taken {
    /// Here it is; true if nobody had it.
    Held(Lease, bool),
    /// Somebody sends the file now.
    Sending,
    /// Somebody was told to, and is waited for so long.
    Given(Duration),
}

impl Lease {
    /// Takes a lease that nobody has, or whose holder is not heard of any more.
    ///
    /// # Errors
    /// If the disk does not want it.
    pub(super) fn take(directory: &OwnedFd, name: &str, timeout: Duration) -> io::Result<Taken> {
        for _ in 0..TRIES {
            let file = open(directory, name, OFlags::CREATE)?;
            let Some(lease) = Self::lock(file, name)? else { return Ok(Taken::Sending) };
            let facts = rustix::fs::fstat(&lease.file)?;
            // Its holder has ended it between the two.
            if facts.st_nlink == 0 {
                continue;
            }
            let now = timespec(SystemTime::now()).tv_sec;
            let age = u64::try_from(now.saturating_sub(facts.st_mtime)).unwrap_or_default();
            let is_new = facts.st_size == 0;
            if !is_new && age < timeout.as_secs() {
                return Ok(Taken::Given(timeout - Duration::from_secs(age)));
            }
            // Not empty any more: it is somebody's.
            (&lease.file).write_all(b"1")?;
            lease.renew();
            return Ok(Taken::Held(lease, is_new));
        }
        Ok(Taken::Sending)
    }

    /// Takes up a lease that was given out; none if it was not, or has ended.
    ///
    /// # Errors
    /// If somebody else has taken it up (`WouldBlock`), or the disk does not answer.
    pub(super) fn take_up(directory: &OwnedFd, name: &str) -> io::Result<Option<Self>> {
        let file = match open(directory, name, OFlags::empty()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let lease = Self::lock(file, name)?.ok_or(io::ErrorKind::WouldBlock)?;
        if rustix::fs::fstat(&lease.file)?.st_nlink == 0 {
            return Ok(None);
        }
        lease.renew();
        Ok(Some(lease))
    }

    fn lock(file: File, name: &str) -> io::Result<Option<Self>> {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file, name: name.to_owned() })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that its holder is heard of.
    pub(super) fn renew(&self) {
        let now = timespec(SystemTime::now());
        let times = Timestamps { last_access: now, last_modification: now };
        // Without it the next may get it a little early.
        let _ = rustix::fs::futimens(&self.file, &times);
    }

    /// Ends it: the file is there, or its sender was given up.
    pub(super) fn end(&self, directory: &OwnedFd) {
        let _ = rustix::fs::unlinkat(directory, &self.name, AtFlags::empty());
    }
}

fn open(directory: &OwnedFd, name: &str, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    Ok(file.into())
}
