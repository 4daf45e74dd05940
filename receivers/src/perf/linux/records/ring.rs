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
use std::sync::Arc;
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
    memory: Arc<Memory>,
    head: u64,
    tail: u64,
}

/// The memory that is shared with the kernel.
#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    page: usize,
    size: usize,
}

// SAFETY: the mapping belongs to this value alone and is usable from any thread; what several
// threads read and write at the same time is atomic, or is checked after it was copied.
unsafe impl Send for Memory {}
// SAFETY: see above.
unsafe impl Sync for Memory {}

impl Memory {
    /// How far the kernel has written.
    fn head(&self) -> u64 {
        // SAFETY: the first page is a perf_event_mmap_page for as long as the mapping lives, and
        // the field is aligned; the kernel writes it concurrently, hence the atomic.
        let head = unsafe {
            let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
            AtomicU64::from_ptr(&raw mut (*page).data_head)
        };
        head.load(Ordering::Acquire)
    }

    /// What was given back to the kernel.
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: as in `head`; only the ring writes this field, which its followers read.
        unsafe {
            let page = self.base.as_ptr().cast::<perf_event_mmap_page>();
            AtomicU64::from_ptr(&raw mut (*page).data_tail)
        }
    }

    /// Copies what lies at a place of the ring, which the kernel may be writing over.
    fn copy(&self, from: u64, into: &mut [u8]) {
        let at = (from & (self.size as u64 - 1)) as usize;
        let length = into.len().min(self.size);
        let first = length.min(self.size - at);
        // SAFETY: both parts lie in the data, which follows the first page and is `size` bytes long,
        // and in `into`. The bytes may change meanwhile: the caller finds that out and drops them.
        unsafe {
            let data = self.base.as_ptr().add(self.page);
            std::ptr::copy_nonoverlapping(data.add(at), into.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(data, into.as_mut_ptr().add(first), length - first);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.size) };
    }
}

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
        Ok(Self { memory: Arc::new(Memory { base, page, size }), head: 0, tail: 0 })
    }

    /// Takes note of what the kernel has written.
    pub(crate) fn refresh(&mut self) {
        self.head = self.memory.head();
    }

    /// Which part of it is written and not given back, of 1.
    pub(crate) fn filled(&self) -> f64 {
        self.head.wrapping_sub(self.tail) as f64 / self.memory.size as f64
    }

    /// Gives the records skipped so far back to the kernel.
    pub(crate) fn release(&self) {
        self.memory.tail().store(self.tail, Ordering::Release);
    }

    /// One who reads the same records without giving anything back, from the next one on.
    pub(crate) fn follower(&self) -> Follower {
        let memory = Arc::clone(&self.memory);
        Follower { at: memory.head(), memory }
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
        let size = self.memory.size;
        let length = self.head.wrapping_sub(self.tail).min(size as u64) as usize;
        let at = (self.tail & (size as u64 - 1)) as usize;
        let first = length.min(size - at);
        // SAFETY: the data follows the first page and is `size` bytes long, so both parts lie in
        // it; the kernel does not write between tail and head.
        unsafe {
            let data = self.memory.base.as_ptr().add(self.memory.page);
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

/// The bytes at the start of a record that tell whether it is wanted.
pub(crate) const PEEKED: usize = 64;

/// Reads the records of a ring as they come, beside the one who owns it and may be ahead.
#[derive(Debug)]
pub(crate) struct Follower {
    memory: Arc<Memory>,
    at: u64,
}

impl Follower {
    /// Copies the next record that is `wanted`, by its first bytes, into `record`; false if there is
    /// none.
    pub(crate) fn next(
        &mut self,
        record: &mut Vec<u8>,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        loop {
            let head = self.memory.head();
            self.catch_up(head);
            let written = head.wrapping_sub(self.at);
            let mut start = [0; PEEKED];
            if written < 8 {
                return false;
            }
            let start = start.split_at_mut(PEEKED.min(written as usize)).0;
            self.memory.copy(self.at, start);
            let length = match start.get(6..8) {
                Some([low, high]) => u64::from(u16::from_le_bytes([*low, *high])),
                _ => 0,
            };
            if length < 8 || length > written {
                // Written over, and the owner is ahead; or not a record.
                if !self.catch_up(head) {
                    self.at = head;
                }
                continue;
            }
            let from = self.at;
            self.at = from.wrapping_add(length);
            let start = start.get(..length as usize).unwrap_or(start);
            if !wanted(start) {
                continue;
            }
            record.resize(length as usize, 0);
            self.memory.copy(from, record);
            // What the owner has given back meanwhile may have been written over.
            let tail = self.memory.tail().load(Ordering::Acquire);
            if tail.wrapping_sub(from).cast_signed() > 0 {
                continue;
            }
            return true;
        }
    }

    /// Goes on where the owner is, if that is further.
    fn catch_up(&mut self, head: u64) -> bool {
        let tail = self.memory.tail().load(Ordering::Acquire);
        let is_behind = head.wrapping_sub(self.at) > head.wrapping_sub(tail);
        if is_behind {
            self.at = tail;
        }
        is_behind
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
