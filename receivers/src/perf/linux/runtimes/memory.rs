//! The memory of another process, read while it runs.
#![allow(unsafe_code, reason = "process_vm_readv has no safe wrapper")]

pub(crate) use crate::perf::linux::processes::process_context::Memory;

/// The most pieces that are read in one call.
pub(crate) const MAX_PIECES: usize = 64;

/// The memory of a process that the kernel lets this one read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMemory {
    pid: u32,
}

impl ProcessMemory {
    /// That of the process that has this id now.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Reads from an address up, as much as is there; returns how many bytes that is. At most as much as
    /// 63 pages hold.
    pub(crate) fn read_up(self, address: u64, into: &mut [u8]) -> usize {
        let page = rustix::param::page_size() as u64;
        // By pages: what is not there ends the reading and does not spoil it.
        let mut pieces = [EMPTY; MAX_PIECES];
        let (mut at, mut left) = (address, into.len() as u64);
        let mut count = 0;
        for free in &mut pieces {
            let length = (page - at % page).min(left);
            let Some(next) = at.checked_add(length).filter(|_| length > 0) else { break };
            *free = piece(at, length as usize);
            (at, left) = (next, left - length);
            count += 1;
        }
        self.read_vectors(pieces.get(..count).unwrap_or_default(), into)
    }

    /// Reads pieces, one behind the other, up to the first of which something is missing.
    fn read_vectors(self, pieces: &[libc::iovec], into: &mut [u8]) -> usize {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        // SAFETY: `local` is `into`, which outlives the call; the kernel reads the addresses of `pieces` in
        // the other process and checks them there.
        let read = unsafe {
            libc::process_vm_readv(
                self.pid.cast_signed(),
                &raw const local,
                1,
                pieces.as_ptr(),
                pieces.len() as libc::c_ulong,
                0,
            )
        };
        usize::try_from(read).unwrap_or(0).min(into.len())
    }
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// A piece of the other process: nothing here follows its address.
fn piece(address: u64, length: usize) -> libc::iovec {
    libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: length }
}

impl Memory for ProcessMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        let length = into.len();
        self.read_pieces(&[address], length, into) == 1
    }

    fn read_pieces(&mut self, addresses: &[u64], length: usize, into: &mut [u8]) -> usize {
        if length == 0 {
            return 0;
        }
        let room = into.len() / length;
        let addresses = addresses.get(..addresses.len().min(room).min(MAX_PIECES));
        let Some(addresses) = addresses.filter(|it| !it.is_empty()) else { return 0 };
        let mut pieces = [EMPTY; MAX_PIECES];
        for (free, address) in pieces.iter_mut().zip(addresses) {
            *free = piece(*address, length);
        }
        let pieces = pieces.get(..addresses.len()).unwrap_or_default();
        let Some(into) = into.get_mut(..length * pieces.len()) else { return 0 };
        self.read_vectors(pieces, into) / length
    }
}

/// The number of 8 bytes at a place in bytes; 0 beyond their end.
pub(crate) fn word(bytes: &[u8], at: u32) -> u64 {
    let bytes = bytes.get(at as usize..).and_then(<[u8]>::first_chunk::<8>);
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The number of 4 bytes at a place in bytes; 0 beyond their end.
pub(crate) fn half(bytes: &[u8], at: u32) -> u32 {
    let bytes = bytes.get(at as usize..).and_then(<[u8]>::first_chunk::<4>);
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// The word at an address.
pub(crate) fn read_word(memory: &mut dyn Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(address, &mut bytes).then(|| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: own memory is read, over the end of a mapping, where nothing is, and at the end of all
    /// addresses.
    /// Guarantees: what is there is read up to the end, and nothing else.
    #[test]
    fn reads_what_is_there() {
        let page = rustix::param::page_size();
        // SAFETY: a new mapping of two pages, of which the second is made unreadable.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), 2 * page, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            std::ptr::write_bytes(start.cast::<u8>(), 7, page);
            assert_eq!(libc::munmap(start.byte_add(page), page), 0);
            start.addr() as u64
        };
        let mut buffer = vec![0; 2 * page];
        let memory = ProcessMemory::of(std::process::id());
        let read = memory.read_up(start + page as u64 - 100, &mut buffer);
        // Where processes may not be read at all, nothing is.
        assert!([0, 100].contains(&read), "{read}");
        assert!(buffer.iter().take(read).all(|byte| *byte == 7));
        for nowhere in [0, 8, u64::MAX, u64::MAX - 4096] {
            assert_eq!(memory.read_up(nowhere, &mut buffer), 0);
        }
    }
}
