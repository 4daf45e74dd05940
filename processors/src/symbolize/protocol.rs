//! What the processor and its worker say to each other over a socket pair: a length, then a
//! message in postcard; open files travel beside the length.
//!
//! Neither side trusts the other to be well. Frames are bounded both ways, every wait has a
//! deadline, and an answer is checked before use. The worker reads hostile files and may be taken
//! over by one, so to the parent its answers are untrusted data: at worst wrong names.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A dead peer is an error, not a signal.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
/// Files received stay in this process.
#[cfg(not(target_vendor = "apple"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// The largest frame either side accepts.
const MAX_FRAME: usize = 32 << 20;
/// The most descriptors in one frame.
const MAX_DESCRIPTORS: usize = 2;
/// The most addresses in one request.
pub(super) const MAX_ADDRESSES: usize = 2048;
/// The most addresses in one [`Request::Sweep`].
pub(super) const MAX_SWEEP: u64 = 1 << 20;
/// The longest name or path that the worker sends; what is longer is cut.
pub(super) const MAX_NAME: usize = 4096;
/// The most frames of one address, inlined ones included.
pub(super) const MAX_FRAMES: usize = 256;

/// What the processor asks. A module has a number that the processor chose.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// First of all: go into the sandbox with these limits. Answered by [`Response::Ready`].
    Start(Limits),
    /// Load a module; a file comes as descriptor. Answered by [`Response::Opened`] or
    /// [`Response::Refused`].
    Open {
        /// The module's number.
        module: u32,
        /// What it is.
        content: Kind,
    },
    /// Use another file for the module's names, if it is the right one; the file comes as
    /// descriptor. Answered as `Open`.
    Companion {
        /// The module's number.
        module: u32,
        /// What the file should be.
        role: Role,
    },
    /// Name these addresses, which ascend. Answered by [`Response::Resolved`] for the first of
    /// them, at least one, or [`Response::Unknown`] if the module is not loaded any more.
    Resolve {
        /// The module's number.
        module: u32,
        /// The addresses, at most [`MAX_ADDRESSES`].
        addresses: Vec<u64>,
        /// By symbol tables only, which are read quickly however large debug information is.
        only_symbols: bool,
    },
    /// Name all addresses from one to another. Answered by [`Response::Resolved`] for the first of
    /// them, range by range: each answer holds for `after` addresses from the end of the one before.
    /// [`Response::Unknown`] if the module is not loaded any more.
    Sweep {
        /// The module's number.
        module: u32,
        /// The first address.
        from: u64,
        /// The address after the last, at most [`MAX_SWEEP`] further.
        to: u64,
    },
    /// Say of a file, which comes as descriptor, how it was made. Answered by
    /// [`Response::Described`].
    Describe,
}

/// What the worker may use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Bytes of address space, mapped files included.
    pub(super) address_space: u64,
    /// Bytes of memory that is not a mapped file.
    pub(super) memory: u64,
    /// Seconds of CPU time for one request.
    pub(super) cpu_seconds: u64,
    /// It is held again and again to keep within a budget: what it has read it keeps for longer.
    pub(super) is_paced: bool,
}

/// What a module is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    /// An ELF file.
    Elf,
    /// An ELF image.
    Image(Vec<u8>),
    /// A `perf-PID.map` file.
    PerfMap,
}

/// What a companion file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// The debug information that was split from the module.
    Debug,
    /// What the debug information of several modules has in common (`dwz`).
    Supplementary,
    /// The debug information that compilers left in files of their own, in one (`.dwp`).
    Package,
    /// One of those files (`.dwo`).
    Split,
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// The sandbox is up, but for these parts that this host did not allow.
    Ready(Vec<String>),
    /// The module is loaded.
    Opened(Facts),
    /// The file is not used.
    Refused(Refusal),
    /// The module is not loaded.
    Unknown,
    /// Names.
    Resolved(Names),
    /// How a file was made; nothing if it is not an ELF file.
    Described(Option<Build>),
}

/// What a binary says of its own making.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// The compilers and linkers that had a part in it, as they call themselves.
    pub(crate) compilers: Vec<String>,
    /// The version of Go it was built with.
    pub(crate) go: Option<String>,
    /// The name and version of the C library that it is or holds; the version may be empty.
    pub(crate) libc: Option<(String, String)>,
}

/// What a module turned out to be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Its GNU build id.
    pub(super) build_id: Vec<u8>,
    /// The name of its separate debug file, if it states one.
    pub(super) debug_link: Option<String>,
    /// The path and build id of the file it shares debug information with.
    pub(super) supplementary: Option<(String, Vec<u8>)>,
    /// It has debug information itself.
    pub(super) has_debug_info: bool,
    /// The bytes of debug information that must be read before the first answer.
    pub(super) debug_info_bytes: u64,
    /// The bytes that its compressed debug information takes once it is inflated, which is in memory.
    pub(super) inflated_bytes: u64,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// It is not what it should be: no ELF, or another build id or checksum.
    Mismatch,
    /// Reading it would take more memory than allowed.
    Limit,
}

/// Names for the first `answers.len()` addresses of a request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// The functions that the frames are in.
    pub(super) functions: Vec<WireFunction>,
    /// The frames of all answers end to end.
    pub(super) frames: Vec<WireFrame>,
    /// For each address, in the order of the request.
    pub(super) answers: Vec<WireAnswer>,
    /// The worker has used up its memory and ends after this answer.
    pub(super) last: bool,
    /// Paths of files that would tell more.
    pub(super) wanted: Vec<String>,
}

/// The answer for an address.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WireAnswer {
    /// The number of frames, innermost first; 0 where there is no name.
    pub(super) frames: u32,
    /// The same holds for so many addresses before it.
    pub(super) before: u64,
    /// And for so many from it on, itself included.
    pub(super) after: u64,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct WireFunction {
    /// For people.
    pub(super) name: String,
    /// As the binary has it; empty if that is the same.
    pub(super) system_name: String,
    /// The source file, empty if unknown.
    pub(super) file: String,
    /// The line where it starts, 0 if unknown.
    pub(super) start_line: u32,
    /// What kind of code it is.
    pub(super) language: Language,
}

/// What kind of code a function is, as far as its name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) enum Language {
    /// Unknown, or one without a frame type of its own.
    #[default]
    Native,
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// Python, through trampolines of CPython.
    Python,
    /// JavaScript, compiled by V8.
    V8,
}

/// A frame.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WireFrame {
    /// Its function, a position in [`Names::functions`].
    pub(super) function: u32,
    /// The line, 0 if unknown.
    pub(super) line: u32,
    /// The column, 0 if unknown.
    pub(super) column: u32,
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// An end over this socket, which becomes non-blocking.
    ///
    /// # Errors
    /// If it is not a socket of ours.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket })
    }

    /// Sends a message with open files.
    ///
    /// # Errors
    /// If the other end is gone or does not read in time.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if body.len() > MAX_FRAME {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let length = (body.len() as u32).to_le_bytes();
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&length)], &mut control, NO_SIGNAL) {
                Ok(sent) if sent == length.len() => break,
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) => self.wait_for(error, PollFlags::OUT, deadline)?,
            }
        }
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, NO_SIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) => self.wait_for(error, PollFlags::OUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Receives a message with open files.
    ///
    /// # Errors
    /// If the other end is gone, sends nothing in time, or something that is not a message.
    pub(super) fn receive<T: DeserializeOwned>(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut files = Vec::new();
        let mut length = [0_u8; 4];
        let mut filled = 0;
        while filled < length.len() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let target = length.get_mut(filled..).unwrap_or_default();
            match recvmsg(&self.socket, &mut [IoSliceMut::new(target)], &mut control, CLOSE_ON_EXEC)
            {
                Ok(message) if message.bytes == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(message) => {
                    filled += message.bytes;
                    for part in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(rights) = part {
                            files.extend(rights);
                        }
                    }
                }
                Err(error) => self.wait_for(error, PollFlags::IN, deadline)?,
            }
        }
        let size = u32::from_le_bytes(length) as usize;
        if size > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = Vec::new();
        while body.len() < size {
            // Grow with what has really arrived, not with what the length promises.
            let start = body.len();
            body.resize(size.min(start + (256 << 10)), 0);
            let target = body.get_mut(start..).unwrap_or_default();
            let got = match rustix::net::recv(&self.socket, target, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, got)) => got,
                Err(error) => {
                    self.wait_for(error, PollFlags::IN, deadline)?;
                    0
                }
            };
            body.truncate(start + got);
        }
        let message = postcard::from_bytes(&body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((message, files))
    }

    /// Waits for a message; false if there is none after this time.
    pub(super) fn has_message(&self, within: Duration) -> bool {
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: within.subsec_nanos().into(),
        };
        let socket = PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN);
        // An error shows when the message is read.
        !matches!(poll(&mut [socket], Some(&within)), Ok(0))
    }

    /// Waits until the socket is ready again after `error`, or passes a real error on.
    fn wait_for(
        &self,
        error: rustix::io::Errno,
        event: PollFlags,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        match error {
            rustix::io::Errno::INTR => return Ok(()),
            rustix::io::Errno::AGAIN => {}
            error => return Err(error.into()),
        }
        let left = match deadline {
            None => None,
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                None | Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
                Some(left) => Some(Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }),
            },
        };
        match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), event)], left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
