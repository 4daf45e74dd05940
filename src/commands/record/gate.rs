//! Starts a command that waits until somebody opens a gate.
//!
//! A profiler must be attached before the command's first instruction. So the new process tells its
//! id and then waits, between `fork` and `exec`, for a byte from a pipe. When the pipe closes
//! instead, because we gave up or died, it goes away without having run anything.

#![allow(unsafe_code, reason = "code between fork and exec can only be given with an unsafe call")]

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread::JoinHandle;

use rustix::io::Errno;

/// A command whose process exists but has not begun.
pub(super) struct Held {
    pid: u32,
    gate: io::PipeWriter,
    /// `spawn` returns when the command has begun, so it waits on a thread of its own.
    starting: JoinHandle<io::Result<Child>>,
}

impl Held {
    /// Creates the process. Handlers of signals must not be installed yet: the command is to
    /// inherit which signals are ignored.
    pub(super) fn start(
        program: &OsString,
        arguments: &[OsString],
        environment: Vec<(OsString, OsString)>,
    ) -> io::Result<Self> {
        let (gate_reader, gate) = io::pipe()?;
        let (mut id_reader, id_writer) = io::pipe()?;
        let gate_copy = gate.as_raw_fd();
        let mut command = Command::new(program);
        command.args(arguments).envs(environment);
        let wait = move || {
            // SAFETY: this runs in the new process, whose copy of the descriptor nobody uses;
            // with it open, the pipe would not close when the profiler dies.
            unsafe { rustix::io::close(gate_copy) };
            let id = rustix::process::getpid().as_raw_nonzero().get().to_ne_bytes();
            rustix::io::write(&id_writer, &id)?;
            let mut byte = [0];
            loop {
                match rustix::io::read(&gate_reader, &mut byte) {
                    Ok(1..) => return Ok(()),
                    Ok(0) => return Err(Errno::CANCELED.into()),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        // SAFETY: `wait` makes system calls only, on descriptors that it owns: no memory is
        // allocated and no lock is taken, as the rules for code after `fork` ask.
        unsafe { command.pre_exec(wait) };
        let starting = std::thread::Builder::new().name("start".into()).spawn(move || {
            let child = command.spawn();
            // Closes our copies of the pipes' ends, without which a failed fork would go unseen.
            drop(command);
            child
        })?;
        let mut id = [0; 4];
        match id_reader.read_exact(&mut id) {
            Ok(()) => Ok(Self { pid: u32::from_ne_bytes(id), gate, starting }),
            Err(error) => {
                drop(gate);
                match starting.join() {
                    Ok(Err(cause)) => Err(cause),
                    _ => Err(error),
                }
            }
        }
    }

    /// The process that will run the command.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the process without running the command.
    pub(super) fn give_up(self) {
        drop(self.gate);
        // It reports that it was cancelled, which is what we asked for.
        let _ = self.starting.join();
    }

    /// Lets the command begin; fails if it cannot be run.
    pub(super) fn release(mut self) -> io::Result<Child> {
        self.gate.write_all(&[1])?;
        self.starting.join().unwrap_or_else(|_| Err(io::Error::other("starting it panicked")))
    }
}
