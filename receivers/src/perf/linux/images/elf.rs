//! Reads from an ELF file what unwinding and identification need, and nothing else.
//!
//! The file belongs to somebody else and may be hostile, truncated while we read, or huge: every
//! read is bounded and positioned, nothing is mapped into this process, and whatever makes no
//! sense is as if it were not there.

use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Bytes read from a file, shared.
#[derive(Debug, Clone)]
pub(crate) struct Bytes(Arc<Memory>);

/// Where they are. Tables of many megabytes are read by one thread and dropped by another, and the
/// allocator would keep their room: large ones are in memory of their own, which goes back at once.
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

/// The content of a file, at positions. Files, and in tests bytes.
pub(crate) trait Content {
    /// Reads at most `buffer.len()` bytes at `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;
}

impl Content for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
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

/// The largest table of unwinding rules that we read.
const MAX_SECTION: u64 = 40 << 20;
/// From this size on a table has memory of its own.
const OWN_PAGES: u64 = 64 << 10;
/// The most program headers and section headers that we look at.
const MAX_HEADERS: u64 = 1024;

/// What we know of an ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// The loadable executable segments.
    pub(crate) segments: Vec<Segment>,
    /// The lowest address of any loadable segment.
    pub(crate) base: u64,
    /// The address of the first instruction; 0 for most libraries.
    pub(crate) entry: u64,
    /// The GNU build id in hex.
    pub(crate) build_id: Option<String>,
    /// The Go build id.
    pub(crate) go_build_id: Option<String>,
    /// The file is a program or library of Go.
    pub(crate) go: bool,
}

/// An executable segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The offset in the file.
    pub(crate) offset: u64,
    /// The address in the file's own address space.
    pub(crate) address: u64,
    /// The length in the file.
    pub(crate) length: u64,
}

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

    fn read<C: Content + ?Sized>(
        &mut self,
        file: &Reader<'_, C>,
        section: &SectionHeader,
        name: &[u8],
    ) {
        let range = section.address..section.address.saturating_add(section.size);
        let whole = || {
            // A compressed section, or one without bytes in the file, is of no use.
            let plain = section.flags & SHF_COMPRESSED == 0 && section.kind != SHT_NOBITS;
            (plain && section.size > 0 && section.size <= MAX_SECTION)
                .then(|| file.shared(section.offset, section.size))
                .flatten()
        };
        match name {
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
    fn read_frame_header<C: Content + ?Sized>(
        &mut self,
        file: &Reader<'_, C>,
        header: Option<(u64, u64, u64)>,
    ) -> Option<()> {
        let (offset, address, length) = header?;
        let bytes = file.bytes(offset, length.min(MAX_SECTION))?;
        // Version 1, the table's address relative to the field itself, in 4 signed bytes.
        let (version, encoding) = (*bytes.first()?, *bytes.get(1)?);
        if version != 1 || encoding != 0x1b {
            return None;
        }
        let distance = i64::from(u32_at(&bytes, 4)?.cast_signed());
        let start = address.checked_add(4)?.checked_add_signed(distance)?;
        let at = offset.checked_add(4)?.checked_add_signed(distance)?;
        let size = file.length.checked_sub(at)?.min(MAX_SECTION);
        let rules = file.shared(at, size)?;
        self.eh_frame_hdr = Some((address..address.checked_add(length)?, bytes.into()));
        self.eh_frame = Some((start..start.checked_add(size)?, rules));
        Some(())
    }
}

impl Elf {
    /// Reads who a 64-bit little-endian ELF file is; none if it is something else.
    pub(crate) fn read<C: Content + ?Sized>(content: &C) -> Option<Self> {
        Self::read_parts(content, None)
    }

    /// Reads the unwinding sections of a file, empty where they are not there or not of use.
    pub(crate) fn read_rules<C: Content + ?Sized>(content: &C) -> Sections {
        let mut sections = Sections::default();
        Self::read_parts(content, Some(&mut sections));
        sections
    }

    fn read_parts<C: Content + ?Sized>(
        content: &C,
        mut sections: Option<&mut Sections>,
    ) -> Option<Self> {
        let file = Reader { content, length: content.length().ok()? };
        let header = file.bytes(0, 64)?;
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let mut elf = Self { entry: u64_at(&header, 24)?, base: u64::MAX, ..Self::default() };
        let mut notes = Vec::new();
        let mut frame_header = None;
        let programs = file.table(&header, 32, 54, 56, 56)?;
        for program in programs.chunks_exact(56) {
            let (kind, flags) = (u32_at(program, 0)?, u32_at(program, 4)?);
            let (offset, address) = (u64_at(program, 8)?, u64_at(program, 16)?);
            let length = u64_at(program, 32)?;
            match kind {
                PT_LOAD => {
                    elf.base = elf.base.min(address & !0xfff);
                    if flags & PF_X != 0 && length > 0 {
                        elf.segments.push(Segment { offset, address, length });
                    }
                }
                PT_NOTE => notes.push((offset, length)),
                PT_GNU_EH_FRAME => frame_header = Some((offset, address, length)),
                _ => {}
            }
        }
        if elf.base == u64::MAX {
            elf.base = 0;
        }
        elf.read_sections(&file, &header, &mut notes, sections.as_deref_mut());
        if let Some(sections) = sections {
            if sections.eh_frame.is_none() {
                sections.read_frame_header(&file, frame_header);
            }
            return Some(elf);
        }
        for (offset, length) in notes {
            if let Some(bytes) = file.bytes(offset, length.min(64 << 10)) {
                elf.read_notes(&bytes);
            }
        }
        Some(elf)
    }

    fn read_sections<C: Content + ?Sized>(
        &mut self,
        file: &Reader<'_, C>,
        header: &[u8],
        notes: &mut Vec<(u64, u64)>,
        mut rules: Option<&mut Sections>,
    ) -> Option<()> {
        let table = file.table(header, 40, 58, 60, 64)?;
        let sections: Vec<_> = table.chunks_exact(64).filter_map(SectionHeader::read).collect();
        let names = sections.get(usize::from(u16_at(header, 62)?))?;
        let names = file.bytes(names.offset, names.size.min(1 << 20))?;
        for section in &sections {
            let name = names.get(section.name as usize..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            match name {
                b".gopclntab" | b".go.buildinfo" | b".data.rel.ro.gopclntab" if rules.is_none() => {
                    self.go = true;
                }
                _ if section.kind == SHT_NOTE => notes.push((section.offset, section.size)),
                _ => {
                    if let Some(rules) = rules.as_deref_mut() {
                        rules.read(file, section, name);
                    }
                }
            }
        }
        Some(())
    }

    fn read_notes(&mut self, mut bytes: &[u8]) -> Option<()> {
        loop {
            let (name, size) = (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)? as usize);
            let kind = u32_at(bytes, 8)?;
            let rest = bytes.get(12..)?;
            let owner = rest.get(..name)?;
            let rest = rest.get(name.checked_next_multiple_of(4)?..)?;
            let content = rest.get(..size)?;
            match (owner, kind) {
                (b"GNU\0", 3) if (1..=64).contains(&size) => self.build_id = Some(hex(content)),
                (b"Go\0\0", 4) if size <= 256 => {
                    self.go = true;
                    self.go_build_id = std::str::from_utf8(content).ok().map(str::to_owned);
                }
                _ => {}
            }
            bytes = rest.get(size.checked_next_multiple_of(4)?..)?;
        }
    }

    /// The executable segment that a mapping at `offset` in the file shows.
    pub(crate) fn segment_at(&self, offset: u64, page: u64) -> Option<Segment> {
        let start = |segment: &Segment| segment.offset & !(page - 1);
        let end = |segment: &Segment| segment.offset.saturating_add(segment.length);
        // The last that begins before: two segments may share a page.
        let covers = |segment: &&Segment| start(segment) <= offset && offset < end(segment);
        self.segments.iter().rfind(covers).copied()
    }
}

/// `hex(SHA256(first 4096 bytes ‖ last 4096 bytes ‖ length as 8 bytes, big end first)[..16])`.
pub(crate) fn htlhash<C: Content + ?Sized>(content: &C) -> Option<String> {
    let length = content.length().ok()?;
    let file = Reader { content, length };
    let edge = length.min(4096);
    let mut hash = Sha256::new();
    hash.update(file.bytes(0, edge)?);
    hash.update(file.bytes(length - edge, edge)?);
    hash.update(length.to_be_bytes());
    hash.finalize().get(..16).map(hex)
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct SectionHeader {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
}

impl SectionHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name: u32_at(bytes, 0)?,
            kind: u32_at(bytes, 4)?,
            flags: u64_at(bytes, 8)?,
            address: u64_at(bytes, 16)?,
            offset: u64_at(bytes, 24)?,
            size: u64_at(bytes, 32)?,
        })
    }
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 1 << 11;

struct Reader<'a, C: ?Sized> {
    content: &'a C,
    length: u64,
}

impl<C: Content + ?Sized> Reader<'_, C> {
    /// Bytes of the file; none if it ends before. Allocates no more than the file is long.
    fn bytes(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.fill(&mut bytes, offset)?;
        Some(bytes)
    }

    /// Bytes of the file, to be kept.
    fn shared(&self, offset: u64, length: u64) -> Option<Bytes> {
        if length < OWN_PAGES || offset.checked_add(length)? > self.length {
            return self.bytes(offset, length).map(Bytes::from);
        }
        let mut pages = memmap2::MmapMut::map_anon(usize::try_from(length).ok()?).ok()?;
        self.fill(&mut pages, offset)?;
        Some(Bytes(Arc::new(Memory::Pages(pages))))
    }

    fn fill(&self, bytes: &mut [u8], offset: u64) -> Option<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = bytes.get_mut(filled..)?;
            match self.content.read_at(rest, offset + filled as u64) {
                Ok(0) => return None,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// A table whose offset, entry size and count stand at these places of the ELF header.
    fn table(
        &self,
        header: &[u8],
        at: usize,
        size: usize,
        count: usize,
        own: u64,
    ) -> Option<Vec<u8>> {
        let stated = u64::from(u16_at(header, size)?);
        let count = u64::from(u16_at(header, count)?).min(MAX_HEADERS);
        if stated != own {
            return Some(Vec::new());
        }
        self.bytes(u64_at(header, at)?, count * own).or(Some(Vec::new()))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
