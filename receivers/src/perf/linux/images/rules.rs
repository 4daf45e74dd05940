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

/// The sections that unwinding needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) text: Option<Range<u64>>,
    pub(crate) got: Option<Range<u64>>,
    pub(crate) eh_frame: Option<(Range<u64>, Bytes)>,
    pub(crate) eh_frame_hdr: Option<(Range<u64>, Bytes)>,
    pub(crate) debug_frame: Option<Bytes>,
    /// The function table of a Go program.
    pub(crate) gopclntab: Option<Bytes>,
}

impl Sections {
    /// The bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.eh_frame.as_ref().map_or(0, |(_, bytes)| bytes.len())
            + self.eh_frame_hdr.as_ref().map_or(0, |(_, bytes)| bytes.len())
            + self.debug_frame.as_ref().map_or(0, |bytes| bytes.len())
    }

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
        if sections.eh_frame.is_none() {
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
            b".eh_frame" => self.eh_frame = whole().map(|bytes| (range, bytes)),
            b".eh_frame_hdr" => self.eh_frame_hdr = whole().map(|bytes| (range, bytes)),
            b".debug_frame" => self.debug_frame = whole(),
            b".gopclntab" | b".data.rel.ro.gopclntab" => self.gopclntab = whole(),
            _ => {}
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
