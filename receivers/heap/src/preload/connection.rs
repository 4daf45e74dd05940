//! Where the recorder is, and the ring that it was given.
//!
//! What the environment says is read once, at the start: the program may change it. The ring is made by the
//! thread that takes the first sample of a process; a child that was forked makes one of its own.
#![allow(unsafe_code, reason = "reads the environment and maps memory")]

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::next::weak;
use super::ring::Ring;
use super::sys::{self, Handed};
use crate::layout::{
    DATA_SIZE, DEFAULT_INTERVAL, HEADER_SIZE, Header, INTERVAL_VARIABLE, MAGIC, SEED_VARIABLE,
    SOCKET_VARIABLE,
};

/// The longest path of a socket, with its zero.
const MAX_PATH: usize = 108;
/// How often others let go of the processor until the ring is there.
const MAX_PAUSES: u32 = 2000;
/// How often is tried to hand the ring over to a recorder that has too much to do.
const MAX_TRIES: u32 = 1000;
/// The smallest mean gap.
const MIN_INTERVAL: u64 = 64;
/// The largest.
const MAX_INTERVAL: u64 = 1 << 40;

static PATH: [AtomicU8; MAX_PATH] = [const { AtomicU8::new(0) }; MAX_PATH];
/// The bytes of the path with its zero; 0: there is no recorder.
static PATH_LENGTH: AtomicUsize = AtomicUsize::new(0);
static INTERVAL: AtomicU64 = AtomicU64::new(DEFAULT_INTERVAL);
/// 0 if gaps are not to be repeatable.
static SEED: AtomicU64 = AtomicU64::new(0);
/// The threads that have begun to count, where gaps are to be repeatable.
static THREADS: AtomicU64 = AtomicU64::new(0);
/// 0, or 1 when the environment was read.
static IS_READ: AtomicU32 = AtomicU32::new(0);

static RING: AtomicPtr<Header> = AtomicPtr::new(core::ptr::null_mut());
/// The process whose ring that is.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The process that makes one.
static MAKER: AtomicU32 = AtomicU32::new(0);
/// The process that has nobody to give one to.
static LONELY: AtomicU32 = AtomicU32::new(0);
static TRIES: AtomicU32 = AtomicU32::new(0);

#[cfg(profpipe_preload)]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = read_environment;

/// Reads what the environment says, once.
pub(super) extern "C" fn read_environment() {
    if IS_READ.load(Ordering::Acquire) != 0 {
        return;
    }
    let environment = weak!("environ").cast::<*const *const u8>();
    // SAFETY: the variable of libc, or none.
    let entries = if environment.is_null() { return } else { unsafe { *environment } };
    if entries.is_null() {
        // Before libc has begun.
        return;
    }
    let number = |name| {
        let mut value = 0_u64;
        let found = each(entries, name, |_, digit| {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')));
        });
        found.then_some(value)
    };
    if let Some(interval) = number(INTERVAL_VARIABLE) {
        INTERVAL.store(interval.clamp(MIN_INTERVAL, MAX_INTERVAL), Ordering::Relaxed);
    }
    SEED.store(number(SEED_VARIABLE).unwrap_or(0), Ordering::Relaxed);
    let mut length = 0;
    each(entries, SOCKET_VARIABLE, |at, byte| {
        if let Some(room) = PATH.get(at) {
            room.store(byte, Ordering::Relaxed);
        }
        length = at + 1;
    });
    if (1..MAX_PATH).contains(&length) {
        PATH_LENGTH.store(length + 1, Ordering::Release);
    }
    IS_READ.store(1, Ordering::Release);
}

/// Takes each byte of the value of a variable, with its number; false if there is none.
fn each(entries: *const *const u8, name: &str, mut take: impl FnMut(usize, u8)) -> bool {
    let mut at = entries;
    loop {
        // SAFETY: the list ends with null, each entry with a zero, and neither is read beyond.
        unsafe {
            let entry = *at;
            if entry.is_null() {
                return false;
            }
            let mut same = 0;
            while name.as_bytes().get(same).is_some_and(|byte| *byte == *entry.add(same)) {
                same += 1;
            }
            if same == name.len() && *entry.add(same) == b'=' {
                let mut length = 0;
                loop {
                    match *entry.add(same + 1 + length) {
                        0 => return true,
                        byte => take(length, byte),
                    }
                    length += 1;
                }
            }
            at = at.add(1);
        }
    }
}

/// Where the random numbers of a new thread begin.
pub(super) fn seed(thread: usize) -> u64 {
    read_environment();
    match SEED.load(Ordering::Relaxed) {
        0 => sys::now() ^ (thread as u64) << 20 ^ u64::from(sys::thread()) << 44,
        // Each thread has numbers of its own.
        seed => seed.wrapping_add(THREADS.fetch_add(1, Ordering::Relaxed) << 32),
    }
}

/// The mean gap in bytes.
pub(super) fn interval() -> u64 {
    read_environment();
    let ring = RING.load(Ordering::Acquire);
    if ring.is_null() || OWNER.load(Ordering::Acquire) != sys::process() {
        return INTERVAL.load(Ordering::Relaxed);
    }
    // SAFETY: a ring is mapped for as long as its owner lives.
    let interval = unsafe { (*ring).interval.load(Ordering::Relaxed) };
    interval.clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// The ring of this process; none if nobody wants it.
pub(super) fn ring() -> Option<Ring> {
    let process = sys::process();
    if OWNER.load(Ordering::Acquire) == process {
        return Ring::of(RING.load(Ordering::Acquire));
    }
    if PATH_LENGTH.load(Ordering::Acquire) == 0 || LONELY.load(Ordering::Acquire) == process {
        return None;
    }
    let maker = MAKER.load(Ordering::Acquire);
    if maker == process
        || MAKER.compare_exchange(maker, process, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return wait_for_it(process);
    }
    let made = make(process);
    MAKER.store(0, Ordering::Release);
    made.then(|| Ring::of(RING.load(Ordering::Acquire))).flatten()
}

/// Another thread makes it, which takes some microseconds.
fn wait_for_it(process: u32) -> Option<Ring> {
    for _ in 0..MAX_PAUSES {
        if OWNER.load(Ordering::Acquire) == process {
            return Ring::of(RING.load(Ordering::Acquire));
        }
        if MAKER.load(Ordering::Acquire) != process {
            return None;
        }
        sys::let_others_run();
    }
    None
}

fn make(process: u32) -> bool {
    let is_lonely = || LONELY.store(process, Ordering::Release);
    let size = HEADER_SIZE + DATA_SIZE;
    let Some((file, memory)) = sys::shared_memory(c"profpipe-heap", size) else {
        is_lonely();
        return false;
    };
    let header = memory.cast::<Header>();
    // SAFETY: the mapping is new, aligned, larger than a header and all zero, which is a header.
    unsafe {
        (*header).magic.store(MAGIC, Ordering::Relaxed);
        (*header).pid.store(process.into(), Ordering::Relaxed);
        (*header).created.store(sys::now(), Ordering::Relaxed);
        (*header).interval.store(INTERVAL.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let mut path = [0_u8; MAX_PATH];
    for (byte, known) in path.iter_mut().zip(&PATH) {
        *byte = known.load(Ordering::Relaxed);
    }
    let path = path.get(..PATH_LENGTH.load(Ordering::Relaxed)).unwrap_or_default();
    let handed = sys::hand_over(file, path);
    sys::close(file);
    if handed == Handed::Over {
        RING.store(header, Ordering::Release);
        OWNER.store(process, Ordering::Release);
        return true;
    }
    sys::unmap(memory, size);
    if handed == Handed::Nobody || TRIES.fetch_add(1, Ordering::Relaxed) >= MAX_TRIES {
        is_lonely();
    }
    false
}
