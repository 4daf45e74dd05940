//! The functions of the running kernel as a debug file: an ELF file with the kernel's build id and symbols, made of
//! `/proc/kallsyms`.
//!
//! A kernel lies elsewhere after each boot. Addresses in the file count from where its code begins, which is the
//! first function; a mapping of the kernel says where that is on this host. Modules have places of their own each
//! time, and are left out.

use std::io::{self, BufReader, Read as _};
use std::sync::OnceLock;

use profpipe_engine::modules::KERNEL;
use profpipe_host::elf::build_id_of_notes;
use profpipe_profile::attribute_names::BUILD_ID_GNU;
use profpipe_profile::{MappingRef, Mappings, Profiles, StringIx, Value};

use crate::symbolize::{BuildId, Symbols};

/// Where the kernel shows its build id.
const NOTES: &str = "/sys/kernel/notes";
/// Where it lists its symbols.
const LIST: &str = "/proc/kallsyms";
/// The longest list that is read.
const MAX_LIST: u64 = 256 << 20;
/// The size of a section header and of a symbol.
const SECTION_BYTES: usize = 64;
/// See [`SECTION_BYTES`].
const SYMBOL_BYTES: usize = 24;

/// Which kernel this is, and where its code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunningKernel {
    pub(super) build_id: BuildId,
    begin: u64,
    end: u64,
}

impl RunningKernel {
    /// The one that this process runs on, with its symbols.
    ///
    /// # Errors
    /// If it does not show them to this process.
    pub(super) fn read() -> io::Result<(Self, Symbols)> {
        let mut notes = Vec::new();
        std::fs::File::open(NOTES)?.take(1 << 16).read_to_end(&mut notes)?;
        let build_id = build_id_of_notes(&notes).and_then(|hex| BuildId::parse(&hex));
        let build_id = build_id.ok_or_else(|| io::Error::other("the kernel has no build id"))?;
        let list = std::fs::File::open(LIST)?.take(MAX_LIST);
        let symbols = Symbols::read(BufReader::new(list), &mut || ())?;
        let kernel = Self::of(build_id, &symbols)
            .ok_or_else(|| io::Error::other("the kernel hides its addresses from this process"))?;
        Ok((kernel, symbols))
    }

    /// A kernel with these symbols; none if they are hidden.
    pub(super) fn of(build_id: BuildId, symbols: &Symbols) -> Option<Self> {
        let (mut begin, mut last) = (None, 0);
        for (start, end, _) in symbols.of_kernel() {
            begin.get_or_insert(start);
            last = end;
        }
        Some(Self { build_id, begin: begin?, end: last })
    }

    /// Its functions as an ELF file; none if they are too many.
    pub(super) fn image(&self, symbols: &Symbols) -> Option<Vec<u8>> {
        let (mut table, mut names) = (vec![0; SYMBOL_BYTES], vec![0]);
        for (start, end, name) in symbols.of_kernel() {
            let at = u32::try_from(names.len()).ok()?;
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            table.extend_from_slice(&at.to_le_bytes());
            // A global function of the section with the code.
            table.extend_from_slice(&[0x12, 0, 2, 0]);
            for number in [start.checked_sub(self.begin)?, end.saturating_sub(start)] {
                table.extend_from_slice(&number.to_le_bytes());
            }
        }
        Some(self.file(&note(&self.build_id)?, &table, &names))
    }

    fn file(&self, note: &[u8], table: &[u8], names: &[u8]) -> Vec<u8> {
        let section_names = b"\0.note.gnu.build-id\0.text\0.symtab\0.strtab\0.shstrtab\0";
        let parts = [note, table, names, section_names];
        let mut file = vec![0; 64];
        let mut places = Vec::new();
        for part in parts {
            file.resize(file.len().next_multiple_of(8), 0);
            places.push((file.len() as u64, part.len() as u64));
            file.extend_from_slice(part);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let sections_at = file.len() as u64;
        file.extend_from_slice(&[0; SECTION_BYTES]);
        let size = self.end.saturating_sub(self.begin);
        let place = |at: usize| places.get(at).copied().unwrap_or_default();
        // Name, kind, flags, place, link, first global symbol, alignment, size of an entry.
        let sections = [
            (1_u32, 7_u32, 2_u64, place(0), 0_u32, 0_u32, 4_u64, 0_u64),
            (20, 8, 6, (64, size), 0, 0, 16, 0),
            (26, 2, 0, place(1), 4, 1, 8, SYMBOL_BYTES as u64),
            (34, 3, 0, place(2), 0, 0, 1, 0),
            (42, 3, 0, place(3), 0, 0, 1, 0),
        ];
        for (name, kind, flags, (offset, size), link, info, alignment, entry) in sections {
            for number in [name, kind] {
                file.extend_from_slice(&number.to_le_bytes());
            }
            for number in [flags, 0, offset, size] {
                file.extend_from_slice(&number.to_le_bytes());
            }
            for number in [link, info] {
                file.extend_from_slice(&number.to_le_bytes());
            }
            for number in [alignment, entry] {
                file.extend_from_slice(&number.to_le_bytes());
            }
        }
        let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        head.extend_from_slice(&3_u16.to_le_bytes());
        head.extend_from_slice(&machine.to_le_bytes());
        head.extend_from_slice(&1_u32.to_le_bytes());
        for number in [0, 0, sections_at] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&0_u32.to_le_bytes());
        for number in [64_u16, 0, 0, SECTION_BYTES as u16, 6, 5] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        for (to, from) in file.iter_mut().zip(head) {
            *to = from;
        }
        file
    }

    /// Says in a batch which kernel its frames of the kernel are of.
    pub(super) fn mark(&self, profiles: &mut Profiles) {
        let dictionary = &mut profiles.dictionary;
        let Some(name) = dictionary.strings.find(KERNEL) else { return };
        let key = dictionary.strings.intern(BUILD_ID_GNU);
        let id = Value::from(self.build_id.hex());
        let id = dictionary.attributes.intern(key, id, StringIx::NONE);
        let mut mappings = Mappings::default();
        for mapping in std::mem::take(&mut dictionary.mappings).iter().skip(1) {
            let is_marked =
                mapping.attributes.iter().any(|row| dictionary.attributes.key(*row) == key);
            if mapping.filename != name || is_marked {
                mappings.push(mapping);
                continue;
            }
            let attributes: Vec<_> = mapping.attributes.iter().copied().chain([id]).collect();
            mappings.push(MappingRef {
                memory_start: self.begin,
                memory_limit: self.end,
                attributes: &attributes,
                ..mapping
            });
        }
        dictionary.mappings = mappings;
    }
}

/// The note with a build id.
fn note(build_id: &BuildId) -> Option<Vec<u8>> {
    let hex = build_id.hex();
    let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    let bytes = bytes?;
    let mut note = Vec::new();
    for number in [4, bytes.len() as u32, 3] {
        note.extend_from_slice(&number.to_le_bytes());
    }
    note.extend_from_slice(b"GNU\0");
    note.extend_from_slice(&bytes);
    note.resize(note.len().next_multiple_of(4), 0);
    Some(note)
}

/// The running kernel, once the thread has found out which it is.
pub(super) type KnownKernel = OnceLock<RunningKernel>;
