//! Directories for what this user's processes keep: they must be ours.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a directory, and makes it, closed to everyone else, if it is not there; with the rights that others
/// have on it.
///
/// # Errors
/// If it cannot be used, is a link, or belongs to another user.
pub fn open(path: &Path) -> io::Result<(OwnedFd, u32)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let facts = rustix::fs::fstat(&directory)?;
    if facts.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    Ok((directory, facts.st_mode & 0o077))
}
