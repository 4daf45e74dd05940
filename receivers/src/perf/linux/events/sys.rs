//! System calls that no safe crate offers: perf events.
#![allow(unsafe_code, reason = "perf_event_open and its ioctls have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as sys;

/// The attributes of an event, as the kernel defines them.
pub(crate) type Attr = sys::bindings::perf_event_attr;

/// Opens an event on process `pid` (-1: all) and CPU `cpu`.
pub(crate) fn open_event(attr: &Attr, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
    open(attr, pid, cpu, sys::bindings::PERF_FLAG_FD_CLOEXEC)
}

/// Opens an event on what is in a control group, of which this is the directory, and CPU `cpu`.
pub(crate) fn open_cgroup_event(
    attr: &Attr,
    group: BorrowedFd<'_>,
    cpu: i32,
) -> io::Result<OwnedFd> {
    let flags = sys::bindings::PERF_FLAG_FD_CLOEXEC | sys::bindings::PERF_FLAG_PID_CGROUP;
    open(attr, group.as_raw_fd(), cpu, flags)
}

fn open(attr: &Attr, pid: i32, cpu: i32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = *attr;
    attr.size = size_of::<Attr>() as u32;
    let flags = u64::from(flags);
    // SAFETY: the struct is initialized and of the size it states; the kernel checks the rest.
    let fd = unsafe { sys::perf_event_open(&raw mut attr, pid, cpu, -1, flags as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned this descriptor, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts counting.
pub(crate) fn enable(event: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes no pointer.
    done(unsafe { sys::ioctls::ENABLE(event.as_raw_fd(), 0) })
}

/// Stops counting.
pub(crate) fn disable(event: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes no pointer.
    done(unsafe { sys::ioctls::DISABLE(event.as_raw_fd(), 0) })
}

/// Lets an event take so many samples more, and starts it; after the last the kernel stops it.
pub(crate) fn refresh(event: BorrowedFd<'_>, samples: u32) -> io::Result<()> {
    // None means without limit, once it is used up.
    let samples = samples.clamp(1, 1 << 24).cast_signed();
    // SAFETY: this request takes a number.
    done(unsafe { sys::ioctls::REFRESH(event.as_raw_fd(), samples) })
}

/// Sets the period of an event, or its frequency if it was opened with one.
pub(crate) fn set_period(event: BorrowedFd<'_>, mut period: u64) -> io::Result<()> {
    // The bindings take a number where the kernel wants its address.
    let address = (&raw mut period).addr() as u64;
    // SAFETY: the request reads a number of 64 bits, which outlives the call.
    done(unsafe { sys::ioctls::PERIOD(event.as_raw_fd(), address) })
}

/// The number of an event, which its records have.
pub(crate) fn number(event: BorrowedFd<'_>) -> io::Result<u64> {
    let mut number = 0;
    // SAFETY: the request writes a number of 64 bits, which outlives the call.
    done(unsafe { sys::ioctls::ID(event.as_raw_fd(), &raw mut number) })?;
    Ok(number)
}

/// Which events of a tracepoint are meant.
pub(crate) fn set_filter(event: BorrowedFd<'_>, filter: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the request reads a text that ends with a zero, which outlives the call.
    done(unsafe { sys::ioctls::SET_FILTER(event.as_raw_fd(), filter.as_ptr().cast_mut().cast()) })
}

/// How often an event has happened since it was opened; where it had to take turns with others, about.
pub(crate) fn count(event: BorrowedFd<'_>) -> Option<u64> {
    let mut bytes = [0; 24];
    let read = rustix::io::read(event, &mut bytes).ok()?;
    let values = bytes.get(..read)?.as_chunks::<8>().0;
    let mut values = values.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let count = values.next()?;
    // Two more are for how long it was there and counted; one more, how many samples were lost.
    match (values.next(), values.next()) {
        (Some(there), Some(counted)) if counted > 0 && counted < there => {
            u64::try_from(u128::from(count) * u128::from(there) / u128::from(counted)).ok()
        }
        _ => Some(count),
    }
}

/// Sends the records of `event` into the ring of `target`.
pub(crate) fn set_output(event: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes a descriptor, not a pointer.
    done(unsafe { sys::ioctls::SET_OUTPUT(event.as_raw_fd(), target.as_raw_fd()) })
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the soft limit of open files to the hard one: every image and thread event is a file.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum.map(|most| most.min(1 << 17)), ..limit };
    if limit.current.is_some_and(|now| raised.current.is_none_or(|most| now < most)) {
        // Not fatal: fewer files are kept open.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}
