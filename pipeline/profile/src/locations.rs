//! The location table: instruction addresses and the source lines they stand for.

use super::index::Index;
use super::interner::Interner;
use super::lists::Lists;
use super::{AttributeIx, FunctionIx, LocationIx, MappingIx};

/// One source line of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Line {
    /// The function that the line belongs to.
    pub function: FunctionIx,
    /// The line number, 0 if unknown.
    pub line: i64,
    /// The column, counted from 1; 0 if unknown.
    pub column: i64,
}

/// One location, borrowed from a table or about to be put into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LocationRef<'a> {
    /// The mapping that the address is in, or none.
    pub mapping: MappingIx,
    /// The address. From the native sampler it is the address in the file's own address space
    /// (what `nm` prints), so that equal code has equal locations in every process.
    pub address: u64,
    /// The innermost inlined function first, the function that was really called last; empty
    /// while unsymbolized.
    pub lines: &'a [Line],
    /// The frame type and flags.
    pub attributes: &'a [AttributeIx],
}

/// Locations by number; row 0 is the zero location.
#[derive(Debug, Clone)]
pub struct Locations {
    /// The mapping of each row. All columns have as many rows; whoever changes them keeps row 0, and
    /// indices in range.
    pub mappings: Vec<MappingIx>,
    /// The address in the mapping's file, or an absolute one.
    pub addresses: Vec<u64>,
    /// Source lines, the innermost inlined call first.
    pub lines: Lists<Line>,
    /// Attributes of the location.
    pub attributes: Lists<AttributeIx>,
    interner: Interner,
}

impl Default for Locations {
    fn default() -> Self {
        let mut table = Self {
            mappings: Vec::new(),
            addresses: Vec::new(),
            lines: Lists::default(),
            attributes: Lists::default(),
            interner: Interner::default(),
        };
        table.push(LocationRef::default());
        table
    }
}

impl Locations {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<LocationIx> {
        ((at as usize) < self.len()).then(|| LocationIx::new(at))
    }

    /// A row.
    pub fn get(&self, row: LocationIx) -> LocationRef<'_> {
        self.at(row.at())
    }

    fn at(&self, row: usize) -> LocationRef<'_> {
        LocationRef {
            mapping: self.mappings[row],
            address: self.addresses[row],
            lines: self.lines.get(row),
            attributes: self.attributes.get(row),
        }
    }

    /// Every row, row 0 first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LocationRef<'_>> {
        (0..self.len()).map(|row| self.at(row))
    }

    /// The row that holds `location`, appended if there is none.
    pub fn intern(&mut self, location: LocationRef<'_>) -> LocationIx {
        while self.interner.is_behind(self.len()) {
            let row = self.interner.next();
            let hash = self.interner.hash(self.at(row));
            let mut interner = std::mem::take(&mut self.interner);
            interner.add_next(hash, |other| self.at(other as usize) == self.at(row));
            self.interner = interner;
        }
        let hash = self.interner.hash(location);
        if let Some(row) = self.interner.find(hash, |row| self.at(row as usize) == location) {
            return LocationIx::new(row);
        }
        let row = self.push(location);
        self.interner.insert(hash, row.raw());
        row
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.mappings.reserve(rows);
        self.addresses.reserve(rows);
        self.lines.reserve(rows, rows);
        self.attributes.reserve(rows, 0);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking for an equal one: for decoders.
    pub fn push(&mut self, location: LocationRef<'_>) -> LocationIx {
        self.mappings.push(location.mapping);
        self.addresses.push(location.address);
        self.lines.push(location.lines.iter().copied());
        self.attributes.push(location.attributes.iter().copied());
        LocationIx::new(self.len() as u32 - 1)
    }
}
