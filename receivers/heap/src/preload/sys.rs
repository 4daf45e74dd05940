//! System calls, without a libc in between: they leave `errno` as it is.
#![allow(unsafe_code, reason = "calls the kernel")]

use core::arch::asm;

/// The numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CLOSE: usize = 3;
    pub(super) const MMAP: usize = 9;
    pub(super) const MUNMAP: usize = 11;
    pub(super) const MADVISE: usize = 28;
    pub(super) const SCHED_YIELD: usize = 24;
    pub(super) const GETPID: usize = 39;
    pub(super) const SOCKET: usize = 41;
    pub(super) const CONNECT: usize = 42;
    pub(super) const SENDMSG: usize = 46;
    pub(super) const KILL: usize = 62;
    pub(super) const FCNTL: usize = 72;
    pub(super) const FTRUNCATE: usize = 77;
    pub(super) const GETTID: usize = 186;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const PRLIMIT: usize = 302;
    pub(super) const PROCESS_VM_READV: usize = 310;
    pub(super) const MEMFD_CREATE: usize = 319;
}
/// The numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const FCNTL: usize = 25;
    pub(super) const FTRUNCATE: usize = 46;
    pub(super) const CLOSE: usize = 57;
    pub(super) const CLOCK_GETTIME: usize = 113;
    pub(super) const SCHED_YIELD: usize = 124;
    pub(super) const KILL: usize = 129;
    pub(super) const GETPID: usize = 172;
    pub(super) const GETTID: usize = 178;
    pub(super) const SOCKET: usize = 198;
    pub(super) const CONNECT: usize = 203;
    pub(super) const SENDMSG: usize = 211;
    pub(super) const MUNMAP: usize = 215;
    pub(super) const MMAP: usize = 222;
    pub(super) const MADVISE: usize = 233;
    pub(super) const PRLIMIT: usize = 261;
    pub(super) const PROCESS_VM_READV: usize = 270;
    pub(super) const MEMFD_CREATE: usize = 279;
}

/// Calls the kernel; a result below zero is an error.
///
/// # Safety
/// As the call says.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the convention of the kernel; what the call does is the caller's business.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    result
}

/// Calls the kernel; a result below zero is an error.
///
/// # Safety
/// As the call says.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the convention of the kernel; what the call does is the caller's business.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// A piece of memory, as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) length: usize,
}

#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    pieces: *const Piece,
    piece_count: usize,
    control: *const Rights,
    control_length: usize,
    flags: i32,
}

/// A control message with a descriptor.
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    descriptor: i32,
    room: i32,
}

/// The number of this process.
pub(super) fn process() -> u32 {
    // SAFETY: takes nothing.
    unsafe { call(number::GETPID, [0; 6]) as u32 }
}

/// The number of this thread.
pub(super) fn thread() -> u32 {
    // SAFETY: takes nothing.
    unsafe { call(number::GETTID, [0; 6]) as u32 }
}

/// Lets others run.
pub(super) fn let_others_run() {
    // SAFETY: takes nothing.
    unsafe { call(number::SCHED_YIELD, [0; 6]) };
}

/// Ends the process.
pub(super) fn abort() -> ! {
    const SIGABRT: usize = 6;
    loop {
        // SAFETY: takes no pointer.
        unsafe { call(number::KILL, [process() as usize, SIGABRT, 0, 0, 0, 0]) };
    }
}

/// The monotonic clock in nanoseconds.
pub(super) fn now() -> u64 {
    const MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes two words there.
    unsafe { call(number::CLOCK_GETTIME, [MONOTONIC, (&raw mut time).addr(), 0, 0, 0, 0]) };
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// Reads memory of this process that may not be there; returns how many bytes were.
pub(super) fn read(from: &[Piece], into: &[Piece]) -> usize {
    let own = process() as usize;
    let (local, remote) = (into.as_ptr().addr(), from.as_ptr().addr());
    let arguments = [own, local, into.len(), remote, from.len(), 0];
    // SAFETY: what is written to are pieces that the caller owns; what is read the kernel checks.
    let read = unsafe { call(number::PROCESS_VM_READV, arguments) };
    usize::try_from(read).unwrap_or(0)
}

/// Makes a memory file of a size that cannot change any more, and maps it; the descriptor and the address.
pub(super) fn shared_memory(name: &core::ffi::CStr, size: usize) -> Option<(usize, *mut u8)> {
    const CLOEXEC_AND_SEALING: usize = 1 | 2;
    const ADD_SEALS: usize = 1033;
    const SEAL_SHRINK_GROW: usize = 2 | 4;
    const READ_WRITE: usize = 1 | 2;
    const SHARED: usize = 1;
    const DONTFORK: usize = 10;
    if !may_write(size) {
        return None;
    }
    // SAFETY: the name ends with a zero; the other calls are about the new descriptor, and the mapping is a
    // new one.
    unsafe {
        let name = name.as_ptr().addr();
        let file = call(number::MEMFD_CREATE, [name, CLOEXEC_AND_SEALING, 0, 0, 0, 0]);
        let file = usize::try_from(file).ok()?;
        if call(number::FTRUNCATE, [file, size, 0, 0, 0, 0]) < 0
            || call(number::FCNTL, [file, ADD_SEALS, SEAL_SHRINK_GROW, 0, 0, 0]) < 0
        {
            close(file);
            return None;
        }
        let memory = call(number::MMAP, [0, size, READ_WRITE, SHARED, file, 0]);
        if (-4095..0).contains(&memory) {
            close(file);
            return None;
        }
        // A child has a ring of its own.
        call(number::MADVISE, [memory as usize, size, DONTFORK, 0, 0, 0]);
        Some((file, core::ptr::with_exposed_provenance_mut(memory as usize)))
    }
}

/// Whether files may become so large; otherwise the kernel would send a signal.
fn may_write(size: usize) -> bool {
    const FILE_SIZE: usize = 1;
    let mut limits = [0_u64; 2];
    // SAFETY: the kernel writes two words there.
    let result =
        unsafe { call(number::PRLIMIT, [0, FILE_SIZE, 0, (&raw mut limits).addr(), 0, 0]) };
    result == 0 && limits[0] >= size as u64
}

/// Takes a mapping away that nobody has seen.
pub(super) fn unmap(memory: *mut u8, size: usize) {
    // SAFETY: the mapping is the caller's.
    unsafe { call(number::MUNMAP, [memory.addr(), size, 0, 0, 0, 0]) };
}

/// Closes a descriptor of ours.
pub(super) fn close(descriptor: usize) {
    // SAFETY: takes no pointer.
    unsafe { call(number::CLOSE, [descriptor, 0, 0, 0, 0, 0]) };
}

/// What comes of handing a descriptor over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    Over,
    /// The other side has too much to do.
    Later,
    Nobody,
}

/// Hands a descriptor to who listens at a path, without waiting. The path ends with a zero.
pub(super) fn hand_over(descriptor: usize, path: &[u8]) -> Handed {
    const UNIX: u16 = 1;
    const STREAM_CLOEXEC_NONBLOCK: usize = 1 | 0o2_000_000 | 0o4000;
    const NOSIGNAL: usize = 0x4000;
    const AGAIN: isize = -11;
    const SOCKET_LEVEL: i32 = 1;
    const RIGHTS: i32 = 1;
    let mut address = [0_u8; 110];
    let Some(room) = address.get_mut(2..2 + path.len()) else { return Handed::Nobody };
    room.copy_from_slice(path);
    address[..2].copy_from_slice(&UNIX.to_ne_bytes());
    let byte = [1_u8];
    let piece = Piece { start: byte.as_ptr().addr(), length: 1 };
    let rights = Rights {
        // Of the header and the descriptor, without the room behind it.
        length: size_of::<Rights>() - size_of::<i32>(),
        level: SOCKET_LEVEL,
        kind: RIGHTS,
        descriptor: descriptor as i32,
        room: 0,
    };
    let message = Message {
        name: 0,
        name_length: 0,
        pieces: &raw const piece,
        piece_count: 1,
        control: &raw const rights,
        control_length: size_of::<Rights>(),
        flags: 0,
    };
    // SAFETY: all that the calls read lives until they return.
    unsafe {
        let socket = call(number::SOCKET, [UNIX.into(), STREAM_CLOEXEC_NONBLOCK, 0, 0, 0, 0]);
        let Ok(socket) = usize::try_from(socket) else { return Handed::Nobody };
        let length = 2 + path.len();
        let connected = call(number::CONNECT, [socket, address.as_ptr().addr(), length, 0, 0, 0]);
        let result = match connected {
            0 => call(number::SENDMSG, [socket, (&raw const message).addr(), NOSIGNAL, 0, 0, 0]),
            error => error,
        };
        close(socket);
        match result {
            1 => Handed::Over,
            AGAIN => Handed::Later,
            _ => Handed::Nobody,
        }
    }
}
