//! Whom to profile: a command of ours, a process of others, or everybody.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;

use anyhow::Context;
use profpipe_receivers::perf::Scope;
use tokio::sync::oneshot;

use super::gate::Held;
use super::process::Process;
use super::tree::{self, Member};
use crate::cli;

/// Whom to profile.
pub(super) struct Target {
    pub(super) scope: Scope,
    /// The command that is waiting to be run.
    pub(super) command: Option<Waiting>,
    /// The process of others.
    pub(super) process: Option<Process>,
}

impl Target {
    /// Finds the process or prepares the command, with these variables in its environment besides.
    pub(super) fn find(
        arguments: &cli::Record,
        environment: Vec<(OsString, OsString)>,
    ) -> anyhow::Result<Self> {
        if let Some(pid) = arguments.pid {
            let process = Process::find(pid)?;
            return Ok(Self { scope: Scope::Pid(pid), command: None, process: Some(process) });
        }
        let command = match arguments.cmd.split_first() {
            Some((program, rest)) => Some(Waiting::prepare(program, rest, environment)?),
            None => None,
        };
        let scope = match &command {
            Some(command) if !arguments.all => Scope::Pid(command.held.pid()),
            _ => Scope::System,
        };
        Ok(Self { scope, command, process: None })
    }
}

/// A command that has not begun.
pub(super) struct Waiting {
    name: String,
    held: Held,
    process: Process,
    member: Member,
}

impl Waiting {
    fn prepare(
        program: &OsString,
        arguments: &[OsString],
        environment: Vec<(OsString, OsString)>,
    ) -> anyhow::Result<Self> {
        let name = program.to_string_lossy().into_owned();
        let held = Held::start(program, arguments, environment)
            .with_context(|| format!("cannot start {name}: no new process"))?;
        let process = Process::find(held.pid())?;
        let member = Member::find_or_unknown(held.pid());
        Ok(Self { name, held, process, member })
    }

    /// Ends the process before it runs anything.
    pub(super) fn give_up(self) {
        self.held.give_up();
    }

    /// Lets the command run.
    pub(super) fn release(self) -> Result<Running, CannotRun> {
        let mut child = match self.held.release() {
            Ok(child) => child,
            Err(cause) => return Err(CannotRun { name: self.name, cause }),
        };
        let (sender, exit) = oneshot::channel();
        // Waits as long as the command runs; nobody joins it.
        let waiter = std::thread::Builder::new().name("wait".into()).spawn(move || {
            let _ = sender.send(child.wait());
        });
        match waiter {
            Ok(_) => {
                let Self { name, process, member, .. } = self;
                Ok(Running { name, process, member, exit })
            }
            Err(cause) => Err(CannotRun { name: self.name, cause }),
        }
    }
}

/// The command cannot be run.
#[derive(Debug)]
pub(super) struct CannotRun {
    name: String,
    cause: io::Error,
}

impl CannotRun {
    /// The exit code that shells give for this.
    pub(super) fn exit_code(&self) -> u8 {
        if self.cause.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl std::fmt::Display for CannotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, cause } = self;
        match cause.kind() {
            io::ErrorKind::NotFound if name.contains('/') => {
                write!(f, "cannot run {name}: there is no such file, or its interpreter is missing")
            }
            io::ErrorKind::NotFound => {
                write!(
                    f,
                    "cannot run {name}: no such command in PATH; check the spelling or give its path"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "cannot run {name}: it is not an executable file that you may run")
            }
            _ => write!(f, "cannot run {name}: {cause}"),
        }
    }
}

/// A command that runs.
pub(super) struct Running {
    pub(super) name: String,
    process: Process,
    /// The same, as one of those that it has started.
    pub(super) member: Member,
    pub(super) exit: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Running {
    /// Passes a signal on.
    pub(super) fn signal(&self, number: i32) {
        self.process.signal(number);
    }

    /// Sends a signal to it and to what it has started.
    pub(super) fn signal_all(&self, number: i32) {
        // Before it may end: then its children belong to nobody.
        let others = tree::descendants(self.member.pid);
        self.signal(number);
        others.into_iter().for_each(|member| member.signal(number));
    }
}
