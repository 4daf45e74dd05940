//! The hash index of a table: finds the row that holds a value, without storing any value twice.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// An index of row numbers by the hash of the row.
///
/// It is built when first asked: a table that was only decoded and is only read never pays for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    /// (part of the hash, row); it is kept so that growing never reads the rows again, and short
    /// so that the index of a large table stays in the caches.
    rows: HashTable<(u32, u32)>,
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
            self.put(hash, row);
        }
    }

    /// The number of the next row that [`Interner::add_next`] will add.
    pub(super) fn next(&self) -> usize {
        self.indexed as usize
    }

    /// The row with this hash for which `same` holds.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let part = part(hash);
        self.rows
            .find(spread(part), |(other, row)| *other == part && same(*row))
            .map(|(_, row)| *row)
    }

    /// Records that the row `row`, which is not in the index and is the table's last, has `hash`.
    pub(super) fn insert(&mut self, hash: u64, row: u32) {
        self.put(hash, row);
        self.indexed = row + 1;
    }

    /// Makes room for `rows` more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows, |(part, _)| spread(*part));
    }

    fn put(&mut self, hash: u64, row: u32) {
        let part = part(hash);
        self.rows.insert_unique(spread(part), (part, row), |(part, _)| spread(*part));
    }
}

/// The part of a hash that is kept.
fn part(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A part as a hash for the table, which looks at the lowest and the highest bits.
fn spread(part: u32) -> u64 {
    u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
