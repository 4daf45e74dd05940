//! The hash index of a table: finds the row that holds a value, without storing any value twice.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// An index of row numbers by the hash of the row.
///
/// It is built when first asked: a table that was only decoded and is only read never pays for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    /// (hash, row); the hash is kept so that growing never reads the rows again.
    rows: HashTable<(u64, u32)>,
    /// Rows below this number are in the index.
    indexed: u32,
    state: RandomState,
}

impl Interner {
    /// The hash of a row, seeded once per process.
    pub(super) fn hash(&self, row: impl Hash) -> u64 {
        self.state.hash_one(row)
    }

    /// True if rows were appended that the index does not hold yet.
    pub(super) fn is_behind(&self, rows: usize) -> bool {
        (self.indexed as usize) < rows
    }

    /// Adds the next row that the index does not hold. The first of equal rows wins.
    pub(super) fn add_next(&mut self, hash: u64, same: impl Fn(u32) -> bool) {
        let row = self.indexed;
        self.indexed += 1;
        if self.find(hash, same).is_none() {
            self.rows.insert_unique(hash, (hash, row), |(hash, _)| *hash);
        }
    }

    /// The number of the next row that [`Interner::add_next`] will add.
    pub(super) fn next(&self) -> usize {
        self.indexed as usize
    }

    /// The row with this hash for which `same` holds.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.rows.find(hash, |(other, row)| *other == hash && same(*row)).map(|(_, row)| *row)
    }

    /// Records that the row `row`, which is not in the index and is the table's last, has `hash`.
    pub(super) fn insert(&mut self, hash: u64, row: u32) {
        self.rows.insert_unique(hash, (hash, row), |(hash, _)| *hash);
        self.indexed = row + 1;
    }
}
