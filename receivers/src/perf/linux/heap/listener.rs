//! The socket at which programs hand over their rings.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{PidfdFlags, pidfd_open};

/// The most programs in a round.
const MAX_A_ROUND: usize = 256;

/// A socket with a path, which is removed at the end.
#[derive(Debug)]
pub(crate) struct HeapListener {
    socket: UnixListener,
    path: PathBuf,
}

/// What a program has handed over.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) pid: u32,
    /// None: it has ended meanwhile.
    pub(crate) process: Option<OwnedFd>,
    pub(crate) file: File,
}

impl HeapListener {
    /// Listens at a path. Who may enter its directory may be sampled.
    ///
    /// # Errors
    /// If there is something else, or somebody else listens there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(ErrorKind::AddrInUse, "somebody else listens there"));
            }
            fs::remove_file(path)?;
        }
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        // More programs may begin in a round than the usual 128.
        rustix::net::listen(&socket, 4096)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(Self { socket, path: path.into() })
    }

    /// The programs that have come since this was asked.
    pub(crate) fn accept(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for _ in 0..MAX_A_ROUND {
            // Whoever is not there, or says something else, is not served.
            let Ok((stream, _)) = self.socket.accept() else { break };
            arrivals.extend(receive(&stream));
        }
        arrivals
    }
}

impl Drop for HeapListener {
    fn drop(&mut self) {
        // What is left of it is removed by the next one who listens there.
        let _ = fs::remove_file(&self.path);
    }
}

/// Receives what a program hands over: it has done so before the connection is there.
fn receive(stream: &UnixStream) -> Option<Arrival> {
    stream.set_nonblocking(true).ok()?;
    let pid = sockopt::socket_peercred(stream).ok()?.pid.as_raw_nonzero().get();
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    let process = rustix::process::Pid::from_raw(pid)?;
    let process = pidfd_open(process, PidfdFlags::empty()).ok();
    Some(Arrival { pid: pid.cast_unsigned(), process, file: files.pop()?.into() })
}
