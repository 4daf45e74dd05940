//! The tables of an ELF file: program headers and section headers, in numbers of one width.
//!
//! `object` knows the formats; this reads each table with one positioned read and copies what is of
//! use, so that nothing borrows from the file and no more is read than the bound allows. A table
//! that is missing, malformed or lies outside of the file is none, and the other one is still good.

use std::io;

use object::elf::{FileHeader32, FileHeader64, SHF_COMPRESSED, SHT_NOBITS, SHT_NULL};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadCacheOps};
use object::{Endianness, ReadRef};

use crate::content::{Content, fill, read};

/// The most bytes of the table of section names.
const MAX_NAMES: u64 = 4 << 20;

/// The headers of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// It is a 64-bit one.
    pub is_64: bool,
    /// Its byte order.
    pub endian: Endianness,
    /// The address of the first instruction; 0 for most libraries.
    pub entry: u64,
    /// The length of the file in bytes when this was read.
    pub length: u64,
    /// The program headers; none if the table is malformed, empty if there is none.
    pub segments: Option<Vec<Segment>>,
    /// The section headers; none if the table is malformed, empty if there is none.
    pub sections: Option<Vec<Section>>,
    names: Vec<u8>,
}

/// A program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// What it is for: `PT_LOAD` and so on.
    pub kind: u32,
    /// `PF_X` and so on.
    pub flags: u32,
    /// The offset in the file.
    pub offset: u64,
    /// The address in the file's own address space.
    pub address: u64,
    /// The length in the file.
    pub length: u64,
    /// The alignment.
    pub alignment: u64,
}

/// A section header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it holds: `SHT_NOTE` and so on.
    pub kind: u32,
    /// `SHF_ALLOC` and so on.
    pub flags: u64,
    /// The address in the file's own address space, 0 if it has none.
    pub address: u64,
    /// The offset in the file.
    pub offset: u64,
    /// The length in bytes.
    pub size: u64,
    /// The alignment.
    pub alignment: u64,
    name: u32,
}

impl Section {
    /// True if it has bytes in the file.
    pub fn has_bytes(&self) -> bool {
        self.kind != SHT_NULL.0 && self.kind != SHT_NOBITS.0
    }

    /// True if its bytes are compressed.
    pub fn is_compressed(&self) -> bool {
        self.flags & SHF_COMPRESSED.0 != 0
    }
}

impl Headers {
    /// Reads the headers of a file, of each table at most `most` entries; none if it is not ELF.
    ///
    /// # Errors
    /// If the content cannot be read. That it ends too early is not an error.
    pub fn read<C: Content + ?Sized>(content: &C, most: usize) -> io::Result<Option<Self>> {
        let length = content.length()?;
        let positioned = Positioned { content, length, position: 0, failure: None };
        let cache = ReadCache::new(positioned);
        let headers = read_any(&cache, length, most);
        if let Some(failure) = cache.into_inner().failure {
            return Err(failure);
        }
        let Some((mut headers, names)) = headers else { return Ok(None) };
        if let Some((offset, size)) = names.filter(|(_, size)| *size <= MAX_NAMES) {
            match read(content, length, offset, size) {
                Ok(names) => headers.names = names,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(headers))
    }

    /// The name of a section; empty if there is none.
    pub fn name(&self, section: &Section) -> &[u8] {
        let name = self.names.get(section.name as usize..).unwrap_or_default();
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Where the names of the sections lie: offset and size.
type Names = Option<(u64, u64)>;

fn read_any<'a, R: ReadRef<'a>>(data: R, length: u64, most: usize) -> Option<(Headers, Names)> {
    // The class says how long the header is.
    match data.read_bytes_at(0, 5).ok()? {
        [0x7f, b'E', b'L', b'F', 1] => read_as::<FileHeader32<Endianness>, R>(data, length, most),
        [0x7f, b'E', b'L', b'F', 2] => read_as::<FileHeader64<Endianness>, R>(data, length, most),
        _ => None,
    }
}

fn read_as<'a, E, R>(data: R, length: u64, most: usize) -> Option<(Headers, Names)>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'a>,
{
    let header = E::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections: Option<&[E::SectionHeader]> = match header.e_shoff(endian).into() {
        0 => Some(&[]),
        offset => {
            let count = header.shnum(endian, data).ok();
            count.and_then(|count| {
                // A table without even one entry is malformed.
                let _: &E::SectionHeader = data.read_at(offset).ok()?;
                let is_sized =
                    usize::from(header.e_shentsize(endian)) == size_of::<E::SectionHeader>();
                is_sized.then_some(())?;
                data.read_slice_at(offset, (count as usize).min(most)).ok()
            })
        }
    };
    let segments: Option<&[E::ProgramHeader]> = match header.e_phoff(endian).into() {
        0 => Some(&[]),
        offset => header.phnum(endian, data).ok().and_then(|count| {
            let is_sized = usize::from(header.e_phentsize(endian)) == size_of::<E::ProgramHeader>();
            if count == 0 || !is_sized {
                return (count == 0).then_some(&[][..]);
            }
            data.read_slice_at(offset, (count as usize).min(most)).ok()
        }),
    };
    let names = sections.filter(|sections| !sections.is_empty()).and_then(|sections| {
        let at = header.shstrndx(endian, data).ok()?;
        sections.get(at as usize)?.file_range(endian)
    });
    let headers = Headers {
        is_64: header.is_type_64(),
        endian,
        entry: header.e_entry(endian).into(),
        length,
        segments: segments.map(|all| all.iter().map(|it| segment(it, endian)).collect()),
        sections: sections.map(|all| all.iter().map(|it| section(it, endian)).collect()),
        names: Vec::new(),
    };
    Some((headers, names))
}

fn segment<P: ProgramHeader<Endian = Endianness>>(header: &P, endian: Endianness) -> Segment {
    Segment {
        kind: header.p_type(endian).0,
        flags: header.p_flags(endian).0,
        offset: header.p_offset(endian).into(),
        address: header.p_vaddr(endian).into(),
        length: header.p_filesz(endian).into(),
        alignment: header.p_align(endian).into(),
    }
}

fn section<S: SectionHeader<Endian = Endianness>>(header: &S, endian: Endianness) -> Section {
    Section {
        kind: header.sh_type(endian).0,
        flags: header.sh_flags(endian).0,
        address: header.sh_addr(endian).into(),
        offset: header.sh_offset(endian).into(),
        size: header.sh_size(endian).into(),
        alignment: header.sh_addralign(endian).into(),
        name: header.sh_name(endian),
    }
}

/// A content with a position, as [`ReadCache`] wants it. It keeps why a read failed, which `object`
/// does not pass on.
struct Positioned<'a, C: ?Sized> {
    content: &'a C,
    length: u64,
    position: u64,
    failure: Option<io::Error>,
}

impl<C: Content + ?Sized> ReadCacheOps for Positioned<'_, C> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.length)
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let read = self.content.read_at(buffer, self.position).map_err(|error| {
            self.failure = Some(error);
        })?;
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        match fill(self.content, buffer, self.position) {
            Ok(()) => self.position = self.position.saturating_add(buffer.len() as u64),
            // It has become shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(()),
            Err(error) => {
                self.failure = Some(error);
                return Err(());
            }
        }
        Ok(())
    }
}
