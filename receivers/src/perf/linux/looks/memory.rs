//! Memory of other processes.
#![allow(unsafe_code, reason = "process_vm_readv has no safe wrapper")]

use libc::iovec;

/// The most pages of one reading.
const MAX_PIECES: usize = 33;

/// Reads memory of a process from an address up into a buffer, as much as is there; returns how many
/// bytes that is.
pub(crate) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let page = rustix::param::page_size() as u64;
    // By pages: what is not there ends the reading and does not spoil it.
    let mut pieces = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
    let mut at = address;
    let mut left = buffer.len() as u64;
    let mut count = 0;
    for piece in &mut pieces {
        let length = (page - at % page).min(left);
        if length == 0 {
            break;
        }
        *piece = iovec {
            iov_base: std::ptr::without_provenance_mut(at as usize),
            iov_len: length as usize,
        };
        let Some(next) = at.checked_add(length) else { break };
        at = next;
        left -= length;
        count += 1;
    }
    let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the local vector is the buffer, which outlives the call; the remote ones are addresses of
    // another process, which the kernel checks.
    let read = unsafe {
        libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, pieces.as_ptr(), count, 0)
    };
    usize::try_from(read).unwrap_or(0).min(buffer.len())
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
        let own = std::process::id();
        let mut buffer = vec![0; 2 * page];
        let read = read(own, start + page as u64 - 100, &mut buffer);
        // Where processes may not be read at all, nothing is.
        assert!([0, 100].contains(&read), "{read}");
        assert!(buffer.iter().take(read).all(|byte| *byte == 7));
        for nowhere in [0, 8, u64::MAX, u64::MAX - 4096] {
            assert_eq!(super::read(own, nowhere, &mut buffer), 0);
        }
    }
}
