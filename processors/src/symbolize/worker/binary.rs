//! One module: what its file and the files beside it know about names.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Instant;

use addr2line::Context;
use gimli::{RunTimeEndian, SectionId};
use object::read::elf::{ElfFile, FileHeader};
use object::{CompressionFormat, Endianness, FileKind, Object, ObjectSection, SectionFlags};

use super::super::protocol::{Facts, MAX_FRAMES, Refusal, Role, WireFunction};
use super::arena::{Arena, Family, Owned};
use super::debugdata;
use super::demangle;
use super::dwarf::{self, DwarfFrame, Reader};
use super::elf::{FoundSymbol, Search};
use super::functions::{self, Functions};
use super::go_image;
use super::gopclntab::{GoFrame, GoTable};
use super::names::{NamesWriter, one};
use super::plt::{self, Stubs};
use super::split::{self, SplitSections, Splits};
use super::sweep::{Pieces, Slice};
use super::units::{self, Sections, Units};

/// A module, loaded.
pub(super) type LoadedBinary = Owned<BinaryFamily>;

/// See [`Binary`].
pub(super) struct BinaryFamily;

impl Family for BinaryFamily {
    type Of<'a> = Binary<'a>;
}

/// A module's files and, once asked, what was read from them.
pub(super) struct Binary<'a> {
    pub(super) main: Elf<'a>,
    pub(super) debug: Option<Elf<'a>>,
    supplementary: Option<Elf<'a>>,
    package: Option<Elf<'a>>,
    split: Vec<Elf<'a>>,
    pub(super) tables: Option<Tables<'a>>,
}

/// What answers questions.
#[derive(Default)]
pub(super) struct Tables<'a> {
    /// Where code is.
    pub(super) code: Vec<(u64, u64)>,
    /// The small symbol table inside the file.
    pub(super) small: Option<Elf<'a>>,
    /// Where functions are by the unwinding table; read with the first symbols.
    pub(super) functions: Option<Option<Functions<'a>>>,
    /// Read when an address is in one.
    pub(super) stubs: Option<Stubs<'a>>,
    pub(super) go: Option<GoTable<'a>>,
    /// Read when an address first needs it; the outer `None` means not yet.
    pub(super) debug: Option<Option<Units<'a>>>,
    /// Functions that are in files of their own, read with it.
    pub(super) splits: Splits<'a>,
    /// What a sweep has not come to yet.
    pub(super) pieces: Option<Pieces<'a>>,
    /// What sections may still be inflated to.
    pub(super) budget: u64,
}

/// The most files that compilers left which are used for one module.
const MAX_SPLIT: usize = 1024;

/// An ELF file of either word size.
pub(super) enum Elf<'a> {
    Word32(ElfFile<'a, object::elf::FileHeader32<Endianness>>),
    Word64(ElfFile<'a, object::elf::FileHeader64<Endianness>>),
}

/// Does the same with an ELF file of either word size.
macro_rules! with_elf {
    ($elf:expr, $file:ident => $body:expr) => {
        match $elf {
            Elf::Word32($file) => $body,
            Elf::Word64($file) => $body,
        }
    };
}

pub(super) use with_elf;

impl<'a> Elf<'a> {
    /// Reads the headers.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        match FileKind::parse(data).ok()? {
            FileKind::Elf32 => ElfFile::parse(data).ok().map(Self::Word32),
            FileKind::Elf64 => ElfFile::parse(data).ok().map(Self::Word64),
            _ => None,
        }
    }

    fn build_id(&self) -> Vec<u8> {
        let id = with_elf!(self, file => file.build_id().ok().flatten());
        id.filter(|id| id.len() <= 64).unwrap_or_default().to_vec()
    }

    /// The name and the checksum of the debug file.
    fn debug_link(&self) -> Option<(&'a [u8], u32)> {
        with_elf!(self, file => file.gnu_debuglink().ok().flatten())
    }

    /// The path and build id of the supplementary file.
    fn debug_alt_link(&self) -> Option<(&'a [u8], &'a [u8])> {
        with_elf!(self, file => file.gnu_debugaltlink().ok().flatten())
    }

    fn has_section(&self, name: &str) -> bool {
        with_elf!(self, file => file.section_by_name(name).is_some_and(|it| it.size() > 0))
    }

    /// The bytes of a section once inflated, as far as the file says.
    fn size_of(&self, name: &str) -> u64 {
        with_elf!(self, file => {
            let data = file.section_by_name(name).and_then(|section| section.compressed_data().ok());
            data.map_or(0, |data| data.uncompressed_size)
        })
    }

    /// The bytes of these sections once inflated, of those that are compressed.
    fn inflated_size(&self, sections: &[SectionId]) -> u64 {
        let size = |id: &SectionId| {
            let data = with_elf!(self, file => {
                file.section_by_name(id.name()).and_then(|section| section.compressed_data().ok())
            });
            let data = data.filter(|data| data.format != CompressionFormat::None);
            data.map_or(0, |data| data.uncompressed_size)
        };
        sections.iter().map(size).fold(0, u64::saturating_add)
    }

    fn endian(&self) -> RunTimeEndian {
        let little = with_elf!(self, file => file.is_little_endian());
        if little { RunTimeEndian::Little } else { RunTimeEndian::Big }
    }

    /// The content of a section, inflated into the arena if need be. None if there is no such
    /// section, it is broken, or it does not fit into what is left of `budget`.
    pub(super) fn section(
        &self,
        arena: &'a Arena,
        name: &str,
        budget: &mut u64,
    ) -> Option<&'a [u8]> {
        let data = with_elf!(self, file => file.section_by_name(name)?.compressed_data().ok()?);
        if data.format == CompressionFormat::None {
            return Some(data.data);
        }
        // The size is what the file says: a decompressor that keeps to it is bounded by it.
        *budget = budget.checked_sub(data.uncompressed_size)?;
        data.decompress().ok().map(|inflated| arena.keep(inflated.into_owned()))
    }

    /// The address ranges of code. Debug files state them too, without the code.
    fn code(&self) -> Vec<(u64, u64)> {
        with_elf!(self, file => {
            let sections = file.sections().filter(|section| is_code(section.flags()));
            sections
                .map(|section| (section.address(), section.address().saturating_add(section.size())))
                .take(4096)
                .collect()
        })
    }

    /// Where functions are by the unwinding table.
    pub(super) fn functions(&self, arena: &'a Arena, budget: &mut u64) -> Option<Functions<'a>> {
        let mut place = |name| {
            let address = with_elf!(self, file => file.section_by_name(name)?.address());
            Some((address, self.section(arena, name, budget)?))
        };
        let (header, frames) = (place(".eh_frame_hdr")?, place(".eh_frame")?);
        let address_size = if matches!(self, Self::Word64(_)) { 8 } else { 4 };
        Functions::read(header, frames, self.endian(), address_size)
    }

    fn search(&self, search: &mut Search<'a>, code: &[(u64, u64)]) {
        fn add<'a, E: FileHeader<Endian = Endianness>>(
            file: &ElfFile<'a, E>,
            search: &mut Search<'a>,
            code: &[(u64, u64)],
        ) {
            search.add(file.endian(), file.elf_symbol_table(), code);
            search.add(file.endian(), file.elf_dynamic_symbol_table(), code);
        }
        with_elf!(self, file => add(file, search, code));
    }
}

fn is_code(flags: SectionFlags) -> bool {
    let code = object::elf::SHF_EXECINSTR | object::elf::SHF_ALLOC;
    matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags & code == code)
}

impl<'a> Binary<'a> {
    fn new(data: &'a [u8]) -> Result<Self, Refusal> {
        let main = Elf::parse(data).ok_or(Refusal::Mismatch)?;
        Ok(Self {
            main,
            debug: None,
            supplementary: None,
            package: None,
            split: Vec::new(),
            tables: None,
        })
    }

    /// What the processor should know, to find the files that belong to this one.
    pub(super) fn facts(&self) -> Facts {
        let text = |bytes: &[u8]| demangle::cut(&String::from_utf8_lossy(bytes));
        let debug = self.debug.as_ref().unwrap_or(&self.main);
        Facts {
            build_id: self.main.build_id(),
            debug_link: self.main.debug_link().map(|(name, _)| text(name)),
            supplementary: debug
                .debug_alt_link()
                .filter(|(_, id)| id.len() <= 64)
                .map(|(path, id)| (text(path), id.to_vec())),
            has_debug_info: debug.has_section(".debug_info"),
            debug_info_bytes: debug.size_of(".debug_info"),
            inflated_bytes: debug.inflated_size(&units::SECTIONS),
        }
    }

    /// Uses another file too, if it is the right one.
    fn add_companion(&mut self, role: Role, data: &'a [u8]) -> Result<(), Refusal> {
        let companion = Elf::parse(data).ok_or(Refusal::Mismatch)?;
        let has = companion.build_id();
        match role {
            Role::Debug => {
                let wanted = self.main.build_id();
                let same = if wanted.is_empty() || has.is_empty() {
                    // Both agree on the checksum, or it is a guess.
                    self.main.debug_link().is_some_and(|(_, crc)| crc32fast::hash(data) == crc)
                } else {
                    has == wanted
                };
                if !same {
                    return Err(Refusal::Mismatch);
                }
                self.debug = Some(companion);
            }
            Role::Supplementary => {
                let debug = self.debug.as_ref().unwrap_or(&self.main);
                if debug.debug_alt_link().is_none_or(|(_, id)| id.is_empty() || id != has) {
                    return Err(Refusal::Mismatch);
                }
                self.supplementary = Some(companion);
            }
            // They belong to it by the ids of their units, each of which is compared.
            Role::Package if companion.has_section(".debug_cu_index") => {
                self.package = Some(companion);
            }
            Role::Split
                if self.split.len() < MAX_SPLIT && companion.has_section(".debug_info.dwo") =>
            {
                self.split.push(companion);
            }
            Role::Package | Role::Split => return Err(Refusal::Mismatch),
        }
        self.tables = None;
        Ok(())
    }

    /// Names addresses, which ascend, until `names` has enough or the time is up.
    fn resolve(
        &mut self,
        arena: &'a Arena,
        (addresses, only_symbols): (&[u64], bool),
        names: &mut NamesWriter,
        memory: u64,
        until: Instant,
    ) {
        if self.tables.is_none() {
            self.tables = Some(self.read_tables(arena, memory));
        }
        let Some(tables) = &mut self.tables else { return };
        let mut symbols = None;
        for &address in addresses {
            // As good as debug information, and far cheaper to read.
            let same = match tables.go.as_ref().and_then(|go| go.frames(address)) {
                Some((frames, same)) => {
                    write_go(&frames, names);
                    same
                }
                None => {
                    let symbols = symbols.get_or_insert_with(|| {
                        let search = Search::new(addresses, &tables.code);
                        find_symbols(&self.main, self.debug.as_ref(), tables, arena, search)
                    });
                    let at = symbols.binary_search_by_key(&address, |found| found.address);
                    let found = at.ok().and_then(|at| symbols.get(at).copied());
                    let debug = self.debug.as_ref().unwrap_or(&self.main);
                    let supplementary = self.supplementary.as_ref();
                    let budget = &mut tables.budget;
                    if only_symbols {
                        write_native(None, found, true, address, names)
                    } else {
                        let splits = &mut tables.splits;
                        let debug = tables.debug.get_or_insert_with(|| {
                            *splits = read_splits(&self.package, &self.split, arena, budget);
                            read_debug_information(debug, supplementary, arena, budget)
                        });
                        let may_differ = tables.go.is_some() || debug.is_some();
                        let dwarf = debug.as_mut().and_then(|units| units.at(address));
                        let dwarf = dwarf.map(|dwarf| (dwarf, splits));
                        write_native(dwarf, found, may_differ, address, names)
                    }
                }
            };
            if !names.finish_address(address, &same) || Instant::now() > until {
                break;
            }
        }
    }

    /// Makes sure that debug information is read.
    pub(super) fn read_debug(&mut self, arena: &'a Arena, memory: u64) {
        if self.tables.is_none() {
            self.tables = Some(self.read_tables(arena, memory));
        }
        let Some(tables) = &mut self.tables else { return };
        if tables.debug.is_none() {
            let budget = &mut tables.budget;
            tables.splits = read_splits(&self.package, &self.split, arena, budget);
            let debug = self.debug.as_ref().unwrap_or(&self.main);
            let supplementary = self.supplementary.as_ref();
            tables.debug = Some(read_debug_information(debug, supplementary, arena, budget));
        }
    }

    fn read_tables(&self, arena: &'a Arena, memory: u64) -> Tables<'a> {
        // The debug file has no code, but the same section headers; trust the file that runs.
        let mut tables = Tables { budget: memory, code: self.main.code(), ..Tables::default() };
        let small = self.main.section(arena, ".gnu_debugdata", &mut tables.budget);
        let image = small.and_then(|data| debugdata::inflate(data, &mut tables.budget));
        tables.small = image.and_then(|image| Elf::parse(arena.keep(image)));
        tables.go = with_elf!(&self.main, file => go_image::read(file));
        tables
    }
}

pub(super) fn find_symbols<'a>(
    main: &Elf<'a>,
    debug: Option<&Elf<'a>>,
    tables: &mut Tables<'a>,
    arena: &'a Arena,
    mut search: Search<'a>,
) -> Vec<FoundSymbol<'a>> {
    for elf in [Some(main), debug, tables.small.as_ref()].into_iter().flatten() {
        elf.search(&mut search, &tables.code);
    }
    let in_stubs = |section| with_elf!(main, file => plt::contains(file, section, &search));
    if plt::SECTIONS.into_iter().any(in_stubs) {
        let stubs =
            tables.stubs.get_or_insert_with(|| with_elf!(main, file => plt::read(file, arena)));
        for (start, end, name) in stubs {
            search.add_range(*start, *end, name);
        }
    }
    let functions =
        tables.functions.get_or_insert_with(|| main.functions(arena, &mut tables.budget)).as_ref();
    let has_all = |elf: &Elf<'_>| elf.has_section(".symtab");
    let is_stripped =
        ![Some(main), debug, tables.small.as_ref()].into_iter().flatten().any(has_all);
    search.finish(|symbol, address| functions::is_of(functions, symbol, address, is_stripped))
}

pub(super) fn write_go(frames: &[GoFrame<'_>], names: &mut NamesWriter) {
    for frame in frames {
        names.frame_at((frame.name, frame.file), (frame.line, 0), || {
            let file = String::from_utf8_lossy(frame.file);
            let function = demangle::function(frame.name, &file, true);
            WireFunction { start_line: frame.start_line, ..function }
        });
    }
}

/// Writes the frames of an address; returns the range around it in which they are the same.
fn write_native<'a>(
    dwarf: Option<(&Context<Reader<'a>>, &mut Splits<'a>)>,
    found: Option<FoundSymbol<'_>>,
    may_differ: bool,
    address: u64,
    names: &mut NamesWriter,
) -> Range<u64> {
    let symbol = found.and_then(|found| found.name);
    let around = found.map_or_else(|| one(address), |found| found.from..found.to);
    if let Some((dwarf, splits)) = dwarf {
        let frames = dwarf::frames(dwarf, splits, address, MAX_FRAMES);
        if write_dwarf(&frames, symbol, names) {
            let same = dwarf::same_frames(dwarf, splits, address, &frames, MAX_FRAMES);
            return same.start.max(around.start)..same.end.min(around.end);
        }
    }
    if let Some(symbol) = symbol {
        names.frame_at((symbol, &[]), (0, 0), || demangle::function(symbol, "", false));
    }
    // Of the next address another table may know more.
    if may_differ { one(address) } else { around }
}

fn read_splits<'a>(
    package: &Option<Elf<'a>>,
    files: &[Elf<'a>],
    arena: &'a Arena,
    budget: &mut u64,
) -> Splits<'a> {
    let mut load = |elf: &Elf<'a>| {
        let name = |id: &SectionId| id.dwo_name().unwrap_or(id.name());
        let section = |id: SectionId| Some((id, elf.section(arena, name(&id), budget)?));
        let content = split::SECTIONS.into_iter().filter_map(section).collect();
        SplitSections { content, endian: elf.endian() }
    };
    let package = package.as_ref().map(&mut load);
    Splits::new(package, files.iter().map(load))
}

fn read_debug_information<'a>(
    debug: &Elf<'a>,
    supplementary: Option<&Elf<'a>>,
    arena: &'a Arena,
    budget: &mut u64,
) -> Option<Units<'a>> {
    if !debug.has_section(".debug_info") {
        return None;
    }
    let mut load = |elf: &Elf<'a>| {
        let content = units::SECTIONS.into_iter().filter_map(|id| {
            let data = elf.section(arena, id.name(), budget)?;
            Some((id, data))
        });
        Sections { content: content.collect(), endian: elf.endian() }
    };
    let sections = load(debug);
    Some(Units::new(sections, supplementary.map(load)))
}

/// Writes what debug information knows about an address; false if that is nothing.
pub(super) fn write_dwarf(
    frames: &[DwarfFrame<'_>],
    symbol: Option<&[u8]>,
    names: &mut NamesWriter,
) -> bool {
    let outermost = frames.len().saturating_sub(1);
    let mut found = false;
    for (at, frame) in frames.iter().enumerate() {
        let own = frame.name.filter(|name| !name.is_empty());
        // The symbol has the full name of what debug information states only by its last part.
        let symbol = symbol.filter(|_| at == outermost);
        let name = match (own, symbol) {
            (Some(own), Some(symbol)) if !is_mangled(own) && is_mangled(symbol) => symbol,
            (Some(own), _) => own,
            (None, Some(symbol)) => symbol,
            (None, None) => continue,
        };
        names.frame_at((name, frame.file.as_bytes()), (frame.line, frame.column), || {
            demangle::function(name, frame.file, frame.is_go)
        });
        found = true;
    }
    found
}

fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_Z") || name.starts_with(b"_R")
}

/// Loads a module from a file.
///
/// # Errors
/// If it is not an ELF file, or cannot be mapped.
pub(super) fn open(file: &OwnedFd) -> Result<LoadedBinary, Refusal> {
    Owned::build(|arena| Binary::new(arena.map(file).map_err(|_| Refusal::Limit)?))
}

/// Loads a module from an image.
///
/// # Errors
/// If it is not an ELF image.
pub(super) fn open_image(image: Vec<u8>) -> Result<LoadedBinary, Refusal> {
    Owned::build(|arena| Binary::new(arena.keep(image)))
}

impl LoadedBinary {
    /// See [`Facts`].
    pub(super) fn facts(&mut self) -> Facts {
        self.update(|_, binary| binary.facts())
    }

    /// Uses another file too.
    ///
    /// # Errors
    /// If it is not the right one, or cannot be mapped.
    pub(super) fn add_companion(&mut self, role: Role, file: &OwnedFd) -> Result<(), Refusal> {
        self.update(|arena, binary| {
            let data = arena.map(file).map_err(|_| Refusal::Limit)?;
            binary.add_companion(role, data)
        })
    }

    /// Writes the frames of addresses, which ascend, until `names` has enough or the time is up; by
    /// symbol tables only, if so.
    pub(super) fn resolve(
        &mut self,
        addresses: (&[u64], bool),
        names: &mut NamesWriter,
        memory: u64,
        until: Instant,
    ) {
        self.update(|arena, binary| binary.resolve(arena, addresses, names, memory, until));
    }

    /// The paths of files that would have told more about the addresses asked for.
    pub(super) fn take_wanted(&mut self) -> Vec<String> {
        self.update(|_, binary| {
            binary.tables.as_mut().map(|tables| tables.splits.take_wanted()).unwrap_or_default()
        })
    }

    /// Writes the frames of all addresses of a range, one part with the same frames after the other,
    /// until `names` has enough or the time is up.
    pub(super) fn sweep(
        &mut self,
        range: Range<u64>,
        names: &mut NamesWriter,
        memory: u64,
        until: Slice,
    ) {
        self.update(|arena, binary| binary.sweep(arena, range, names, memory, until));
    }

    /// Forgets what was read of debug information; what is needed again is read again.
    pub(super) fn forget_units(&mut self) {
        self.update(|_, binary| {
            if let Some(Some(Some(units))) =
                binary.tables.as_mut().map(|tables| tables.debug.as_mut().map(Option::as_mut))
            {
                units.forget();
            }
        });
    }

    /// Gives back the memory of mapped files; what is read again is mapped again.
    pub(super) fn unload(&mut self) {
        self.update(|arena, _| arena.unload());
    }
}

/// Opens a file to be asked about addresses, which ascend, for tests.
#[cfg(test)]
pub(in super::super) fn look_up(
    file: &OwnedFd,
) -> impl FnMut(&[u64]) -> Vec<super::super::answer::ResolvedAddress> + use<> {
    let mut ask = look_up_by(file);
    move |addresses| ask(addresses, false)
}

/// The same, by symbol tables only where that is asked.
#[cfg(test)]
pub(in super::super) fn look_up_by(
    file: &OwnedFd,
) -> impl FnMut(&[u64], bool) -> Vec<super::super::answer::ResolvedAddress> + use<> {
    let mut binary = open(file).ok();
    move |addresses, only_symbols| {
        let mut names = NamesWriter::default();
        let until = Instant::now() + std::time::Duration::from_secs(3600);
        if let Some(binary) = &mut binary {
            binary.resolve((addresses, only_symbols), &mut names, 1 << 30, until);
        }
        super::super::answer::from_wire(names.finish(), addresses).unwrap_or_default()
    }
}

/// Reads what an image states about itself, for tests of broken ones.
#[cfg(test)]
pub(in super::super) fn try_image(image: Vec<u8>) {
    if let Ok(mut binary) = open_image(image) {
        binary.facts();
    }
}
