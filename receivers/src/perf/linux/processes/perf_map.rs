//! The file in which a just-in-time compiler names its code: `/tmp/perf-PID.map`, as the process sees
//! it, by the pid that it has in its own namespace.
//!
//! Some write it only when they end, and then the process and with it the way to its `/tmp` is gone. So
//! the directory is held open from the first sample of such code on. Anybody can write to `/tmp`: only
//! a file of the process's own user, or of root, is taken.

use std::fs::File;
use std::os::fd::OwnedFd;

use profpipe_host::proc::Status;
use rustix::fs::{Mode, OFlags, openat};

/// Where the file of a process is, or will be.
#[derive(Debug)]
pub(crate) struct PerfMapPlace {
    directory: OwnedFd,
    name: String,
    user: u32,
}

impl PerfMapPlace {
    /// That of a process that is there.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = Status::read(pid)?;
        let (own, user) = (status.own_pid?, status.file_user?);
        // A descriptor of the place alone: nothing is read, and nothing can hold us up later.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(format!("/proc/{pid}/root/tmp"), flags, Mode::empty()).ok()?;
        Some(Self { directory, name: format!("perf-{own}.map"), user })
    }

    /// The path as the process sees it.
    pub(crate) fn path(&self) -> String {
        format!("/tmp/{}", self.name)
    }

    /// The file, if it is there now and is one to be trusted.
    pub(crate) fn open(&self) -> Option<File> {
        use std::os::unix::fs::MetadataExt;
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.directory, &self.name, flags, Mode::empty()).ok()?);
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && [self.user, 0].contains(&metadata.uid())).then_some(file)
    }
}
