//! The mapping table: files (and pseudo files) in the address spaces of processes.

use super::index::Index;
use super::interner::Interner;
use super::lists::Lists;
use super::{AttributeIx, MappingIx, StringIx};

/// One mapping, borrowed from a table or about to be put into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MappingRef<'a> {
    /// The first address.
    pub memory_start: u64,
    /// The address after the last.
    pub memory_limit: u64,
    /// The offset in the file of the first address.
    pub file_offset: u64,
    /// The path of the file, or a pseudo name in brackets such as `[vdso]`.
    pub filename: StringIx,
    /// Build ids and flags.
    pub attributes: &'a [AttributeIx],
}

/// Mappings by number; row 0 is the zero mapping.
#[derive(Debug, Clone)]
pub struct Mappings {
    /// The first address of each row. All columns have as many rows; whoever changes them keeps row
    /// 0, and indices in range.
    pub memory_starts: Vec<u64>,
    /// The address after the last.
    pub memory_limits: Vec<u64>,
    /// The offset in the file of the first address.
    pub file_offsets: Vec<u64>,
    /// The path of the file.
    pub filenames: Vec<StringIx>,
    /// Build ids and flags.
    pub attributes: Lists<AttributeIx>,
    interner: Interner,
}

impl Default for Mappings {
    fn default() -> Self {
        let mut table = Self {
            memory_starts: Vec::new(),
            memory_limits: Vec::new(),
            file_offsets: Vec::new(),
            filenames: Vec::new(),
            attributes: Lists::default(),
            interner: Interner::default(),
        };
        table.push(MappingRef::default());
        table
    }
}

impl Mappings {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.filenames.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<MappingIx> {
        ((at as usize) < self.len()).then(|| MappingIx::new(at))
    }

    /// A row.
    pub fn get(&self, row: MappingIx) -> MappingRef<'_> {
        self.at(row.at())
    }

    fn at(&self, row: usize) -> MappingRef<'_> {
        MappingRef {
            memory_start: self.memory_starts[row],
            memory_limit: self.memory_limits[row],
            file_offset: self.file_offsets[row],
            filename: self.filenames[row],
            attributes: self.attributes.get(row),
        }
    }

    /// Every row, row 0 first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MappingRef<'_>> {
        (0..self.len()).map(|row| self.at(row))
    }

    /// The row that holds `mapping`, appended if there is none.
    pub fn intern(&mut self, mapping: MappingRef<'_>) -> MappingIx {
        while self.interner.is_behind(self.len()) {
            let row = self.interner.next();
            let hash = self.interner.hash(self.at(row));
            let mut interner = std::mem::take(&mut self.interner);
            interner.add_next(hash, |other| self.at(other as usize) == self.at(row));
            self.interner = interner;
        }
        let hash = self.interner.hash(mapping);
        if let Some(row) = self.interner.find(hash, |row| self.at(row as usize) == mapping) {
            return MappingIx::new(row);
        }
        let row = self.push(mapping);
        self.interner.insert(hash, row.raw());
        row
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.memory_starts.reserve(rows);
        self.memory_limits.reserve(rows);
        self.file_offsets.reserve(rows);
        self.filenames.reserve(rows);
        self.attributes.reserve(rows, rows);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking for an equal one: for decoders.
    pub fn push(&mut self, mapping: MappingRef<'_>) -> MappingIx {
        self.memory_starts.push(mapping.memory_start);
        self.memory_limits.push(mapping.memory_limit);
        self.file_offsets.push(mapping.file_offset);
        self.filenames.push(mapping.filename);
        self.attributes.push(mapping.attributes.iter().copied());
        MappingIx::new(self.len() as u32 - 1)
    }
}
