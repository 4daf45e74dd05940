//! Bytes read from a file and kept, shared between those who use them.
//!
//! Tables of many megabytes are read by one thread and dropped by another, and the allocator would
//! keep their room: large ones are in memory of their own, which goes back at once.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use profpipe_host::content::{self, Content};

/// From this size on bytes have memory of their own.
const OWN_PAGES: u64 = 64 << 10;

/// Bytes read from a file, shared.
#[derive(Debug, Clone)]
pub(crate) struct Bytes(Arc<Memory>);

/// Where they are.
#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    Pages(memmap2::MmapMut),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages) => pages,
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Memory::Heap(bytes)))
    }
}

impl Content for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self[..].read_at(buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl Bytes {
    /// Reads the `size` bytes at `offset` of a content of `length` bytes; none if they are not there.
    pub(crate) fn read<C: Content + ?Sized>(
        content: &C,
        length: u64,
        offset: u64,
        size: u64,
    ) -> Option<Self> {
        if size < OWN_PAGES || offset.checked_add(size)? > length {
            return content::read(content, length, offset, size).ok().map(Self::from);
        }
        let mut pages = memmap2::MmapMut::map_anon(usize::try_from(size).ok()?).ok()?;
        content::fill(content, &mut pages, offset).ok()?;
        Some(Self(Arc::new(Memory::Pages(pages))))
    }
}
