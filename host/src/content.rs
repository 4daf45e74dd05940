//! Bytes at positions: of a file that is open, or of memory.
//!
//! A file is read through its descriptor, without moving its offset and without mapping it: it may
//! become shorter at any time, and then a read ends early and nothing crashes. Who reads bounds how
//! much: [`read`] never allocates more than there is.

use std::io;
#[cfg(unix)]
use std::os::unix::fs::FileExt;

/// Something that can be read at positions.
pub trait Content {
    /// Reads at most `buffer.len()` bytes at `offset`; 0 at the end.
    ///
    /// # Errors
    /// If the content cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The length in bytes.
    ///
    /// # Errors
    /// If the content cannot say.
    fn length(&self) -> io::Result<u64>;
}

#[cfg(unix)]
impl Content for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

impl Content for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let rest = self.get(from..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Fills a buffer with the bytes at `offset`.
///
/// # Errors
/// If the content ends before (`UnexpectedEof`) or cannot be read.
pub fn fill<C: Content + ?Sized>(content: &C, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match content.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The `size` bytes at `offset` of a content of `length` bytes.
///
/// # Errors
/// As [`fill`]; also if the place is not within `length`, before anything is allocated.
pub fn read<C: Content + ?Sized>(
    content: &C,
    length: u64,
    offset: u64,
    size: u64,
) -> io::Result<Vec<u8>> {
    let is_inside = offset.checked_add(size).is_some_and(|end| end <= length);
    let size = usize::try_from(size).ok().filter(|_| is_inside);
    let mut bytes = vec![0; size.ok_or(io::ErrorKind::UnexpectedEof)?];
    fill(content, &mut bytes, offset)?;
    Ok(bytes)
}
