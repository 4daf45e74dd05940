//! What a thread waits for, by the system call that it is in.
//!
//! Arguments are looked at as far as they tell one kind from another; what a descriptor stands for is not:
//! that would cost a look of its own, and tell of names that are nobody's business.

use std::ffi::c_long;

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// A mutex, or the lock of a file.
    Lock,
    /// Another thread, by a futex that may be a lock or a condition.
    Futex,
    /// One of several descriptors.
    Poll,
    /// Time.
    Sleep,
    /// Data.
    Read,
    /// Room for data.
    Write,
    /// Data on a disk.
    Sync,
    /// A peer.
    Connect,
    /// A client.
    Accept,
    /// Another process.
    Process,
    /// A signal.
    Signal,
    /// A page of memory, or to be let go on; it is in no system call.
    Fault,
    /// Something else.
    Other,
}

impl Wait {
    /// As an attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Futex => "futex",
            Self::Poll => "poll",
            Self::Sleep => "sleep",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Process => "process",
            Self::Signal => "signal",
            Self::Fault => "fault",
            Self::Other => "other",
        }
    }

    /// That of a system call with its second argument; none: of no system call.
    pub(crate) fn of(call: Option<c_long>, second: u64) -> Self {
        let Some(call) = call else { return Self::Fault };
        if let Some(wait) = of_this_processor(call) {
            return wait;
        }
        match call {
            libc::SYS_futex => of_futex(second),
            libc::SYS_futex_waitv => Self::Futex,
            libc::SYS_ppoll | libc::SYS_pselect6 | libc::SYS_epoll_pwait => Self::Poll,
            libc::SYS_epoll_pwait2 | libc::SYS_io_getevents => Self::Poll,
            libc::SYS_io_uring_enter => Self::Poll,
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Self::Sleep,
            libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv => Self::Read,
            libc::SYS_preadv2 | libc::SYS_recvfrom | libc::SYS_recvmsg => Self::Read,
            libc::SYS_recvmmsg | libc::SYS_getdents64 | libc::SYS_getrandom => Self::Read,
            libc::SYS_mq_timedreceive | libc::SYS_msgrcv => Self::Read,
            libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => Self::Write,
            libc::SYS_pwritev | libc::SYS_pwritev2 | libc::SYS_sendto => Self::Write,
            libc::SYS_sendmsg | libc::SYS_sendmmsg | libc::SYS_sendfile => Self::Write,
            libc::SYS_splice | libc::SYS_copy_file_range | libc::SYS_vmsplice => Self::Write,
            libc::SYS_mq_timedsend | libc::SYS_msgsnd => Self::Write,
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync | libc::SYS_syncfs => Self::Sync,
            libc::SYS_sync_file_range | libc::SYS_msync => Self::Sync,
            libc::SYS_connect => Self::Connect,
            libc::SYS_accept | libc::SYS_accept4 => Self::Accept,
            libc::SYS_wait4 | libc::SYS_waitid => Self::Process,
            libc::SYS_rt_sigsuspend | libc::SYS_rt_sigtimedwait => Self::Signal,
            libc::SYS_flock | libc::SYS_fcntl | libc::SYS_semtimedop | libc::SYS_semop => {
                Self::Lock
            }
            _ => Self::Other,
        }
    }
}

/// Which of the uses of a futex: mutexes wait for a word to change, conditions of the C library and all
/// that other languages build wait with a mask, and cannot be told apart.
fn of_futex(operation: u64) -> Wait {
    const COMMAND: u64 = 0x7f;
    const WAIT: u64 = 0;
    const LOCK_PI: u64 = 6;
    const LOCK_PI2: u64 = 13;
    match operation & COMMAND {
        WAIT | LOCK_PI | LOCK_PI2 => Wait::Lock,
        _ => Wait::Futex,
    }
}

/// System calls that newer processors do without.
#[cfg(target_arch = "x86_64")]
fn of_this_processor(call: c_long) -> Option<Wait> {
    match call {
        libc::SYS_poll | libc::SYS_select | libc::SYS_epoll_wait => Some(Wait::Poll),
        libc::SYS_pause => Some(Wait::Signal),
        libc::SYS_getdents => Some(Wait::Read),
        libc::SYS_vfork => Some(Wait::Process),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn of_this_processor(_: c_long) -> Option<Wait> {
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: the calls in which threads wait, with the operations that C libraries use.
    /// Guarantees: a mutex is told from a condition; no call and an unknown one are what they are.
    #[test]
    fn tells_what_is_waited_for() {
        let of = |call: c_long, second| Wait::of(Some(call), second);
        // glibc: a mutex, then a condition.
        assert_eq!(of(libc::SYS_futex, 0x80), Wait::Lock);
        assert_eq!(of(libc::SYS_futex, 0x189), Wait::Futex);
        assert_eq!(of(libc::SYS_clock_nanosleep, 0), Wait::Sleep);
        assert_eq!(of(libc::SYS_read, 0), Wait::Read);
        assert_eq!(of(libc::SYS_accept4, 0), Wait::Accept);
        assert_eq!(of(999_999, 0), Wait::Other);
        assert_eq!(Wait::of(Some(c_long::MIN), 0), Wait::Other);
        assert_eq!(Wait::of(None, 0), Wait::Fault);
    }
}
