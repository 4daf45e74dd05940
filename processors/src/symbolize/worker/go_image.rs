//! What Go's function table does not say itself: where the code starts, and where the inline trees
//! are. The runtime's module data knows both; it is found as the structure that begins with the
//! address of the table.

use object::read::elf::{ElfFile, FileHeader};
use object::{Endianness, Object, ObjectSection};
use profpipe_host::gopclntab::word;

use super::gopclntab::{GoTable, Image};

/// Words of the module data (`runtime.moduledata`, unchanged from 1.20 to 1.26).
const TEXT: u64 = 22;
/// See [`TEXT`].
const GOFUNC: u64 = 40;
/// The words that are looked at.
const WORDS: u64 = 42;
/// Relocations of a position independent program that are looked at.
const MAX_RELOCATIONS: usize = 1 << 22;

/// The Go table of a binary, if it has one.
pub(super) fn read<'a, E: FileHeader<Endian = Endianness>>(
    file: &ElfFile<'a, E>,
) -> Option<GoTable<'a>> {
    let section = [".gopclntab", ".data.rel.ro.gopclntab"]
        .into_iter()
        .find_map(|name| file.section_by_name(name))?;
    let table = section.data().ok()?;
    let pointer = if file.is_64() { 8 } else { 4 };
    let mut image = GoImage { file, pointer, relocations: Vec::new(), module: None };
    image.find_module(section.address(), table.len() as u64);
    GoTable::parse(table, &image)
}

struct GoImage<'a, 'f, E: FileHeader<Endian = Endianness>> {
    file: &'f ElfFile<'a, E>,
    pointer: usize,
    /// (address, value) of the pointers that the loader fills in, ascending.
    relocations: Vec<(u64, u64)>,
    /// The address of the module data.
    module: Option<u64>,
}

impl<'a, E: FileHeader<Endian = Endianness>> GoImage<'a, '_, E> {
    fn find_module(&mut self, table: u64, length: u64) {
        self.module = self.scan(table, length);
        if self.module.is_none() {
            self.read_relocations();
            let found = self.relocations.iter().filter(|(_, value)| *value == table);
            let found: Vec<u64> = found.map(|(address, _)| *address).take(64).collect();
            self.module = found.into_iter().find(|module| self.is_module(*module, table, length));
        }
    }

    /// Looks for the module data where it is written out.
    fn scan(&self, table: u64, length: u64) -> Option<u64> {
        let names = [".go.module", ".noptrdata", ".data", ".data.rel.ro"];
        for section in names.iter().filter_map(|name| self.file.section_by_name(name)) {
            let Ok(data) = section.data() else { continue };
            for (at, bytes) in data.chunks_exact(self.pointer).enumerate() {
                let value = word(bytes, 0, self.pointer, self.file.is_little_endian());
                let address = section.address().wrapping_add((at * self.pointer) as u64);
                if value == Some(table) && self.is_module(address, table, length) {
                    return Some(address);
                }
            }
        }
        None
    }

    /// True if the words after the address of the table are slices of the table.
    fn is_module(&self, module: u64, table: u64, length: u64) -> bool {
        let inside = |at| {
            self.word(module, at)
                .is_some_and(|it| (table..table.saturating_add(length)).contains(&it))
        };
        self.word(module, WORDS - 1).is_some() && [1, 4, 7, 10, 13, 16].into_iter().all(inside)
    }

    fn word(&self, module: u64, at: u64) -> Option<u64> {
        self.pointer_at(module.checked_add(at * self.pointer as u64)?)
    }

    /// The pointer at an address, as it is once the program runs (at the address it is linked for).
    fn pointer_at(&self, address: u64) -> Option<u64> {
        if let Ok(at) = self.relocations.binary_search_by_key(&address, |row| row.0) {
            return self.relocations.get(at).map(|row| row.1);
        }
        let bytes = self.bytes_at(address)?;
        word(bytes, 0, self.pointer, self.file.is_little_endian())
    }

    /// The bytes from an address to the end of its section.
    fn bytes_at(&self, address: u64) -> Option<&'a [u8]> {
        let section = self.file.sections().find(|section| {
            let start = section.address();
            start != 0 && (start..start.saturating_add(section.size())).contains(&address)
        })?;
        let at = usize::try_from(address - section.address()).ok()?;
        section.data().ok()?.get(at..)
    }

    fn read_relocations(&mut self) {
        let relative = match self.file.architecture() {
            object::Architecture::X86_64 => 8,
            object::Architecture::Aarch64 => 1027,
            _ => return,
        };
        let little = self.file.is_little_endian();
        for section in [".rela.dyn", ".rela"] {
            let Some(section) = self.file.section_by_name(section) else { continue };
            let Ok(data) = section.data() else { continue };
            for row in data.chunks_exact(24).take(MAX_RELOCATIONS) {
                let number = |at| word(row, at, 8, little).unwrap_or_default();
                if number(8) & 0xffff_ffff == relative {
                    self.relocations.push((number(0), number(16)));
                }
            }
        }
        self.relocations.sort_unstable();
    }
}

impl<'a, E: FileHeader<Endian = Endianness>> Image<'a> for GoImage<'a, '_, E> {
    fn text_start(&self) -> Option<u64> {
        let module = self.module.and_then(|module| self.word(module, TEXT)).filter(|it| *it != 0);
        // Without it the code starts where its section does, unless C was linked in before.
        module.or_else(|| self.file.section_by_name(".text").map(|section| section.address()))
    }

    fn inline_trees(&self) -> Option<&'a [u8]> {
        let gofunc = self.word(self.module?, GOFUNC).filter(|it| *it != 0)?;
        self.bytes_at(gofunc)
    }
}
