//! Programs that run beside the bench: a process group of their own, which nothing outlives. It is
//! killed by its id when its [`Group`] goes, as in a panic; by a guard when the bench itself is killed;
//! and at last by `timeout`, where the guard is, too.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// Waits until the bench closes its standard input, by its end at the latest.
const GUARD: &str = "read -r _; kill -KILL -\"$1\"";

/// A running group.
#[derive(Debug)]
pub(super) struct Group {
    /// `timeout`, which leads the group and ends with its program.
    leader: Child,
    guard: Child,
}

impl Group {
    /// Starts a program that lives for so many seconds at most.
    pub(super) fn start<T: AsRef<OsStr>>(
        command: &[T],
        home: &Path,
        errors: Stdio,
        seconds: u64,
    ) -> Self {
        let leader = Command::new("timeout")
            .args(["--signal=KILL", &seconds.to_string()])
            .args(command)
            .current_dir(home)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh", &leader.id().to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { leader, guard }
    }

    /// The process that leads it, whose child the program is.
    pub(super) fn id(&self) -> u32 {
        self.leader.id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.leader.try_wait(), Ok(None))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        // Once it was waited for, its number may be another's.
        if self.is_running() {
            let _ = kill_process_group(Pid::from_child(&self.leader), Signal::KILL);
            let _ = self.leader.wait();
        }
    }
}
