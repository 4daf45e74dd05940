//! The ring buffer that the kernel writes records into: the memory both sides share.
//!
//! The kernel owns everything from `data_tail` to the end of free space and we own what lies
//! between `data_tail` and `data_head`; [`Ring::refresh`] takes what was written since,
//! [`Ring::release`] gives it back. A record is only ever handed out as a slice of the part we own,
//! so the kernel does not write under it. All other code sees plain slices.
#![allow(unsafe_code, reason = "shares memory with the kernel")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::perf_event_mmap_page;

/// Where records come from, oldest first. The ring of the kernel; in tests a vector.
pub(crate) trait Records {
    /// The next record, header included, or none. A record that wraps around the end of the
    /// buffer is put together in `scratch`.
    fn peek<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]>;
    /// Drops the record that [`Records::peek`] shows.
    fn skip(&mut self, length: usize);
}

/// The mapping of one event's ring.
#[derive(Debug)]
pub(crate) struct Ring {
    base: NonNull<u8>,
    page: usize,
    size: usize,
    head: u64,
    tail: u64,
}

// SAFETY: the mapping belongs to this value alone and is usable from any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of an event, `size` bytes (a power of two, at least a page).
    pub(crate) fn map(event: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        if !size.is_power_of_two() || size < page {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page + size,
                protection,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, page, size, head: 0, tail: 0 })
    }

    /// Takes note of what the kernel has written.
    pub(crate) fn refresh(&mut self) {
        // SAFETY: the first page is a perf_event_mmap_page for as long as the mapping lives, and
        // the field is aligned; the kernel writes it concurrently, hence the atomic.
        let head = unsafe {
            let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
            AtomicU64::from_ptr(&raw mut (*page).data_head)
        };
        self.head = head.load(Ordering::Acquire);
    }

    /// Gives the records skipped so far back to the kernel.
    pub(crate) fn release(&self) {
        // SAFETY: as in `refresh`; we are the only writer of this field.
        let tail = unsafe {
            let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
            AtomicU64::from_ptr(&raw mut (*page).data_tail)
        };
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives all that was written back to the kernel, unread; returns how many bytes that was.
    pub(crate) fn drop_all(&mut self) -> usize {
        self.refresh();
        let dropped = self.head.wrapping_sub(self.tail) as usize;
        self.tail = self.head;
        self.release();
        dropped
    }

    /// What the kernel has written and we have not given back, in two parts where it wraps.
    fn owned(&self) -> (&[u8], &[u8]) {
        let length = self.head.wrapping_sub(self.tail).min(self.size as u64) as usize;
        let at = (self.tail & (self.size as u64 - 1)) as usize;
        let first = length.min(self.size - at);
        // SAFETY: the data follows the first page and is `size` bytes long, so both parts lie in
        // it; the kernel does not write between tail and head.
        unsafe {
            let data = self.base.as_ptr().add(self.page);
            let wrapped = std::slice::from_raw_parts(data, length - first);
            (std::slice::from_raw_parts(data.add(at), first), wrapped)
        }
    }
}

impl Records for Ring {
    fn peek<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let (first, wrapped) = self.owned();
        next_record(first, wrapped, scratch)
    }

    fn skip(&mut self, length: usize) {
        self.tail = self.tail.wrapping_add(length as u64).min(self.head);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.size) };
    }
}

/// The record at the start of what `first` and `wrapped` hold together; none if that is empty. A
/// record that says it is shorter than its header or longer than what was written makes everything
/// one malformed record, which the caller skips.
pub(crate) fn next_record<'a>(
    first: &'a [u8],
    wrapped: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    let written = first.len() + wrapped.len();
    if written == 0 {
        return None;
    }
    let byte = |at: usize| first.get(at).or_else(|| wrapped.get(at.checked_sub(first.len())?));
    let stated = match (byte(6), byte(7)) {
        (Some(low), Some(high)) => usize::from(u16::from_le_bytes([*low, *high])),
        _ => 0,
    };
    let length = if stated < 8 || stated > written { written } else { stated };
    if let Some(whole) = first.get(..length) {
        return Some(whole);
    }
    scratch.clear();
    scratch.extend_from_slice(first);
    scratch.extend_from_slice(wrapped.get(..length - first.len())?);
    Some(scratch)
}
