//! Who a mapped file is: what a sampler needs of it.
//!
//! Only little-endian files are of use to it: others do not run here. 32-bit programs do, on kernels
//! that run both. The cost is a few positioned reads of the headers and of the notes, whatever the size of the file.

use object::Endianness;
use object::elf::{PF_X, PT_LOAD, PT_NOTE, SHT_NOTE};

use super::headers::{Headers, Segment};
use super::notes::{IdNote, MAX_NOTES, ids};
use crate::content::{Content, read};
use crate::hex;

/// The most program headers and section headers that are looked at.
pub const MAX_HEADERS: usize = 1024;
/// The most sections and segments of notes that are looked into.
const MAX_NOTE_PLACES: usize = 64;
/// The page size that segments are mapped by, at least.
const PAGE: u64 = 4096;

/// What an ELF file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The loadable executable segments.
    pub segments: Vec<Segment>,
    /// The lowest address of any loadable segment.
    pub base: u64,
    /// The address of the first instruction; 0 for most libraries.
    pub entry: u64,
    /// The GNU build id in hex.
    pub build_id: Option<String>,
    /// The Go build id.
    pub go_build_id: Option<String>,
    /// The file is a program or library of Go.
    pub go: bool,
}

impl Identity {
    /// Reads who a little-endian ELF file is; none if it is something else or cannot be read.
    pub fn read<C: Content + ?Sized>(content: &C) -> Option<Self> {
        let headers = Headers::read(content, MAX_HEADERS).ok()??;
        if headers.endian != Endianness::Little {
            return None;
        }
        let segments = headers.segments.as_deref()?;
        let loaded = || segments.iter().filter(|segment| segment.kind == PT_LOAD.0);
        let base = loaded().map(|segment| segment.address & !(PAGE - 1)).min();
        let executable = |segment: &&Segment| segment.flags & PF_X.0 != 0 && segment.length > 0;
        let mut identity = Self {
            segments: loaded().filter(executable).copied().collect(),
            base: base.unwrap_or(0),
            entry: headers.entry,
            ..Self::default()
        };
        let of_segments = segments.iter().filter(|segment| segment.kind == PT_NOTE.0);
        // Those of segments first: the kernel reads only them.
        let mut notes: Vec<_> =
            of_segments.map(|it| (it.offset, it.length, it.alignment)).collect();
        for section in headers.sections.iter().flatten() {
            match headers.name(section) {
                b".gopclntab" | b".go.buildinfo" | b".data.rel.ro.gopclntab" => identity.go = true,
                _ if section.kind == SHT_NOTE.0 => {
                    let place = (section.offset, section.size, section.alignment);
                    // Sections and segments mostly show the same notes.
                    if !notes.contains(&place) {
                        notes.push(place);
                    }
                }
                _ => {}
            }
        }
        for (offset, length, alignment) in notes.into_iter().take(MAX_NOTE_PLACES) {
            let bytes = read(content, headers.length, offset, length.min(MAX_NOTES));
            identity.add_ids(&ids(&bytes.unwrap_or_default(), headers.endian, alignment));
        }
        Some(identity)
    }

    fn add_ids(&mut self, notes: &[IdNote<'_>]) {
        for note in notes {
            match note {
                IdNote::Gnu(id) => {
                    self.build_id.get_or_insert_with(|| hex(id));
                }
                IdNote::Go(id) => {
                    self.go = true;
                    self.go_build_id = std::str::from_utf8(id).ok().map(str::to_owned);
                }
            }
        }
    }

    /// The executable segment that a mapping at `offset` in the file shows.
    pub fn segment_at(&self, offset: u64, page: u64) -> Option<Segment> {
        let start = |segment: &Segment| segment.offset & !(page - 1);
        let end = |segment: &Segment| segment.offset.saturating_add(segment.length);
        // The last that begins before: two segments may share a page.
        let covers = |segment: &&Segment| start(segment) <= offset && offset < end(segment);
        self.segments.iter().rfind(covers).copied()
    }
}
