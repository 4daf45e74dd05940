//! Signals as messages, with where they come from.
//!
//! The terminal sends Ctrl-C to the whole foreground group, the profiled command included; `kill`
//! sends to us alone. Only the second kind may be passed on, or the command would get it twice, so
//! the handler keeps whether the kernel itself was the sender.

#![allow(unsafe_code, reason = "the origin of a signal is only in what sigaction hands over")]

use std::io::{self, Read};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::sync::mpsc;

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) number: i32,
    /// True if it came from the terminal, which sends it to the command too.
    pub(super) from_terminal: bool,
}

/// What ends a program unless it is handled, and what programs define for themselves.
const HANDLED: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// Where the handler writes.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// From now on signals arrive here. Those that are ignored, as under `nohup`, stay ignored.
pub(super) fn listen() -> io::Result<mpsc::UnboundedReceiver<Arrived>> {
    let (mut reader, writer) = io::pipe()?;
    PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
    for signal in HANDLED {
        // SAFETY: both structures are plain data that live during the calls, and `note` is a
        // handler of the kind that SA_SIGINFO asks for.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            if before.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut message = [0; 2];
        while reader.read_exact(&mut message).is_ok() {
            let [number, from_terminal] = message;
            let arrived = Arrived { number: i32::from(number), from_terminal: from_terminal != 0 };
            if sender.send(arrived).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The handler: two bytes into the pipe, which is all that is safe to do here.
extern "C" fn note(signal: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the kernel hands over a valid structure for the time of the call.
    let code = unsafe { info.as_ref() }.map_or(0, |info| info.si_code);
    let message = [signal as u8, u8::from(code == SENT_BY_KERNEL)];
    // SAFETY: the descriptor is never closed.
    let pipe = unsafe { BorrowedFd::borrow_raw(PIPE.load(Ordering::SeqCst)) };
    let _ = rustix::io::write(pipe, &message);
}

/// `SI_KERNEL`: sent by the kernel, as the terminal's signals are.
#[cfg(target_os = "linux")]
const SENT_BY_KERNEL: i32 = 0x80;
/// Elsewhere the terminal's signals carry no mark of their own that we know.
#[cfg(not(target_os = "linux"))]
const SENT_BY_KERNEL: i32 = 0;
