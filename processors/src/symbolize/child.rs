//! The worker as a process: started over a socket pair, asked one thing at a time with a deadline,
//! killed when it does not answer.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use profpipe_pipeline::engine::WorkerCommand;

use super::protocol::{Channel, Limits, Request, Response};

/// A running worker.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    channel: Channel,
    /// The parts of the sandbox that this host does not allow.
    pub(super) missing: Vec<String>,
}

impl Child {
    /// Starts a worker and waits until it is in its sandbox.
    ///
    /// # Errors
    /// If the program cannot be started or does not say that it is ready.
    pub(super) fn start(command: &WorkerCommand, limits: Limits) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        // Nothing of this process goes with it: no environment (it may hold secrets), no output.
        let process = Command::new(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == super::WORKER_ENVIRONMENT))
            .current_dir("/")
            // Ctrl-C is for this process, which still wants names while it stops.
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut child = Self { process, channel: Channel::new(ours.into())?, missing: Vec::new() };
        let deadline = Instant::now() + Duration::from_secs(10);
        match child.ask(&Request::Start(limits), &[], deadline)? {
            Response::Ready(missing) => child.missing = missing,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(child)
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// If the worker died, says nonsense or nothing in time; it is of no use then.
    pub(super) fn ask(
        &self,
        request: &Request,
        files: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<Response> {
        self.channel.send(request, files, Some(deadline))?;
        self.channel.receive(Some(deadline)).map(|(response, _)| response)
    }

    /// True if the worker has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let deadline = Instant::now() + Duration::from_secs(2);
        // A process in a page fault on a dead network file system ends late or never: leave it.
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
