//! Whether a file that somebody sent, or that lies in a cache, is a whole ELF file, and whose.
//!
//! This runs where a broken file must not do harm, on files of strangers, so it does little: it reads
//! the headers and the notes, each read bounded, and nothing else. What uses the file checks its
//! build id again.

use std::io;

use object::elf::{PF_X, PT_LOAD, PT_NOTE, SHF_EXECINSTR, SHT_NOTE};

use super::headers::{Headers, Section, Segment};
use super::notes::{IdNote, MAX_NOTES, ids};
use crate::content::{Content, read};

/// The most headers of a kind: files of debug information and kernel modules have many sections.
const MAX_HEADERS: usize = 1 << 16;
/// The most sections or segments of notes that are looked into.
const MAX_NOTE_PLACES: usize = 64;

/// What a whole file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The bytes of its GNU build id.
    pub build_id: Option<Vec<u8>>,
    /// It has debug information.
    pub has_debug_info: bool,
    /// It has code: it is what runs, not only what is known about that.
    pub has_code: bool,
}

/// Reads what a file says about itself; none if it is not a whole ELF file.
///
/// # Errors
/// If it cannot be read.
pub fn inspect<C: Content + ?Sized>(content: &C) -> io::Result<Option<Whole>> {
    let Some(headers) = Headers::read(content, MAX_HEADERS)? else { return Ok(None) };
    let (Some(sections), Some(segments)) = (&headers.sections, &headers.segments) else {
        return Ok(None);
    };
    let is_inside =
        |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= headers.length);
    // The end of a file is what is missing when a transfer broke off.
    let mut filled = sections.iter().filter(|section| section.has_bytes());
    if !filled.all(|section| is_inside(section.offset, section.size)) {
        return Ok(None);
    }
    let has_debug_info = sections.iter().any(|section| {
        section.has_bytes()
            && section.size > 0
            && matches!(headers.name(section), b".debug_info" | b".zdebug_info")
    });
    let executable = SHF_EXECINSTR.0;
    let is_code = |it: &Section| it.has_bytes() && it.size > 0 && it.flags & executable != 0;
    let is_mapped = |it: &Segment| it.kind == PT_LOAD.0 && it.flags & PF_X.0 != 0 && it.length > 0;
    let has_code =
        sections.iter().any(is_code) || sections.is_empty() && segments.iter().any(is_mapped);
    let of_sections = sections.iter().filter(|section| section.kind == SHT_NOTE.0);
    let of_sections = of_sections.map(|it| (it.offset, it.size, it.alignment));
    let of_segments = segments.iter().filter(|segment| segment.kind == PT_NOTE.0);
    let of_segments = of_segments.map(|it| (it.offset, it.length, it.alignment));
    let mut build_id = None;
    let places = of_sections.take(MAX_NOTE_PLACES).chain(of_segments.take(MAX_NOTE_PLACES));
    for (offset, size, alignment) in places {
        // Files of debug information keep the headers of segments that they do not have: such a
        // place is not a mistake.
        if build_id.is_some() || !is_inside(offset, size) {
            continue;
        }
        let notes = match read(content, headers.length, offset, size.min(MAX_NOTES)) {
            Ok(notes) => notes,
            // It has become shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        build_id = ids(&notes, headers.endian, alignment).iter().find_map(|note| match note {
            IdNote::Gnu(id) => Some(id.to_vec()),
            IdNote::Go(_) => None,
        });
    }
    Ok(Some(Whole { build_id, has_debug_info, has_code }))
}
