//! Asks a worker what binaries say of their own making. It is a worker of its own: it lives for a
//! few questions and is ended after them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::WorkerCommand;
use profpipe_engine::overhead::Overhead;

use super::child::Child;
use super::protocol::{Build, Limits, Request, Response};

/// What the worker may use: the largest browsers must fit into the address space.
const LIMITS: Limits =
    Limits { address_space: 4 << 30, memory: 64 << 20, cpu_seconds: 5, is_paced: false };
/// How long one file may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where binaries are described.
#[derive(Debug)]
pub(crate) struct Describer {
    command: WorkerCommand,
    child: Option<Child>,
    overhead: Arc<Overhead>,
}

impl Describer {
    /// With a worker that is started in this way, when there is something to ask.
    pub(crate) fn new(command: WorkerCommand, overhead: Arc<Overhead>) -> Self {
        Self { command, child: None, overhead }
    }

    /// What a file says of its own making; nothing if it is not a binary, or one that kills whoever
    /// reads it.
    pub(crate) fn describe(&mut self, file: BorrowedFd<'_>) -> Option<Build> {
        if self.child.as_mut().is_none_or(Child::has_ended) {
            self.child = Child::start(&self.command, LIMITS, &self.overhead).ok();
        }
        let child = self.child.as_ref()?;
        match child.ask(&Request::Describe, &[file], Instant::now() + TIMEOUT) {
            Ok(Response::Described(build)) => build,
            Ok(_) | Err(_) => {
                self.rest();
                None
            }
        }
    }

    /// Ends the worker until there is a question again.
    pub(crate) fn rest(&mut self) {
        self.child = None;
    }
}
