//! Paths: functions root first, each different path once.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use profpipe_profile::Lists;

use crate::error::QueryError;

/// The most functions of all paths together: 256 MiB of them.
const MAX_FRAMES: usize = 1 << 26;

/// Paths by number.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    functions: Lists<u32>,
    known: HashTable<u32>,
    state: RandomState,
}

impl Paths {
    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }

    /// The functions of a path.
    pub(crate) fn get(&self, path: u32) -> &[u32] {
        self.functions.get(path as usize)
    }

    /// Adds a path without looking whether it is there.
    ///
    /// # Errors
    /// If there are too many functions.
    pub(crate) fn push(&mut self, path: &[u32]) -> Result<u32, QueryError> {
        if self.functions.items().len() + path.len() > MAX_FRAMES {
            let message = "the stacks have too many frames to be shown together";
            return Err(QueryError::TooLarge(message.to_owned()));
        }
        self.functions.push(path.iter().copied());
        Ok(self.functions.len() as u32 - 1)
    }

    /// The number of a path.
    ///
    /// # Errors
    /// If there are too many functions.
    pub(crate) fn intern(&mut self, path: &[u32]) -> Result<u32, QueryError> {
        let hash = self.state.hash_one(path);
        let functions = &self.functions;
        let found = self.known.find(hash, |row| functions.get(*row as usize) == path);
        if let Some(row) = found {
            return Ok(*row);
        }
        let row = self.push(path)?;
        let (functions, state) = (&self.functions, &self.state);
        self.known.insert_unique(hash, row, |row| state.hash_one(functions.get(*row as usize)));
        Ok(row)
    }

    /// Forgets what only [`Self::intern`] needs.
    pub(crate) fn finish(&mut self) {
        self.known = HashTable::new();
    }

    /// The numbers of all paths in the order of their functions, root first or leaf first.
    pub(crate) fn sorted(&self, is_inverted: bool) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        if is_inverted {
            order.sort_unstable_by(|a, b| compare_inverted(self.get(*a), self.get(*b)));
        } else {
            order.sort_unstable_by(|a, b| self.get(*a).cmp(self.get(*b)));
        }
        order
    }
}

/// Compares paths from their leaves on.
fn compare_inverted(a: &[u32], b: &[u32]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}
