//! Goes through a segment record by record, past whatever is damaged.
//!
//! Where a record should be and is none, the next valid head within the segment is looked for: one
//! with the segment's salt, and a number that is possible there.

use std::io;

use bytes::Bytes;

use super::format::{HEAD, Head, Meta};
use super::storage::{StoredFile, read_range};

/// How much is read at once while looking for a head.
const CHUNK_BYTES: u64 = 64 << 10;

/// What is possible in a part of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// The segment's salt; `None` if nobody knows it.
    pub(super) salt: Option<u64>,
    /// The lowest number that may come.
    pub(super) from: u64,
    /// All numbers are below this.
    pub(super) below: u64,
    /// Where the records end, at the latest.
    pub(super) end: u64,
}

/// What is found at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A record; its payload may still be damaged.
    Record(Head),
    /// Damage up to this place, where the next record is.
    Gap(u64),
    /// Nothing valid up to the end; whether there is anything but zeros.
    Tail {
        /// Only zeros, or no byte.
        clean: bool,
    },
}

impl Scope {
    /// Looks at a place.
    pub(super) fn step(&self, file: &dyn StoredFile, offset: u64) -> io::Result<Step> {
        if offset >= self.end {
            return Ok(Step::Tail { clean: true });
        }
        let bytes = read_range(file, offset, HEAD.min(self.end - offset))?;
        match self.head(&bytes, offset) {
            Some(head) => Ok(Step::Record(head)),
            None => self.search(file, offset),
        }
    }

    fn head(&self, bytes: &[u8], offset: u64) -> Option<Head> {
        let head = Head::decode(bytes)?;
        let possible = self.salt.is_none_or(|salt| salt == head.salt)
            && (self.from..self.below).contains(&head.seq)
            && head.length() <= self.end.saturating_sub(offset);
        possible.then_some(head)
    }

    fn search(&self, file: &dyn StoredFile, offset: u64) -> io::Result<Step> {
        let mut clean = true;
        let mut start = offset;
        while start < self.end {
            let bytes = read_range(file, start, (CHUNK_BYTES + HEAD).min(self.end - start))?;
            if bytes.is_empty() {
                break;
            }
            clean = clean && bytes.iter().all(|byte| *byte == 0);
            if !clean {
                for at in (0..CHUNK_BYTES.min(bytes.len() as u64)).step_by(8) {
                    let head = bytes.get(at as usize..).unwrap_or_default();
                    if start + at > offset && self.head(head, start + at).is_some() {
                        return Ok(Step::Gap(start + at));
                    }
                }
            }
            start += CHUNK_BYTES;
        }
        Ok(Step::Tail { clean })
    }
}

/// Reads what follows a head. `None` if it is damaged.
pub(super) fn content(
    file: &dyn StoredFile,
    offset: u64,
    head: &Head,
) -> io::Result<Option<(Meta, Bytes)>> {
    let length = u64::from(head.meta) + u64::from(head.payload);
    let mut bytes = Bytes::from(read_range(file, offset + HEAD, length)?);
    if (bytes.len() as u64) < length {
        return Ok(None);
    }
    let meta = bytes.split_to(head.meta as usize);
    if crc32fast::hash(&meta) != head.meta_crc || crc32fast::hash(&bytes) != head.payload_crc {
        return Ok(None);
    }
    Ok(Meta::decode(&meta).map(|meta| (meta, bytes)))
}

/// Reads what the log knows about a record, and not its payload. `None` if it is damaged.
pub(super) fn meta(file: &dyn StoredFile, offset: u64, head: &Head) -> io::Result<Option<Meta>> {
    let bytes = read_range(file, offset + HEAD, u64::from(head.meta))?;
    let whole = bytes.len() as u64 == u64::from(head.meta);
    let valid = whole && crc32fast::hash(&bytes) == head.meta_crc;
    Ok(if valid { Meta::decode(&bytes) } else { None })
}
