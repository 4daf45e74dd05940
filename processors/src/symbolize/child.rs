//! The worker as a process: started over a socket pair, asked one thing at a time with a deadline,
//! killed when it does not answer.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::WorkerCommand;
use profpipe_engine::overhead::{Overhead, Stage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use super::lanes::Yield;
use super::protocol::{Channel, Limits, Request, Response};

/// How long it takes until a worker that is held has stopped and the kernel says what it took.
const HOLDING: Duration = Duration::from_micros(100);

/// The lowest priority.
const LAST: i32 = 19;

/// A running worker.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    channel: Channel,
    /// The parts of the sandbox that this host does not allow.
    pub(super) missing: Vec<String>,
    overhead: Arc<Overhead>,
    /// Who goes first between two pieces of its work.
    pub(super) yields: Option<Yield>,
}

impl Child {
    /// Starts a worker and waits until it is in its sandbox.
    ///
    /// # Errors
    /// If the program cannot be started or does not say that it is ready.
    pub(super) fn start(
        command: &WorkerCommand,
        limits: Limits,
        overhead: &Arc<Overhead>,
    ) -> io::Result<Self> {
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
        overhead.worker_began(process.id());
        if overhead.is_governed() {
            // Where the CPUs are busy it must not run while who would hold it waits for one. It is
            // as good without.
            let _ = setpriority_process(Pid::from_raw(process.id().cast_signed()), LAST);
        }
        let overhead = Arc::clone(overhead);
        let channel = Channel::new(ours.into())?;
        let mut child = Self { process, channel, missing: Vec::new(), overhead, yields: None };
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
        let deadline = self.let_work(deadline);
        self.channel.receive(Some(deadline)).map(|(response, _)| response)
    }

    /// Tells the ledger what the worker has taken since the last time.
    fn spend(&self) {
        self.overhead.spend_worker(self.process.id());
    }

    /// Where there is a budget: lets the worker work as much as its turn allows, and holds it in
    /// between, until it has an answer. Returns the deadline, later by as long as it was held.
    fn let_work(&self, mut deadline: Instant) -> Instant {
        let Some(process) = Pid::from_raw(self.process.id().cast_signed()) else { return deadline };
        if !self.overhead.is_governed() {
            return deadline;
        }
        loop {
            let piece = i64::from(self.overhead.piece().subsec_nanos());
            let time = Timespec { tv_sec: 0, tv_nsec: piece };
            let ready = poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], Some(&time));
            // An answer, an end or an error: whoever reads the channel finds out.
            if !matches!(ready, Ok(0)) || Instant::now() >= deadline {
                self.spend();
                return deadline;
            }
            let began = Instant::now();
            // Of a thread that runs the kernel reports only what it had taken at the last tick. One
            // that has ended is not held; the next look at the channel shows that.
            let _ = kill_process(process, Signal::STOP);
            std::thread::sleep(HOLDING);
            self.spend();
            if let Some(first) = &self.yields {
                first.wait();
            }
            self.overhead.pause(Stage::Symbolize);
            let _ = kill_process(process, Signal::CONT);
            deadline += began.elapsed();
        }
    }

    /// True if the worker has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.overhead.worker_ends(self.process.id());
        // An error means that it has ended already.
        let _ = self.process.kill();
        let deadline = Instant::now() + Duration::from_secs(2);
        // A process in a page fault on a dead network file system ends late or never: leave it.
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
