//! The stack table: call stacks, leaf first.

use super::index::Index;
use super::interner::Interner;
use super::lists::Lists;
use super::{LocationIx, StackIx};

/// Stacks by number; row 0 is the empty stack.
#[derive(Debug, Clone)]
pub struct Stacks {
    /// The locations of each row, leaf first; whoever changes them keeps row 0, and indices in range.
    pub locations: Lists<LocationIx>,
    interner: Interner,
}

impl Default for Stacks {
    fn default() -> Self {
        let mut locations = Lists::default();
        locations.finish_row();
        Self { locations, interner: Interner::default() }
    }
}

impl Stacks {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.locations.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<StackIx> {
        ((at as usize) < self.len()).then(|| StackIx::new(at))
    }

    /// The locations of a row, leaf first.
    pub fn get(&self, row: StackIx) -> &[LocationIx] {
        self.locations.get(row.at())
    }

    /// Every row, row 0 first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[LocationIx]> {
        (0..self.len()).map(|row| self.locations.get(row))
    }

    /// The row that holds `stack`, appended if there is none.
    pub fn intern(&mut self, stack: &[LocationIx]) -> StackIx {
        while self.interner.is_behind(self.len()) {
            let (row, rows) = (self.interner.next(), &self.locations);
            let hash = self.interner.hash(rows.get(row));
            self.interner.add_next(hash, |other| rows.get(other as usize) == rows.get(row));
        }
        let hash = self.interner.hash(stack);
        let found = self.interner.find(hash, |row| self.locations.get(row as usize) == stack);
        if let Some(row) = found {
            return StackIx::new(row);
        }
        let row = self.push(stack.iter().copied());
        self.interner.insert(hash, row.raw());
        row
    }

    /// Makes room for `rows` more rows of `items` more locations in all.
    pub fn reserve(&mut self, rows: usize, items: usize) {
        self.locations.reserve(rows, items);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking for an equal one: for decoders.
    pub fn push(&mut self, stack: impl IntoIterator<Item = LocationIx>) -> StackIx {
        self.locations.push(stack);
        StackIx::new(self.len() as u32 - 1)
    }
}
