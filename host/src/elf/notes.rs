//! The notes of an ELF file: its build ids.
//!
//! Notes lie in sections and in segments, mostly the same ones: a segment is there when a program
//! runs, a section also in a file of debug information. A malformed note ends its section and nothing
//! else.

use object::Endianness;
use object::elf::{
    ELF_NOTE_GNU, ELF_NOTE_GO, FileHeader64, NT_GNU_BUILD_ID, NT_GO_BUILD_ID, NoteType,
};
use object::read::elf::NoteIterator;

use crate::hex;

/// The most bytes of a section or segment of notes that are looked at.
pub const MAX_NOTES: u64 = 64 << 10;
/// The longest id of Go.
const MAX_GO_ID: usize = 256;
/// The longest build id of GNU.
const MAX_GNU_ID: usize = 64;

/// A note that says who a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdNote<'a> {
    /// The bytes of its GNU build id.
    Gnu(&'a [u8]),
    /// Its Go build id.
    Go(&'a [u8]),
}

/// The GNU build id, in hex, among notes by themselves, such as those in `/sys/kernel/notes`.
pub fn build_id_of_notes(bytes: &[u8]) -> Option<String> {
    let endian = if cfg!(target_endian = "big") { Endianness::Big } else { Endianness::Little };
    let bytes = bytes.get(..MAX_NOTES as usize).unwrap_or(bytes);
    ids(bytes, endian, 4).iter().find_map(|note| match note {
        IdNote::Gnu(id) => Some(hex(id)),
        IdNote::Go(_) => None,
    })
}

/// The ids among the notes of a section or segment.
pub(super) fn ids(bytes: &[u8], endian: Endianness, alignment: u64) -> Vec<IdNote<'_>> {
    // What is not an alignment of notes is taken for the usual one, as other tools do.
    let alignment = if alignment == 8 { 8 } else { 4 };
    // Notes are the same in 32-bit files.
    let Ok(notes) = NoteIterator::<FileHeader64<Endianness>>::new(endian, alignment, bytes) else {
        return Vec::new();
    };
    let id = |owner: &[u8], kind: NoteType, content| match (owner, kind) {
        (ELF_NOTE_GNU, NT_GNU_BUILD_ID) => Some(IdNote::Gnu(content)),
        (ELF_NOTE_GO, NT_GO_BUILD_ID) => Some(IdNote::Go(content)),
        _ => None,
    };
    let notes = notes.filter_map(Result::ok);
    let notes = notes.filter_map(|note| id(note.name(), note.n_type(endian), note.desc()));
    notes
        .filter(|note| match note {
            IdNote::Gnu(content) => (1..=MAX_GNU_ID).contains(&content.len()),
            IdNote::Go(content) => content.len() <= MAX_GO_ID,
        })
        .collect()
}
