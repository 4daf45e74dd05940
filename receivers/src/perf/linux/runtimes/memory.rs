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
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut remote = [empty; MAX_PIECES];
        for (piece, address) in remote.iter_mut().zip(addresses) {
            // An address of the other process: nothing here follows it.
            piece.iov_base = std::ptr::without_provenance_mut(*address as usize);
            piece.iov_len = length;
        }
        let wanted = length * addresses.len();
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: wanted };
        // SAFETY: `local` is `wanted` bytes of `into`, which is at least as long; the kernel reads the
        // addresses in `remote` in the other process and checks them there.
        let read = unsafe {
            libc::process_vm_readv(
                self.pid.cast_signed(),
                &raw const local,
                1,
                remote.as_ptr(),
                addresses.len() as libc::c_ulong,
                0,
            )
        };
        usize::try_from(read).unwrap_or(0) / length
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
