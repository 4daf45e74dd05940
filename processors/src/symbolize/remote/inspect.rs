//! Whether a file that a server sent, or that lies in the cache, is what it should be: a whole ELF
//! file with the build id that was asked for.
//!
//! This runs in the agent itself, on files of strangers, so it does little: it reads the headers and
//! the notes by value, each read bounded, and nothing else. What uses the file, in the worker, checks
//! its build id again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::build_id::BuildId;

/// The most bytes of section headers, of their names, and of one note section.
const MAX_HEADERS: u64 = 4 << 20;
/// See [`MAX_HEADERS`].
const MAX_NOTES: u64 = 64 << 10;
/// The most note sections that are looked into.
const MAX_NOTE_SECTIONS: usize = 64;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inspected {
    /// Its build id.
    pub(super) build_id: Option<BuildId>,
    /// It has debug information.
    pub(super) has_debug_info: bool,
}

/// Reads what a file says about itself; none if it is not a whole ELF file.
///
/// # Errors
/// If it cannot be read.
pub(super) fn inspect(file: &File) -> io::Result<Option<Inspected>> {
    let source = Source { file, length: file.metadata()?.len() };
    match source.elf() {
        Ok(found) => Ok(Some(found)),
        Err(Broken::No) => Ok(None),
        Err(Broken::Unreadable(error)) => Err(error),
    }
}

enum Broken {
    /// It is not ELF, or not all of it.
    No,
    Unreadable(io::Error),
}

struct Source<'a> {
    file: &'a File,
    length: u64,
}

/// How numbers are written in a file.
#[derive(Clone, Copy)]
struct Form {
    wide: bool,
    little: bool,
}

/// A part of the file that may hold something of interest.
struct Section {
    name: u64,
    kind: u64,
    offset: u64,
    size: u64,
}

const SHT_NOTE: u64 = 7;
const SHT_NOBITS: u64 = 8;
const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;

impl Form {
    /// The number of so many bytes at a place.
    fn number(self, bytes: &[u8], at: usize, size: usize) -> Result<u64, Broken> {
        let end = at.checked_add(size).ok_or(Broken::No)?;
        let bytes = bytes.get(at..end).ok_or(Broken::No)?;
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value =
            if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) };
        Ok(value)
    }

    /// A number at the one place in 32-bit files and at the other, with eight bytes, in 64-bit ones.
    fn word(self, bytes: &[u8], narrow: usize, wide: usize) -> Result<u64, Broken> {
        if self.wide { self.number(bytes, wide, 8) } else { self.number(bytes, narrow, 4) }
    }
}

impl Source<'_> {
    fn read(&self, offset: u64, size: u64, most: u64) -> Result<Vec<u8>, Broken> {
        if !self.has(offset, size) || size > most {
            return Err(Broken::No);
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| Broken::No)?];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            // It has become shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::No),
            Err(error) => Err(Broken::Unreadable(error)),
        }
    }

    fn has(&self, offset: u64, size: u64) -> bool {
        offset.checked_add(size).is_some_and(|end| end <= self.length)
    }

    fn elf(&self) -> Result<Inspected, Broken> {
        let head = self.read(0, 64.min(self.length), 64)?;
        let form = match head.get(..6).ok_or(Broken::No)? {
            [0x7f, b'E', b'L', b'F', class @ 1..=2, order @ 1..=2] => {
                Form { wide: *class == 2, little: *order == 1 }
            }
            _ => return Err(Broken::No),
        };
        let mut build_id = None;
        let mut has_debug_info = false;
        let (sections, names) = self.sections(form, &head)?;
        for section in &sections {
            if matches!(section.kind, 0 | SHT_NOBITS) {
                continue;
            }
            // The end of a file is what is missing when a transfer broke off.
            if !self.has(section.offset, section.size) {
                return Err(Broken::No);
            }
            let name = usize::try_from(section.name).ok().and_then(|at| names.get(at..));
            let name = name.and_then(|name| name.split(|byte| *byte == 0).next());
            has_debug_info |= section.size > 0
                && name.is_some_and(|name| name == b".debug_info" || name == b".zdebug_info");
        }
        let notes = sections.iter().filter(|section| section.kind == SHT_NOTE);
        for note in notes.take(MAX_NOTE_SECTIONS) {
            build_id = build_id.or(self.build_id(form, note.offset, note.size)?);
        }
        if build_id.is_none() {
            for (offset, size) in self.note_segments(form, &head)? {
                build_id = build_id.or(self.build_id(form, offset, size)?);
            }
        }
        Ok(Inspected { build_id, has_debug_info })
    }

    /// The sections, and the table of their names.
    fn sections(&self, form: Form, head: &[u8]) -> Result<(Vec<Section>, Vec<u8>), Broken> {
        let offset = form.word(head, 32, 40)?;
        let place = |narrow: usize, wide| if form.wide { wide } else { narrow };
        let size = form.number(head, place(46, 58), 2)?;
        let mut count = form.number(head, place(48, 60), 2)?;
        let mut names = form.number(head, place(50, 62), 2)?;
        if offset == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        if size < place(40, 64) as u64 {
            return Err(Broken::No);
        }
        let first = self.read(offset, size, MAX_HEADERS)?;
        // What does not fit into the header is in the first, unused section.
        if count == 0 {
            count = form.word(&first, 20, 32)?;
        }
        if names == 0xffff {
            names = form.number(&first, place(24, 40), 4)?;
        }
        let bytes = count.checked_mul(size).ok_or(Broken::No)?;
        let table = self.read(offset, bytes, MAX_HEADERS)?;
        let row = usize::try_from(size).map_err(|_| Broken::No)?;
        let sections = table.chunks_exact(row).map(|row| {
            Ok(Section {
                name: form.number(row, 0, 4)?,
                kind: form.number(row, 4, 4)?,
                offset: form.word(row, 16, 24)?,
                size: form.word(row, 20, 32)?,
            })
        });
        let sections = sections.collect::<Result<Vec<_>, Broken>>()?;
        let names = usize::try_from(names).ok().and_then(|at| sections.get(at));
        let names = match names {
            Some(names) if names.kind != SHT_NOBITS => {
                self.read(names.offset, names.size, MAX_HEADERS)?
            }
            _ => Vec::new(),
        };
        Ok((sections, names))
    }

    /// Offset and size of the segments that hold notes.
    fn note_segments(&self, form: Form, head: &[u8]) -> Result<Vec<(u64, u64)>, Broken> {
        let place = |narrow: usize, wide| if form.wide { wide } else { narrow };
        let offset = form.word(head, 28, 32)?;
        let size = form.number(head, place(42, 54), 2)?;
        let count = form.number(head, place(44, 56), 2)?;
        if offset == 0 || count == 0 {
            return Ok(Vec::new());
        }
        if size < place(32, 56) as u64 {
            return Err(Broken::No);
        }
        let table = self.read(offset, count * size, MAX_HEADERS)?;
        let row = usize::try_from(size).map_err(|_| Broken::No)?;
        let mut found = Vec::new();
        for row in table.chunks_exact(row) {
            if form.number(row, 0, 4)? == PT_NOTE && found.len() < MAX_NOTE_SECTIONS {
                found.push((form.word(row, 4, 8)?, form.word(row, 16, 32)?));
            }
        }
        Ok(found)
    }

    /// The build id among the notes at a place. Debug files keep the headers of segments that they
    /// do not have: such a place is no mistake.
    fn build_id(&self, form: Form, offset: u64, size: u64) -> Result<Option<BuildId>, Broken> {
        if !self.has(offset, size) {
            return Ok(None);
        }
        let notes = self.read(offset, size.min(MAX_NOTES), MAX_NOTES)?;
        let mut rest = notes.as_slice();
        while let (Ok(name_size), Ok(size), Ok(kind)) =
            (form.number(rest, 0, 4), form.number(rest, 4, 4), form.number(rest, 8, 4))
        {
            let name_end = name_size.checked_add(12);
            let begin = name_end.and_then(|end| end.checked_next_multiple_of(4));
            let end = begin.and_then(|begin| begin.checked_add(size));
            let (Some(name_end), Some(begin), Some(end)) = (name_end, begin, end) else { break };
            let part = |from: u64, to: u64| {
                rest.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
            };
            let (Some(name), Some(content)) = (part(12, name_end), part(begin, end)) else { break };
            if name == b"GNU\0" && kind == NT_GNU_BUILD_ID {
                return Ok(BuildId::from_bytes(content));
            }
            let next = end.checked_next_multiple_of(4).and_then(|next| usize::try_from(next).ok());
            let Some(next) = next.and_then(|next| rest.get(next..)) else { break };
            rest = next;
        }
        Ok(None)
    }
}
