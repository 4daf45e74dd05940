//! What happens when a countdown has ended: a sample, and the next gap.
#![allow(unsafe_code, reason = "changes what only its thread has")]

use super::next::Block;
use super::stack::Saved;
use super::thread::{self, Thread};
use super::{connection, live, numbers, probes, sys};
use crate::layout::Allocated;

/// A block was allocated and counted.
///
/// # Safety
/// `saved` is what the functions at the door have put on the stack.
pub(super) unsafe fn counted(block: Block, size: usize, saved: *const Saved) {
    let thread = thread::this();
    // SAFETY: the calling thread's own; a signal handler that comes in between is kept out by `is_busy`.
    unsafe {
        if (*thread).left >= 0 || (&raw mut (*thread).is_busy).replace(true) {
            return;
        }
        if is_sampled(&mut *thread) {
            let interval = (*thread).interval;
            begin_gap(&mut *thread);
            if !block.is_null() {
                sample(block.addr(), size, interval, &*saved);
            }
        }
        (*thread).is_busy = false;
    }
}

/// Whether the countdown of a thread has ended; of a new one it has not begun.
fn is_sampled(thread: &mut Thread) -> bool {
    if thread.random != 0 {
        return true;
    }
    thread.random = numbers::spread(connection::seed(core::ptr::from_ref(thread).addr()));
    let counted = thread.left;
    begin_gap(thread);
    thread.left = thread.left.saturating_add(counted);
    thread.left < 0
}

fn begin_gap(thread: &mut Thread) {
    thread.interval = connection::interval();
    thread.left = numbers::gap(&mut thread.random, thread.interval);
}

fn sample(address: usize, size: usize, interval: u64, saved: &Saved) {
    let ring = connection::ring();
    let is_watched = probes::are_watched();
    if ring.is_none() && !is_watched {
        return;
    }
    // Before anybody else can free it.
    let is_followed = live::insert(address);
    if let Some(ring) = ring {
        let registers = saved.registers();
        let record = Allocated {
            time: sys::now(),
            address: address as u64,
            size: size as u64,
            interval,
            thread: sys::thread().into(),
            followed: is_followed.into(),
            registers,
            stack: 0,
            python_state: 0,
            python: 0,
        };
        if !ring.allocated(record, registers[1]) && is_followed && !is_watched {
            // Nobody knows of it.
            live::remove(address);
        } else if !is_followed {
            ring.is_unfollowed();
        }
    }
    if is_watched {
        probes::allocated(address, size, numbers::weight(size as u64, interval));
    }
}

/// A block that may have been sampled is about to be freed.
pub(super) fn freed(address: usize) {
    if !live::remove(address) {
        return;
    }
    if let Some(ring) = connection::ring() {
        ring.freed(address);
    }
    if probes::are_watched() {
        probes::freed(address);
    }
}
