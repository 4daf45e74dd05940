//! The tables of an ELF file that unwinding needs.
//!
//! The file belongs to somebody else and may be hostile, cut off while we read, or huge: a table is
//! read whole up to a bound, and one that makes no sense is as if it were not there. Whether what a
//! table says may be used is left to `cfi`.

use std::ops::Range;

use object::Endianness;
use object::elf::PT_GNU_EH_FRAME;
use profpipe_host::content::{self, Content};
use profpipe_host::elf::{Headers, MAX_HEADERS, Section, Segment};

use super::bytes::Bytes;

/// The largest table of unwinding rules that we read.
const MAX_TABLE: u64 = 40 << 20;
/// From this size on a table stays in its file, if it has a search table.
const LARGE_TABLE: u64 = 3 << 20;

/// How a search table begins whose pairs are 4 signed bytes each, relative to its own start.
pub(crate) const SEARCH_FORM: &[u8] = &[1, 0x1b, 0x03, 0x3b];

/// The sections that unwinding needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) text: Option<Range<u64>>,
    pub(crate) got: Option<Range<u64>>,
    pub(crate) eh_frame: Option<(Range<u64>, Bytes)>,
    pub(crate) eh_frame_hdr: Option<(Range<u64>, Bytes)>,
    /// An `.eh_frame` that is too large to be held: its addresses, and where it is in the file.
    pub(crate) large_eh_frame: Option<(Range<u64>, u64)>,
    pub(crate) debug_frame: Option<Bytes>,
    /// The function table of a Go program.
    pub(crate) gopclntab: Option<Bytes>,
    /// Where the code of a Go program begins, if the file says it.
    pub(crate) go_text: Option<u64>,
}

impl Sections {
    /// Reads the sections of a 64-bit little-endian file, empty where they are not there or not of
    /// use.
    pub(crate) fn read<C: Content + ?Sized>(content: &C) -> Self {
        let mut sections = Self::default();
        let Ok(Some(headers)) = Headers::read(content, MAX_HEADERS) else { return sections };
        if !headers.is_64 || headers.endian != Endianness::Little {
            return sections;
        }
        for section in headers.sections.iter().flatten() {
            sections.add(content, &headers, section);
        }
        if sections.large_eh_frame.is_some() && !sections.has_search_table() {
            sections.hold_large(content, headers.length);
        }
        if sections.gopclntab.is_some() {
            sections.go_text = go_text(content, &headers);
        }
        if sections.eh_frame.is_none() && sections.large_eh_frame.is_none() {
            let mut segments = headers.segments.iter().flatten();
            let header = segments.rfind(|segment| segment.kind == PT_GNU_EH_FRAME.0);
            header.and_then(|header| sections.add_frame_header(content, headers.length, header));
        }
        sections
    }

    fn add<C: Content + ?Sized>(&mut self, content: &C, headers: &Headers, section: &Section) {
        let range = section.address..section.address.saturating_add(section.size);
        let whole = || {
            // A compressed section, or one without bytes in the file, is of no use.
            let is_plain = section.has_bytes() && !section.is_compressed();
            (is_plain && section.size > 0 && section.size <= MAX_TABLE)
                .then(|| Bytes::read(content, headers.length, section.offset, section.size))
                .flatten()
        };
        match headers.name(section) {
            b".text" => self.text = Some(range),
            b".got" => self.got = Some(range),
            b".eh_frame" if section.size >= LARGE_TABLE && section.has_bytes() => {
                self.large_eh_frame = (!section.is_compressed()).then_some((range, section.offset));
            }
            b".eh_frame" => self.eh_frame = whole().map(|bytes| (range, bytes)),
            b".eh_frame_hdr" => self.eh_frame_hdr = whole().map(|bytes| (range, bytes)),
            b".debug_frame" => self.debug_frame = whole(),
            b".gopclntab" | b".data.rel.ro.gopclntab" => self.gopclntab = whole(),
            _ => {}
        }
    }

    /// Whether there is a search table in the one form that linkers write.
    fn has_search_table(&self) -> bool {
        self.eh_frame_hdr.as_ref().is_some_and(|(_, bytes)| bytes.starts_with(SEARCH_FORM))
    }

    /// Reads a large table after all.
    fn hold_large<C: Content + ?Sized>(&mut self, content: &C, length: u64) {
        let Some((range, offset)) = self.large_eh_frame.take() else { return };
        let size = range.end.saturating_sub(range.start);
        if size <= MAX_TABLE {
            let bytes = Bytes::read(content, length, offset, size);
            self.eh_frame = bytes.map(|bytes| (range, bytes));
        }
    }

    /// Finds the unwinding rules of a file without section headers, through the program header.
    fn add_frame_header<C: Content + ?Sized>(
        &mut self,
        content: &C,
        file_length: u64,
        header: &Segment,
    ) -> Option<()> {
        let Segment { offset, address, length, .. } = *header;
        let bytes = content::read(content, file_length, offset, length.min(MAX_TABLE)).ok()?;
        // Version 1, the table's address relative to the field itself, in 4 signed bytes.
        let (1, 0x1b) = (*bytes.first()?, *bytes.get(1)?) else { return None };
        let distance = i32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?).into();
        let start = address.checked_add(4)?.checked_add_signed(distance)?;
        let at = offset.checked_add(4)?.checked_add_signed(distance)?;
        let size = file_length.checked_sub(at)?.min(MAX_TABLE);
        let rules = Bytes::read(content, file_length, at, size)?;
        self.eh_frame_hdr = Some((address..address.checked_add(length)?, bytes.into()));
        self.eh_frame = Some((start..start.checked_add(size)?, rules));
        Some(())
    }
}

/// Where the module's own description (`runtime.moduledata`) has the address of its code.
const MODULE_TEXT: u64 = 176;
/// The most relocations looked at.
const MAX_RELOCATIONS: u64 = 1 << 18;

/// Where the code of a Go program begins: since 1.26 there is a section that says it, and in position
/// independent programs a relocation of it.
fn go_text<C: Content + ?Sized>(content: &C, headers: &Headers) -> Option<u64> {
    let mut all = headers.sections.iter().flatten();
    let module = all.clone().find(|section| headers.name(section) == b".go.module")?;
    let word = |bytes: &[u8]| bytes.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    let at = module.offset.checked_add(MODULE_TEXT)?;
    let stated = word(&content::read(content, headers.length, at, 8).ok()?)?;
    if stated != 0 {
        return Some(stated);
    }
    let place = module.address.checked_add(MODULE_TEXT)?;
    let relocations = all.find(|section| headers.name(section) == b".rela.dyn")?;
    let size = relocations.size.min(MAX_RELOCATIONS * 24);
    let bytes = content::read(content, headers.length, relocations.offset, size).ok()?;
    // Place, kind and symbol, addend.
    let mut entries = bytes.as_chunks::<24>().0.iter();
    let found = entries.find(|entry| word(&entry[..]) == Some(place))?;
    word(found.get(16..)?)
}
