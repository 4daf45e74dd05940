//! A process that is watched and signalled: by a descriptor on Linux, by its number elsewhere.

use anyhow::anyhow;
use rustix::process::{Pid, Signal};

/// The process with this number, if a process can have it.
fn number(pid: u32) -> anyhow::Result<Pid> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| anyhow!("there is no process {pid}"))
}

#[cfg(target_os = "linux")]
mod descriptor {
    use std::os::fd::OwnedFd;

    use anyhow::{Context, anyhow};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// A process, held by a descriptor: another that gets its number is not taken for it.
    pub(in super::super) struct Process(OwnedFd);

    impl Process {
        pub(in super::super) fn find(pid: u32) -> anyhow::Result<Self> {
            match pidfd_open(super::number(pid)?, PidfdFlags::empty()) {
                Ok(descriptor) => Ok(Self(descriptor)),
                Err(Errno::SRCH) => {
                    Err(anyhow!("there is no process {pid}; `ps -e` lists them all"))
                }
                // What a thread's number gets, before Linux 6.9 and since.
                Err(Errno::INVAL | Errno::NOENT) => {
                    Err(anyhow!("{pid} is a thread, not a process; give the number of its process"))
                }
                Err(error) => Err(error).with_context(|| format!("cannot watch process {pid}")),
            }
        }

        /// True once the process has ended.
        pub(in super::super) fn has_ended(&self) -> bool {
            let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut descriptors, Some(&at_once)).is_ok_and(|ready| ready > 0)
        }

        pub(super) fn send(&self, signal: Signal) {
            // A process that has ended misses nothing.
            let _ = pidfd_send_signal(&self.0, signal);
        }
    }
}
#[cfg(target_os = "linux")]
pub(super) use descriptor::Process;

/// A process by its number: there is nothing better elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) struct Process(Pid);

#[cfg(not(target_os = "linux"))]
impl Process {
    pub(super) fn find(pid: u32) -> anyhow::Result<Self> {
        let process = Self(number(pid)?);
        if process.has_ended() {
            return Err(anyhow!("there is no process {pid}; `ps -e` lists them all"));
        }
        Ok(process)
    }

    /// True once the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        rustix::process::test_kill_process(self.0) == Err(rustix::io::Errno::SRCH)
    }

    fn send(&self, signal: Signal) {
        // A process that has ended misses nothing.
        let _ = rustix::process::kill_process(self.0, signal);
    }
}

impl Process {
    /// Sends a signal by its number.
    pub(super) fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.send(signal);
        }
    }
}
