//! Bytes that live as long as what was made of them: mapped files and inflated sections, and one
//! value that borrows from them.

#![allow(unsafe_code, reason = "maps files, and keeps a value with the bytes it borrows")]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use memmap2::{Mmap, MmapOptions};

/// Owns bytes at addresses that do not change until it is dropped.
#[derive(Default)]
pub(super) struct Arena {
    maps: RefCell<Vec<Mmap>>,
    buffers: RefCell<Vec<Box<[u8]>>>,
}

impl Arena {
    /// The content of a file. If the file is cut short while mapped, reading it kills this
    /// process; that is what this process is for.
    pub(super) fn map(&self, file: impl AsFd) -> io::Result<&[u8]> {
        let facts = rustix::fs::fstat(&file)?;
        let length = usize::try_from(facts.st_size).unwrap_or_default();
        if length == 0 {
            return Ok(&[]);
        }
        let raw = file.as_fd().as_raw_fd();
        // SAFETY: the mapping is private and read-only. Another process may change the file under
        // it: parsers of this worker read bytes by value, check every use, and hold no invariant
        // across two reads that memory safety depends on.
        let map = unsafe { MmapOptions::new().len(length).map(raw)? };
        let (start, length) = (map.as_ptr(), map.len());
        self.maps.borrow_mut().push(map);
        // SAFETY: the bytes stay mapped at this address until `self` is dropped; nothing takes a
        // map out of the list before.
        Ok(unsafe { std::slice::from_raw_parts(start, length) })
    }

    /// Keeps a buffer.
    pub(super) fn keep(&self, buffer: Vec<u8>) -> &[u8] {
        let buffer = buffer.into_boxed_slice();
        let (start, length) = (buffer.as_ptr(), buffer.len());
        self.buffers.borrow_mut().push(buffer);
        // SAFETY: the heap block stays where it is until `self` is dropped; nothing takes a buffer
        // out of the list before.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Gives back the memory of the mapped files, which stay mapped.
    pub(super) fn unload(&self) {
        for map in self.maps.borrow().iter() {
            // SAFETY: the mapping is of a file and read-only, so nothing in it can be lost: what
            // is read again comes from the file again, at the same address.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Bytes mapped and kept.
    pub(super) fn size(&self) -> (usize, usize) {
        let mapped = self.maps.borrow().iter().map(|map| map.len()).sum();
        let kept = self.buffers.borrow().iter().map(|buffer| buffer.len()).sum();
        (mapped, kept)
    }
}

/// A type with a lifetime, to be chosen.
pub(super) trait Family {
    /// The type with that lifetime.
    type Of<'a>;
}

/// An arena and a value that borrows from it.
pub(super) struct Owned<F: Family> {
    value: ManuallyDrop<F::Of<'static>>,
    /// From `Box::into_raw`.
    arena: NonNull<Arena>,
}

impl<F: Family> Owned<F> {
    /// Makes a value out of the bytes of a new arena.
    ///
    /// # Errors
    /// What `build` says.
    pub(super) fn build<E>(
        build: impl for<'a> FnOnce(&'a Arena) -> Result<F::Of<'a>, E>,
    ) -> Result<Self, E> {
        let arena = NonNull::from(Box::leak(Box::<Arena>::default()));
        // SAFETY: the arena is alive and only ever borrowed as shared until it is freed. `build`
        // takes any lifetime, so the value cannot borrow from anything but the arena (or what
        // lives forever), and no part of it can escape with the longer lifetime that it is given
        // here: it is handed out only through `with` and `update`, which shorten it again.
        let built = build(unsafe { arena.as_ref() });
        match built {
            Ok(value) => Ok(Self { value: ManuallyDrop::new(value), arena }),
            Err(error) => {
                // SAFETY: the pointer is from a leaked box, and no value borrows from it.
                drop(unsafe { Box::from_raw(arena.as_ptr()) });
                Err(error)
            }
        }
    }

    /// Looks at and changes the value, with its arena.
    pub(super) fn update<R>(
        &mut self,
        update: impl for<'a> FnOnce(&'a Arena, &mut F::Of<'a>) -> R,
    ) -> R {
        // SAFETY: the arena lives as long as `self`, and `update` takes any lifetime: what it puts
        // into the value borrows from the arena or lives forever, and nothing escapes.
        update(unsafe { self.arena.as_ref() }, &mut self.value)
    }

    /// The arena.
    pub(super) fn arena(&self) -> &Arena {
        // SAFETY: the arena lives as long as `self`.
        unsafe { self.arena.as_ref() }
    }
}

impl<F: Family> Drop for Owned<F> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and before the arena that it borrows from.
        unsafe { ManuallyDrop::drop(&mut self.value) };
        // SAFETY: the pointer is from a leaked box, and nothing borrows from it any more.
        drop(unsafe { Box::from_raw(self.arena.as_ptr()) });
    }
}

impl<F: Family> fmt::Debug for Owned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("size", &self.arena().size()).finish_non_exhaustive()
    }
}
